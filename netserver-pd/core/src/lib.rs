//! The network server's decisions: verify and demultiplex frames.
#![no_std]
