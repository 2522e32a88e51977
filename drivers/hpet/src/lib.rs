//! The high precision event timer.
#![no_std]
