//! Frames that must not leave the machine, each with the cause for which the network server has to
//! drop it, and honest ones, which must.
//!
//! The rogue application sends them; the host tests know by them what to expect, and prove that
//! their judge of the wire would notice each.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod arp;
pub mod flood;
mod frame;
mod honest;
mod icmp;
mod ipv4;
mod ipv6;
mod offload;

pub use frame::Frame;
pub use honest::HONEST;

use segue_status::network::EgressDrop;

/// What every forged frame carries somewhere.
pub const FORGED: &[u8] = b"FORGED";
/// What every honest frame carries; the byte after it is its index in [`HONEST`].
pub const HONESTLY: &[u8] = b"honest";

/// The UDP and TCP port that is the sender's.
pub const OWN_PORT: u16 = 9;
/// The TCP port of another application at the same address.
pub const ANOTHERS_PORT: u16 = 80;
/// A port of nobody.
pub const FREE_PORT: u16 = 1010;

/// Who sends, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parties {
    /// The sender's MAC address.
    pub mac: [u8; 6],
    /// The sender's IPv4 address, which it shares.
    pub ipv4: [u8; 4],
    /// The sender's IPv6 address, which it shares; zeroes for none.
    pub ipv6: [u8; 16],
    /// MAC address of the host outside, which is the gateway, too.
    pub peer_mac: [u8; 6],
    /// Its IPv4 address.
    pub peer_ipv4: [u8; 4],
    /// Its IPv6 address.
    pub peer_ipv6: [u8; 16],
}

/// A frame that is wrong in one way.
#[derive(Clone, Copy, Debug)]
pub struct Forgery {
    /// What is forged.
    pub name: &'static str,
    /// Why it is to be dropped.
    pub cause: EgressDrop,
    make: fn(&Parties, &mut Frame),
}

/// A frame that is right.
#[derive(Clone, Copy, Debug)]
pub struct Honest {
    /// What it is.
    pub name: &'static str,
    make: fn(&Parties, &mut Frame),
}

/// All kinds of forgery, one after the other.
pub fn forgeries() -> impl Iterator<Item = &'static Forgery> + Clone {
    [
        arp::FORGERIES,
        ipv4::FORGERIES,
        icmp::FORGERIES,
        offload::FORGERIES,
        ipv6::FORGERIES,
    ]
    .into_iter()
    .flatten()
}

impl Forgery {
    /// Makes the frame.
    pub fn make(&self, parties: &Parties, frame: &mut Frame) {
        (self.make)(parties, frame);
        frame.mark(FORGED);
    }
}

impl Honest {
    /// Makes the frame; `index` is its place in [`HONEST`].
    pub fn make(&self, index: u8, parties: &Parties, frame: &mut Frame) {
        (self.make)(parties, frame);
        let mut mark = [index; 7];
        mark[..6].copy_from_slice(HONESTLY);
        frame.mark(&mark);
    }
}
