//! The protection_domain attribute of sel4-microkit.
