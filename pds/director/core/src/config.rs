//! What the image builder tells those who take part in mode switches: tables that it
//! writes over a symbol of each program. Native byte order, no pointers.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most applications that one director switches.
pub const MAXIMUM_APPLICATIONS: usize = 64;
/// Most virtual functions that can be granted.
pub const MAXIMUM_FUNCTIONS: usize = 8;
/// Most MAC addresses inside the machine.
pub const MAXIMUM_INSIDE: usize = 96;
/// Bytes of a protection domain's name, padded with zeroes; at most 63 are used.
pub const NAME_SIZE: usize = 64;
/// The application's addresses come from a pool: the address table behind the port
/// table says which they are.
pub const ADDRESS_LEASED: u16 = 2;
/// The application starts in direct mode as soon as it can.
pub const START_DIRECT: u16 = 0x100;

/// Symbol `director_table` of the director.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct DirectorTable {
    /// Applications in use.
    pub count: u32,
    /// Virtual functions that can be granted, one bit each.
    pub functions: u32,
    /// The function of the network server, to which frames go otherwise.
    pub server_function: u32,
    /// The network server's index in the system status.
    pub server_domain: u32,
    /// Channel ids, in the director, of `pcie` and of the owner of the physical function.
    pub channels: [u32; 2],
    /// Addresses, in the director, of the regions in which these two answer.
    pub answers: [u64; 2],
    /// The applications; their places on the board are the same.
    pub entries: [DirectorEntry; MAXIMUM_APPLICATIONS],
}

/// One application, as the director sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct DirectorEntry {
    /// Its name, padded with zeroes.
    pub name: [u8; NAME_SIZE],
    /// Address, in the director, of the region in which it answers.
    pub answers: u64,
    /// Channel id, in the director, to notify it.
    pub channel: u32,
    /// Its index in the system status.
    pub domain: u32,
    /// Virtual functions that it may be granted, one bit each.
    pub functions: u32,
    /// Its number in the port table, 1..=64: its index at the server is one less.
    pub owner: u16,
    /// Some of [`ADDRESS_LEASED`], [`START_DIRECT`].
    pub flags: u16,
    /// Its MAC address, if it is known beforehand.
    pub mac: [u8; 6],
    /// 0.
    pub reserved: [u8; 2],
}

/// Symbol `direct_mode` of an application.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct DirectConfig {
    /// Its place on the board, from 0.
    pub index: u32,
    /// Channel id to the director; [`NO_CHANNEL`] if there is none: then the function is
    /// its own from the start, or (with [`Self::memory_size`] 0) there is no direct mode.
    pub channel: u32,
    /// Interrupt ids: received frames, transmitted frames.
    pub interrupts: [u32; 2],
    /// Channel id on which the owner of the physical function says that the function
    /// works, for an application that is always direct; else [`NO_CHANNEL`].
    pub owner_channel: u32,
    /// Number of IO page tables in the memory CNode, in front of the frames.
    pub io_tables: u32,
    /// Address of the board, read-only.
    pub board: u64,
    /// Address of the region in which it answers.
    pub answers: u64,
    /// Where it maps the function's registers: [`WINDOW_SIZE`] bytes.
    pub window: u64,
    /// Memory for the function's rings and buffers: its address, for the device too.
    pub memory: u64,
    /// Its size in bytes; 0: no direct mode.
    pub memory_size: u64,
    /// Addresses of IO page tables, in the order of their capabilities.
    pub io_table_addresses: [u64; MAXIMUM_IO_TABLES],
    /// Number of MAC addresses in `inside`.
    pub inside_count: u32,
    /// 0.
    pub reserved: u32,
    /// MAC addresses of those behind the network server, which frames reach through it
    /// alone.
    pub inside: [[u8; 6]; MAXIMUM_INSIDE],
}

/// Most IO page tables of an application: three levels, and one for each 2 MiB.
pub const MAXIMUM_IO_TABLES: usize = 24;
/// Bytes of a virtual function's registers (82576 datasheet, 8.26: BAR 0 of 16 KiB).
pub const WINDOW_SIZE: usize = 0x4000;
/// A channel id that names no channel.
pub const NO_CHANNEL: u32 = u32::MAX;

/// Symbol `grants` of the manager of configuration space (`pcie`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GrantTable {
    /// Applications in use; their places on the board are the same.
    pub count: u32,
    /// Channel id to the director.
    pub channel: u32,
    /// Virtual functions that can be granted, one bit each.
    pub functions: u32,
    /// 0.
    pub reserved: u32,
    /// Address of the board, read-only.
    pub board: u64,
    /// Address of the region in which it answers.
    pub answers: u64,
    /// VT-d domain of each function; 0 if it cannot be granted.
    pub domains: [u16; MAXIMUM_FUNCTIONS],
    /// Address of each application's window for registers.
    pub windows: [u64; MAXIMUM_APPLICATIONS],
    /// Virtual functions that each application may be granted, one bit each.
    pub allowed: [u8; MAXIMUM_APPLICATIONS],
}

/// Symbol `routes` of the owner of the physical function (`igb-pf`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RouteTable {
    /// Applications in use; their places on the board are the same.
    pub count: u32,
    /// Channel id to the director.
    pub channel: u32,
    /// Virtual functions that can be granted, one bit each.
    pub functions: u32,
    /// The function of the network server.
    pub server_function: u32,
    /// Address of the board, read-only.
    pub board: u64,
    /// Address of the region in which it answers.
    pub answers: u64,
}

impl DirectorTable {
    /// A table without applications: what a program holds before it is patched.
    pub const EMPTY: Self = Self {
        count: 0,
        functions: 0,
        server_function: 0,
        server_domain: u32::MAX,
        channels: [NO_CHANNEL; 2],
        answers: [0; 2],
        entries: [DirectorEntry::EMPTY; MAXIMUM_APPLICATIONS],
    };

    /// The entries in use.
    pub fn applications(&self) -> &[DirectorEntry] {
        &self.entries[..(self.count as usize).min(MAXIMUM_APPLICATIONS)]
    }
}

impl DirectorEntry {
    /// All zeroes, but for the channel.
    pub const EMPTY: Self = Self {
        name: [0; NAME_SIZE],
        answers: 0,
        channel: NO_CHANNEL,
        domain: 0,
        functions: 0,
        owner: 0,
        flags: 0,
        mac: [0; 6],
        reserved: [0; 2],
    };

    /// Its name; `"?"` if it is not UTF-8.
    pub fn name(&self) -> &str {
        let end = self.name.iter().position(|byte| *byte == 0);
        core::str::from_utf8(&self.name[..end.unwrap_or(NAME_SIZE)]).unwrap_or("?")
    }
}

impl DirectConfig {
    /// No direct mode: what a program holds before it is patched.
    pub const EMPTY: Self = Self {
        index: 0,
        channel: NO_CHANNEL,
        interrupts: [NO_CHANNEL; 2],
        owner_channel: NO_CHANNEL,
        io_tables: 0,
        board: 0,
        answers: 0,
        window: 0,
        memory: 0,
        memory_size: 0,
        io_table_addresses: [0; MAXIMUM_IO_TABLES],
        inside_count: 0,
        reserved: 0,
        inside: [[0; 6]; MAXIMUM_INSIDE],
    };

    /// The MAC addresses behind the network server.
    pub fn inside(&self) -> &[[u8; 6]] {
        &self.inside[..(self.inside_count as usize).min(MAXIMUM_INSIDE)]
    }
}

impl GrantTable {
    /// Nothing can be granted: what a program holds before it is patched.
    pub const EMPTY: Self = Self {
        count: 0,
        channel: NO_CHANNEL,
        functions: 0,
        reserved: 0,
        board: 0,
        answers: 0,
        domains: [0; MAXIMUM_FUNCTIONS],
        windows: [0; MAXIMUM_APPLICATIONS],
        allowed: [0; MAXIMUM_APPLICATIONS],
    };
}

impl RouteTable {
    /// No routes: what a program holds before it is patched.
    pub const EMPTY: Self = Self {
        count: 0,
        channel: NO_CHANNEL,
        functions: 0,
        server_function: 0,
        board: 0,
        answers: 0,
    };
}
