//! Addresses of applications as the description states them: shared with others,
//! their own, out of a pool, or by DHCP.

use roxmltree::Node;
use segue_frame_channel::config::{
    ADDRESS_LEASED, ADDRESS_OWN, Addresses, DHCP_CLIENT, NAME_SIZE, name_to_bytes,
};
use segue_portmap_core::config::{MAXIMUM_POOLS, PoolEntry, PoolTable};
use zerocopy::IntoBytes;

use super::Draft;
use super::patches::Reason;
use super::value::{Value, attribute};
use crate::model::AddressPool;

/// Most members of a pool: each has a MAC address, and a device filters fewer.
const MOST_MEMBERS: u16 = 64;

/// What a `<frame_channel>` says about addresses.
#[derive(Clone, Debug)]
pub(super) struct Station {
    /// The addresses; none of those that are known at run time only.
    pub(super) addresses: Addresses,
    /// Flags of the tables.
    pub(super) flags: u16,
    /// Index of the pool that the addresses come from.
    pub(super) pool: Option<usize>,
    /// Where the MAC address (or the pool) is stated.
    pub(super) mac_at: usize,
    /// Where the IPv4 address is stated.
    pub(super) ipv4_at: usize,
    /// Where the IPv6 address is stated.
    pub(super) ipv6_at: usize,
    /// Where the gateways are stated.
    pub(super) gateway_at: usize,
    pub(super) ipv6_gateway_at: usize,
}

/// What the passes know of an address pool.
pub(super) struct PoolNotes {
    /// The element.
    pub(super) at: usize,
    /// What the port map's table will say.
    pub(super) entry: PoolEntry,
    /// The server and the port map of its users, and a user's place.
    pub(super) users: Option<(usize, usize, usize)>,
    /// Number of users.
    pub(super) user_count: u16,
    /// The IPv4, IPv6 and MAC addresses' places.
    pub(super) ipv4_at: usize,
    pub(super) ipv6_at: usize,
    pub(super) mac_at: usize,
    pub(super) gateway_at: usize,
    pub(super) ipv6_gateway_at: usize,
}

/// The attributes that a pool stands for.
const OF_POOLS: [&str; 6] = [
    "mac",
    "ipv4",
    "gateway",
    "ipv6",
    "ipv6_gateway",
    "dhcp_client",
];

/// What `ipv4` says if the address comes by DHCP.
const DHCP: &str = "dhcp";

impl Draft<'_, '_> {
    /// Reads the addresses of a `<frame_channel>`; `None` after a mistake, which is
    /// reported.
    pub(super) fn read_station(&mut self, node: Node<'_, '_>) -> Option<Station> {
        if let Some(pool) = attribute(node, "address_pool") {
            return self.read_pool_station(node, pool);
        }
        let at = node.range().start;
        for name in ["mac", "ipv4"] {
            if !node.has_attribute(name) {
                let message = format!("<frame_channel> needs the attribute \"{name}\"");
                self.diagnostics.error(at, message);
            }
        }
        let mac_value = attribute(node, "mac");
        let mac = mac_value.and_then(|value| self.mac(value));
        let asks = match attribute(node, "dhcp_client") {
            None => Some(false),
            Some(value) => value.boolean(&mut self.diagnostics),
        };
        let ipv4_value = attribute(node, "ipv4");
        let by_dhcp = ipv4_value.is_some_and(|value| value.text == DHCP);
        let ipv4 = match by_dhcp {
            true => self.without_gateway(node),
            false => self.read_ipv4(node),
        };
        if asks == Some(true)
            && !by_dhcp
            && let Some(value) = attribute(node, "dhcp_client")
        {
            self.diagnostics.error(
                value.at,
                "who asks for an address by DHCP has it from there: write ipv4=\"dhcp\"",
            );
            return None;
        }
        let ipv6 = self.read_ipv6(node);
        let (asks, (ipv4, ipv4_prefix_length, gateway)) = (asks?, ipv4?);
        let (ipv6, ipv6_prefix_length, ipv6_gateway) = ipv6?;
        let flags = match (by_dhcp, asks) {
            (false, _) => 0,
            (true, false) => ADDRESS_LEASED,
            (true, true) => ADDRESS_LEASED | DHCP_CLIENT,
        };
        let place = |name: &str| attribute(node, name).map_or(at, |value| value.at);
        Some(Station {
            addresses: Addresses {
                mac: mac?,
                ipv4_prefix_length,
                ipv6_prefix_length,
                ipv4,
                gateway,
                ipv6,
                ipv6_gateway,
            },
            flags,
            pool: None,
            mac_at: place("mac"),
            ipv4_at: place("ipv4"),
            ipv6_at: place("ipv6"),
            gateway_at: place("gateway"),
            ipv6_gateway_at: place("ipv6_gateway"),
        })
    }

    fn read_pool_station(&mut self, node: Node<'_, '_>, pool: Value<'_>) -> Option<Station> {
        for name in OF_POOLS {
            if let Some(value) = attribute(node, name) {
                let message =
                    format!("an address out of a pool comes with all others: remove {name}");
                self.diagnostics.error(value.at, message);
            }
        }
        let index = self.pool_names.find(pool, &mut self.diagnostics)?;
        Some(Station {
            addresses: Addresses::NONE,
            flags: ADDRESS_OWN | ADDRESS_LEASED,
            pool: Some(index),
            mac_at: pool.at,
            ipv4_at: pool.at,
            ipv6_at: pool.at,
            gateway_at: pool.at,
            ipv6_gateway_at: pool.at,
        })
    }

    /// Reads the pools of addresses.
    pub(super) fn read_address_pools(&mut self, nodes: &[Node<'_, '_>]) {
        for &node in nodes {
            let pool = self.read_address_pool(node);
            self.pools.push(pool);
        }
        if let Some(node) = nodes.get(MAXIMUM_POOLS) {
            let message =
                format!("too many address pools: the port map's table holds {MAXIMUM_POOLS}");
            self.diagnostics.error(node.range().start, message);
        }
    }

    /// Tells the port maps which pools there are.
    pub(super) fn expand_address_pools(&mut self) {
        let mut table = PoolTable::EMPTY;
        for (place, pool) in table.entries.iter_mut().zip(&self.pools) {
            *place = pool.entry;
            table.count += 1;
        }
        let mut portmaps: Vec<(usize, usize)> = Vec::new();
        for (_, portmap, at) in self.pools.iter().filter_map(|pool| pool.users) {
            if portmaps.iter().all(|(known, _)| *known != portmap) {
                portmaps.push((portmap, at));
            }
        }
        for (portmap, at) in portmaps {
            let reason = Reason::Table {
                element: "address_pool",
                declare: "address_pools: PoolTable = PoolTable::EMPTY",
            };
            let bytes = table.as_bytes().to_vec();
            self.patch(portmap, at, "address_pools", bytes, reason);
        }
        let pools = self.pools.iter().map(|pool| AddressPool {
            name: pool.entry.name().into(),
            first: pool.entry.base,
            count: pool.entry.count,
        });
        self.system.address_pools = pools.collect();
    }

    /// A pool of no members after a mistake, which is reported.
    fn read_address_pool(&mut self, node: Node<'_, '_>) -> PoolNotes {
        let at = node.range().start;
        let name = attribute(node, "name");
        let count = attribute(node, "count")
            .and_then(|value| value.within(1..=MOST_MEMBERS, &mut self.diagnostics));
        let mac = attribute(node, "mac").and_then(|value| value.mac(&mut self.diagnostics));
        let ipv4 = self.read_ipv4(node);
        let ipv6 = self.read_ipv6(node);
        let place = |name: &str| attribute(node, name).map_or(at, |value| value.at);
        let mut pool = PoolNotes {
            at,
            entry: PoolEntry {
                // A name too long has been reported.
                name: name
                    .and_then(|name| name_to_bytes(name.text))
                    .unwrap_or([0; NAME_SIZE]),
                ..PoolEntry::EMPTY
            },
            users: None,
            user_count: 0,
            ipv4_at: place("ipv4"),
            ipv6_at: place("ipv6"),
            mac_at: place("mac"),
            gateway_at: place("gateway"),
            ipv6_gateway_at: place("ipv6_gateway"),
        };
        let (Some(count), Some(mac), Some(ipv4), Some(ipv6)) = (count, mac, ipv4, ipv6) else {
            return pool;
        };
        pool.entry.base = Addresses {
            mac,
            ipv4_prefix_length: ipv4.1,
            ipv6_prefix_length: ipv6.1,
            ipv4: ipv4.0,
            gateway: ipv4.2,
            ipv6: ipv6.0,
            ipv6_gateway: ipv6.2,
        };
        pool.entry.count = count;
        if !self.check_last_member(&pool) {
            pool.entry.count = 0;
        }
        pool
    }

    /// Reports a pool whose last member is outside of its network, or no station.
    fn check_last_member(&mut self, pool: &PoolNotes) -> bool {
        let (first, count) = (&pool.entry.base, pool.entry.count);
        let member = pool.entry.member(count - 1);
        let ipv4_fits = member.is_some_and(|member| {
            let length = first.ipv4_prefix_length;
            same_network(first.ipv4, member.ipv4, length) && is_ipv4_host(member.ipv4, length)
        });
        let ipv6_fits = member.is_some_and(|member| {
            same_network_ipv6(first.ipv6, member.ipv6, first.ipv6_prefix_length)
        });
        // A carry into the first byte could make it a group's.
        let mac_fits = member.is_some_and(|member| first.mac[0] == member.mac[0]);
        for (fits, at, what) in [
            (mac_fits, pool.mac_at, "MAC"),
            (ipv4_fits, pool.ipv4_at, "IPv4"),
            (ipv6_fits, pool.ipv6_at, "IPv6"),
        ] {
            if !fits {
                let message = format!(
                    "the last of {count} {what} addresses from here is not in the network any more: start lower or write a smaller count"
                );
                self.diagnostics.error(at, message);
                return false;
            }
        }
        true
    }

    /// Reads `ipv4` and `gateway`: address, length of the prefix, gateway.
    pub(super) fn read_ipv4(&mut self, node: Node<'_, '_>) -> Option<([u8; 4], u8, [u8; 4])> {
        let value = attribute(node, "ipv4");
        let network = value.and_then(|value| value.ipv4_network(&mut self.diagnostics));
        let gateway = match attribute(node, "gateway") {
            None => Some([0; 4]),
            Some(value) => value
                .ipv4(&mut self.diagnostics)
                .filter(|gateway| self.check_gateway(value, *gateway, network)),
        };
        let (value, (address, length)) = value.zip(network)?;
        if !is_ipv4_host(address, length) {
            self.not_a_station(value);
            return None;
        }
        Some((address, length, gateway?))
    }

    /// Reads `ipv6` and `ipv6_gateway`: address, length of the prefix, gateway.
    pub(super) fn read_ipv6(&mut self, node: Node<'_, '_>) -> Option<([u8; 16], u8, [u8; 16])> {
        let gateway_value = attribute(node, "ipv6_gateway");
        let gateway = gateway_value.map(|value| (value, value.ipv6(&mut self.diagnostics)));
        let Some(value) = attribute(node, "ipv6") else {
            let Some(gateway) = gateway_value else {
                return Some(([0; 16], 0, [0; 16]));
            };
            self.diagnostics.error(
                gateway.at,
                "a router needs an address to route for: write ipv6, or remove it",
            );
            return None;
        };
        let (address, length) = value.ipv6_network(&mut self.diagnostics)?;
        let host = u128::from_be_bytes(address) & !mask_ipv6(length);
        if !is_global(address) || host == 0 {
            self.not_a_station(value);
            return None;
        }
        let Some((value, gateway)) = gateway else {
            return Some((address, length, [0; 16]));
        };
        let gateway = gateway?;
        let near = is_link_local(gateway)
            || (is_global(gateway) && same_network_ipv6(gateway, address, length));
        if !near {
            self.diagnostics.error(
                value.at,
                format!(
                    "the gateway {} is not in the network of the address: it must share its first {length} bits, or be link-local",
                    value.text
                ),
            );
            return None;
        }
        if gateway == address {
            self.gateway_is_itself(value);
            return None;
        }
        Some((address, length, gateway))
    }

    fn without_gateway(&mut self, node: Node<'_, '_>) -> Option<([u8; 4], u8, [u8; 4])> {
        if let Some(value) = attribute(node, "gateway") {
            self.diagnostics.error(
                value.at,
                "the gateway comes by DHCP, with the address: remove it",
            );
            return None;
        }
        Some(([0; 4], 0, [0; 4]))
    }

    /// Whether the gateway fits the address, which may be wrong itself.
    fn check_gateway(
        &mut self,
        value: Value<'_>,
        gateway: [u8; 4],
        network: Option<([u8; 4], u8)>,
    ) -> bool {
        let Some((address, length)) = network else {
            return true;
        };
        if !same_network(gateway, address, length) {
            self.diagnostics.error(
                value.at,
                format!(
                    "the gateway {} is not in the network of the address: it must share its first {length} bits",
                    value.text
                ),
            );
            return false;
        }
        if gateway == address {
            self.gateway_is_itself(value);
            return false;
        }
        true
    }

    fn gateway_is_itself(&mut self, value: Value<'_>) {
        let message = format!(
            "the gateway {} is the address itself: write another",
            value.text
        );
        self.diagnostics.error(value.at, message);
    }

    fn not_a_station(&mut self, value: Value<'_>) {
        let message = format!(
            "{}=\"{}\" is not the address of a station: write another",
            value.name, value.text
        );
        self.diagnostics.error(value.at, message);
    }
}

fn mask(length: u8) -> u32 {
    let shift = 32_u32.saturating_sub(length.into());
    u32::MAX.checked_shl(shift).unwrap_or(0)
}

fn mask_ipv6(length: u8) -> u128 {
    let shift = 128_u32.saturating_sub(length.into());
    u128::MAX.checked_shl(shift).unwrap_or(0)
}

fn same_network(one: [u8; 4], other: [u8; 4], length: u8) -> bool {
    (u32::from_be_bytes(one) ^ u32::from_be_bytes(other)) & mask(length) == 0
}

fn same_network_ipv6(one: [u8; 16], other: [u8; 16], length: u8) -> bool {
    (u128::from_be_bytes(one) ^ u128::from_be_bytes(other)) & mask_ipv6(length) == 0
}

/// Whether a station can have the address in a network with this prefix.
fn is_ipv4_host(address: [u8; 4], length: u8) -> bool {
    let host = u32::from_be_bytes(address) & !mask(length);
    let outside = address[0] == 0 || address[0] == 127 || address[0] >= 224;
    !outside && host != 0 && host != !mask(length)
}

fn is_link_local(address: [u8; 16]) -> bool {
    address[0] == 0xfe && address[1] & 0xc0 == 0x80
}

/// Whether a station can have the address besides its link-local one (RFC 4291,
/// section 2.4): not the unspecified and the loopback address, none that stands for
/// an IPv4 address, none of a group.
fn is_global(address: [u8; 16]) -> bool {
    let number = u128::from_be_bytes(address);
    address[0] != 0xff && !is_link_local(address) && number >> 32 > 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_told_apart_by_their_prefix() {
        assert!(same_network([10, 0, 2, 1], [10, 0, 2, 254], 24));
        assert!(!same_network([10, 0, 2, 1], [10, 0, 3, 1], 24));
        assert!(same_network([1, 0, 0, 0], [255, 0, 0, 0], 0));
        assert!(!is_ipv4_host([10, 0, 2, 255], 24));
        assert!(is_ipv4_host([10, 0, 2, 255], 23));
        let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        let (one, other) = (address("fd00:5e60::1"), address("fd00:5e60::1:0:0:0:1"));
        assert!(!same_network_ipv6(one, other, 64));
        assert!(same_network_ipv6(one, other, 63));
        for wrong in ["::", "::1", "::ffff:10.0.2.1", "ff02::1", "fe80::1"] {
            assert!(!is_global(address(wrong)), "{wrong}");
        }
        assert!(is_global(one) && is_global(address("2001:db8::1")));
    }
}
