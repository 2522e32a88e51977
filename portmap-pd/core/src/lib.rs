//! The port table and address leases.
#![no_std]
