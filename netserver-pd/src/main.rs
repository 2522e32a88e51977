//! The network server protection domain.

fn main() {}
