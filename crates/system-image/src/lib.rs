//! The format of the boot image's payload: what the image builder writes and init reads.
#![no_std]
