//! The protection domain that owns the serial port.

fn main() {}
