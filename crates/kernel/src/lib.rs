//! Builds the seL4 kernel from the `sel4-sys` crate with Segue's fixes.
//!
//! Responsible for: finding the kernel's source (which cargo downloads and Cargo.lock pins),
//! the configuration of each [`Variant`], and a build of a *copy* of that source to which Segue's
//! own fixes (`fixes/`, GPL-2.0-only like the kernel) were applied, strictly.
//!
//! Never: changes the source in cargo's registry, or applies a fix by guessing where it belongs.
//!
//! It is also a build-dependency of `sel4`, whose constants come from [`source`] and
//! [`configuration`]; so it depends on nothing but the standard library.
#![forbid(unsafe_code)]

mod build;
mod configuration;
mod error;
mod fix;
mod source;
mod tools;

pub use build::{Outcome, build};
pub use configuration::{Variant, configuration};
pub use error::Error;
pub use fix::{FIXES, Fix, apply};
pub use source::{root_directory, source};
