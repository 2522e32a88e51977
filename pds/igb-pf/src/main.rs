//! The protection domain that owns the NIC's physical function.

fn main() {}
