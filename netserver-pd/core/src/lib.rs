//! The network server's decisions: verify and demultiplex frames.
//!
//! Frames, memory and time come in as arguments; what is to be done goes to the
//! network card through the trait [`Nic`] and to applications through frame
//! channels. The protection domain in `netserver-pd` only wires it.
//!
//! - [`directory`]: who has which address.
//! - [`answer`]: what the server says for those who share an address.
//! - [`early`]: later fragments that come first.
//! - [`egress`]: may this application send this frame?
//! - [`fragments`]: whose are the later fragments of a datagram?
//! - [`ingress`]: whose is this received frame?
//! - [`inside`]: frames between applications.
//! - [`fair`]: whose frame is sent next?
//! - [`shares`]: who has taken more of the server's time than is fair?
//! - [`watch`]: when is a silent network card looked at?
//! - [`server`]: the turn of the server, over channels and network card.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod answer;
mod buffers;
pub mod directory;
pub mod early;
pub mod egress;
pub mod fair;
pub mod fragments;
mod index;
pub mod ingress;
pub mod inside;
mod ipv6;
pub mod nic;
pub mod report;
pub mod server;
pub mod shares;
pub mod watch;

pub use directory::Directory;
pub use nic::Nic;
pub use server::Server;
