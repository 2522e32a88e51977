//! The network server's rules once more, slow and obvious, to judge the fast ones by.
//!
//! Written from `docs/network-server.md`: tables are looked through, bytes are found by
//! their number in the frame. A frame often breaks several rules at once; which of them
//! the server names is its own affair.
#![allow(dead_code)]

pub mod check;
pub mod egress;
pub mod ingress;
pub mod route;
pub mod world;

/// A frame, or what is known of it.
#[derive(Clone, Copy)]
pub struct Frame<'a>(pub &'a [u8]);

impl Frame<'_> {
    pub fn byte(&self, at: usize) -> usize {
        self.0[at].into()
    }

    pub fn word(&self, at: usize) -> usize {
        self.byte(at) << 8 | self.byte(at + 1)
    }

    pub fn ipv4(&self, at: usize) -> [u8; 4] {
        self.0[at..at + 4].try_into().unwrap()
    }

    pub fn ipv6(&self, at: usize) -> [u8; 16] {
        self.0[at..at + 16].try_into().unwrap()
    }

    pub fn mac(&self, at: usize) -> [u8; 6] {
        self.0[at..at + 6].try_into().unwrap()
    }

    pub fn length(&self) -> usize {
        self.0.len()
    }
}

/// Extension headers of IPv6 by IANA's list, but that of fragments.
pub const EXTENSION_HEADERS: [usize; 10] = [0, 43, 50, 51, 60, 135, 139, 140, 253, 254];

/// ff02::1:ff and the last three bytes of the address.
pub fn solicited_node(address: [u8; 16]) -> [u8; 16] {
    let mut group = [0; 16];
    group[0] = 0xff;
    group[1] = 0x02;
    group[11] = 1;
    group[12] = 0xff;
    group[13] = address[13];
    group[14] = address[14];
    group[15] = address[15];
    group
}

pub const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
