//! PCI Express configuration space, SR-IOV and MSI-X.
#![no_std]
