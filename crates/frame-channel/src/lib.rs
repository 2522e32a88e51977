//! The frame channel between an application and the network server.
//!
//! Three memory regions, two rings of descriptors, an epoch for rejoining and a
//! word that says whether the other side is awake. Each side trusts nothing
//! the other wrote: every index, offset and length is checked when it is used,
//! and what breaks the protocol is a [`ProtocolViolation`].
//! `docs/frame-channel.md` has the protocol and its safety argument.
#![no_std]
#![forbid(unsafe_code)]

pub mod config;
pub mod layout;
