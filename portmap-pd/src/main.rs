//! The protection domain that owns the port table and the address leases.

fn main() {}
