//! Boots the real image in QEMU and acts on it from outside.
