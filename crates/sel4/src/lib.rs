//! Bindings to the seL4 kernel, with constants generated from its interface files.
#![no_std]
