//! Boots the real image in QEMU and acts on it from outside.
//!
//! [`TestMachine`] boots an image and gives a [`Host`] to connect from: through QEMU's own network,
//! a tap device, or a [`PeerHost`] that is the other end of the machine's cable and may lose
//! frames. [`http`] is the client that all tests use, [`load`] many of them at once.
//!
//! Waits are bounded, but nothing here asserts how long something took.
#![forbid(unsafe_code)]

pub mod attack;
pub mod background;
pub mod campaign;
pub mod changed;
pub mod connections;
pub mod cost;
mod datagrams;
pub mod distribution;
pub mod figures;
pub mod files;
pub mod frames;
pub mod gaps;
pub mod grantees;
pub mod guest_memory;
mod host;
pub mod http;
mod impairment;
pub mod instructions;
pub mod kernel_image;
pub mod load;
mod machine;
pub mod metronome;
pub mod own_files;
pub mod paths;
pub mod pcap;
mod peer_host;
pub mod plot;
pub mod random;
pub mod recovery;
pub mod rogue;
pub mod runner;
pub mod scenarios;
pub mod streams;
pub mod switching;
pub mod systems;
pub mod udp_stream;
pub mod wire;

pub use datagrams::Datagrams;
pub use host::{Connection, Host};
pub use impairment::{Counts, Impairment};
pub use machine::{Cable, TestMachine, system_memory};
pub use peer_host::{PeerDatagrams, PeerHost, PeerStream};
