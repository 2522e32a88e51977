//! The frame channel between an application and the network server.
//!
//! Three memory regions, two rings of descriptors, an epoch for rejoining and a
//! word that says whether the other side is awake. Each side trusts nothing
//! the other wrote: every index, offset and length is checked when it is used,
//! and what breaks the protocol is a [`ProtocolViolation`].
//! `docs/frame-channel.md` has the protocol and its safety argument.
//!
//! The two ends are [`ClientChannel`] (the application) and [`ServerChannel`]
//! (the network server). The protocol itself is written once, over the trait
//! [`SharedMemory`], so that loom can explore its interleavings.
#![no_std]
#![forbid(unsafe_code)]

pub mod client;
pub mod client_rings;
pub mod config;
pub mod descriptor;
pub mod layout;
pub mod memory;
pub mod pool;
pub mod server;
pub mod violation;

pub use client::ClientChannel;
pub use descriptor::{FrameOffload, ReceivedFrame, TransmitFrame, header_length};
pub use memory::SharedMemory;
pub use server::ServerChannel;
pub use violation::{GeometryError, ProtocolViolation};

/// What a side's wake word says.
pub mod wake {
    /// Asleep: notify when a frame has been produced.
    pub const ASLEEP: u32 = 0;
    /// Awake: it will look at the rings before it sleeps; do not notify.
    pub const AWAKE: u32 = 1;
    /// Asleep, and also waiting for room: notify when frames of its own have
    /// been completed.
    pub const ASLEEP_FOR_ROOM: u32 = 2;
}
