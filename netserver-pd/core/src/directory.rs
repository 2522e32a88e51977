//! Who has which address.

use segue_frame_channel::config::{ADDRESS_OWN, MAXIMUM_APPLICATIONS, ServerEntry, ServerTable};
use segue_portmap_core::{PortReader, Protocol};
use smoltcp::wire::{EthernetAddress, Ipv4Address};

/// A set of applications: bit *i* is application *i*.
pub type Applications = u16;

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
    ports: PortReader,
}

impl Identity {
    /// Whether nobody else has its address.
    pub fn is_alone(&self) -> bool {
        self.sharers.is_power_of_two()
    }
}

fn identity(entry: &ServerEntry) -> Identity {
    let address = u32::from_be_bytes(entry.ipv4);
    let host_bits = u32::MAX
        .checked_shr(entry.prefix_length.into())
        .unwrap_or(0);
    Identity {
        mac: EthernetAddress(entry.mac),
        ipv4: Ipv4Address::from(entry.ipv4),
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
        Self {
            identities,
            count,
            ports,
        }
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
        self.identities[..self.count]
            .iter()
            .find(|identity| identity.ipv4 == address)
    }

    /// Whether `address` is the broadcast address of an application's network,
    /// or of all networks.
    pub fn is_broadcast(&self, address: Ipv4Address) -> bool {
        address == Ipv4Address::BROADCAST
            || self.identities[..self.count]
                .iter()
                .any(|identity| identity.broadcast == address)
    }

    /// The owner's number of a port of the shared addresses; 0 if it is free.
    pub fn port_owner(&self, protocol: Protocol, port: u16) -> u16 {
        self.ports.owner(protocol, port)
    }

    /// Which application owns a port, if it is one of `among`.
    pub fn application_with_port(
        &self,
        protocol: Protocol,
        port: u16,
        among: Applications,
    ) -> Option<Applications> {
        let owner = self.ports.owner(protocol, port);
        if owner == 0 {
            return None;
        }
        let index = self.identities[..self.count]
            .iter()
            .position(|identity| identity.owner == owner)?;
        Some(1 << index & among).filter(|set| *set != 0)
    }
}
