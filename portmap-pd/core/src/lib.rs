//! The port table: who owns which TCP and UDP port, and who was given which addresses.
//!
//! The table is a memory region that the port map alone writes and the network
//! server reads. It outlives both. This crate decides; the protection domain in
//! `portmap-pd` only carries messages.
#![no_std]
#![forbid(unsafe_code)]

pub mod addresses;
pub mod config;
mod holds;
pub mod ipv4;
mod journal;
mod leases;
#[cfg(feature = "testing")]
pub mod model;
pub mod ports;
pub mod protocol;
pub mod service;
pub mod table;

pub use addresses::{AddressReader, AddressTable, REGION_SIZE};
pub use holds::HOLDS_SIZE;
pub use ports::Returned;
pub use protocol::{PortClient, PortError, SharedAddress};
pub use service::{Changes, Life, Repairs, Service};
pub use table::{Families, Family, PortReader, PortTable, Protocol, TABLE_SIZE};
