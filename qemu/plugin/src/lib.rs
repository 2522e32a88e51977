//! A QEMU plugin that counts guest instructions.
