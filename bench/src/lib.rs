//! Measuring Segue beside Linux.
#![forbid(unsafe_code)]

mod guest;
pub mod hybrid;
pub mod machines;
pub mod measure;
pub mod packages;
pub mod plots;
pub mod profile;
pub mod regression;
pub mod report;
pub mod work;

pub use guest::Guest;
