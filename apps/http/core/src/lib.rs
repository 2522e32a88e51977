//! The HTTP server's logic, free of I/O.
#![no_std]
