//! Addresses of both families, and what names a connection.

use crate::config::{Addresses, Network};
use crate::wire::{IPV4_HEADER, IPV6_HEADER, TCP_HEADER};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An address of either family: an IPv4 address as the IPv6 address that maps it
/// (RFC 4291, 2.5.5.2), which no packet may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    high: u64,
    low: u64,
}

/// Upper half of the lower half of a mapped address.
const MAPPED: u64 = 0xffff;

impl Address {
    /// An IPv4 address from its bits.
    #[inline]
    pub const fn from_ipv4_bits(bits: u32) -> Self {
        Self {
            high: 0,
            low: MAPPED << 32 | bits as u64,
        }
    }

    /// An address from the bits of an IPv6 address.
    pub const fn from_ipv6_bits(bits: u128) -> Self {
        Self {
            high: (bits >> 64) as u64,
            low: bits as u64,
        }
    }

    /// An IPv6 address from the first 16 bytes.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn from_ipv6_bytes(bytes: &[u8]) -> Self {
        let mut octets = [0; 16];
        octets.copy_from_slice(&bytes[..16]);
        Self::from_ipv6_bits(u128::from_be_bytes(octets))
    }

    /// Whether it is an IPv4 address.
    #[inline]
    pub const fn is_ipv4(&self) -> bool {
        self.high == 0 && self.low >> 32 == MAPPED
    }

    /// Both halves; of an IPv4 address, the lower 32 bits of the second are the address.
    #[inline]
    pub const fn halves(&self) -> [u64; 2] {
        [self.high, self.low]
    }

    /// The same address as others know it.
    pub fn ip(&self) -> IpAddr {
        if self.is_ipv4() {
            IpAddr::V4(Ipv4Addr::from_bits(self.low as u32))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(
                u128::from(self.high) << 64 | u128::from(self.low),
            ))
        }
    }

    /// Whether a host may have it and speak from it: not unspecified, multicast, broadcast or loopback.
    #[inline]
    pub fn is_host(&self) -> bool {
        if self.is_ipv4() {
            let address = Ipv4Addr::from_bits(self.low as u32);
            return !(address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast()
                || address.is_loopback());
        }
        // ff00::/8, :: and ::1.
        self.high >> 56 != 0xff && (self.high != 0 || self.low > 1)
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self::from_ipv4_bits(address.to_bits())
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        Self::from_ipv6_bits(address.to_bits())
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

/// What names a connection. Both addresses are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// The peer's address.
    pub remote: Address,
    /// The address of ours that the peer talks to.
    pub local: Address,
    /// The peer's port.
    pub remote_port: u16,
    /// Our port.
    pub local_port: u16,
}

impl FlowKey {
    /// The connection between these; `None` if no packet can go between them.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Option<Self> {
        (local.is_ipv4() == remote.is_ipv4()).then(|| Self {
            remote: remote.ip().into(),
            local: local.ip().into(),
            remote_port: remote.port(),
            local_port: local.port(),
        })
    }

    /// Length of the IP and TCP headers of a segment without options.
    pub const fn headers(&self) -> usize {
        TCP_HEADER
            + if self.is_ipv4() {
                IPV4_HEADER
            } else {
                IPV6_HEADER
            }
    }

    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.remote.ip(), self.remote_port)
    }

    /// Whether the connection is over IPv4.
    #[inline]
    pub const fn is_ipv4(&self) -> bool {
        self.remote.is_ipv4()
    }
}

/// The addresses of the interface.
#[derive(Clone, Copy, Debug)]
pub struct Local {
    /// The hardware address.
    pub hardware: [u8; 6],
    /// The IPv4 network, if there is an address.
    pub ipv4: Option<Network<Ipv4Addr>>,
    /// The IPv6 network, if there is an address beside the link-local one.
    pub ipv6: Option<Network<Ipv6Addr>>,
    /// The link-local address made from the hardware address.
    pub link_local: Ipv6Addr,
}

impl Local {
    /// These addresses; what no interface can have is left out.
    pub fn new(hardware: [u8; 6], addresses: &Addresses) -> Self {
        Self {
            hardware,
            ipv4: addresses.ipv4.filter(|network| {
                network.prefix_length <= 32 && Address::from(network.address).is_host()
            }),
            ipv6: addresses.ipv6.filter(|network| {
                let address = Address::from(network.address);
                network.prefix_length <= 128 && !address.is_ipv4() && address.is_host()
            }),
            link_local: link_local(&hardware),
        }
    }

    /// Whether an address is ours.
    pub fn has(&self, address: Address) -> bool {
        if address.is_ipv4() {
            self.ipv4
                .is_some_and(|network| Address::from(network.address) == address)
        } else {
            self.has_ipv6(address)
        }
    }

    /// Whether an IPv6 address is ours.
    pub fn has_ipv6(&self, address: Address) -> bool {
        Address::from(self.link_local) == address
            || self
                .ipv6
                .is_some_and(|network| Address::from(network.address) == address)
    }

    /// Whether neighbours ask at this address for one of ours: all nodes, or the
    /// solicited-node group (RFC 4291, 2.7.1) of an address.
    pub fn listens_to_group(&self, group: Address) -> bool {
        const ALL_NODES: Address = Address::from_ipv6_bits(0xff02 << 112 | 1);
        let solicited = |address: Ipv6Addr| {
            Address::from_ipv6_bits(0xff02 << 112 | 0x1_ff00_0000 | address.to_bits() & 0xff_ffff)
        };
        group == ALL_NODES
            || group == solicited(self.link_local)
            || self
                .ipv6
                .is_some_and(|network| group == solicited(network.address))
    }

    /// Whether an address is the one for all hosts of our network.
    pub fn is_broadcast(&self, address: Address) -> bool {
        self.ipv4.is_some_and(|network| {
            // RFC 3021: a network of two or of one has none.
            let hosts = u32::MAX
                .checked_shr(network.prefix_length.into())
                .unwrap_or(0);
            hosts > 1 && address == Address::from_ipv4_bits(network.address.to_bits() | hosts)
        })
    }

    /// The address of ours that talks to `remote`, if there is one.
    pub fn source_for(&self, remote: Address) -> Option<Address> {
        match remote.ip() {
            IpAddr::V4(_) => Some(self.ipv4?.address.into()),
            IpAddr::V6(remote) if remote.is_unicast_link_local() => Some(self.link_local.into()),
            IpAddr::V6(_) => Some(self.ipv6?.address.into()),
        }
    }

    /// The neighbour to which packets to `remote` go: itself, or the router to it.
    pub fn next_hop(&self, remote: Address) -> Option<Address> {
        match remote.ip() {
            IpAddr::V4(address) => {
                let network = self.ipv4?;
                let mask = !u32::MAX
                    .checked_shr(network.prefix_length.into())
                    .unwrap_or(0);
                if (address.to_bits() ^ network.address.to_bits()) & mask == 0 {
                    return Some(remote);
                }
                Some(network.gateway?.into())
            }
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(remote),
            IpAddr::V6(address) => {
                let network = self.ipv6?;
                let mask = !u128::MAX
                    .checked_shr(network.prefix_length.into())
                    .unwrap_or(0);
                if (address.to_bits() ^ network.address.to_bits()) & mask == 0 {
                    return Some(remote);
                }
                Some(network.gateway?.into())
            }
        }
    }
}

/// The link-local address of an interface: fe80::/64 and its hardware address as
/// a modified EUI-64 (RFC 4291, 2.5.6 and appendix A).
pub fn link_local(hardware: &[u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = *hardware;
    Ipv6Addr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    fn local() -> Local {
        Local::new(
            [0x52, 0x54, 0, 0x5e, 0x60, 0],
            &Addresses {
                ipv4: Some(Network {
                    address: Ipv4Addr::new(10, 0, 2, 15),
                    prefix_length: 24,
                    gateway: Some(Ipv4Addr::new(10, 0, 2, 2)),
                }),
                ipv6: Some(Network {
                    address: "fd00:5e60::15".parse().unwrap(),
                    prefix_length: 64,
                    gateway: Some("fd00:5e60::2".parse().unwrap()),
                }),
            },
        )
    }

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn the_link_local_address_is_that_of_the_hardware() {
        let expected: Ipv6Addr = "fe80::5054:ff:fe5e:6000".parse().unwrap();
        assert_eq!(local().link_local, expected);
    }

    #[test]
    fn only_hosts_speak() {
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::1",
            "ff0e::1",
        ] {
            assert!(!address(text).is_host(), "{text}");
        }
        for text in ["10.0.2.2", "fe80::1", "fd00::1", "2001:db8::1", "::2"] {
            assert!(address(text).is_host(), "{text}");
        }
    }

    #[test]
    fn what_is_ours_and_what_is_not() {
        let local = local();
        for text in ["10.0.2.15", "fd00:5e60::15", "fe80::5054:ff:fe5e:6000"] {
            assert!(local.has(address(text)), "{text}");
        }
        for text in ["10.0.2.14", "fd00:5e60::14", "fe80::5054:ff:fe5e:6001"] {
            assert!(!local.has(address(text)), "{text}");
        }
        for text in ["ff02::1", "ff02::1:ff00:15", "ff02::1:ff5e:6000"] {
            assert!(local.listens_to_group(address(text)), "{text}");
        }
        for text in ["ff02::2", "ff02::1:ff00:16", "ff05::1", "fd00:5e60::15"] {
            assert!(!local.listens_to_group(address(text)), "{text}");
        }
        assert!(local.is_broadcast(address("10.0.2.255")));
        assert!(!local.is_broadcast(address("10.0.2.254")));
        assert!(!local.is_broadcast(address("fd00:5e60::ff")));
    }

    #[test]
    fn packets_find_their_way() {
        let local = local();
        for (remote, source, hop) in [
            ("10.0.2.77", "10.0.2.15", "10.0.2.77"),
            ("192.0.2.1", "10.0.2.15", "10.0.2.2"),
            ("fd00:5e60::9", "fd00:5e60::15", "fd00:5e60::9"),
            ("2001:db8::1", "fd00:5e60::15", "fd00:5e60::2"),
            ("fe80::1", "fe80::5054:ff:fe5e:6000", "fe80::1"),
        ] {
            let remote = address(remote);
            assert_eq!(local.source_for(remote), Some(address(source)));
            assert_eq!(local.next_hop(remote), Some(address(hop)));
        }
        let none = Local::new([2, 0, 0, 0, 0, 1], &Addresses::default());
        assert_eq!(none.source_for(address("10.0.2.2")), None);
        assert_eq!(none.next_hop(address("fd00:5e60::2")), None);
        assert!(none.source_for(address("fe80::1")).is_some());
    }

    #[test]
    fn impossible_addresses_are_left_out() {
        let ipv4 = |address: &str, prefix_length| {
            let network = Network {
                address: address.parse().unwrap(),
                prefix_length,
                gateway: None,
            };
            let addresses = Addresses {
                ipv4: Some(network),
                ipv6: None,
            };
            Local::new([2, 0, 0, 0, 0, 1], &addresses).ipv4.is_some()
        };
        assert!(ipv4("10.0.2.15", 32) && !ipv4("10.0.2.15", 33) && !ipv4("0.0.0.0", 24));
        let ipv6 = |address: &str, prefix_length| {
            let network = Network {
                address: address.parse().unwrap(),
                prefix_length,
                gateway: None,
            };
            let addresses = Addresses {
                ipv4: None,
                ipv6: Some(network),
            };
            Local::new([2, 0, 0, 0, 0, 1], &addresses).ipv6.is_some()
        };
        assert!(ipv6("fd00::1", 128) && !ipv6("fd00::1", 129) && !ipv6("ff02::1", 64));
        assert!(!ipv6("::ffff:10.0.2.15", 96));
    }

    proptest! {
        #[test]
        fn an_address_stays_what_it_is(bits in any::<u128>(), old in any::<u32>()) {
            let old = Ipv4Addr::from_bits(old);
            prop_assert_eq!(Address::from(old).ip(), IpAddr::V4(old));
            let new = Ipv6Addr::from_bits(bits);
            if new.to_ipv4_mapped().is_none() {
                prop_assert_eq!(Address::from(new).ip(), IpAddr::V6(new));
            }
        }
    }
}
