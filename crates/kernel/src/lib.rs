//! Builds the seL4 kernel from the sel4-sys crate with Segue's fixes.
