//! Test: what the metronome and those who listen to it say to each other, and how both count.
//!
//! Requests and the answer to `report` are text, in one datagram each, on [`REQUEST_PORT`]. What is
//! counted are [`Numbered`] datagrams: those that the metronome sends, one every [`PERIOD`], and
//! those sent to its [`ECHO_PORT`], which it sends back.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod beat;
mod message;
mod tally;

pub use beat::{Beat, PERIOD};
pub use message::{NUMBERED_LENGTH, Numbered, Report, Request, STREAM_LENGTH};
pub use tally::Tally;

/// UDP port of the requests.
pub const REQUEST_PORT: u16 = 4000;
/// UDP port that sends numbered datagrams back.
pub const ECHO_PORT: u16 = 4001;
/// Numbers of datagrams that are counted; higher ones are only noted.
pub const MAXIMUM_NUMBERS: u64 = 1 << 20;
