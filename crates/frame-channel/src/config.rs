//! What the image builder tells the two ends about their channels: tables it
//! writes over a symbol of each program. All fields are in native byte order
//! unless they are addresses of the network.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most applications that one server serves.
pub const MAXIMUM_APPLICATIONS: usize = 64;

/// Bytes of a protection domain's name, padded with zeroes; at most 63 are used.
pub const NAME_SIZE: usize = 64;

/// A channel id that names no channel.
pub const NO_CHANNEL: u32 = u32::MAX;

/// The application's address is its own: all its ports are, too, and the port
/// table is not asked. Without this flag applications with equal MAC and IPv4
/// addresses share them and are told apart by the port table.
pub const ADDRESS_OWN: u16 = 1;

/// The port map says at run time which addresses these are: the IPv4 address of
/// sharers who get it by DHCP; all of a pool's member.
pub const ADDRESS_LEASED: u16 = 2;

/// The application asks a DHCP server for the shared address: it may send from
/// UDP port 68 of no address, and gets what is for that port.
pub const DHCP_CLIENT: u16 = 4;

/// The application computes the checksums of TCP and UDP itself, whatever the server says of
/// them. For the application alone.
pub const VERIFY_CHECKSUMS: u16 = 8;

/// Where a station is found. What it does not have is all zeroes.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Addresses {
    /// The MAC address its frames carry.
    pub mac: [u8; 6],
    /// Length of the IPv4 network prefix in bits.
    pub ipv4_prefix_length: u8,
    /// Length of the IPv6 network prefix in bits.
    pub ipv6_prefix_length: u8,
    /// Its IPv4 address.
    pub ipv4: [u8; 4],
    /// The IPv4 router to other networks.
    pub gateway: [u8; 4],
    /// Its IPv6 address, besides [`Addresses::link_local`].
    pub ipv6: [u8; 16],
    /// The IPv6 router to other networks.
    pub ipv6_gateway: [u8; 16],
}

/// Symbol `frame_channels` of the server: all its applications.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ServerTable {
    /// Number of entries in use.
    pub count: u32,
    /// 0.
    pub reserved: u32,
    /// The applications; owner number *i* + 1 is entry *i*.
    pub entries: [ServerEntry; MAXIMUM_APPLICATIONS],
}

/// One application, as the server sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ServerEntry {
    /// The application's name, padded with zeroes.
    pub name: [u8; NAME_SIZE],
    /// Address in the server of the region that the application writes.
    pub client_region: u64,
    /// Its size in bytes, [`crate::layout::client_region_size`].
    pub client_region_size: u64,
    /// Address in the server of the region that the server writes.
    pub server_region: u64,
    /// Its size in bytes, [`crate::layout::server_region_size`].
    pub server_region_size: u64,
    /// Address of the transmit pool, in the server and for the device alike.
    pub pool: u64,
    /// Its size in bytes.
    pub pool_size: u64,
    /// Entries of the transmit ring, a power of two.
    pub transmit_entries: u32,
    /// Entries of the receive ring, a power of two.
    pub receive_entries: u32,
    /// Channel id, in the server, to notify the application.
    pub channel: u32,
    /// The application's number in the port table, 1..=64.
    pub owner: u16,
    /// Some of [`ADDRESS_OWN`], [`ADDRESS_LEASED`], [`DHCP_CLIENT`].
    pub flags: u16,
    /// Its addresses, as far as they are known beforehand.
    pub addresses: Addresses,
}

/// Symbol `frame_channel` of an application.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ClientConfig {
    /// The server's name, padded with zeroes.
    pub server: [u8; NAME_SIZE],
    /// Address in the application of the region that the application writes.
    pub client_region: u64,
    /// Its size in bytes, [`crate::layout::client_region_size`].
    pub client_region_size: u64,
    /// Address in the application of the region that the server writes.
    pub server_region: u64,
    /// Its size in bytes, [`crate::layout::server_region_size`].
    pub server_region_size: u64,
    /// Address of the transmit pool in the application.
    pub pool: u64,
    /// Its size in bytes.
    pub pool_size: u64,
    /// Entries of the transmit ring, a power of two.
    pub transmit_entries: u32,
    /// Entries of the receive ring, a power of two.
    pub receive_entries: u32,
    /// Channel id, in the application, to notify the server.
    pub channel: u32,
    /// Channel id, in the application, for protected calls to the port map;
    /// [`NO_CHANNEL`] if there is none.
    pub portmap_channel: u32,
    /// The application's number in the port table, 1..=64.
    pub owner: u16,
    /// Some of [`ADDRESS_OWN`], [`ADDRESS_LEASED`], [`DHCP_CLIENT`], [`VERIFY_CHECKSUMS`].
    pub flags: u16,
    /// Its addresses, as far as they are known beforehand.
    pub addresses: Addresses,
    /// 0.
    pub reserved: [u8; 4],
}

/// Size in bytes of [`ServerTable`].
pub const SERVER_TABLE_SIZE: usize = size_of::<ServerTable>();
/// Size in bytes of [`ClientConfig`].
pub const CLIENT_CONFIG_SIZE: usize = size_of::<ClientConfig>();

impl Addresses {
    /// No address at all.
    pub const NONE: Self = Self {
        mac: [0; 6],
        ipv4_prefix_length: 0,
        ipv6_prefix_length: 0,
        ipv4: [0; 4],
        gateway: [0; 4],
        ipv6: [0; 16],
        ipv6_gateway: [0; 16],
    };

    /// The IPv6 address that comes with the MAC address (RFC 4291, appendix A).
    pub const fn link_local(&self) -> [u8; 16] {
        let [a, b, c, d, e, f] = self.mac;
        [
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
        ]
    }
}

impl ServerTable {
    /// A table without applications: what a program holds before it is patched.
    pub const EMPTY: Self = Self {
        count: 0,
        reserved: 0,
        entries: [ServerEntry::EMPTY; MAXIMUM_APPLICATIONS],
    };

    /// The entries in use.
    pub fn applications(&self) -> &[ServerEntry] {
        &self.entries[..(self.count as usize).min(MAXIMUM_APPLICATIONS)]
    }
}

impl ServerEntry {
    /// All zeroes, but for the channel.
    pub const EMPTY: Self = Self {
        name: [0; NAME_SIZE],
        client_region: 0,
        client_region_size: 0,
        server_region: 0,
        server_region_size: 0,
        pool: 0,
        pool_size: 0,
        transmit_entries: 0,
        receive_entries: 0,
        channel: NO_CHANNEL,
        owner: 0,
        flags: 0,
        addresses: Addresses::NONE,
    };

    /// The application's name.
    pub fn name(&self) -> &str {
        name_from_bytes(&self.name)
    }
}

impl ClientConfig {
    /// All zeroes, but for the channels: what a program holds before it is
    /// patched.
    pub const EMPTY: Self = Self {
        server: [0; NAME_SIZE],
        client_region: 0,
        client_region_size: 0,
        server_region: 0,
        server_region_size: 0,
        pool: 0,
        pool_size: 0,
        transmit_entries: 0,
        receive_entries: 0,
        channel: NO_CHANNEL,
        portmap_channel: NO_CHANNEL,
        owner: 0,
        flags: 0,
        addresses: Addresses::NONE,
        reserved: [0; 4],
    };

    /// The server's name.
    pub fn server(&self) -> &str {
        name_from_bytes(&self.server)
    }
}

/// The bytes of a name, padded with zeroes; `None` if it is longer than 63
/// bytes.
pub fn name_to_bytes(name: &str) -> Option<[u8; NAME_SIZE]> {
    let mut bytes = [0; NAME_SIZE];
    if name.len() >= NAME_SIZE {
        return None;
    }
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Some(bytes)
}

/// The name in `bytes`, up to the first zero; `"?"` if it is not UTF-8.
pub fn name_from_bytes(bytes: &[u8; NAME_SIZE]) -> &str {
    let length = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(NAME_SIZE);
    core::str::from_utf8(&bytes[..length]).unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_survive_the_way_through_bytes() {
        let mut table = ServerTable::EMPTY;
        table.count = 1;
        table.entries[0].name = name_to_bytes("http").unwrap();
        table.entries[0].pool = 0x20_0020_0000;
        table.entries[0].addresses.mac = [0x52, 0x54, 0, 0x5e, 0x60, 0];
        let again = ServerTable::read_from_bytes(table.as_bytes()).unwrap();
        assert_eq!(again, table);
        assert_eq!(again.applications()[0].name(), "http");
        assert_eq!(SERVER_TABLE_SIZE, 8 + 64 * 176);
        assert_eq!(CLIENT_CONFIG_SIZE, 184);
        assert!(SERVER_TABLE_SIZE.is_multiple_of(8));
    }

    #[test]
    fn a_count_beyond_the_table_is_cut() {
        let mut table = ServerTable::EMPTY;
        table.count = u32::MAX;
        assert_eq!(table.applications().len(), MAXIMUM_APPLICATIONS);
    }

    #[test]
    fn a_name_keeps_a_zero_at_its_end() {
        assert!(name_to_bytes(core::str::from_utf8(&[b'a'; 64]).unwrap()).is_none());
        let bytes = name_to_bytes(core::str::from_utf8(&[b'a'; 63]).unwrap()).unwrap();
        assert_eq!(name_from_bytes(&bytes).len(), 63);
    }
}
