//! The library OS: sockets, the TCP/IP stack and the Vif.
//!
//! A [`Stack`] is smoltcp behind a demultiplexer: the 4-tuple of a segment leads
//! to its connection, and a connection borrows a smoltcp socket with buffers only
//! while it has something to do. So a frame costs the same whether there is one
//! connection or thousands, and an idle connection costs some 300 bytes.
//! `docs/libos.md` tells how it fits together and what it does not do.
//!
//! Nothing here does I/O, blocks or reads a clock: frames come and go through a
//! [`Backend`], times are arguments.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod address;
mod addresses;
mod announcement;
mod classify;
mod config;
mod connection;
mod control;
mod duplicates;
mod ending;
mod engine;
mod frame_channel;
mod function;
mod handshake;
mod hash;
mod legs;
mod lending;
mod merging;
mod neighbours;
mod opening;
mod others;
mod ports;
mod reassembly;
mod recovery;
mod slab;
mod sockets;
mod stack;
mod statistics;
mod timers;
mod vif;
mod wire;

pub use config::{
    Addresses, BindError, CloseReason, Config, ConnectError, ConnectOptions, ConnectionId, Event,
    EveryPort, ListenOptions, ListenerId, Network, Overflow, PortAuthority, Protocol, Ready, UdpId,
};
pub use control::Control;
pub use engine::BufferSizes;
pub use frame_channel::FrameChannel;
pub use function::{Function, function_pool_size, function_rings_size};
pub use segue_igb_driver::Error as FunctionError;
pub use smoltcp::time::{Duration, Instant};
pub use stack::Stack;
pub use statistics::Statistics;
pub use vif::{Backend, Capabilities, Counters, FunctionBackend, Offload, Received, Vif};
