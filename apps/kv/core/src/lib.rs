//! A key-value server that speaks RESP2, the protocol of Redis, without I/O.
//!
//! A [`Server`] takes bytes from [`Stream`]s and gives bytes to them; it reads no clock and sends
//! nothing itself. All its memory is bounded by [`Limits`]: the store refuses what does not fit,
//! a client that does not take its answers is not read from, and when the clients' buffers
//! together grow too large, the client with the largest goes.
//!
//! Answers and errors are worded as Redis 7.0 words them. Only strings are stored.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod client;
mod command;
mod glob;
mod info;
mod keys;
mod parser;
mod reply;
mod server;
mod store;
mod strings;

pub use client::Stream;
pub use parser::{Arguments, Limit, Parser, ProtocolError};
pub use server::{Action, Limits, Server};
pub use store::{Expiry, Full, Store};
