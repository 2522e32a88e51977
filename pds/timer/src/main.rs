//! The protection domain that owns the HPET: one-shot timeouts.

fn main() {}
