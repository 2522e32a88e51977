//! Starts Segue's machine in QEMU.
//!
//! A [`Machine`] says what is to be started: kernel, image, memory, network,
//! what to trace. [`Machine::start`] gives a [`Running`] machine, which has the
//! [`Console`], a QMP connection, and what belongs to its network: a forwarded
//! port, a network namespace, or a [`Peer`] that sees and sends raw frames.
//! Dropping it ends the QEMU process that it started, and nothing else.
//!
//! The machine is always the same: a q35 board with an 82576 (igb) directly on
//! the root bus at 00:03.0 and VT-d in front of it, one processor, COM1 as the
//! console.
#![forbid(unsafe_code)]

mod console;
mod error;
mod machine;
mod namespace;
mod network;
mod peer;
mod qmp;

pub use console::{Console, Line};
pub use error::Error;
pub use machine::{Machine, Running};
pub use namespace::NetworkNamespace;
pub use network::{Forward, Network};
pub use peer::{FrameReceiver, FrameSender, Peer};
pub use qmp::Qmp;
