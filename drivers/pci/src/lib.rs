//! PCI Express configuration space, SR-IOV and MSI-X.
//!
//! Finds functions, walks their capabilities, sizes and places base address
//! registers, switches virtual functions on and programs interrupt messages,
//! all over [`segue_device::Mmio`]. [`set_up`](set_up::set_up) brings a device
//! from power-on, or from whatever state it is in, to what the system
//! description ([`config`]) says, and checks the description against the
//! hardware on the way.
//!
//! Nothing read from a device is trusted: offsets and lists are bounded.
//! Bridges are not configured: devices sit on the root bus.
#![no_std]
#![forbid(unsafe_code)]

pub mod address;
pub mod bar;
pub mod capability;
pub mod config;
pub mod ecam;
pub mod error;
pub mod msix;
pub mod set_up;
pub mod sriov;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
