//! Memory regions: size, contents and physical address.

use roxmltree::Node;
use segue_system_image::resources::KEPT_PAGES;

use super::layout::{LARGE_PAGE, PAGE};
use super::value::{Value, attribute};
use super::{Draft, RegionNotes};
use crate::archive;
use crate::model::{Contents, MemoryRegion};
use crate::number::show_size;

/// Physical pages that the kernel keeps for itself.
pub(super) const KERNEL_PAGES: &[(u64, &str)] = &[
    (0xfec0_0000, "the IO APIC"),
    (0xfed9_0000, "the IOMMU"),
    (0xfee0_0000, "the local APIC"),
];

/// One past the highest physical address that the kernel hands out.
const PHYSICAL_END: u64 = 1 << 47;

/// Largest region, which no machine could hold; keeps sums far from overflow.
const LARGEST_REGION: u64 = 1 << 40;

/// Largest region that init writes while the system runs. There are two of them.
const LARGEST_OF_INIT: u64 = KEPT_PAGES / 2 * PAGE;

/// The ways to fill a region.
const PREFILLS: [&str; 4] = [
    "prefill_path",
    "prefill_directory",
    "prefill_bootinfo",
    "prefill_segue",
];

/// What fills a region.
struct Prefill {
    contents: Contents,
    /// Bytes that it needs; 0 if only the back end knows.
    size: u64,
    /// Whether the bytes come from the host.
    from_host: bool,
}

/// Memory of a PC, by physical address: below the hole for devices, and above
/// 4 GiB what does not fit there. QEMU's q35 splits at 2 GiB once the memory
/// would reach ECAM at 0xb000_0000.
pub(super) fn memory_ranges(memory: u64) -> [std::ops::Range<u64>; 2] {
    if memory <= 0xb000_0000 {
        [0..memory, 0..0]
    } else {
        [0..0x8000_0000, 1 << 32..(1 << 32) + memory - 0x8000_0000]
    }
}

impl Draft<'_, '_> {
    pub(super) fn read_regions(&mut self, nodes: &[Node<'_, '_>]) {
        for &node in nodes {
            self.read_region(node);
        }
    }

    fn read_region(&mut self, node: Node<'_, '_>) {
        let mut notes = RegionNotes {
            at: node.range().start,
            ..RegionNotes::default()
        };
        let page_size = self.page_size(node);
        let prefill = self.prefill(node);
        let has_prefill = PREFILLS.iter().any(|name| node.has_attribute(*name));
        let mut size = None;
        if let Some(value) = attribute(node, "size") {
            size = self.region_size(value, page_size);
            if let (Some(size), Some(prefill)) = (size, &prefill)
                && prefill.size > size
            {
                self.diagnostics.error(
                    value.at,
                    format!(
                        "the region is too small: it holds {}, its contents need {}: write size=\"{:#x}\", or leave size away",
                        show_size(size),
                        show_size(prefill.size),
                        prefill.size.next_multiple_of(page_size)
                    ),
                );
            }
        } else if let Some(prefill) = &prefill {
            size = Some(prefill.size.max(1).next_multiple_of(page_size));
        } else if !has_prefill {
            self.diagnostics.error(
                notes.at,
                "<memory_region> needs the attribute \"size\", unless something fills it",
            );
        }
        notes.size_known = size.is_some();
        let size = size.unwrap_or(page_size);
        let mut contents = Contents::Zero;
        if let Some(prefill) = prefill {
            notes.filled = prefill.from_host.then_some(prefill.size);
            contents = prefill.contents;
            self.check_prefill_segue(node, &contents, size);
        }
        let mut physical_address = None;
        if let Some(value) = attribute(node, "phys_addr") {
            notes.physical_at = value.at;
            if has_prefill {
                self.diagnostics.error(
                    value.at,
                    "a region with a physical address is device memory, which nothing fills: remove phys_addr or the prefill",
                );
            }
            if let Some((address, bar)) = self.physical_address(value) {
                notes.bar = bar;
                let known = notes.size_known.then_some(size);
                if self.check_physical_address(value, address, known, page_size) {
                    physical_address = Some(address);
                }
            }
        }
        self.regions.push(notes);
        self.system.regions.push(MemoryRegion {
            name: node.attribute("name").unwrap_or_default().into(),
            size,
            page_size,
            physical_address,
            is_granted: false,
            contents,
        });
    }

    fn page_size(&mut self, node: Node<'_, '_>) -> u64 {
        let Some(value) = attribute(node, "page_size") else {
            return PAGE;
        };
        match value.size(&mut self.diagnostics) {
            Some(LARGE_PAGE) => LARGE_PAGE,
            Some(PAGE) | None => PAGE,
            Some(_) => {
                self.diagnostics.error(
                    value.at,
                    format!(
                        "page_size=\"{}\" does not exist: write 0x1000 or 0x200000",
                        value.text
                    ),
                );
                PAGE
            }
        }
    }

    fn region_size(&mut self, value: Value<'_>, page_size: u64) -> Option<u64> {
        let size = value.size(&mut self.diagnostics)?;
        if size == 0 {
            self.diagnostics.error(
                value.at,
                format!("the region is too small: write at least size=\"{page_size:#x}\""),
            );
        } else if size > LARGEST_REGION {
            self.diagnostics.error(
                value.at,
                format!("size=\"{}\" is more than any machine has", value.text),
            );
        } else if !size.is_multiple_of(page_size) {
            self.diagnostics.error(
                value.at,
                format!(
                    "size=\"{}\" is not a multiple of the page size {page_size:#x}: write size=\"{:#x}\"",
                    value.text,
                    size.next_multiple_of(page_size)
                ),
            );
        } else {
            return Some(size);
        }
        None
    }

    fn prefill(&mut self, node: Node<'_, '_>) -> Option<Prefill> {
        let mut values = PREFILLS.iter().filter_map(|name| attribute(node, name));
        let value = values.next()?;
        if let Some(second) = values.next() {
            self.diagnostics.error(
                second.at,
                format!(
                    "a region is filled once: remove {} or {}",
                    value.name, second.name
                ),
            );
            return None;
        }
        match value.name {
            "prefill_path" => {
                let bytes = match self.files.file(value.text) {
                    Ok(bytes) => bytes,
                    Err(why) => {
                        self.file_error(value, "file", &why);
                        return None;
                    }
                };
                Some(from_host(bytes))
            }
            "prefill_directory" => {
                let packed = self
                    .files
                    .directory(value.text)
                    .and_then(|files| archive::ustar(&files));
                match packed {
                    Ok(bytes) => Some(from_host(bytes)),
                    Err(why) => {
                        self.file_error(value, "directory", &why);
                        None
                    }
                }
            }
            "prefill_bootinfo" => self.prefill_bootinfo(value),
            _ => self.prefill_segue(value),
        }
    }

    fn file_error(&mut self, value: Value<'_>, sort: &str, why: &str) {
        self.diagnostics
            .error(value.at, format!("the {sort} \"{}\" {why}", value.text));
    }

    fn prefill_bootinfo(&mut self, value: Value<'_>) -> Option<Prefill> {
        match value.text {
            "x86_tsc_freq" => Some(Prefill {
                contents: Contents::TscFrequency,
                size: 20,
                from_host: false,
            }),
            "x86_vbe" | "x86_mbmmap" | "x86_acpi_rsdp" | "x86_framebuffer" => {
                self.diagnostics.error(
                    value.at,
                    format!(
                        "init does not pass {} on: only x86_tsc_freq is supported",
                        value.text
                    ),
                );
                None
            }
            _ => {
                value.word(&["x86_tsc_freq"], &mut self.diagnostics);
                None
            }
        }
    }

    fn prefill_segue(&mut self, value: Value<'_>) -> Option<Prefill> {
        let sorts = [
            ("symbols", Contents::Symbols, 0),
            (
                "system_status",
                Contents::SystemStatus,
                segue_status::system::REGION_SIZE as u64,
            ),
            (
                "crash_reports",
                Contents::CrashReports,
                segue_status::crash::REGION_SIZE as u64,
            ),
        ];
        let names = sorts.each_ref().map(|(name, ..)| *name);
        let index = value.word(&names, &mut self.diagnostics)?;
        let (_, contents, size) = sorts.into_iter().nth(index)?;
        Some(Prefill {
            contents,
            size,
            from_host: false,
        })
    }

    /// Reports what init or the back end could not fill.
    fn check_prefill_segue(&mut self, node: Node<'_, '_>, contents: &Contents, size: u64) {
        let Some(prefill) = attribute(node, "prefill_segue") else {
            return;
        };
        if let Some(value) = attribute(node, "page_size")
            && value.size(&mut self.diagnostics) == Some(LARGE_PAGE)
        {
            self.diagnostics.error(
                value.at,
                format!(
                    "a region of {} has pages of {PAGE:#x}: remove page_size",
                    prefill.text
                ),
            );
        }
        if !contents.is_of_init() {
            return;
        }
        if let Some(value) = attribute(node, "size")
            && size > LARGEST_OF_INIT
        {
            self.diagnostics.error(
                value.at,
                format!(
                    "size=\"{}\" is more than init keeps in view: write at most {LARGEST_OF_INIT:#x}, or leave size away",
                    value.text
                ),
            );
        }
        let earlier = self.system.regions.iter().zip(&self.regions);
        let same = |(region, _): &(&MemoryRegion, &RegionNotes)| region.contents == *contents;
        if let Some((region, notes)) = earlier.into_iter().find(same) {
            let line = self.diagnostics.line(notes.at);
            self.diagnostics.error(
                prefill.at,
                format!(
                    "init keeps one region of {}, and \"{}\" in line {line} is it: map that one",
                    prefill.text, region.name
                ),
            );
        }
    }

    /// Whether device memory may be at `address`; reports why not.
    fn check_physical_address(
        &mut self,
        value: Value<'_>,
        address: u64,
        size: Option<u64>,
        page_size: u64,
    ) -> bool {
        if !address.is_multiple_of(page_size) {
            self.diagnostics.error(
                value.at,
                format!(
                    "the physical address {address:#x} is not a multiple of the page size {page_size:#x}"
                ),
            );
            return false;
        }
        let Some(size) = size else { return true };
        let end = address.saturating_add(size);
        if end > PHYSICAL_END {
            self.diagnostics.error(
                value.at,
                format!("the region must end at or below {PHYSICAL_END:#x}: write a lower address"),
            );
            return false;
        }
        let memory = memory_ranges(self.system.machine_memory);
        if memory
            .iter()
            .any(|range| address < range.end && range.start < end)
        {
            self.diagnostics.error(
                value.at,
                format!(
                    "at {address:#x} this machine has memory, which init places itself: remove phys_addr, which is for device registers"
                ),
            );
            return false;
        }
        for (page, what) in KERNEL_PAGES {
            if address < page + PAGE && *page < end {
                self.diagnostics.error(
                    value.at,
                    format!(
                        "the region covers {what} at {page:#x}, which the kernel keeps for itself: end before it or start after it"
                    ),
                );
                return false;
            }
        }
        true
    }

    /// Reports regions that share physical memory.
    pub(super) fn check_physical_ranges(&mut self) {
        let mut ranges: Vec<(u64, u64, usize)> = self
            .system
            .regions
            .iter()
            .enumerate()
            .filter(|(index, _)| self.regions[*index].size_known)
            .filter_map(|(index, region)| {
                let start = region.physical_address?;
                Some((start, start.checked_add(region.size)?, index))
            })
            .collect();
        ranges.sort_unstable();
        for (position, &(_, end, first)) in ranges.iter().enumerate() {
            for &(start, _, second) in &ranges[position + 1..] {
                if start >= end {
                    break;
                }
                let (first, second) = (first.min(second), first.max(second));
                let name = &self.system.regions[first].name;
                let line = self.diagnostics.line(self.regions[first].at);
                self.diagnostics.error(
                    self.regions[second].physical_at,
                    format!(
                        "the region shares physical memory from {start:#x} on with \"{name}\" (line {line}): map one region into all that need it"
                    ),
                );
            }
        }
    }

    /// Warns of regions that nothing maps.
    pub(super) fn warn_of_unused_regions(&mut self) {
        for (region, notes) in self.system.regions.iter().zip(&self.regions) {
            if !notes.used {
                self.diagnostics.warning(
                    notes.at,
                    format!("nothing maps the memory region \"{}\"", region.name),
                );
            }
        }
    }
}

fn from_host(bytes: Vec<u8>) -> Prefill {
    Prefill {
        size: bytes.len() as u64,
        contents: Contents::Bytes(bytes),
        from_host: true,
    }
}
