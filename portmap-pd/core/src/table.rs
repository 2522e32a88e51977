//! The table itself: for each port of TCP and UDP the number of its owner.

use crate::protocol::PortError;
use core::ops::RangeInclusive;
use core::sync::atomic::Ordering::{Acquire, Release};
use segue_shared_memory::Region;

/// Size of the table in bytes: 65,536 numbers of two bytes for TCP, then as
/// many for UDP.
pub const TABLE_SIZE: usize = 2 * PROTOCOL_SIZE;

/// Ports from which [`PortTable::bind_any`] chooses (RFC 6335, section 6).
pub const EPHEMERAL_PORTS: RangeInclusive<u16> = 49_152..=65_535;

/// The number that owns nothing: a free port.
pub const FREE: u16 = 0;

const PROTOCOL_SIZE: usize = 0x1_0000 * size_of::<u16>();

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
}

/// Reads the table; what the network server has.
#[derive(Clone, Copy, Debug)]
pub struct PortReader {
    region: Region,
}

/// Reads and writes the table; only the port map has one.
#[derive(Debug)]
pub struct PortTable {
    reader: PortReader,
    /// Where the next search for a free ephemeral port begins.
    next: [u16; 2],
}

impl Protocol {
    /// Its number in the IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The protocol with this number in the IP header.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Tcp => 0,
            Self::Udp => 1,
        }
    }
}

impl PortReader {
    /// The table in this region, or `None` if it is smaller than
    /// [`TABLE_SIZE`].
    pub fn new(region: Region) -> Option<Self> {
        (region.length() >= TABLE_SIZE).then_some(Self { region })
    }

    /// The owner of a port, or [`FREE`].
    #[inline]
    pub fn owner(&self, protocol: Protocol, port: u16) -> u16 {
        let (word, shift) = place(protocol, port);
        (self.region.load32(word, Acquire) >> shift) as u16
    }
}

/// The word that holds a port's owner, and the owner's place in it.
fn place(protocol: Protocol, port: u16) -> (usize, u32) {
    let offset = protocol.index() * PROTOCOL_SIZE + usize::from(port) * size_of::<u16>();
    (offset & !3, 8 * (offset & 3) as u32)
}

impl PortTable {
    /// The table in this region, with what an earlier incarnation left in it,
    /// or `None` if the region is smaller than [`TABLE_SIZE`].
    pub fn new(region: Region) -> Option<Self> {
        Some(Self {
            reader: PortReader::new(region)?,
            next: [*EPHEMERAL_PORTS.start(); 2],
        })
    }

    /// The owner of a port, or [`FREE`].
    pub fn owner(&self, protocol: Protocol, port: u16) -> u16 {
        self.reader.owner(protocol, port)
    }

    /// Gives `port` to `owner`.
    ///
    /// # Errors
    ///
    /// If the port is taken, by whomever, or 0.
    pub fn bind(&mut self, owner: u16, protocol: Protocol, port: u16) -> Result<(), PortError> {
        if port == 0 {
            return Err(PortError::InvalidPort);
        }
        if self.owner(protocol, port) != FREE {
            return Err(PortError::AddressInUse);
        }
        self.store(protocol, port, owner);
        Ok(())
    }

    /// Gives a free port of [`EPHEMERAL_PORTS`] to `owner`.
    ///
    /// # Errors
    ///
    /// If none is free.
    pub fn bind_any(&mut self, owner: u16, protocol: Protocol) -> Result<u16, PortError> {
        let mut port = self.next[protocol.index()];
        for _ in EPHEMERAL_PORTS {
            let candidate = port;
            port = if port == *EPHEMERAL_PORTS.end() {
                *EPHEMERAL_PORTS.start()
            } else {
                port + 1
            };
            if self.owner(protocol, candidate) == FREE {
                self.next[protocol.index()] = port;
                self.store(protocol, candidate, owner);
                return Ok(candidate);
            }
        }
        Err(PortError::NoPortFree)
    }

    /// Takes `port` back from `owner`.
    ///
    /// # Errors
    ///
    /// If it is not the owner's. Whether it is free or another's is not told.
    pub fn release(&mut self, owner: u16, protocol: Protocol, port: u16) -> Result<(), PortError> {
        if owner == FREE || self.owner(protocol, port) != owner {
            return Err(PortError::NotOwner);
        }
        self.store(protocol, port, FREE);
        Ok(())
    }

    /// Takes all ports back from `owner`; returns how many there were.
    pub fn release_all(&mut self, owner: u16) -> u32 {
        let mut released = 0;
        if owner == FREE {
            return released;
        }
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for port in 0..=u16::MAX {
                if self.owner(protocol, port) == owner {
                    self.store(protocol, port, FREE);
                    released += 1;
                }
            }
        }
        released
    }

    fn store(&mut self, protocol: Protocol, port: u16, owner: u16) {
        let (word, shift) = place(protocol, port);
        // Nobody else writes, so the neighbour's half cannot change meanwhile.
        let neighbour = self.reader.region.load32(word, Acquire) & !(0xffff << shift);
        self.reader
            .region
            .store32(word, neighbour | u32::from(owner) << shift, Release);
    }
}
