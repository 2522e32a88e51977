//! The runtime of a protection domain: the Microkit programming model.
#![no_std]
