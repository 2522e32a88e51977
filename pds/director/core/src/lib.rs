//! Switching applications between the network server and a virtual function of
//! their own.
//!
//! - [`config`]: tables that the image builder writes into the programs.
//! - [`board`]: orders of the director and answers of the others, in shared memory.
//! - [`machine`]: what is ordered next; [`recover`](machine::Machine::recover) after a
//!   restart of the director.
//! - [`policy`]: who is to be in which mode.
//! - [`director`]: both over board and answers; what the protection domain wires.
//! - [`report`]: what people are told.
//! - [`grant_server`]: orders about grants, on the side of who manages configuration space.
//! - [`route_server`]: orders about routes, on the side of the physical function's owner.
#![no_std]
#![forbid(unsafe_code)]

pub mod board;
pub mod config;
pub mod director;
#[cfg(test)]
mod exploration;
pub mod grant_server;
pub mod machine;
pub mod policy;
mod recovery;
pub mod report;
pub mod route_server;
mod stepping;
