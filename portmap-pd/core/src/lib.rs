//! The port table: who owns which TCP and UDP port.
//!
//! The table is a memory region that the port map alone writes and the network
//! server reads. It outlives both.
#![no_std]
#![forbid(unsafe_code)]

pub mod config;
