//! Turns a system description into a boot image, a report and a picture.
//!
//! The front end ([`parse`]) reads `system.xml`, reports every mistake with its
//! place, and expands Segue's extensions into the plain [`model`]. The
//! [`back_end`] lowers the model and the programs to the boot image.
#![forbid(unsafe_code)]

mod addresses;
mod archive;
pub mod back_end;
pub mod diagnostics;
pub mod files;
mod front_end;
pub mod model;
mod number;
pub mod picture;
mod program;
pub mod report;

pub use front_end::{Parsed, parse};
pub use number::{hexadecimal_bytes, show_hexadecimal};
pub use program::Segment;

/// All elements that a description may hold, each with its attributes.
pub fn elements() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    front_end::schema::KINDS.iter().map(|kind| {
        let attributes = kind.required.iter().chain(kind.optional);
        (kind.name, attributes.copied().collect())
    })
}
