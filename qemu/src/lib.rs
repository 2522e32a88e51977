//! Starts Segue's machine in QEMU.
