//! The updater's logic, free of I/O: requests, bytes and time in, orders to init and answers out.
//!
//! A client sends a package by `PUT /upgrade/<protection domain>`. It is written to the staging region,
//! verified there, and then init is told to take it: first to install the image, then to upgrade the
//! protection domain to it. The client is answered when init has said what became of it. There is one
//! upgrade at a time. Nothing is ordered for a package without a valid signature.
//!
//! - [`config`]: who can be upgraded, and whose signature counts; the image builder writes it.
//! - [`check`]: whether a package may be installed.
//! - [`Server`]: the clients' connections, and the upgrade that is under way.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod check;
pub mod config;
mod connection;
mod machine;
mod server;

pub use connection::Limits;
pub use machine::Machine;
pub use server::Server;
