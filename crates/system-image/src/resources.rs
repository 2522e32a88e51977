//! How much memory and how many capability slots a system needs, and how its
//! untypeds are taken from the machine's.
//!
//! The builder uses this to refuse what cannot fit, `init` to allocate and to
//! say what is missing; both by the same functions, so they agree.

use crate::Payload;
use crate::format::{
    Grantee, Image, ProtectionDomain, Region, Run, layout, region_contents, region_kind, run_kind,
};

/// Sizes of kernel objects, as powers of two (seL4 5.0.0 on x86_64).
pub mod object_bits {
    /// A page, a paging structure or an IO page table.
    pub const PAGE: u32 = 12;
    /// A thread control block.
    pub const TCB: u32 = 11;
    /// A notification.
    pub const NOTIFICATION: u32 = 5;
    /// An endpoint.
    pub const ENDPOINT: u32 = 4;
    /// One slot of a CNode.
    pub const SLOT: u32 = 5;
}

/// Slots of the root CNode (`CONFIG_ROOT_CNODE_SIZE_BITS` 17).
pub const ROOT_SLOTS: u64 = 1 << 17;
/// Slots for what the kernel itself puts in the root CNode besides the frames
/// of the image: fixed capabilities, paging structures, untypeds.
pub const KERNEL_SLOTS: u64 = 512;
/// Slots to cut one region out of a device untyped: at most two pieces for each
/// bit between a page and 2^47.
pub const CARVING_SLOTS: u64 = 70;
/// Slots that `init` uses for itself: its windows and the fault endpoint.
pub const INIT_SLOTS: u64 = 64;
/// Pages of all regions that `init` keeps in view to write them.
pub const KEPT_PAGES: u64 = 256;
/// Paging structures for the windows through which `init` sees frames.
pub const WINDOW_TABLES: u64 = 2;

/// Pages of a region that `init` keeps in view, since it writes or reads it while the
/// system runs.
pub fn kept_pages(region: &Region) -> u64 {
    match region.contents {
        region_contents::SYSTEM_STATUS
        | region_contents::CRASH_REPORTS
        | region_contents::ORDERS => region.size >> region.page_bits,
        _ => 0,
    }
}

/// Whether `init` alone writes a region.
pub fn is_of_init(region: &Region) -> bool {
    matches!(
        region.contents,
        region_contents::SYSTEM_STATUS | region_contents::CRASH_REPORTS
    )
}

/// Bytes that another image of a protection domain takes: pages, paging structures, VSpace;
/// of one that is sent a page to keep and a page to run in for each that it may have.
pub fn image_bytes(image: &Image, runs: &[Run], paging: usize) -> u64 {
    pages_bytes(runs) + ((paging as u64 + 1) << object_bits::PAGE) + 2 * image.sent_size
}

/// Bytes of pages that are not the payload's own.
fn pages_bytes(runs: &[Run]) -> u64 {
    runs.iter()
        .filter(|run| run.kind != run_kind::IN_PLACE)
        .map(|run| u64::from(run.pages) << run.page_bits)
        .sum()
}

/// Bytes that a protection domain's own objects take: pages, paging structures,
/// VSpace, CNodes and thread control block.
pub fn domain_bytes(runs: &[Run], paging: usize) -> u64 {
    let cnodes = (1 << (layout::CNODE_BITS + object_bits::SLOT))
        + (1 << (layout::ROOT_CNODE_BITS + object_bits::SLOT));
    pages_bytes(runs)
        + ((paging as u64 + 1) << object_bits::PAGE)
        + cnodes
        + (1 << object_bits::TCB)
}

/// Bytes of what outlives a restart: the windows' paging structures, IO page
/// tables, notifications (two are `init`'s own) and endpoints, and what grants of
/// functions are made with.
pub fn lasting_bytes(domains: &[ProtectionDomain], io_tables: usize, grantees: &[Grantee]) -> u64 {
    let count = domains.len() as u64;
    let endpoints = 1 + domains
        .iter()
        .filter(|domain| domain.has_endpoint == 1)
        .count() as u64;
    ((WINDOW_TABLES + io_tables as u64) << object_bits::PAGE)
        + ((count + 2) << object_bits::NOTIFICATION)
        + (endpoints << object_bits::ENDPOINT)
        // The thread that says when nobody more important has work.
        + (1 << object_bits::TCB)
        + grant_bytes(grantees)
}

/// Bytes of the CNodes and IO page tables of grants.
fn grant_bytes(grantees: &[Grantee]) -> u64 {
    use layout::grant::{AUTHORITY_BITS, GRANT_BITS, MEMORY_BITS};
    if grantees.is_empty() {
        return 0;
    }
    let cnode = |bits: u8| 1u64 << (u32::from(bits) + object_bits::SLOT);
    let each = grantees.iter().map(|grantee| {
        cnode(MEMORY_BITS) + cnode(GRANT_BITS) + (u64::from(grantee.io_tables) << object_bits::PAGE)
    });
    cnode(AUTHORITY_BITS) + each.sum::<u64>()
}

/// The untypeds, largest first, that together have at least `bytes`: whole
/// pages, each power of two at most once. Objects taken from them largest first
/// fill them without a gap.
pub fn untypeds_for(bytes: u64) -> impl Iterator<Item = u32> {
    let pages = bytes.div_ceil(1 << 12);
    (0..u64::BITS - 12)
        .rev()
        .filter(move |bit| pages & (1 << bit) != 0)
        .map(|bit| bit + 12)
}

/// What a system needs of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of all untypeds.
    pub memory: u64,
    /// Slots in the root CNode, without those that the kernel fills.
    pub slots: u64,
}

/// What a checked payload needs.
pub fn needs(payload: &Payload) -> Needs {
    let memory = payload
        .memory
        .iter()
        .map(|untyped| 1u64 << untyped.bits)
        .sum();
    let mut slots = INIT_SLOTS;
    slots += payload.memory.len() as u64;
    slots += (payload.paging.len() + payload.io_tables.len()) as u64;
    // An interrupt has a handler and a notification.
    slots += (2 * payload.irqs.len() + payload.io_spaces.len()) as u64;
    // VSpace, two CNodes, thread, notification, endpoint; copies of the page that shows
    // its work, and of the one that answers in its place when it is gone.
    slots += 8 * payload.protection_domains.len() as u64;
    slots += payload
        .runs
        .iter()
        .map(|run| u64::from(run.pages))
        .sum::<u64>();
    let pages = |region: u32| {
        payload
            .regions
            .get(region as usize)
            .map_or(0, |region| region.size >> region.page_bits)
    };
    for region in payload.regions {
        slots += match region.kind {
            region_kind::IN_PLACE => 0,
            region_kind::DEVICE => (region.size >> region.page_bits) + CARVING_SLOTS,
            region_kind::UNTYPED => 1 + CARVING_SLOTS,
            _ => region.size >> region.page_bits,
        };
        slots += kept_pages(region);
    }
    // A VSpace, and a copy of the page that shows its work; the pages of one that is sent.
    slots += payload
        .images
        .iter()
        .map(|image| 2 + 2 * (image.sent_size >> 12))
        .sum::<u64>();
    // Two interrupt handlers each.
    slots += 2 * payload.functions.len() as u64;
    // Two CNodes each and the IO page tables; the CNode of authority.
    slots += payload
        .grantees
        .iter()
        .map(|grantee| 2 + u64::from(grantee.io_tables))
        .sum::<u64>();
    slots += u64::from(!payload.grantees.is_empty());
    slots += payload
        .maps
        .iter()
        .map(|map| pages(map.region))
        .sum::<u64>();
    slots += payload
        .io_maps
        .iter()
        .map(|map| pages(map.region))
        .sum::<u64>();
    Needs { memory, slots }
}

/// An untyped of the machine and how much of it has been given out.
///
/// It gives out aligned blocks in ascending order, as the kernel does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bin {
    /// Its size is two to this power.
    pub bits: u32,
    /// Bytes given out, gaps included.
    pub used: u64,
}

impl Bin {
    /// What is given out once a block of `bits` has been taken; `None` if there
    /// is no room for it.
    fn after(&self, bits: u32) -> Option<u64> {
        let size = 1u64 << bits;
        let end = self
            .used
            .checked_next_multiple_of(size)?
            .checked_add(size)?;
        (end <= 1 << self.bits).then_some(end)
    }
}

/// Takes a block of two to the power of `bits` bytes and says from which bin.
///
/// A bin in use is preferred to a fresh one, then a smaller to a larger: the
/// kernel zeroes the whole of a fresh one at its first use.
pub fn allocate(bins: &mut [Bin], bits: u32) -> Option<usize> {
    let (index, end) = bins
        .iter()
        .enumerate()
        .filter_map(|(index, bin)| bin.after(bits).map(|end| (index, end)))
        .min_by_key(|(index, _)| (bins[*index].used == 0, bins[*index].bits, *index))?;
    bins[index].used = end;
    Some(index)
}

/// The indices of `payload.memory`, largest first: the order in which to
/// allocate them, so that no gap is lost to alignment.
pub fn largest_first<'a>(payload: &'a Payload<'a>) -> impl Iterator<Item = usize> + 'a {
    (12..48u32).rev().flat_map(|bits| {
        payload
            .memory
            .iter()
            .enumerate()
            .filter(move |(_, untyped)| untyped.bits == bits)
            .map(|(index, _)| index)
    })
}

/// Whether all untypeds of `payload` fit in `bins`, which are left as they
/// would be afterwards.
pub fn fits(payload: &Payload, bins: &mut [Bin]) -> bool {
    largest_first(payload).all(|index| allocate(bins, payload.memory[index].bits).is_some())
}

/// Splits the physical range `start..end` into untypeds as the kernel does at
/// boot: naturally aligned powers of two.
pub fn split_range(mut start: u64, end: u64, mut untyped: impl FnMut(u32)) {
    while start < end {
        let bits = (63 - (end - start).leading_zeros())
            .min(start.trailing_zeros())
            .min(47);
        if bits >= 4 {
            untyped(bits);
        }
        start += 1 << bits;
    }
}
