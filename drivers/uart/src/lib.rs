//! The 16550 serial port.
#![no_std]
