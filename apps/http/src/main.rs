//! The HTTP server application.

fn main() {}
