//! The model as the tables that `init` follows.

use std::collections::BTreeSet;
use std::path::Path;

use segue_director_core::config::WINDOW_SIZE;
use segue_status::symbols::write::Named;
use segue_status::{crash, symbols, system};
use segue_system_image::format::{
    Capability, Function, Grantee, Image, IoMap, IoSpace, IoTable, Irq, Map, NONE, Paging, Ports,
    ProtectionDomain, Region, Run, SENT_IMAGE_START, Span, capability_kind, image_kind, irq_kind,
    layout, limits, padded_name, paging_level, region_contents, region_kind, rights, run_kind,
    run_role,
};
use segue_system_image::resources;
use segue_system_image::write::{Tables, append};
use zerocopy::IntoBytes;

use super::program::Program;
use super::{Problem, package, read};
use crate::model::{self, Contents, IrqSource, PciFunction, RegionIndex, System};

const PAGE: u64 = 0x1000;
/// Symbol of the updater that only the back end can set: it knows all variables.
const UPGRADES: &str = "upgrades";
/// Most bytes of symbol tables: what the front end keeps free behind their map.
const SYMBOLS_LIMIT: u64 = 64 << 20;

/// The tables, and what is only told to people.
pub(super) struct Lowered {
    pub(super) tables: Tables,
    pub(super) symbols_bytes: u64,
}

struct Lowering<'a> {
    system: &'a System,
    tables: Tables,
    problems: Vec<Problem>,
    symbols: Vec<u8>,
}

/// Lowers a whole system; all problems of its programs are reported together.
pub(super) fn lower(system: &System) -> Result<Lowered, Vec<Problem>> {
    let mut lowering = Lowering {
        system,
        tables: Tables::default(),
        problems: Vec::new(),
        symbols: Vec::new(),
    };
    lowering.tables.console = system.console.map_or(NONE, |domain| domain.0 as u32);
    let programs = lowering.read_programs();
    if !lowering.problems.is_empty() {
        return Err(lowering.problems);
    }
    lowering.lower_regions();
    for (index, programs) in programs.iter().enumerate() {
        lowering.lower_domain(index, &programs[0]);
    }
    for (index, programs) in programs.iter().enumerate() {
        lowering.lower_images(index, &programs[1..]);
    }
    lowering.lower_io_spaces();
    lowering.lower_grants();
    lowering.check_limits();
    if !lowering.problems.is_empty() {
        return Err(lowering.problems);
    }
    Ok(Lowered {
        symbols_bytes: lowering.symbols.len() as u64,
        tables: lowering.tables,
    })
}

impl Lowering<'_> {
    fn problem(&mut self, message: String) {
        self.problems.push(Problem::new(message));
    }

    /// Reads and configures all programs and makes the symbol tables of the first ones: for each
    /// protection domain that of its first image, then those of its others that are packed.
    fn read_programs(&mut self) -> Vec<Vec<Program>> {
        let mut programs = Vec::new();
        let system = self.system;
        for domain in &system.protection_domains {
            let others = domain.images.iter();
            let others = others.filter_map(|image| image.program.as_ref());
            let mut its = Vec::new();
            for path in std::iter::once(&domain.program).chain(others) {
                match read_program(path) {
                    Ok(program) => its.push(program),
                    Err(message) => {
                        self.problem(format!("protection domain {}: {message}", domain.name));
                    }
                }
            }
            programs.push(its);
        }
        if !self.problems.is_empty() {
            return programs;
        }
        let first = programs.iter().filter_map(|programs| programs.first());
        self.symbols = symbol_tables(system, first);
        if self.symbols.len() as u64 > SYMBOLS_LIMIT {
            self.problem(format!(
                "the programs' symbol tables take {} MiB, more than {} MiB: strip a program",
                self.symbols.len() >> 20,
                SYMBOLS_LIMIT >> 20
            ));
        }
        let symbols_size = self.symbols_size();
        for (domain, programs) in system.protection_domains.iter().zip(&mut programs) {
            let others = domain.images.iter();
            let others = others.filter_map(|image| image.program.as_ref());
            let paths = std::iter::once(&domain.program).chain(others);
            for (program, path) in programs.iter_mut().zip(paths) {
                for message in configure(program, domain, symbols_size) {
                    self.problems.push(Problem::new(format!(
                        "protection domain {}: its program {} {message}",
                        domain.name,
                        path.display()
                    )));
                }
            }
        }
        if let Some(updater) = &system.updater {
            let table = package::table(system, updater, symbols_size);
            for program in &mut programs[updater.pd.0] {
                // The front end has found the symbol.
                if let Err(message) = program.patch(UPGRADES, table.as_bytes()) {
                    self.problems
                        .push(Problem::new(format!("the updater {message}")));
                }
            }
        }
        programs
    }

    fn symbols_size(&self) -> u64 {
        symbols_size(&self.symbols)
    }

    fn region_size(&self, index: RegionIndex) -> u64 {
        let region = &self.system.regions[index.0];
        match region.contents {
            Contents::Symbols => self.symbols_size(),
            _ => region.size,
        }
    }

    /// Whether anyone, a device included, may write a region.
    fn is_written(&self, index: RegionIndex) -> bool {
        let maps = self
            .system
            .protection_domains
            .iter()
            .flat_map(|domain| &domain.maps);
        let io_maps = self
            .system
            .io_address_spaces
            .iter()
            .flat_map(|space| &space.maps);
        maps.into_iter()
            .any(|map| map.region == index && map.writable)
            || io_maps.into_iter().any(|map| map.region == index)
    }

    fn lower_regions(&mut self) {
        let system = self.system;
        for (index, region) in system.regions.iter().enumerate() {
            let index = RegionIndex(index);
            let size = self.region_size(index);
            let (contents, bytes): (u8, &[u8]) = match &region.contents {
                Contents::Zero => (region_contents::ZERO, &[]),
                Contents::Bytes(bytes) => (region_contents::BYTES, bytes),
                Contents::Symbols => (region_contents::BYTES, &self.symbols),
                Contents::TscFrequency => (region_contents::TSC_FREQUENCY, &[]),
                Contents::SystemStatus => (region_contents::SYSTEM_STATUS, &[]),
                Contents::CrashReports => (region_contents::CRASH_REPORTS, &[]),
                Contents::Orders => (region_contents::ORDERS, &[]),
                Contents::Staging => (region_contents::STAGING, &[]),
            };
            let minimum = match region.contents {
                Contents::SystemStatus => system::REGION_SIZE as u64,
                Contents::CrashReports => crash::REGION_SIZE as u64,
                _ => bytes.len() as u64,
            };
            if size < minimum {
                let message = format!(
                    "memory region {} has {size:#x} bytes, but what it is to hold needs {minimum:#x}",
                    region.name
                );
                self.problems.push(Problem::new(message));
            }
            let length = bytes.len() as u64;
            let fills = length.next_multiple_of(PAGE) == size && length > 0;
            let in_place = fills && region.page_size == PAGE && !self.is_written(index);
            let data_offset = if bytes.is_empty() {
                0
            } else {
                self.tables.append_data(bytes)
            };
            let (kind, memory) = if region.is_granted {
                (region_kind::UNTYPED, Span::default())
            } else if region.physical_address.is_some() {
                (region_kind::DEVICE, Span::default())
            } else if in_place {
                (region_kind::IN_PLACE, Span::default())
            } else {
                (region_kind::MEMORY, self.tables.append_memory(size))
            };
            self.tables.regions.push(Region {
                name: padded_name(&region.name),
                size,
                physical_address: region.physical_address.unwrap_or(0),
                data_offset,
                data_length: if in_place { size } else { length },
                memory,
                kind,
                contents,
                page_bits: page_bits(region),
                reserved: [0; 5],
            });
        }
    }

    fn lower_domain(&mut self, index: usize, program: &Program) {
        let domain = &self.system.protection_domains[index];
        let (mut runs, bytes) = program.flatten();
        let program_offset = self.tables.append_data(&bytes);
        for run in runs.iter_mut().filter(|run| run.kind != run_kind::ZERO) {
            run.offset += program_offset;
        }
        runs.extend(stack_and_buffer(domain.stack_size));

        let maps: Vec<Map> = domain
            .maps
            .iter()
            .map(|map| Map {
                address: map.address,
                region: map.region.0 as u32,
                writable: u8::from(map.writable),
                cached: u8::from(map.cached),
                reserved: [0; 2],
            })
            .collect();
        let map_ranges = domain.maps.iter().map(|map| {
            let bits = page_bits(&self.system.regions[map.region.0]);
            (map.address, self.region_size(map.region), bits)
        });
        let run_ranges = runs.iter().map(|run| {
            (
                run.address,
                u64::from(run.pages) << run.page_bits,
                run.page_bits,
            )
        });
        // Tables for a window into which pages are mapped at run time.
        let grants = self.system.grants.iter();
        let windows = grants
            .flat_map(|grants| &grants.grantees)
            .filter(|grantee| grantee.pd.0 == index)
            .map(|grantee| (grantee.window, WINDOW_SIZE as u64, 12));
        let paging = paging(run_ranges.chain(map_ranges).chain(windows));

        let memory = resources::domain_bytes(&runs, paging.len());
        let capabilities = self.capabilities(index);
        let record = ProtectionDomain {
            name: padded_name(&domain.name),
            entry: program.entry,
            program_offset,
            program_length: bytes.len() as u64,
            program_hash: [0; 32],
            runs: append(&mut self.tables.runs, runs),
            paging: append(&mut self.tables.paging, paging),
            maps: append(&mut self.tables.maps, maps),
            capabilities: append(&mut self.tables.capabilities, capabilities),
            memory: self.tables.append_memory(memory),
            priority: u32::from(domain.priority),
            has_endpoint: u32::from(self.has_endpoint(index)),
            restart_limit: domain.restart.map_or(0, |restart| restart.limit),
            restart_backoff: domain.restart.map_or(0, |restart| restart.backoff),
            restart_always: u32::from(domain.restart.is_some_and(|restart| restart.always)),
            heartbeat: domain.heartbeat,
            paced: u32::from(self.is_paced(index)),
            reserved: 0,
        };
        self.tables.protection_domains.push(record);
    }

    /// The other images of protection domain `index`; `programs` are those that are packed.
    fn lower_images(&mut self, index: usize, programs: &[Program]) {
        let system = self.system;
        let domain = &system.protection_domains[index];
        let mut programs = programs.iter();
        for image in &domain.images {
            let (mut runs, bytes, entry) = match &image.program {
                None => (Vec::new(), Vec::new(), 0),
                Some(_) => {
                    let Some(program) = programs.next() else {
                        return;
                    };
                    let (runs, bytes) = program.flatten();
                    (runs, bytes, program.entry)
                }
            };
            let program_offset = self.tables.append_data(&bytes);
            for run in runs.iter_mut().filter(|run| run.kind != run_kind::ZERO) {
                run.offset += program_offset;
            }
            runs.extend(stack_and_buffer(domain.stack_size));
            let first = self.tables.protection_domains[index].maps;
            let maps = self.tables.maps[first.range()].to_vec();
            let map_ranges: Vec<(u64, u64, u8)> = domain
                .maps
                .iter()
                .map(|map| {
                    let bits = page_bits(&system.regions[map.region.0]);
                    (map.address, self.region_size(map.region), bits)
                })
                .collect();
            let mut ranges: Vec<(u64, u64, u8)> = runs
                .iter()
                .map(|run| {
                    let length = u64::from(run.pages) << run.page_bits;
                    (run.address, length, run.page_bits)
                })
                .collect();
            if image.sent_size > 0 {
                ranges.push((SENT_IMAGE_START, image.sent_size, 12));
            }
            let overlaps = ranges.iter().any(|(start, length, _)| {
                let mut maps = map_ranges.iter();
                maps.any(|(address, size, _)| {
                    start < &(address + size) && address < &(start + length)
                })
            });
            if overlaps {
                self.problem(format!(
                    "protection domain {}: its image {} lies where a memory region is mapped: map that elsewhere",
                    domain.name, image.name
                ));
            }
            let paging = paging(ranges.into_iter().chain(map_ranges));
            let mut record = Image {
                entry,
                program_offset,
                program_length: bytes.len() as u64,
                program_hash: [0; 32],
                sent_size: image.sent_size,
                runs: Span::default(),
                paging: Span::default(),
                maps: Span::default(),
                memory: Span::default(),
                protection_domain: index as u32,
                kind: match image.program {
                    Some(_) => image_kind::PACKED,
                    None => image_kind::SENT,
                },
            };
            let needed = resources::image_bytes(&record, &runs, paging.len());
            record.memory = self.tables.append_memory(needed);
            record.runs = append(&mut self.tables.runs, runs);
            record.paging = append(&mut self.tables.paging, paging);
            record.maps = append(&mut self.tables.maps, maps);
            self.tables.images.push(record);
        }
    }

    /// The ends of channels in protection domain `index`, each with its other
    /// end.
    fn ends(&self, index: usize) -> impl Iterator<Item = (&model::ChannelEnd, &model::ChannelEnd)> {
        self.system
            .channels
            .iter()
            .flat_map(|channel| {
                let [first, second] = &channel.ends;
                [(first, second), (second, first)]
            })
            .filter(move |(end, _)| end.pd.0 == index)
    }

    /// Whether others can wait for a restart of protection domain `index`: its priority is lower
    /// than that of everybody on whom others depend, who relay frames or answer calls.
    fn is_paced(&self, index: usize) -> bool {
        let domains = &self.system.protection_domains;
        let relays = self.system.frame_channels.iter();
        let relays = relays.map(|channel| channel.server.0);
        let servers = (0..domains.len()).filter(|other| self.has_endpoint(*other));
        let lowest = relays.chain(servers).map(|other| domains[other].priority);
        lowest
            .min()
            .is_some_and(|lowest| domains[index].priority < lowest)
    }

    fn has_endpoint(&self, index: usize) -> bool {
        self.ends(index).any(|(_, other)| other.protected_calls)
    }

    /// Every capability of a protection domain, by slot; its interrupts and IO
    /// ports become records on the way.
    fn capabilities(&mut self, index: usize) -> Vec<Capability> {
        let domain = &self.system.protection_domains[index];
        let own = index as u32;
        let input = if self.has_endpoint(index) {
            capability_kind::ENDPOINT
        } else {
            capability_kind::NOTIFICATION
        };
        let capability = |slot, kind, object, rights, badge| Capability {
            badge,
            object,
            slot,
            kind,
            rights,
        };
        let input_rights = match self.system.fault_regions.is_empty() || !self.has_endpoint(index) {
            true => rights::READ,
            false => rights::READ | rights::WRITE,
        };
        let mut capabilities = vec![
            capability(layout::INPUT, input, own, input_rights, 0),
            capability(
                layout::FAULT_ENDPOINT,
                capability_kind::FAULT_ENDPOINT,
                0,
                rights::WRITE | rights::GRANT,
                u64::from(own) + 1,
            ),
            capability(layout::VSPACE, capability_kind::VSPACE, own, rights::ALL, 0),
        ];
        if self.system.orderers.contains(&model::PdIndex(index)) {
            capabilities.push(capability(
                layout::INIT,
                capability_kind::INIT,
                0,
                rights::WRITE,
                layout::ORDER_BADGE,
            ));
        }
        for (end, other) in self.ends(index) {
            let id = u16::from(end.id);
            let peer = other.pd.0 as u32;
            if end.notify {
                capabilities.push(capability(
                    layout::NOTIFICATIONS + id,
                    capability_kind::NOTIFICATION,
                    peer,
                    rights::WRITE,
                    layout::notification_badge(usize::from(other.id)),
                ));
            }
            if end.protected_calls {
                capabilities.push(capability(
                    layout::ENDPOINTS + id,
                    capability_kind::ENDPOINT,
                    peer,
                    rights::WRITE | rights::GRANT,
                    layout::call_badge(usize::from(other.id)),
                ));
            }
        }
        for irq in &domain.irqs {
            let record = self.tables.irqs.len() as u32;
            self.tables.irqs.push(lower_irq(irq, own));
            capabilities.push(capability(
                layout::IRQ_HANDLERS + u16::from(irq.id),
                capability_kind::IRQ_HANDLER,
                record,
                rights::ALL,
                0,
            ));
        }
        for ports in &domain.io_ports {
            let record = self.tables.ports.len() as u32;
            let last = u32::from(ports.first) + u32::from(ports.count.max(1)) - 1;
            let last = u16::try_from(last).unwrap_or(u16::MAX);
            self.tables.ports.push(Ports {
                first: ports.first,
                last,
            });
            capabilities.push(capability(
                layout::IO_PORTS + u16::from(ports.id),
                capability_kind::IO_PORTS,
                record,
                rights::ALL,
                0,
            ));
        }
        capabilities.sort_by_key(|capability| capability.slot);
        capabilities
    }

    fn lower_io_spaces(&mut self) {
        for space in &self.system.io_address_spaces {
            let ranges = space
                .maps
                .iter()
                .map(|map| (map.address, self.region_size(map.region)));
            let tables = io_tables(ranges);
            let maps = space.maps.iter().map(|map| IoMap {
                address: map.address,
                region: map.region.0 as u32,
                writable: u32::from(map.writable),
            });
            let record = IoSpace {
                name: padded_name(&space.name),
                requester: requester(space.function),
                domain: space.domain_id,
                reserved: 0,
                tables: append(&mut self.tables.io_tables, tables),
                maps: append(&mut self.tables.io_maps, maps),
            };
            self.tables.io_spaces.push(record);
        }
    }

    fn lower_grants(&mut self) {
        let Some(grants) = &self.system.grants else {
            return;
        };
        let manager = grants.manager.0 as u32;
        self.tables.functions = grants
            .functions
            .iter()
            .map(|function| Function {
                number: function.number.into(),
                manager,
                region: function.region.0 as u32,
                requester: requester(function.function),
                vectors: function.vectors,
            })
            .collect();
        for (index, grantee) in grants.grantees.iter().enumerate() {
            let size = self.region_size(grantee.memory);
            let tables = io_tables(std::iter::once((grantee.address, size)));
            self.tables.grantees.push(Grantee {
                badges: grantee
                    .interrupts
                    .map(|id| layout::notification_badge(usize::from(id))),
                protection_domain: grantee.pd.0 as u32,
                manager,
                index: index as u32,
                memory: grantee.memory.0 as u32,
                dummies: grantee.dummies.0 as u32,
                io_tables: tables.len() as u32,
            });
        }
    }

    fn check_limits(&mut self) {
        let tables = &self.tables;
        let counts = [
            (
                tables.protection_domains.len(),
                limits::PROTECTION_DOMAINS,
                "protection domains",
            ),
            (tables.runs.len(), limits::RUNS, "runs of pages in programs"),
            (tables.paging.len(), limits::PAGING, "page tables"),
            (tables.maps.len(), limits::MAPS, "maps"),
            (
                tables.capabilities.len(),
                limits::CAPABILITIES,
                "capabilities",
            ),
            (tables.regions.len(), limits::REGIONS, "memory regions"),
            (tables.memory.len() + 64, limits::MEMORY, "pieces of memory"),
            (tables.irqs.len(), limits::IRQS, "interrupts"),
            (tables.ports.len(), limits::PORTS, "IO port ranges"),
            (
                tables.io_spaces.len(),
                limits::IO_SPACES,
                "IO address spaces",
            ),
            (tables.io_tables.len(), limits::IO_TABLES, "IO page tables"),
            (
                tables.io_maps.len(),
                limits::IO_MAPS,
                "maps in IO address spaces",
            ),
        ];
        for (count, limit, what) in counts {
            if count > limit {
                self.problem(format!(
                    "the system has {count} {what}, init has room for {limit}"
                ));
            }
        }
    }
}

/// Symbol tables of the programs, if a region wants them.
pub(super) fn symbol_tables<'a>(
    system: &System,
    programs: impl Iterator<Item = &'a Program>,
) -> Vec<u8> {
    let mut regions = system.regions.iter();
    if !regions.any(|region| region.contents == Contents::Symbols) {
        return Vec::new();
    }
    let domains = system.protection_domains.iter();
    let named = domains.zip(programs).map(|(domain, program)| {
        let functions: Vec<Named> = program.functions.clone();
        (domain.name.clone(), functions)
    });
    symbols::write::table(named)
}

/// Bytes of the region that holds symbol tables.
pub(super) fn symbols_size(symbols: &[u8]) -> u64 {
    (symbols.len() as u64).next_multiple_of(PAGE)
}

/// Writes the variables of `domain` over the symbols of a program for it; what went wrong, as ends
/// of sentences about the program.
pub(super) fn configure(
    program: &mut Program,
    domain: &model::ProtectionDomain,
    symbols_size: u64,
) -> Vec<String> {
    let symbols_size = symbols_size.to_le_bytes();
    let patches = domain.patches.iter();
    let patches = patches.map(|patch| (&patch.symbol, &patch.bytes[..]));
    let sizes = domain.symbols_size_patches.iter();
    let sizes = sizes.map(|symbol| (symbol, &symbols_size[..]));
    patches
        .chain(sizes)
        .filter_map(|(symbol, bytes)| program.patch(symbol, bytes).err())
        .collect()
}

pub(super) fn read_program(path: &Path) -> Result<Program, String> {
    let bytes = read(path).map_err(|problem| problem.message)?;
    Program::read(&bytes).map_err(|message| format!("its program {} {message}", path.display()))
}

/// The pages that a program has besides those of its file.
fn stack_and_buffer(stack_size: u64) -> [Run; 2] {
    let zero = |address: u64, length: u64, role: u8| Run {
        address,
        offset: 0,
        pages: (length / PAGE) as u32,
        kind: run_kind::ZERO,
        role,
        page_bits: 12,
        writable: 1,
    };
    [
        zero(layout::STACK_TOP - stack_size, stack_size, run_role::STACK),
        zero(layout::IPC_BUFFER, PAGE, run_role::IPC_BUFFER),
    ]
}

fn page_bits(region: &model::MemoryRegion) -> u8 {
    if region.page_size == PAGE { 12 } else { 21 }
}

fn requester(function: PciFunction) -> u16 {
    u16::from(function.bus) << 8
        | u16::from(function.device & 31) << 3
        | u16::from(function.function & 7)
}

fn lower_irq(irq: &model::Irq, domain: u32) -> Irq {
    let mut record = Irq {
        badge: layout::notification_badge(usize::from(irq.id)),
        protection_domain: domain,
        kind: irq_kind::IO_APIC,
        vector: irq.vector,
        ioapic: 0,
        pin: 0,
        level: 0,
        low: 0,
        requester: 0,
        handle: 0,
        reserved: [0; 2],
    };
    match irq.source {
        IrqSource::IoApic {
            ioapic,
            pin,
            level,
            low,
        } => {
            record.ioapic = ioapic;
            record.pin = pin;
            record.level = u8::from(level);
            record.low = u8::from(low);
        }
        IrqSource::Msi { function, handle } => {
            record.kind = irq_kind::MSI;
            record.requester = requester(function);
            record.handle = handle;
        }
    }
    record
}

/// The paging structures that ranges of (address, length, page bits) need,
/// upper levels first.
fn paging(ranges: impl Iterator<Item = (u64, u64, u8)>) -> Vec<Paging> {
    let mut levels = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
    for (address, length, page_bits) in ranges {
        for (level, covered) in levels.iter_mut().zip([39, 30, 21]) {
            if u32::from(page_bits) < covered {
                covering(address, length, covered, level);
            }
        }
    }
    let names = [
        paging_level::PDPT,
        paging_level::PAGE_DIRECTORY,
        paging_level::PAGE_TABLE,
    ];
    levels
        .iter()
        .zip(names)
        .flat_map(|(addresses, level)| {
            addresses.iter().map(move |address| Paging {
                address: *address,
                level,
                reserved: 0,
            })
        })
        .collect()
}

/// The IO page tables that ranges of (address, length) need, upper levels
/// first: one for the whole space, then for each GiB, then for each 2 MiB.
pub(crate) fn io_tables(ranges: impl Iterator<Item = (u64, u64)>) -> Vec<IoTable> {
    let mut levels = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
    for (address, length) in ranges {
        for (level, covered) in levels.iter_mut().zip([39, 30, 21]) {
            covering(address, length, covered, level);
        }
    }
    levels
        .iter()
        .flatten()
        .map(|address| IoTable { address: *address })
        .collect()
}

/// Adds the addresses of the blocks of two to the power of `bits` bytes that
/// cover a range.
fn covering(address: u64, length: u64, bits: u32, blocks: &mut BTreeSet<u64>) {
    let mut block = address >> bits;
    while block << bits < address + length {
        blocks.insert(block << bits);
        block += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paging_covers_each_range_once_and_upper_levels_come_first() {
        let ranges = [
            (0x1f_f000, 0x2000, 12),
            (0x20_0000, 0x1000, 12),
            (0x4000_0000, 0x20_0000, 21),
        ];
        let found: Vec<(u64, u32)> = paging(ranges.into_iter())
            .iter()
            .map(|table| (table.address, table.level))
            .collect();
        let expected = [(0, 3), (0, 2), (0x4000_0000, 2), (0, 1), (0x20_0000, 1)];
        assert_eq!(found, expected);
    }

    #[test]
    fn io_tables_are_one_root_then_gigabytes_then_leaves() {
        let ranges = [(0x1000_0000, 0x20_0000), (0x20_0000_1000, 0x1000)];
        let found: Vec<u64> = io_tables(ranges.into_iter())
            .iter()
            .map(|table| table.address)
            .collect();
        assert_eq!(found, [0, 0, 0x20_0000_0000, 0x1000_0000, 0x20_0000_0000]);
    }
}
