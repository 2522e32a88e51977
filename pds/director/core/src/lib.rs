//! Switching applications between the network server and a virtual function of
//! their own.
//!
//! - [`config`]: tables that the image builder writes into the programs.
//! - [`board`]: orders of the director and answers of the others, in shared memory.
#![no_std]
#![forbid(unsafe_code)]

pub mod board;
pub mod config;
