//! The log ring between a protection domain and the console.
#![no_std]
