//! Who has which address.
//!
//! A *station* is a MAC address with its IP addresses. It belongs to one application
//! that has it to itself, or to several that share it.

use crate::index::Index;
use crate::ipv6::solicited_node;
use alloc::vec::Vec;
use segue_frame_channel::config::{
    ADDRESS_LEASED, ADDRESS_OWN, Addresses, DHCP_CLIENT, MAXIMUM_APPLICATIONS, ServerEntry,
    ServerTable,
};
use segue_portmap_core::{AddressReader, Family, PortReader, Protocol};
use smoltcp::wire::{EthernetAddress, Ipv4Address, Ipv6Address};

/// A set of applications: bit *i* is application *i*.
pub type Applications = u64;

const _: () = assert!(MAXIMUM_APPLICATIONS <= Applications::BITS as usize);

/// An application's addresses, as they are now. What it does not have is all zeroes,
/// and nobody's.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The MAC address its frames carry.
    pub mac: EthernetAddress,
    /// Its IPv4 address.
    pub ipv4: Ipv4Address,
    /// Its IPv6 address, besides the link-local one.
    pub ipv6: Ipv6Address,
    /// The IPv6 address that comes with its MAC address.
    pub link_local: Ipv6Address,
    /// Its number in the port table.
    pub owner: u16,
    /// Whether all ports of the address are its own, without the port table.
    pub own_address: bool,
    /// Whether it asks for the shared address by DHCP.
    pub dhcp_client: bool,
    /// All applications with this MAC address, itself included.
    pub sharers: Applications,
    broadcast: Ipv4Address,
}

/// What the server's table says of an application, which the address table completes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    addresses: Addresses,
    owner: u16,
    flags: u16,
}

/// The addresses of all applications, and the port table.
#[derive(Clone, Debug)]
pub struct Directory {
    entries: Vec<Entry>,
    identities: Vec<Identity>,
    /// The first application at each station.
    stations: Vec<u8>,
    /// Stations by address, so that one more adds nothing to the path of a frame.
    by_mac: Index,
    by_ipv4: Index,
    by_ipv6: Index,
    /// The application with each number in the port table.
    by_owner: Vec<u8>,
    /// Those whose ports the port table tells apart.
    sharing: Applications,
    /// Those that ask for an address by DHCP.
    dhcp_clients: Applications,
    /// Those that are said to be in direct mode.
    said_direct: Applications,
    /// Those of them that nobody shares an address with, as they are now.
    direct: Applications,
    ports: PortReader,
    leases: Option<AddressReader>,
    /// The generation of the address table that this was made from.
    generation: u64,
}

/// No application has this index.
const NOBODY: u8 = u8::MAX;

impl Identity {
    /// Whether nobody else has its address.
    pub fn is_alone(&self) -> bool {
        self.own_address || self.sharers.is_power_of_two()
    }

    /// Whether it has a MAC address, without which it has none at all.
    #[inline]
    pub fn is_reachable(&self) -> bool {
        self.mac != EthernetAddress([0; 6])
    }

    /// Whether it has an IPv4 address.
    #[inline]
    pub fn has_ipv4(&self) -> bool {
        !self.ipv4.is_unspecified()
    }

    /// Whether this is one of its IPv6 addresses.
    #[inline]
    pub fn has_ipv6(&self, address: Ipv6Address) -> bool {
        (self.ipv6 == address || self.link_local == address) && !address.is_unspecified()
    }

    /// Whether it listens for neighbour solicitations in this group.
    fn is_in_group(&self, group: Ipv6Address) -> bool {
        [self.ipv6, self.link_local]
            .iter()
            .any(|address| !address.is_unspecified() && solicited_node(*address) == group)
    }
}

/// Whether a station can have these addresses: those it has are single hosts'.
fn make_sense(addresses: &Addresses) -> bool {
    let mac = EthernetAddress(addresses.mac);
    let (ipv4, ipv6) = (
        Ipv4Address::from(addresses.ipv4),
        Ipv6Address::from(addresses.ipv6),
    );
    mac.is_unicast()
        && mac.0 != [0; 6]
        && !(ipv4.is_multicast() || ipv4.is_broadcast() || ipv4.is_loopback())
        && addresses.ipv4_prefix_length <= 32
        && !(ipv6.is_multicast() || ipv6.is_loopback())
        && addresses.ipv6_prefix_length <= 128
}

fn identity(entry: &Entry, addresses: &Addresses) -> Identity {
    let ipv4 = Ipv4Address::from(addresses.ipv4);
    let host_bits = u32::MAX
        .checked_shr(addresses.ipv4_prefix_length.into())
        .unwrap_or(0);
    let (broadcast, link_local) = match (ipv4.is_unspecified(), addresses.mac == [0; 6]) {
        (false, _) => (u32::from(ipv4) | host_bits, addresses.link_local()),
        (true, false) => (u32::MAX, addresses.link_local()),
        (true, true) => (u32::MAX, [0; 16]),
    };
    Identity {
        mac: EthernetAddress(addresses.mac),
        ipv4,
        ipv6: Ipv6Address::from(addresses.ipv6),
        link_local: Ipv6Address::from(link_local),
        owner: entry.owner,
        own_address: entry.flags & ADDRESS_OWN != 0,
        dhcp_client: entry.flags & DHCP_CLIENT != 0,
        sharers: 0,
        broadcast: Ipv4Address::from(broadcast),
    }
}

fn mac_key(mac: EthernetAddress) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    // As it lies in memory: two loads.
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

fn ipv4_key(address: Ipv4Address) -> u64 {
    u32::from(address).into()
}

fn ipv6_key(address: Ipv6Address) -> u64 {
    let address = u128::from(address);
    (address >> 64) as u64 ^ (address as u64).rotate_left(1)
}

impl Directory {
    /// The addresses in the server's table, and those that the address table says:
    /// without one, nobody has leased ones.
    pub fn new(table: &ServerTable, ports: PortReader, leases: Option<AddressReader>) -> Self {
        let entries = table.applications().iter();
        let entries: Vec<_> = entries.map(Entry::new).collect();
        let among = |flag, is_set| {
            let members = entries.iter().enumerate();
            let members = members.filter(|(_, entry)| (entry.flags & flag != 0) == is_set);
            members.fold(0, |set, (index, _)| set | 1 << index)
        };
        let mut by_owner = alloc::vec![NOBODY; MAXIMUM_APPLICATIONS + 1];
        for (index, entry) in entries.iter().enumerate() {
            if let Some(slot) = by_owner.get_mut(usize::from(entry.owner)) {
                *slot = index as u8;
            }
        }
        let mut directory = Self {
            sharing: among(ADDRESS_OWN, false),
            dhcp_clients: among(DHCP_CLIENT, true),
            said_direct: 0,
            direct: 0,
            identities: Vec::with_capacity(entries.len()),
            stations: Vec::with_capacity(entries.len()),
            entries,
            by_mac: Index::new(MAXIMUM_APPLICATIONS),
            by_ipv4: Index::new(MAXIMUM_APPLICATIONS),
            by_ipv6: Index::new(2 * MAXIMUM_APPLICATIONS),
            by_owner,
            ports,
            leases,
            generation: 0,
        };
        directory.rebuild();
        directory
    }

    /// Looks whether leased addresses have changed, which costs one load if they have
    /// not. Returns whether they have. While they are changing (a port map may have died over
    /// it) what is known stays.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        let generation = self.leases.map_or(0, |leases| leases.generation());
        if generation == self.generation || generation & 1 != 0 {
            return false;
        }
        self.rebuild();
        true
    }

    fn rebuild(&mut self) {
        // What changes from here on makes for another generation.
        self.generation = self.leases.map_or(0, |leases| leases.generation());
        self.identities.clear();
        self.stations.clear();
        for index in [&mut self.by_mac, &mut self.by_ipv4, &mut self.by_ipv6] {
            index.clear();
        }
        for entry in &self.entries {
            let addresses = entry.addresses_now(self.leases.as_ref());
            self.identities.push(identity(entry, &addresses));
        }
        for index in 0..self.identities.len() {
            self.settle(index);
        }
        for first in &self.stations {
            let sharers = self.identities[usize::from(*first)].sharers;
            for (index, identity) in self.identities.iter_mut().enumerate() {
                if sharers & 1 << index != 0 {
                    identity.sharers = sharers;
                }
            }
        }
        self.find_direct();
    }

    /// Says which applications are in direct mode: they have a function of the network
    /// card of their own, from which they get what comes from the network. Those who
    /// share an address cannot be, whatever is said: the card could not tell them apart.
    #[inline]
    pub fn set_direct(&mut self, applications: Applications) {
        if applications != self.said_direct {
            self.said_direct = applications;
            self.find_direct();
        }
    }

    fn find_direct(&mut self) {
        let identities = self.identities.iter().enumerate();
        let alone = identities.filter(|(_, identity)| identity.is_alone());
        self.direct = alone.fold(0, |set, (index, _)| set | 1 << index) & self.said_direct;
    }

    /// Makes an application a station, or one of those who share one. If it is neither,
    /// since somebody else has an address of it, it gets none.
    fn settle(&mut self, index: usize) {
        let new = self.identities[index];
        if !new.is_reachable() {
            return;
        }
        let of_ipv4 = self.with_address(new.ipv4).map(|other| other.mac);
        let known = self.by_mac.find(mac_key(new.mac));
        if let Some(first) = known {
            let first = &mut self.identities[usize::from(first)];
            let fits =
                !new.own_address && !first.own_address && of_ipv4.is_none_or(|mac| mac == new.mac);
            if fits {
                first.sharers |= 1 << index;
                self.list(index);
                return;
            }
        }
        let taken = [new.ipv6, new.link_local]
            .iter()
            .any(|address| self.with_ipv6(*address).is_some());
        if known.is_some() || of_ipv4.is_some() || taken {
            let name = self.entries[index].owner;
            log::warn!(
                "owner {name} of the port table has an address of another: it is left without"
            );
            self.identities[index] = identity(&self.entries[index], &Addresses::NONE);
            return;
        }
        self.identities[index].sharers = 1 << index;
        self.stations.push(index as u8);
        self.by_mac.insert(mac_key(new.mac), index as u8);
        self.list(index);
    }

    /// Makes an application found by its IP addresses, if nobody is yet.
    fn list(&mut self, index: usize) {
        let identity = self.identities[index];
        let index = index as u8;
        if identity.has_ipv4() {
            self.by_ipv4.insert(ipv4_key(identity.ipv4), index);
        }
        for address in [identity.ipv6, identity.link_local] {
            if !address.is_unspecified() {
                self.by_ipv6.insert(ipv6_key(address), index);
            }
        }
    }

    /// One application for each station.
    #[inline]
    pub fn stations(&self) -> impl Iterator<Item = &Identity> {
        self.stations
            .iter()
            .map(|index| &self.identities[usize::from(*index)])
    }

    /// An application's addresses.
    ///
    /// # Panics
    ///
    /// If there is no such application.
    #[inline]
    pub fn identity(&self, application: usize) -> &Identity {
        &self.identities[application]
    }

    /// Some application with this IPv4 address.
    #[inline]
    pub fn with_address(&self, address: Ipv4Address) -> Option<&Identity> {
        let index = self.by_ipv4.find(ipv4_key(address))?;
        Some(&self.identities[usize::from(index)])
    }

    /// Some application with this IPv6 address, be it the link-local one or the other.
    #[inline]
    pub fn with_ipv6(&self, address: Ipv6Address) -> Option<&Identity> {
        let index = self.by_ipv6.find(ipv6_key(address))?;
        let identity = &self.identities[usize::from(index)];
        identity.has_ipv6(address).then_some(identity)
    }

    /// Some application with this MAC address.
    #[inline]
    pub fn with_mac(&self, mac: EthernetAddress) -> Option<&Identity> {
        let index = self.by_mac.find(mac_key(mac))?;
        Some(&self.identities[usize::from(index)])
    }

    /// The applications with an address to themselves for whose solicitations this
    /// multicast group is; 0 if there is none.
    pub fn alone_in_group(&self, group: Ipv6Address) -> Applications {
        self.stations()
            .filter(|identity| identity.is_alone() && identity.is_in_group(group))
            .fold(0, |set, identity| set | identity.sharers)
    }

    /// Whether some application has this MAC address.
    #[inline]
    pub fn has_mac(&self, mac: EthernetAddress) -> bool {
        self.by_mac.find(mac_key(mac)).is_some()
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
    #[inline]
    pub fn port_owner(&self, family: Family, protocol: Protocol, port: u16) -> u16 {
        self.ports.owner(family, protocol, port)
    }

    /// Those whose ports the port table tells apart: all that do not have an address of
    /// their own.
    pub fn sharing(&self) -> Applications {
        self.sharing
    }

    /// Those that ask for an address by DHCP.
    #[inline]
    pub fn dhcp_clients(&self) -> Applications {
        self.dhcp_clients
    }

    /// Those in direct mode.
    #[inline]
    pub fn direct(&self) -> Applications {
        self.direct
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

impl Entry {
    fn new(entry: &ServerEntry) -> Self {
        Self {
            addresses: entry.addresses,
            owner: entry.owner,
            flags: entry.flags,
        }
    }

    /// Its addresses, those that it was given at run time included.
    fn addresses_now(&self, leases: Option<&AddressReader>) -> Addresses {
        if self.flags & ADDRESS_LEASED == 0 {
            return self.addresses;
        }
        let leased = leases.and_then(|leases| leases.addresses(self.owner));
        let addresses = if self.flags & ADDRESS_OWN != 0 {
            leased.unwrap_or(Addresses::NONE)
        } else {
            // MAC and IPv6 addresses are known beforehand.
            let leased = leased.unwrap_or(Addresses::NONE);
            Addresses {
                ipv4: leased.ipv4,
                ipv4_prefix_length: leased.ipv4_prefix_length,
                gateway: leased.gateway,
                ..self.addresses
            }
        };
        if addresses == Addresses::NONE || make_sense(&addresses) {
            return addresses;
        }
        log::warn!(
            "the address table gives owner {} addresses that nobody can have: it is left without",
            self.owner
        );
        Addresses::NONE
    }
}
