//! Some applications and what is theirs.

use segue_frame_channel::config::{
    ADDRESS_LEASED, ADDRESS_OWN, Addresses, DHCP_CLIENT, ServerEntry, ServerTable,
};
use segue_netserver_core::Directory;
use segue_portmap_core::{Families, PortReader, PortTable, Protocol, TABLE_SIZE};
use segue_shared_memory::testing::leaked_region;

/// IP protocol numbers.
pub const TCP: usize = 6;
pub const UDP: usize = 17;

pub struct Application {
    /// Its number in the port table.
    pub owner: u16,
    pub mac: Option<[u8; 6]>,
    pub ipv4: Option<[u8; 4]>,
    /// All of them.
    pub ipv6: Vec<[u8; 16]>,
    /// It has an address of its own: the port table is not asked.
    pub own: bool,
    /// Nobody else has its address.
    pub alone: bool,
    pub dhcp_client: bool,
}

pub struct World {
    pub applications: Vec<Application>,
    /// Owner, version of IP, protocol, port.
    pub ports: Vec<(u16, usize, usize, usize)>,
    /// Those in direct mode.
    pub direct: u64,
    /// The same, as the server knows it.
    pub directory: Directory,
}

/// What the system description says of an application: the last byte of its MAC
/// address and of its IP addresses; of these 0 means none.
struct Plan {
    mac: Option<u8>,
    ipv4: u8,
    ipv6: u8,
    flags: u16,
}

/// Two sharers, their DHCP client, two applications with addresses of their own, and one
/// that waits for them.
pub fn many() -> World {
    let plan = |mac, ipv4, ipv6, flags| Plan {
        mac,
        ipv4,
        ipv6,
        flags,
    };
    world(&[
        plan(Some(0), 15, 0x15, 0),
        plan(Some(0), 15, 0x15, 0),
        plan(Some(1), 16, 0x16, ADDRESS_OWN),
        plan(Some(0), 15, 0x15, DHCP_CLIENT),
        plan(Some(2), 17, 0, ADDRESS_OWN),
        plan(None, 0, 0, ADDRESS_OWN | ADDRESS_LEASED),
    ])
}

/// One application, which nobody shares the address with.
pub fn one() -> World {
    world(&[Plan {
        mac: Some(0),
        ipv4: 15,
        ipv6: 0x15,
        flags: 0,
    }])
}

/// Sharers whose IPv4 address has not come yet, and who have no IPv6 address but the
/// link-local one.
pub fn waiting() -> World {
    let plan = |flags| Plan {
        mac: Some(0),
        ipv4: 0,
        ipv6: 0,
        flags,
    };
    world(&[
        plan(ADDRESS_LEASED),
        plan(ADDRESS_LEASED),
        plan(ADDRESS_LEASED),
        plan(ADDRESS_LEASED | DHCP_CLIENT),
    ])
}

fn world(plans: &[Plan]) -> World {
    let mut applications = Vec::new();
    let mut table = ServerTable::EMPTY;
    table.count = plans.len() as u32;
    for (index, plan) in plans.iter().enumerate() {
        let owner = index as u16 + 1;
        let mac = plan.mac.map(|last| [0x52, 0x54, 0, 0x5e, 0x60, last]);
        let ipv4 = (plan.ipv4 != 0).then_some([10, 0, 2, plan.ipv4]);
        let global = (plan.ipv6 != 0).then_some([
            0xfd, 0, 0x5e, 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, plan.ipv6,
        ]);
        let mut ipv6: Vec<[u8; 16]> = global.into_iter().collect();
        if let Some(last) = plan.mac {
            ipv6.push([
                0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x50, 0x54, 0, 0xff, 0xfe, 0x5e, 0x60, last,
            ]);
        }
        let others = plans.iter().filter(|other| other.mac == plan.mac).count();
        applications.push(Application {
            owner,
            mac,
            ipv4,
            ipv6,
            own: plan.flags & ADDRESS_OWN != 0,
            alone: others == 1,
            dhcp_client: plan.flags & DHCP_CLIENT != 0,
        });
        table.entries[index] = ServerEntry {
            owner,
            flags: plan.flags,
            addresses: Addresses {
                mac: mac.unwrap_or_default(),
                ipv4: ipv4.unwrap_or_default(),
                ipv4_prefix_length: 24,
                ipv6: global.unwrap_or_default(),
                ipv6_prefix_length: 64,
                ..Addresses::NONE
            },
            ..ServerEntry::EMPTY
        };
    }
    let bound = [
        (1, Families::Both, Protocol::Tcp, 80),
        (1, Families::Both, Protocol::Udp, 80),
        (2, Families::Both, Protocol::Tcp, 443),
        (2, Families::Both, Protocol::Udp, 443),
        // Of each version of IP another's.
        (1, Families::V4, Protocol::Udp, 5353),
        (2, Families::V6, Protocol::Udp, 5353),
        (4, Families::V4, Protocol::Udp, 68),
        // Of one whose address is its own, and of nobody there is.
        (3, Families::Both, Protocol::Tcp, 22),
        (60, Families::Both, Protocol::Tcp, 23),
    ];
    let region = leaked_region(TABLE_SIZE);
    let mut table_of_ports = PortTable::new(region).expect("the region has the table's size");
    let mut ports = Vec::new();
    for (owner, families, protocol, port) in bound {
        table_of_ports
            .bind(owner, families, protocol, port)
            .expect("the port is free");
        let number = if protocol == Protocol::Tcp { TCP } else { UDP };
        if families != Families::V6 {
            ports.push((owner, 4, number, port.into()));
        }
        if families != Families::V4 {
            ports.push((owner, 6, number, port.into()));
        }
    }
    let reader = PortReader::new(region).expect("the region has the table's size");
    World {
        applications,
        ports,
        direct: 0,
        directory: Directory::new(&table, reader, None),
    }
}

impl World {
    /// Says who is in direct mode: of those, only who has an address alone can be.
    pub fn set_direct(&mut self, said: u64) {
        self.directory.set_direct(said);
        self.direct = said & self.who(|application| application.alone || application.own);
    }

    /// The number of a port's owner.
    pub fn owner(&self, version: usize, protocol: usize, port: usize) -> Option<u16> {
        for (owner, its_version, its_protocol, its_port) in &self.ports {
            if (*its_version, *its_protocol, *its_port) == (version, protocol, port) {
                return Some(*owner);
            }
        }
        None
    }

    /// The applications for which this holds.
    pub fn who(&self, holds: impl Fn(&Application) -> bool) -> u64 {
        let mut set = 0;
        for (index, application) in self.applications.iter().enumerate() {
            if holds(application) {
                set |= 1 << index;
            }
        }
        set
    }

    pub fn with_mac(&self, mac: [u8; 6]) -> u64 {
        self.who(|application| application.mac == Some(mac))
    }

    pub fn with_ipv4(&self, address: [u8; 4]) -> u64 {
        self.who(|application| application.ipv4 == Some(address))
    }

    pub fn with_ipv6(&self, address: [u8; 16]) -> u64 {
        self.who(|application| application.ipv6.contains(&address))
    }

    /// Those of a set who own this port: one, or none.
    pub fn owners(&self, version: usize, protocol: usize, port: usize, among: u64) -> u64 {
        let owner = self.owner(version, protocol, port);
        self.who(|application| Some(application.owner) == owner) & among
    }

    /// Whether this set is one application that has its address to itself.
    pub fn is_alone(&self, set: u64) -> bool {
        self.who(|application| application.alone) & set != 0
    }

    /// For all, or for all of a network of ours: each has 24 bits.
    pub fn is_broadcast(&self, address: [u8; 4]) -> bool {
        if address == [255; 4] {
            return true;
        }
        for application in &self.applications {
            if let Some([a, b, c, _]) = application.ipv4
                && address == [a, b, c, 255]
            {
                return true;
            }
        }
        false
    }
}
