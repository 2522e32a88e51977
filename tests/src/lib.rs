//! Boots the real image in QEMU and acts on it from outside.
#![forbid(unsafe_code)]

pub mod paths;
pub mod runner;
