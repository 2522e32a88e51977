//! PCI Express configuration space, SR-IOV and MSI-X.
#![no_std]
#![forbid(unsafe_code)]

pub mod address;
pub mod config;
