//! What the console protection domain decides.
//!
//! Responsible for: turning the protection domains' log rings into lines with
//! their names, crash reports into text, and key strokes into commands; and for
//! the order in which all of that reaches the serial line. Never: waits, or
//! trusts what a protection domain wrote (control characters are escaped,
//! lines are cut, and one wake-up does a bounded amount of work).
//!
//! It knows neither seL4 nor the serial port: bytes come and go through
//! [`Console`].
//!
//! It may die at any instant: what it has read and not yet sent lies in memory that outlives it
//! ([`Memory`]), so its successor says everything once.
//!
//! When the line is slower than the writers, the console stops reading. The
//! rings then overwrite their oldest lines, and the loss is said in the output.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod commands;
mod console;
mod editor;
mod faults;
mod memory;
mod milliseconds;
mod output;
mod pace;
mod source;
mod switching;
mod upgrading;

pub use console::{Console, Regions};
pub use faults::Faults;
pub use memory::Memory;
pub use output::Output;
pub use pace::{Pace, TICK_MICROSECONDS};
pub use switching::{Switching, WISHES_SIZE};
pub use upgrading::Upgrading;
