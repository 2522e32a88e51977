//! The table itself: for each port of TCP and UDP over IPv4 and IPv6 the number of
//! its owner.

use crate::protocol::PortError;
use core::ops::RangeInclusive;
use core::sync::atomic::Ordering::{Acquire, Release};
use segue_shared_memory::Region;

/// Size of the table in bytes: 65,536 numbers of two bytes for TCP over IPv4, then as
/// many for UDP over IPv4, TCP over IPv6, UDP over IPv6.
pub const TABLE_SIZE: usize = ENTRIES * size_of::<u16>();

/// Ports from which [`PortTable::bind_any`] chooses (RFC 6335, section 6).
pub const EPHEMERAL_PORTS: RangeInclusive<u16> = 49_152..=65_535;

/// The number that owns nothing: a free port.
pub const FREE: u16 = 0;

/// Ports of each protocol and family.
const PORTS: usize = 0x1_0000;
/// Ports of all.
pub(crate) const ENTRIES: usize = 4 * PORTS;

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
}

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// One version of IP, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Families {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// Both: a port is then the owner's in both, or in none.
    Both,
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
}

impl Protocol {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

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

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    const fn index(self) -> usize {
        match self {
            Self::V4 => 0,
            Self::V6 => 1,
        }
    }
}

impl Families {
    /// The versions it consists of.
    pub const fn each(self) -> &'static [Family] {
        match self {
            Self::V4 => &[Family::V4],
            Self::V6 => &[Family::V6],
            Self::Both => &Family::ALL,
        }
    }

    /// Its number in messages.
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => 1,
            Self::V6 => 2,
            Self::Both => 3,
        }
    }

    /// What has this number in messages.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::V4),
            2 => Some(Self::V6),
            3 => Some(Self::Both),
            _ => None,
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
    pub fn owner(&self, family: Family, protocol: Protocol, port: u16) -> u16 {
        let (word, shift) = place(family, protocol, port);
        (self.region.load32(word, Acquire) >> shift) as u16
    }
}

/// Where a port stands in tables of one entry for each port of each protocol and family.
pub(crate) fn index(family: Family, protocol: Protocol, port: u16) -> usize {
    (2 * family.index() + protocol.index()) * PORTS + usize::from(port)
}

/// The port that stands there; `None` if none does.
pub(crate) fn from_index(index: usize) -> Option<(Family, Protocol, u16)> {
    let family = *Family::ALL.get(index / (2 * PORTS))?;
    let protocol = *Protocol::ALL.get(index / PORTS % 2)?;
    Some((family, protocol, (index % PORTS) as u16))
}

/// The word that holds a port's owner, and the owner's place in it.
fn place(family: Family, protocol: Protocol, port: u16) -> (usize, u32) {
    let offset = index(family, protocol, port) * size_of::<u16>();
    (offset & !3, 8 * (offset & 3) as u32)
}

impl PortTable {
    /// The table in this region, with what an earlier incarnation left in it,
    /// or `None` if the region is smaller than [`TABLE_SIZE`].
    pub fn new(region: Region) -> Option<Self> {
        Some(Self {
            reader: PortReader::new(region)?,
        })
    }

    /// The owner of a port, or [`FREE`].
    pub fn owner(&self, family: Family, protocol: Protocol, port: u16) -> u16 {
        self.reader.owner(family, protocol, port)
    }

    /// Gives `port` to `owner`, in all of `families`.
    ///
    /// # Errors
    ///
    /// If the port is taken in one of them, by whomever, or 0: then nothing
    /// has changed.
    pub fn bind(
        &mut self,
        owner: u16,
        families: Families,
        protocol: Protocol,
        port: u16,
    ) -> Result<(), PortError> {
        if port == 0 {
            return Err(PortError::InvalidPort);
        }
        let is_free = |family: &Family| self.owner(*family, protocol, port) == FREE;
        if !families.each().iter().all(is_free) {
            return Err(PortError::AddressInUse);
        }
        for family in families.each() {
            self.set(*family, protocol, port, owner);
        }
        Ok(())
    }

    /// Whether four ports have no owner, from this index, which is a multiple of four.
    pub(crate) fn four_are_free(&self, index: usize) -> bool {
        self.reader.region.load64(index * size_of::<u16>(), Acquire) == 0
    }

    /// Writes who owns a port.
    pub(crate) fn set(&mut self, family: Family, protocol: Protocol, port: u16, owner: u16) {
        let (word, shift) = place(family, protocol, port);
        // Nobody else writes, so the neighbour's half cannot change meanwhile.
        let neighbour = self.reader.region.load32(word, Acquire) & !(0xffff << shift);
        self.reader
            .region
            .store32(word, neighbour | u32::from(owner) << shift, Release);
    }
}
