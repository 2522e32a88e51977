//! The checked model of a system: what the front end makes of `system.xml` and
//! what the back end turns into a boot image, a report and a picture.
//!
//! Segue's extensions are expanded before this point: a frame channel has
//! become memory regions, maps, IO maps, a channel and patches of the two
//! programs' configuration tables. Everything in here has been checked, so the
//! back end meets no user error but one that only the whole image can show
//! (memory, capability slots).

use std::path::PathBuf;

use segue_frame_channel::config::Addresses;

/// Index into [`System::regions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionIndex(pub usize);

/// Index into [`System::protection_domains`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PdIndex(pub usize);

/// A whole system.
#[derive(Clone, Debug, Default)]
pub struct System {
    /// Memory of the machine that the system is checked against, in bytes.
    pub machine_memory: u64,
    /// All memory regions.
    pub regions: Vec<MemoryRegion>,
    /// All protection domains.
    pub protection_domains: Vec<ProtectionDomain>,
    /// All channels.
    pub channels: Vec<Channel>,
    /// All IO address spaces.
    pub io_address_spaces: Vec<IoAddressSpace>,
    /// The protection domain that is told of faults, on its channel id 61.
    pub console: Option<PdIndex>,
    /// The log rings that the console reads; their regions and channels are in
    /// the lists above already.
    pub log_rings: Vec<LogRing>,
    /// All PCI devices. Their placement is in the programs' tables already
    /// (see [`Patch`]); this is for the report and the picture.
    pub devices: Vec<Device>,
    /// All pools of addresses; they are in the programs' tables already.
    pub address_pools: Vec<AddressPool>,
    /// All frame channels; their parts are in the lists above already.
    pub frame_channels: Vec<FrameChannel>,
    /// Virtual functions that can be granted at run time, and to whom.
    pub grants: Option<Grants>,
    /// Who may give orders to init, in the order of their regions.
    pub orderers: Vec<PdIndex>,
    /// The regions by which the console tells protection domains to fail, if it can. All that it
    /// takes is in the lists above already, but for one right: who serves calls may also send to
    /// itself, which is how it waits for ever.
    pub fault_regions: Vec<RegionIndex>,
    /// Who takes programs that are sent to the machine.
    pub updater: Option<Updater>,
}

/// Takes programs that are sent to the machine. Whom they can be for is everybody with a place for one.
#[derive(Clone, Copy, Debug)]
pub struct Updater {
    /// The protection domain.
    pub pd: PdIndex,
    /// The key with which programs must be signed (Ed25519).
    pub public_key: [u8; 32],
    /// Programs with this serial number or a lower one are refused.
    pub serial: u64,
}

/// What can be granted at run time.
#[derive(Clone, Debug)]
pub struct Grants {
    /// The protection domain that grants.
    pub manager: PdIndex,
    /// The functions.
    pub functions: Vec<GrantedFunction>,
    /// The applications.
    pub grantees: Vec<Grantee>,
}

/// A virtual function that can be granted.
#[derive(Clone, Copy, Debug)]
pub struct GrantedFunction {
    /// Its number among its device's virtual functions.
    pub number: u8,
    /// Its address.
    pub function: PciFunction,
    /// Its registers.
    pub region: RegionIndex,
    /// Vectors of its first two messages.
    pub vectors: [u8; 2],
}

/// An application that can be granted a virtual function.
#[derive(Clone, Copy, Debug)]
pub struct Grantee {
    /// The application.
    pub pd: PdIndex,
    /// Channel ids of a function's two interrupts.
    pub interrupts: [u8; 2],
    /// The memory that a function may reach, and its address there and here.
    pub memory: RegionIndex,
    /// See [`Self::memory`].
    pub address: u64,
    /// Pages that stand in for registers that were taken away.
    pub dummies: RegionIndex,
    /// Where registers appear.
    pub window: u64,
    /// Functions that it may be granted, one bit each.
    pub functions: u8,
}

/// A log ring.
#[derive(Clone, Debug)]
pub struct LogRing {
    /// Who writes it.
    pub pd: PdIndex,
    /// The memory.
    pub region: RegionIndex,
    /// Index into [`System::channels`].
    pub channel: usize,
}

/// A PCI device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its unique name.
    pub name: String,
    /// Its physical function.
    pub function: PciFunction,
    /// The protection domain that manages its configuration space.
    pub manager: PdIndex,
    /// The protection domain that drives the physical function.
    pub owner: PdIndex,
    /// Regions that are registers of the physical function or of all virtual
    /// ones together.
    pub registers: Vec<RegionIndex>,
    /// Its virtual functions, by index.
    pub virtual_functions: Vec<VirtualFunction>,
}

/// A virtual function of a [`Device`].
#[derive(Clone, Debug)]
pub struct VirtualFunction {
    /// Its address.
    pub function: PciFunction,
    /// Its MAC address, if the description gives one.
    pub mac: Option<[u8; 6]>,
    /// Number of MAC addresses besides whose frames it gets.
    pub further_macs: usize,
    /// Regions that are registers of this function.
    pub registers: Vec<RegionIndex>,
}

/// A frame channel between an application and a network server.
#[derive(Clone, Debug)]
pub struct FrameChannel {
    /// The network server.
    pub server: PdIndex,
    /// The application.
    pub client: PdIndex,
    /// The keeper of the port table.
    pub portmap: PdIndex,
    /// The region that the client writes.
    pub client_region: RegionIndex,
    /// The region that the server writes.
    pub server_region: RegionIndex,
    /// The transmit pool.
    pub pool: RegionIndex,
    /// Index into [`System::channels`]: client and server.
    pub channel: usize,
    /// Index into [`System::channels`]: client and portmap.
    pub portmap_channel: usize,
    /// The client's addresses, as far as they are known beforehand.
    pub addresses: Addresses,
    /// What is known of them, as in the programs' tables: [`ADDRESS_OWN`],
    /// [`ADDRESS_LEASED`], [`DHCP_CLIENT`].
    ///
    /// [`ADDRESS_OWN`]: segue_frame_channel::config::ADDRESS_OWN
    /// [`ADDRESS_LEASED`]: segue_frame_channel::config::ADDRESS_LEASED
    /// [`DHCP_CLIENT`]: segue_frame_channel::config::DHCP_CLIENT
    pub flags: u16,
    /// Index into [`System::address_pools`], if the addresses come from there.
    pub address_pool: Option<usize>,
}

/// A pool of addresses for applications.
#[derive(Clone, Debug)]
pub struct AddressPool {
    /// Its unique name.
    pub name: String,
    /// The addresses of the first member; those of the n-th are n higher.
    pub first: Addresses,
    /// Number of members.
    pub count: u16,
}

/// A memory region.
#[derive(Clone, Debug)]
pub struct MemoryRegion {
    /// Its unique name.
    pub name: String,
    /// Size in bytes, a multiple of the page size.
    pub size: u64,
    /// Page size in bytes: 0x1000 or 0x20_0000.
    pub page_size: u64,
    /// Physical address, for device memory.
    pub physical_address: Option<u64>,
    /// Device memory that nobody maps from the start: it is granted at run time.
    pub is_granted: bool,
    /// What it holds at start.
    pub contents: Contents,
}

/// What a memory region holds when the system starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Zeroes.
    Zero,
    /// These bytes, then zeroes.
    Bytes(Vec<u8>),
    /// Microkit's `x86_tsc_freq`: u64 id, u64 length, u32 MHz. Filled by init.
    TscFrequency,
    /// The symbol tables of all programs, written by the back end, which also
    /// sets the region's size.
    Symbols,
    /// States of all protection domains; init keeps it current
    /// (`segue_status::system`).
    SystemStatus,
    /// The last crash reports; init writes it (`segue_status::crash`).
    CrashReports,
    /// Orders to init (`segue_status::orders`).
    Orders,
    /// An image that was sent to the machine, for init to install.
    Staging,
}

impl Contents {
    /// Whether init writes the region while the system runs.
    pub fn is_of_init(&self) -> bool {
        matches!(self, Contents::SystemStatus | Contents::CrashReports)
    }
}

/// A protection domain.
#[derive(Clone, Debug)]
pub struct ProtectionDomain {
    /// Its unique name, at most 63 bytes.
    pub name: String,
    /// 0..=254.
    pub priority: u8,
    /// Stack size in bytes, a multiple of 0x1000.
    pub stack_size: u64,
    /// Whether it is started again after a fault.
    pub restart: Option<Restart>,
    /// Milliseconds without progress after which it counts as hanging; 0 if that is not watched.
    pub heartbeat: u32,
    /// The ELF file.
    pub program: PathBuf,
    /// What this first image is called.
    pub image_name: String,
    /// Its other images.
    pub images: Vec<Image>,
    /// Memory it sees.
    pub maps: Vec<Map>,
    /// Interrupts it handles.
    pub irqs: Vec<Irq>,
    /// IO ports it may use.
    pub io_ports: Vec<IoPorts>,
    /// Bytes written over symbols of its program.
    pub patches: Vec<Patch>,
    /// Symbols of its program (8 bytes each) that receive the size of the
    /// [`Contents::Symbols`] region, which only the back end knows.
    pub symbols_size_patches: Vec<String>,
}

/// Another image of a protection domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What it is called.
    pub name: String,
    /// The ELF file; `None` for one that is sent to the machine.
    pub program: Option<PathBuf>,
    /// Bytes that one that is sent may have.
    pub sent_size: u64,
}

/// How a protection domain is started again after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// How often in a row; at least 1.
    pub limit: u32,
    /// Milliseconds until the second restart in a row; they double with each further one.
    pub backoff: u32,
    /// Also when it has ended by itself.
    pub always: bool,
}

/// A memory region mapped into a protection domain.
#[derive(Clone, Debug)]
pub struct Map {
    /// The region.
    pub region: RegionIndex,
    /// Where, in the protection domain's address space.
    pub address: u64,
    /// Whether it may be written (reading is always allowed; x86_64 seL4 5.0.0
    /// cannot forbid execution).
    pub writable: bool,
    /// Whether it is cached; device registers are not.
    pub cached: bool,
}

/// An interrupt.
#[derive(Clone, Debug)]
pub struct Irq {
    /// Channel id in the protection domain, 0..=61.
    pub id: u8,
    /// Vector, 0..=107, unique in the system (CPU vector minus 0x30).
    pub vector: u8,
    /// Where it comes from.
    pub source: IrqSource,
}

/// Where an interrupt comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqSource {
    /// A pin of an IO APIC.
    IoApic {
        /// The IO APIC.
        ioapic: u8,
        /// The pin, 0..=23.
        pin: u8,
        /// Whether level-triggered (else edge).
        level: bool,
        /// Whether active low (else high).
        low: bool,
    },
    /// A message from a PCI function.
    Msi {
        /// The function.
        function: PciFunction,
        /// Which of its vectors (the MSI-X table index).
        handle: u16,
    },
}

/// A PCI function's address, which is also its requester id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciFunction {
    /// Bus.
    pub bus: u8,
    /// Device, 0..=31.
    pub device: u8,
    /// Function, 0..=7.
    pub function: u8,
}

/// A range of IO ports.
#[derive(Clone, Debug)]
pub struct IoPorts {
    /// IO port id in the protection domain, 0..=61.
    pub id: u8,
    /// First port.
    pub first: u16,
    /// Number of ports.
    pub count: u16,
}

/// Bytes written over a symbol of a program.
#[derive(Clone, Debug)]
pub struct Patch {
    /// The symbol; its ELF size equals `bytes.len()`.
    pub symbol: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A channel between two protection domains.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Its two ends.
    pub ends: [ChannelEnd; 2],
}

/// One end of a channel.
#[derive(Clone, Debug)]
pub struct ChannelEnd {
    /// The protection domain.
    pub pd: PdIndex,
    /// The channel's id there, 0..=61.
    pub id: u8,
    /// Whether this end may make protected calls to the other.
    pub protected_calls: bool,
    /// Whether this end may notify the other.
    pub notify: bool,
}

/// An IO address space: what a PCI function may reach by DMA.
#[derive(Clone, Debug)]
pub struct IoAddressSpace {
    /// Its unique name.
    pub name: String,
    /// The function.
    pub function: PciFunction,
    /// VT-d domain id, 1..=65535, unique.
    pub domain_id: u16,
    /// The memory it reaches.
    pub maps: Vec<IoMap>,
}

/// A memory region mapped into an IO address space.
#[derive(Clone, Debug)]
pub struct IoMap {
    /// The region (4 KiB pages only).
    pub region: RegionIndex,
    /// The IO virtual address, below 2^39.
    pub address: u64,
    /// Whether the device may write it (it may always read).
    pub writable: bool,
}

impl std::fmt::Display for PciFunction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{:02x}:{:02x}.{}",
            self.bus, self.device, self.function
        )
    }
}
