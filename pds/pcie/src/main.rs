//! The protection domain that owns PCI Express configuration space.

fn main() {}
