//! The records of a payload.
//!
//! All are `repr(C)` without padding, so that each is exactly the bytes in the
//! image. A field named `reserved` is zero.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First bytes of a payload.
pub const MAGIC: [u8; 8] = *b"SEGUEIMG";
/// Version of the format; a reader takes only its own.
pub const VERSION: u32 = 4;
/// Bytes of a small page, to which all data is aligned.
pub const PAGE_SIZE: u64 = 0x1000;
/// "No protection domain" where an index is expected.
pub const NONE: u32 = u32::MAX;

/// Most records `init` has room for, by table; the builder refuses more.
pub mod limits {
    /// Protection domains.
    pub const PROTECTION_DOMAINS: usize = 63;
    /// Memory regions.
    pub const REGIONS: usize = 1024;
    /// Page runs of all programs, stacks and IPC buffers.
    pub const RUNS: usize = 4096;
    /// Maps of memory regions into protection domains.
    pub const MAPS: usize = 4096;
    /// Untypeds.
    pub const MEMORY: usize = 8192;
    /// Interrupts.
    pub const IRQS: usize = 108;
    /// Ranges of IO ports.
    pub const PORTS: usize = 256;
    /// IO address spaces.
    pub const IO_SPACES: usize = 256;
    /// Maps into IO address spaces.
    pub const IO_MAPS: usize = 1024;
    /// Page tables of all protection domains.
    pub const PAGING: usize = 65536;
    /// IO page tables of all IO address spaces.
    pub const IO_TABLES: usize = 65536;
    /// Capabilities of all protection domains.
    pub const CAPABILITIES: usize = 32768;
    /// Virtual functions that can be granted.
    pub const FUNCTIONS: usize = 8;
    /// Applications that they can be granted to.
    pub const GRANTEES: usize = 64;
    /// Images of protection domains besides the first ones.
    pub const IMAGES: usize = 64;
    /// Those of them that are sent to the machine.
    pub const SENT_IMAGES: usize = 8;
    /// Regions with orders to `init`.
    pub const ORDERERS: usize = 4;
}

/// The interrupt of `init`'s own clock (the interval timer), which no protection
/// domain may have.
pub mod clock {
    /// Its vector.
    pub const VECTOR: u8 = 107;
    /// Its pin of the first IO APIC.
    pub const PIN: u8 = 2;
}

/// The layout of a protection domain's CSpace and address space, as its runtime
/// knows it.
pub mod layout {
    pub use sel4_microkit_abi::grant;
    use sel4_microkit_abi::slot;
    pub use sel4_microkit_abi::{
        CONSOLE_CHANNEL, IPC_BUFFER_ADDRESS as IPC_BUFFER, ORDER_BADGE, STACK_TOP, call_badge,
        notification_badge,
    };

    /// Slots of the CNode that capability addresses below 512 reach, as a power
    /// of two.
    pub const CNODE_BITS: u32 = slot::CNODE_BITS as u32;
    /// Slots of the CNode above it, as a power of two.
    pub const ROOT_CNODE_BITS: u32 = 6;
    /// Where a protection domain waits: its endpoint or notification.
    pub const INPUT: u16 = slot::INPUT as u16;
    /// Where its faults go.
    pub const FAULT_ENDPOINT: u16 = slot::FAULT_ENDPOINT as u16;
    /// Its own VSpace.
    pub const VSPACE: u16 = slot::VSPACE as u16;
    /// The notification of `init`'s, of those who may give orders.
    pub const INIT: u16 = slot::INIT as u16;
    /// First of the notifications it may signal, by channel id.
    pub const NOTIFICATIONS: u16 = slot::notification(0) as u16;
    /// First of the endpoints it may call, by channel id.
    pub const ENDPOINTS: u16 = slot::endpoint(0) as u16;
    /// First of its interrupt handlers, by channel id.
    pub const IRQ_HANDLERS: u16 = slot::interrupt(0) as u16;
    /// First of its IO port ranges, by IO port id.
    pub const IO_PORTS: u16 = slot::io_port(0) as u16;
}

/// A range of records in a table.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Span {
    /// Index of the first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Span {
    /// The indices, as a range.
    pub fn range(self) -> core::ops::Range<usize> {
        let first = self.first as usize;
        first..first.saturating_add(self.count as usize)
    }
}

/// Where a table is.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Location {
    /// Offset from the start of the payload, in bytes, a multiple of 8.
    pub offset: u64,
    /// Number of records.
    pub count: u64,
}

/// The start of a payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// Index of the protection domain that is told of faults, or [`NONE`].
    pub console: u32,
    /// Bytes in the payload, data included.
    pub length: u64,
    /// Bytes in header and tables; what the hash covers.
    pub tables_length: u64,
    /// SHA-256 of header and tables, taken while this field is zero.
    pub hash: [u8; 32],
    /// Untypeds for what outlives a restart of a protection domain: endpoints,
    /// notifications, IO page tables.
    pub lasting_memory: Span,
    /// Where each table is, by [`Table`].
    pub tables: [Location; Table::COUNT],
}

/// The tables of a payload, in the order of [`Header::tables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Table {
    /// [`ProtectionDomain`]s.
    ProtectionDomains,
    /// [`Run`]s.
    Runs,
    /// [`Paging`] structures.
    Paging,
    /// [`Map`]s.
    Maps,
    /// [`Capability`]s.
    Capabilities,
    /// [`Region`]s.
    Regions,
    /// [`Untyped`]s.
    Memory,
    /// [`Irq`]s.
    Irqs,
    /// [`Ports`].
    Ports,
    /// [`IoSpace`]s.
    IoSpaces,
    /// [`IoTable`]s.
    IoTables,
    /// [`IoMap`]s.
    IoMaps,
    /// [`Function`]s.
    Functions,
    /// [`Grantee`]s.
    Grantees,
    /// [`Image`]s.
    Images,
}

impl Table {
    /// How many tables there are.
    pub const COUNT: usize = Table::Images as usize + 1;
}

/// Longest time without progress that can be asked for, in milliseconds.
pub const LONGEST_HEARTBEAT: u32 = 60_000;

/// A protection domain.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProtectionDomain {
    /// Its name, NUL-padded UTF-8.
    pub name: [u8; 64],
    /// Where it starts.
    pub entry: u64,
    /// Its program's stored pages: offset in the payload.
    pub program_offset: u64,
    /// Its program's stored pages: bytes.
    pub program_length: u64,
    /// SHA-256 of these bytes.
    pub program_hash: [u8; 32],
    /// Its pages: program, stack and IPC buffer.
    pub runs: Span,
    /// Its page tables, in the order in which to map them.
    pub paging: Span,
    /// The memory regions it sees.
    pub maps: Span,
    /// The capabilities in its CSpace.
    pub capabilities: Span,
    /// The untypeds that all of its own objects come from, largest first.
    pub memory: Span,
    /// Its priority.
    pub priority: u32,
    /// 1 if others may make protected calls to it.
    pub has_endpoint: u32,
    /// How often in a row it is started again after a fault; 0 for never.
    pub restart_limit: u32,
    /// Milliseconds between its second fault in a row and its restart; they double with
    /// each further one. After the first it is restarted at once.
    pub restart_backoff: u32,
    /// 1 if it is also started again when it has ended by itself.
    pub restart_always: u32,
    /// Milliseconds without progress, while it has work, after which it counts as
    /// hanging, at most [`LONGEST_HEARTBEAT`]; 0 if that is not watched.
    pub heartbeat: u32,
    /// 1 if a restart is done beside the others' work, below the priority of those on
    /// whom others depend; else it is done at once.
    pub paced: u32,
    /// Zero.
    pub reserved: u32,
}

/// What a [`Run`] is made of.
pub mod run_kind {
    /// Fresh pages, all zero.
    pub const ZERO: u8 = 0;
    /// Fresh pages, filled from the payload.
    pub const COPIED: u8 = 1;
    /// The payload's own pages, mapped read-only.
    pub const IN_PLACE: u8 = 2;
}

/// What a [`Run`] is for.
pub mod run_role {
    /// The program.
    pub const PROGRAM: u8 = 0;
    /// The stack.
    pub const STACK: u8 = 1;
    /// The IPC buffer, one page.
    pub const IPC_BUFFER: u8 = 2;
}

/// Consecutive pages of a protection domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Run {
    /// Address of the first.
    pub address: u64,
    /// Offset of their bytes in the payload; 0 for zeroes.
    pub offset: u64,
    /// How many.
    pub pages: u32,
    /// A constant of [`run_kind`].
    pub kind: u8,
    /// A constant of [`run_role`].
    pub role: u8,
    /// 12 or 21.
    pub page_bits: u8,
    /// 1 if the protection domain may write them.
    pub writable: u8,
}

/// The level of a [`Paging`] structure.
pub mod paging_level {
    /// Covers 2 MiB.
    pub const PAGE_TABLE: u32 = 1;
    /// Covers 1 GiB.
    pub const PAGE_DIRECTORY: u32 = 2;
    /// Covers 512 GiB.
    pub const PDPT: u32 = 3;
}

/// A paging structure of a protection domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Paging {
    /// First address that it covers.
    pub address: u64,
    /// A constant of [`paging_level`].
    pub level: u32,
    /// Zero.
    pub reserved: u32,
}

/// A memory region mapped into a protection domain.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Map {
    /// Where.
    pub address: u64,
    /// The region.
    pub region: u32,
    /// 1 if it may be written.
    pub writable: u8,
    /// 1 if it is cached.
    pub cached: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// What a [`Region`] is made of.
pub mod region_kind {
    /// Fresh memory.
    pub const MEMORY: u8 = 0;
    /// The payload's own pages; only ever mapped read-only.
    pub const IN_PLACE: u8 = 1;
    /// Device memory at a fixed physical address.
    pub const DEVICE: u8 = 2;
    /// Device memory that stays one untyped, to be granted: a virtual function's
    /// registers. Its size is a power of two.
    pub const UNTYPED: u8 = 3;
}

/// What a [`Region`] holds at start.
pub mod region_contents {
    /// Zeroes.
    pub const ZERO: u8 = 0;
    /// Bytes of the payload, then zeroes.
    pub const BYTES: u8 = 1;
    /// The frequency of the time stamp counter, from the kernel.
    pub const TSC_FREQUENCY: u8 = 2;
    /// States of all protection domains, kept current by `init`.
    pub const SYSTEM_STATUS: u8 = 3;
    /// Crash reports, written by `init`.
    pub const CRASH_REPORTS: u8 = 4;
    /// Orders to `init`, one page: whoever may write it gives them. Orderers count in the
    /// order of these regions.
    pub const ORDERS: u8 = 5;
    /// An image that was sent to the machine, for `init` to install.
    pub const STAGING: u8 = 6;
}

/// A memory region.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Region {
    /// Its name, NUL-padded UTF-8, cut at 64 bytes.
    pub name: [u8; 64],
    /// Bytes, a multiple of its page size.
    pub size: u64,
    /// Physical address of device memory.
    pub physical_address: u64,
    /// Offset of its bytes in the payload.
    pub data_offset: u64,
    /// How many bytes the payload has for it.
    pub data_length: u64,
    /// The untypeds that its frames come from, largest first.
    pub memory: Span,
    /// A constant of [`region_kind`].
    pub kind: u8,
    /// A constant of [`region_contents`].
    pub contents: u8,
    /// 12 or 21.
    pub page_bits: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

/// An untyped to be taken from the machine's free memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Untyped {
    /// Its size is two to this power, in bytes; at least 12.
    pub bits: u32,
    /// Zero.
    pub reserved: u32,
}

/// What a [`Capability`] is to.
pub mod capability_kind {
    /// The notification of a protection domain.
    pub const NOTIFICATION: u8 = 1;
    /// The endpoint of a protection domain.
    pub const ENDPOINT: u8 = 2;
    /// The endpoint on which `init` receives faults.
    pub const FAULT_ENDPOINT: u8 = 3;
    /// The VSpace of the protection domain itself.
    pub const VSPACE: u8 = 4;
    /// An interrupt handler: an index into the table of IRQs.
    pub const IRQ_HANDLER: u8 = 5;
    /// IO ports: an index into the table of ports.
    pub const IO_PORTS: u8 = 6;
    /// The notification by which `init` hears of orders.
    pub const INIT: u8 = 7;
}

/// Rights of a [`Capability`], as seL4 numbers them.
pub mod rights {
    /// Send, signal.
    pub const WRITE: u8 = 1;
    /// Receive, wait.
    pub const READ: u8 = 2;
    /// Pass capabilities on, which a call does with its reply capability.
    pub const GRANT: u8 = 4;
    /// All.
    pub const ALL: u8 = 7;
}

/// A capability in a protection domain's CSpace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Capability {
    /// Badge; zero for none.
    pub badge: u64,
    /// What of its kind; see [`capability_kind`].
    pub object: u32,
    /// Slot in the CNode of 512.
    pub slot: u16,
    /// A constant of [`capability_kind`].
    pub kind: u8,
    /// A union of [`rights`].
    pub rights: u8,
}

/// Where an [`Irq`] comes from.
pub mod irq_kind {
    /// A pin of an IO APIC.
    pub const IO_APIC: u8 = 0;
    /// A message of a PCI function.
    pub const MSI: u8 = 1;
}

/// An interrupt and the notification that it signals.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Irq {
    /// Badge with which it signals.
    pub badge: u64,
    /// The protection domain whose notification it signals.
    pub protection_domain: u32,
    /// A constant of [`irq_kind`].
    pub kind: u8,
    /// Vector, 0..=107.
    pub vector: u8,
    /// IO APIC.
    pub ioapic: u8,
    /// Pin of the IO APIC.
    pub pin: u8,
    /// 1 if level-triggered.
    pub level: u8,
    /// 1 if active low.
    pub low: u8,
    /// Requester id of the PCI function.
    pub requester: u16,
    /// Which of the PCI function's vectors.
    pub handle: u16,
    /// Zero.
    pub reserved: [u8; 2],
}

/// A range of IO ports.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ports {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

/// An IO address space.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IoSpace {
    /// Its name, NUL-padded UTF-8, cut at 64 bytes.
    pub name: [u8; 64],
    /// Requester id of the PCI function: bus, device and function.
    pub requester: u16,
    /// VT-d domain, not zero.
    pub domain: u16,
    /// Zero.
    pub reserved: u32,
    /// Its page tables, in the order in which to map them.
    pub tables: Span,
    /// The memory that the function reaches.
    pub maps: Span,
}

/// An IO page table; the kernel finds its level by what is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IoTable {
    /// An IO virtual address that it covers.
    pub address: u64,
}

/// A memory region mapped into an IO address space.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IoMap {
    /// IO virtual address.
    pub address: u64,
    /// The region.
    pub region: u32,
    /// 1 if the function may write it.
    pub writable: u32,
}

/// A virtual function that can be granted at run time.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Function {
    /// Its number among the device's virtual functions.
    pub number: u32,
    /// The protection domain that grants it.
    pub manager: u32,
    /// Its registers: a region of [`region_kind::UNTYPED`].
    pub region: u32,
    /// Its requester id.
    pub requester: u16,
    /// Vectors of its first two MSI-X entries.
    pub vectors: [u8; 2],
}

/// A protection domain that virtual functions can be granted to.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Grantee {
    /// Badges with which a function's two interrupts signal it.
    pub badges: [u64; 2],
    /// The protection domain.
    pub protection_domain: u32,
    /// The one that grants.
    pub manager: u32,
    /// Its place in the tables of those who take part.
    pub index: u32,
    /// The memory that it may let a function reach: a region.
    pub memory: u32,
    /// The pages that stand in for registers taken away: a region.
    pub dummies: u32,
    /// Number of IO page tables that it gets.
    pub io_tables: u32,
}

/// The text of a NUL-padded name; "?" if it is not UTF-8.
pub fn name(bytes: &[u8; 64]) -> &str {
    let length = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    core::str::from_utf8(&bytes[..length]).unwrap_or("?")
}

/// A name as the records hold it, cut at 64 bytes.
pub fn padded_name(text: &str) -> [u8; 64] {
    let mut bytes = [0; 64];
    let length = text.len().min(bytes.len());
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    bytes
}

/// What an [`Image`] comes from.
pub mod image_kind {
    /// It is in the payload.
    pub const PACKED: u32 = 0;
    /// It is sent to the machine while it runs.
    pub const SENT: u32 = 1;
}

/// Another image of a protection domain: an address space that its thread can run in, with the
/// same regions at the same addresses and the same CSpace.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Image {
    /// Where it starts.
    pub entry: u64,
    /// Its stored pages: offset in the payload.
    pub program_offset: u64,
    /// Its stored pages: bytes.
    pub program_length: u64,
    /// SHA-256 of these bytes.
    pub program_hash: [u8; 32],
    /// Of one that is sent: the bytes from [`SENT_IMAGE_START`] on that it may use, a multiple
    /// of 4 KiB; else 0.
    pub sent_size: u64,
    /// Its pages: program, stack and IPC buffer; those of one that is sent are stack and IPC
    /// buffer.
    pub runs: Span,
    /// Its page tables, in the order in which to map them.
    pub paging: Span,
    /// The memory regions it sees: those of the protection domain.
    pub maps: Span,
    /// The untypeds that all of its objects come from, largest first.
    pub memory: Span,
    /// Whose it is.
    pub protection_domain: u32,
    /// A constant of [`image_kind`].
    pub kind: u32,
}

/// First address that an image that is sent may use.
pub const SENT_IMAGE_START: u64 = 0x20_0000;
/// Most bytes that it may have.
pub const LARGEST_SENT_IMAGE: u64 = 8 << 20;
