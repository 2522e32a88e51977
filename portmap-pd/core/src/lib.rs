//! The port table: who owns which TCP and UDP port.
//!
//! The table is a memory region that the port map alone writes and the network
//! server reads. It outlives both. This crate decides; the protection domain in
//! `portmap-pd` only carries messages.
#![no_std]
#![forbid(unsafe_code)]

pub mod config;
pub mod protocol;
pub mod service;
pub mod table;

pub use protocol::{PortClient, PortError};
pub use service::Service;
pub use table::{PortReader, PortTable, Protocol, TABLE_SIZE};
