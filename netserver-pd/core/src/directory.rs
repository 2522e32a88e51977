//! Who has which address.

use segue_frame_channel::config::{ADDRESS_OWN, MAXIMUM_APPLICATIONS, ServerEntry, ServerTable};
use segue_portmap_core::{Family, PortReader, Protocol};
use smoltcp::wire::{EthernetAddress, Ipv4Address};

/// A set of applications: bit *i* is application *i*.
pub type Applications = u64;

const _: () = assert!(MAXIMUM_APPLICATIONS <= Applications::BITS as usize);

/// An application's addresses.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The MAC address its frames carry.
    pub mac: EthernetAddress,
    /// Its IPv4 address.
    pub ipv4: Ipv4Address,
    /// Its number in the port table.
    pub owner: u16,
    /// Whether all ports of the address are its own, without the port table.
    pub own_address: bool,
    /// All applications with this address, itself included.
    pub sharers: Applications,
    broadcast: Ipv4Address,
}

/// The addresses of all applications, and the port table.
#[derive(Clone, Debug)]
pub struct Directory {
    identities: [Identity; MAXIMUM_APPLICATIONS],
    count: usize,
    /// The first application at each address: what is looked through, so that
    /// one more sharer of an address adds nothing to the path of a frame.
    stations: [u8; MAXIMUM_APPLICATIONS],
    station_count: usize,
    /// The application with each number in the port table.
    by_owner: [u8; MAXIMUM_APPLICATIONS + 1],
    ports: PortReader,
}

/// No application has this index.
const NOBODY: u8 = u8::MAX;

impl Identity {
    /// Whether nobody else has its address.
    pub fn is_alone(&self) -> bool {
        self.sharers.is_power_of_two()
    }
}

fn identity(entry: &ServerEntry) -> Identity {
    let address = u32::from_be_bytes(entry.addresses.ipv4);
    let host_bits = u32::MAX
        .checked_shr(entry.addresses.ipv4_prefix_length.into())
        .unwrap_or(0);
    Identity {
        mac: EthernetAddress(entry.addresses.mac),
        ipv4: Ipv4Address::from(entry.addresses.ipv4),
        owner: entry.owner,
        own_address: entry.flags & ADDRESS_OWN != 0,
        sharers: 0,
        broadcast: Ipv4Address::from(address | host_bits),
    }
}

impl Directory {
    /// The addresses in the server's table.
    pub fn new(table: &ServerTable, ports: PortReader) -> Self {
        let mut identities = [identity(&ServerEntry::EMPTY); MAXIMUM_APPLICATIONS];
        let count = table.applications().len();
        for (slot, entry) in identities.iter_mut().zip(table.applications()) {
            *slot = identity(entry);
        }
        for index in 0..count {
            let address = identities[index].ipv4;
            let sharers = (0..count).filter(|other| identities[*other].ipv4 == address);
            identities[index].sharers = sharers.fold(0, |set, other| set | 1 << other);
        }
        let (mut stations, mut station_count) = ([0; MAXIMUM_APPLICATIONS], 0);
        let mut by_owner = [NOBODY; MAXIMUM_APPLICATIONS + 1];
        for (index, identity) in identities[..count].iter().enumerate() {
            if identity.sharers.trailing_zeros() as usize == index {
                stations[station_count] = index as u8;
                station_count += 1;
            }
            if let Some(slot) = by_owner.get_mut(usize::from(identity.owner)) {
                *slot = index as u8;
            }
        }
        Self {
            identities,
            count,
            stations,
            station_count,
            by_owner,
            ports,
        }
    }

    /// One application for each address.
    #[inline]
    fn stations(&self) -> impl Iterator<Item = &Identity> {
        self.stations[..self.station_count]
            .iter()
            .map(|index| &self.identities[usize::from(*index)])
    }

    /// An application's addresses.
    ///
    /// # Panics
    ///
    /// If there is no such application.
    pub fn identity(&self, application: usize) -> &Identity {
        &self.identities[..self.count][application]
    }

    /// Some application with this IPv4 address.
    #[inline]
    pub fn with_address(&self, address: Ipv4Address) -> Option<&Identity> {
        self.stations().find(|identity| identity.ipv4 == address)
    }

    /// Whether some application has this MAC address.
    #[inline]
    pub fn has_mac(&self, mac: EthernetAddress) -> bool {
        self.stations().any(|identity| identity.mac == mac)
    }

    /// Whether `address` is the broadcast address of an application's network,
    /// or of all networks.
    pub fn is_broadcast(&self, address: Ipv4Address) -> bool {
        address == Ipv4Address::BROADCAST
            || self
                .stations()
                .any(|identity| identity.broadcast == address)
    }

    /// The owner's number of a port of the shared addresses; 0 if it is free.
    pub fn port_owner(&self, family: Family, protocol: Protocol, port: u16) -> u16 {
        self.ports.owner(family, protocol, port)
    }

    /// Which application owns a port, if it is one of `among`.
    pub fn application_with_port(
        &self,
        family: Family,
        protocol: Protocol,
        port: u16,
        among: Applications,
    ) -> Option<Applications> {
        let owner = self.ports.owner(family, protocol, port);
        if owner == 0 {
            return None;
        }
        let index = *self.by_owner.get(usize::from(owner))?;
        if index == NOBODY {
            return None;
        }
        Some(1 << index & among).filter(|set| *set != 0)
    }
}
