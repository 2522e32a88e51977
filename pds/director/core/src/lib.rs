//! Switching applications between the network server and a virtual function of
//! their own.
//!
//! - [`config`]: tables that the image builder writes into the programs.
//! - [`board`]: orders of the director and answers of the others, in shared memory.
//! - [`route_server`]: orders about routes, on the side of the physical function's owner.
#![no_std]
#![forbid(unsafe_code)]

pub mod board;
pub mod config;
pub mod route_server;
