//! Making the system: memory that is shared, and what outlives a restart of a
//! protection domain.

use segue_shared_memory::Region as Memory;
use segue_status::crash::CrashReports;
use segue_status::system::{self, SystemStatus};
use segue_system_image::Payload;
use segue_system_image::format::{
    self, NONE, Region, image_kind, layout, limits, region_contents, region_kind,
};
use segue_system_image::resources;
use sel4::cap::Tcb;
use sel4::{BootInfo, CapData, CapRights, ObjectType};

use crate::allocator::{Allocator, Chunks};
use crate::clock;
use crate::failure::{Doing, Failure};
use crate::grants::{self, GranteeSlots};
use crate::install::Sent;
use crate::root;
use crate::start;
use crate::window::Window;

/// `id` and `len` of Microkit's x86_tsc_freq, as in seL4's boot information
/// (`SEL4_BOOTINFO_HEADER_X86_TSC_FREQ`).
const TSC_HEADER: [u64; 2] = [5, 20];

/// Where the capabilities of what was made are: for each record of a table the
/// first slot, in the root CNode. A restart needs all of it.
pub(crate) struct Slots {
    /// Frames of each region.
    pub(crate) regions: [u32; limits::REGIONS],
    /// Frames of each run.
    pub(crate) runs: [u32; limits::RUNS],
    /// Copies of a region's frames for each map.
    pub(crate) maps: [u32; limits::MAPS],
    /// Copies of a region's frames for each IO map.
    pub(crate) io_maps: [u32; limits::IO_MAPS],
    pub(crate) io_spaces: [u32; limits::IO_SPACES],
    pub(crate) irqs: [u32; limits::IRQS],
    pub(crate) domains: [DomainSlots; limits::PROTECTION_DOMAINS],
    pub(crate) grantees: [GranteeSlots; limits::GRANTEES],
    pub(crate) images: [ImageSlots; limits::IMAGES],
    /// The CNode of authority over functions that can be granted.
    pub(crate) authority: u64,
    /// The endpoint on which faults arrive.
    pub(crate) fault_endpoint: u64,
    /// First of the IO page tables.
    pub(crate) io_tables: u64,
    /// A notification of `init`'s own.
    pub(crate) notification: u64,
    /// The pacer's thread, and the notification that it waits for.
    pub(crate) pacer: u64,
    pub(crate) pacer_notification: u64,
}

/// The kernel objects of a protection domain.
#[derive(Clone, Copy)]
pub(crate) struct DomainSlots {
    pub(crate) thread: u64,
    pub(crate) notification: u64,
    /// 0 if nobody calls it.
    pub(crate) endpoint: u64,
    /// That of the image that it runs.
    pub(crate) vspace: u64,
    /// That of its first image.
    pub(crate) first_vspace: u64,
    pub(crate) cnode: u64,
    pub(crate) root_cnode: u64,
    /// Which image it runs: an index into the images, or `None` for its first.
    pub(crate) image: Option<usize>,
}

/// The kernel objects of another image of a protection domain.
#[derive(Clone, Copy)]
pub(crate) struct ImageSlots {
    pub(crate) vspace: u64,
    /// Of one that is sent: first of the pages in which it is kept, and of those that it may write.
    pub(crate) kept: u64,
    pub(crate) own: u64,
}

const NO_IMAGE: ImageSlots = ImageSlots {
    vspace: 0,
    kept: 0,
    own: 0,
};

impl Slots {
    /// Nothing is made yet. A constant, so that it is made where it stays: it is
    /// too large to be moved about on the stack.
    pub(crate) const EMPTY: Self = Self {
        regions: [0; limits::REGIONS],
        runs: [0; limits::RUNS],
        maps: [0; limits::MAPS],
        io_maps: [0; limits::IO_MAPS],
        io_spaces: [0; limits::IO_SPACES],
        irqs: [0; limits::IRQS],
        domains: [NO_DOMAIN; limits::PROTECTION_DOMAINS],
        grantees: [GranteeSlots::NONE; limits::GRANTEES],
        images: [NO_IMAGE; limits::IMAGES],
        authority: 0,
        fault_endpoint: 0,
        io_tables: 0,
        notification: 0,
        pacer: 0,
        pacer_notification: 0,
    };
}

const NO_DOMAIN: DomainSlots = DomainSlots {
    thread: 0,
    notification: 0,
    endpoint: 0,
    vspace: 0,
    first_vspace: 0,
    cnode: 0,
    root_cnode: 0,
    image: None,
};

/// What the fault loop needs of a system that runs.
pub(crate) struct Started {
    pub(crate) free_memory: u64,
    pub(crate) status: Option<SystemStatus>,
    pub(crate) crashes: Option<CrashReports>,
    /// The capability that notifies the console.
    pub(crate) console: Option<u64>,
    /// The capability that notifies each orderer.
    pub(crate) orderers: [Option<u64>; limits::ORDERERS],
    pub(crate) tsc_megahertz: u32,
}

/// Makes the system.
pub(crate) struct Builder<'a> {
    pub(crate) payload: Payload<'static>,
    pub(crate) allocator: &'a mut Allocator,
    pub(crate) window: Window,
    pub(crate) slots: &'a mut Slots,
    /// Slot of the frame at the start of the boot image.
    pub(crate) image_frames: u64,
    /// Slot of the frame at the start of the payload.
    payload_frames: u64,
    tsc_megahertz: u32,
    status: Option<Memory>,
    crashes: Option<Memory>,
    /// Regions of orders, in the order of the orderers.
    pub(crate) orders: [Option<Memory>; limits::ORDERERS],
    /// The region that holds an image that was sent.
    pub(crate) staging: Option<usize>,
    /// Programs that were sent.
    pub(crate) sent: &'a mut [Sent; limits::SENT_IMAGES],
}

/// The name of a record, for sentences.
pub(crate) fn name(bytes: &'static [u8; 64]) -> &'static str {
    format::name(bytes)
}

impl<'a> Builder<'a> {
    /// Checks that the machine has what the system needs and takes the memory.
    pub(crate) fn new(
        boot_info: &BootInfo,
        payload: &Payload<'static>,
        allocator: &'a mut Allocator,
        slots: &'a mut Slots,
        sent: &'a mut [Sent; limits::SENT_IMAGES],
    ) -> Result<Self, Failure> {
        let images = payload.images.iter().enumerate();
        let images = images.filter(|(_, image)| image.kind == image_kind::SENT);
        for ((index, _), place) in images.zip(sent.iter_mut()) {
            place.image = index;
        }
        if let Some(space) = payload.io_spaces.first()
            && boot_info.io_page_table_levels() == 0
        {
            return Err(Failure::NoIommu {
                space: name(&space.name),
            });
        }
        allocator.take_over(boot_info, payload);
        let needs = resources::needs(payload);
        if needs.slots > allocator.free_slots() {
            let available = allocator.free_slots();
            return Err(Failure::Slots {
                needed: needs.slots,
                available,
            });
        }
        let (mut bins, count) = allocator.bins();
        if !resources::fits(payload, &mut bins[..count]) {
            let available = allocator.free_memory();
            let largest = payload
                .memory
                .iter()
                .map(|untyped| 1 << untyped.bits)
                .max()
                .unwrap_or(0);
            return Err(Failure::Memory {
                needed: needs.memory,
                available,
                largest,
            });
        }
        for domain in payload.protection_domains {
            if !payload.program_is_intact(domain) {
                return Err(Failure::Program {
                    domain: name(&domain.name),
                });
            }
        }
        for image in payload.images {
            if !payload.image_is_intact(image) {
                let domain = &payload.protection_domains[image.protection_domain as usize];
                return Err(Failure::Program {
                    domain: name(&domain.name),
                });
            }
        }
        allocator.take_memory(payload)?;
        let window = make_lasting(payload, allocator, slots)?;
        let pages = (start::payload_address() - start::image_address()) >> 12;
        Ok(Self {
            payload: *payload,
            allocator,
            window,
            slots,
            image_frames: boot_info.image_frames().start,
            payload_frames: boot_info.image_frames().start + pages,
            tsc_megahertz: clock::measure().unwrap_or(boot_info.tsc_megahertz()),
            status: None,
            crashes: None,
            orders: [None; limits::ORDERERS],
            staging: None,
            sent,
        })
    }

    /// Makes everything but running threads.
    pub(crate) fn build(&mut self) -> Result<(), Failure> {
        self.make_device_regions()?;
        for (index, region) in self.payload.regions.iter().enumerate() {
            self.make_region(index, region)?;
        }
        self.make_io_spaces()?;
        self.make_irqs()?;
        for index in 0..self.payload.protection_domains.len() {
            self.make_domain(index)?;
        }
        for index in 0..self.payload.images.len() {
            self.make_image(index)?;
        }
        self.make_grants()?;
        for index in 0..self.payload.protection_domains.len() {
            self.give_capabilities(index)?;
        }
        Ok(())
    }

    /// Slot of the frame that holds the payload's byte `offset`.
    pub(crate) fn payload_frame(&self, offset: u64) -> u64 {
        self.payload_frames + (offset >> 12)
    }

    fn make_region(&mut self, index: usize, region: &'static Region) -> Result<(), Failure> {
        let pages = region.size >> region.page_bits;
        let page_bits = u32::from(region.page_bits);
        match region.kind {
            region_kind::DEVICE | region_kind::UNTYPED => return Ok(()),
            region_kind::IN_PLACE => {
                self.slots.regions[index] = self.payload_frame(region.data_offset) as u32;
                return Ok(());
            }
            _ => (),
        }
        let object = crate::allocator::frame_type(page_bits);
        let frames = Chunks::new(region.memory).make(self.allocator, object, 0, pages)?;
        self.slots.regions[index] = frames as u32;
        match region.contents {
            region_contents::BYTES => {
                let bytes = self.payload.data(region.data_offset, region.data_length);
                for (page, part) in bytes.chunks(1 << page_bits).enumerate() {
                    let frame = frames + page as u64;
                    self.window
                        .look(frame, page_bits, CapRights::READ_WRITE, |memory| {
                            memory.write(0, part);
                        })?;
                }
            }
            region_contents::TSC_FREQUENCY => {
                let [id, length] = TSC_HEADER;
                let frequency = u64::from(self.tsc_megahertz);
                self.window
                    .look(frames, page_bits, CapRights::READ_WRITE, |memory| {
                        for (place, word) in [id, length, frequency].into_iter().enumerate() {
                            memory.write(place * 8, &word.to_le_bytes());
                        }
                    })?;
            }
            region_contents::SYSTEM_STATUS => {
                self.status = Some(self.window.keep(self.allocator, frames, pages)?);
            }
            region_contents::CRASH_REPORTS => {
                self.crashes = Some(self.window.keep(self.allocator, frames, pages)?);
            }
            region_contents::ORDERS => {
                let orders = self.window.keep(self.allocator, frames, pages)?;
                let place = self.orders.iter_mut().find(|place| place.is_none());
                // The payload has no more of them than there is room for.
                if let Some(place) = place {
                    *place = Some(orders);
                }
            }
            region_contents::STAGING => self.staging = Some(index),
            _ => (),
        }
        Ok(())
    }

    /// Shows what is left of memory and of capability slots.
    pub(crate) fn show_free(&self, status: SystemStatus) {
        status.set_free(self.allocator.free_memory(), self.allocator.free_slots());
    }

    /// Fills the status region and starts all protection domains, highest
    /// priority first. None of them runs before `init` waits.
    pub(crate) fn start(&mut self) -> Result<Started, Failure> {
        let free_memory = self.allocator.free_memory();
        let status = self.status.and_then(SystemStatus::new);
        let domains = self.payload.protection_domains;
        for (index, domain) in domains.iter().enumerate() {
            let runs = Payload::slice(self.payload.runs, domain.runs);
            if let Some(status) = status {
                status.set_domain(
                    index,
                    &system::Domain {
                        name: domain.name,
                        state: system::State::Running,
                        priority: domain.priority,
                        faults: 0,
                        restarts: 0,
                        outage: 0,
                        idle: 0,
                        rebuild: 0,
                        started: start::microseconds(self.tsc_megahertz),
                        memory: resources::domain_bytes(runs, domain.paging.count as usize),
                        capabilities: domain.capabilities.count,
                    },
                );
            }
        }
        if let Some(status) = status {
            status.publish(domains.len());
        }
        let console = self.console_notification()?;
        let orderers = self.orderer_notifications()?;
        for index in 0..domains.len() {
            self.run(index)?;
        }
        Ok(Started {
            free_memory,
            status,
            crashes: self.crashes.and_then(CrashReports::new),
            console,
            orderers,
            tsc_megahertz: self.tsc_megahertz,
        })
    }

    /// Lets the thread of a protection domain run, from its program's entry.
    pub(crate) fn run(&self, index: usize) -> Result<(), Failure> {
        let domain = &self.payload.protection_domains[index];
        let context = sel4::cap::UserContext {
            rip: self.entry(index),
            rsp: layout::STACK_TOP,
            ..Default::default()
        };
        let words = sel4::cap::UserContext::COUNT as u64;
        Tcb(self.slots.domains[index].thread)
            .write_registers(true, 0, words, &context)
            .doing("a thread could not be started", name(&domain.name))
    }

    /// A capability that notifies the console on its channel for reports.
    fn console_notification(&mut self) -> Result<Option<u64>, Failure> {
        let console = self.payload.header.console;
        if console == NONE {
            return Ok(None);
        }
        let slot = self.allocator.slots(1)?;
        let badge = layout::notification_badge(layout::CONSOLE_CHANNEL);
        let notification = self.slots.domains[console as usize].notification;
        self.mint(slot, notification, badge)?;
        Ok(Some(slot))
    }

    /// Capabilities that notify those who may give orders, in the order of their regions: each is
    /// the one that writes it, and hears of answers on the channel for reports.
    fn orderer_notifications(&mut self) -> Result<[Option<u64>; limits::ORDERERS], Failure> {
        let mut orderers = [None; limits::ORDERERS];
        let payload = self.payload;
        let regions = payload.regions.iter().enumerate();
        let regions = regions.filter(|(_, region)| region.contents == region_contents::ORDERS);
        for ((region, _), place) in regions.zip(&mut orderers) {
            let mut domains = payload.protection_domains.iter();
            let writer = domains.position(|domain| {
                let maps = Payload::slice(payload.maps, domain.maps);
                let mut maps = maps.iter();
                maps.any(|map| map.region as usize == region && map.writable == 1)
            });
            let Some(writer) = writer else { continue };
            let slot = self.allocator.slots(1)?;
            let badge = layout::notification_badge(layout::CONSOLE_CHANNEL);
            self.mint(slot, self.slots.domains[writer].notification, badge)?;
            *place = Some(slot);
        }
        Ok(orderers)
    }

    /// Mints a capability to signal `notification` with a badge.
    pub(crate) fn mint(&self, slot: u64, notification: u64, badge: u64) -> Result<(), Failure> {
        root::CNODE
            .mint(
                slot,
                root::DEPTH,
                root::CNODE,
                notification,
                root::DEPTH,
                CapRights::WRITE,
                CapData::badge(badge),
            )
            .doing("a notification could not be minted", "init")
    }
}

/// Makes what outlives a restart of a protection domain, largest objects first.
fn make_lasting(
    payload: &Payload<'static>,
    allocator: &mut Allocator,
    slots: &mut Slots,
) -> Result<Window, Failure> {
    let mut chunks = Chunks::new(payload.header.lasting_memory);
    let domains = payload.protection_domains;
    let count = domains.len() as u64;

    grants::make_large(payload.grantees, &mut chunks, allocator, slots)?;
    let tables = chunks.make(allocator, ObjectType::PageDirectory, 0, 1)?;
    chunks.make(allocator, ObjectType::PageTable, 0, 1)?;
    let window = Window::new(allocator, tables)?;
    let io_tables = payload.io_tables.len() as u64;
    slots.io_tables = chunks.make(allocator, ObjectType::IoPageTable, 0, io_tables)?;
    grants::make_tables(payload.grantees, &mut chunks, allocator, slots)?;
    slots.pacer = chunks.make(allocator, ObjectType::Tcb, 0, 1)?;
    grants::make_small(payload.grantees, &mut chunks, allocator, slots)?;
    let notifications = chunks.make(allocator, ObjectType::Notification, 0, count + 2)?;
    slots.notification = notifications + count;
    slots.pacer_notification = notifications + count + 1;
    slots.fault_endpoint = chunks.make(allocator, ObjectType::Endpoint, 0, 1)?;
    for (index, domain) in domains.iter().enumerate() {
        let record = &mut slots.domains[index];
        record.notification = notifications + index as u64;
        if domain.has_endpoint == 1 {
            record.endpoint = chunks.make(allocator, ObjectType::Endpoint, 0, 1)?;
        }
    }
    Ok(window)
}
