//! The report: what each protection domain has, and who can reach whom.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::Parsed;
use crate::addresses;
use crate::back_end::{DomainSummary, ImageSummary};
use crate::front_end::layout::{IPC_BUFFER, PAGE, STACK_TOP};
use crate::model::{
    ChannelEnd, Contents, IrqSource, PciFunction, PdIndex, ProtectionDomain, RegionIndex, System,
};
use crate::number::{show_hexadecimal, show_mac, show_size};
use crate::program::Segment;

/// The report on a system, as text; `name` is that of its description.
pub fn text(name: &str, parsed: &Parsed, summary: &ImageSummary) -> String {
    let system = &parsed.system;
    let mut report = Report {
        system,
        symbols_bytes: summary.symbols_bytes,
        text: String::new(),
    };
    report.heading(&format!("The system that {name} describes"), '=');
    report.totals(summary);
    report.heading("Who can reach whom", '=');
    report.shared_memory();
    report.calls_and_notifications();
    report.direct_memory_access();
    report.grants();
    report.devices();
    report.addresses();
    report.fault_injection();
    report.heading("Protection domains", '=');
    report.line("Rights as the programs ask for them; x86_64 seL4 5.0.0 cannot forbid execution of what may be read.");
    for (index, domain) in system.protection_domains.iter().enumerate() {
        let segments = parsed.segments.get(index).map_or(&[][..], Vec::as_slice);
        let summary = summary.protection_domains.get(index);
        report.protection_domain(PdIndex(index), domain, segments, summary);
    }
    report.heading("Memory regions", '=');
    report.regions();
    report.text
}

struct Report<'s> {
    system: &'s System,
    /// Size of the symbol tables, which only the back end knows.
    symbols_bytes: u64,
    text: String,
}

impl Report<'_> {
    fn heading(&mut self, title: &str, line: char) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let line = String::from(line).repeat(title.chars().count());
        self.line(&format!("{title}\n{line}"));
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// Rows with aligned columns; says so if there are none.
    fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        if rows.is_empty() {
            self.line("  none");
            return;
        }
        let head: Vec<String> = head.iter().map(|cell| (*cell).into()).collect();
        let mut widths = vec![0; head.len()];
        for row in std::iter::once(&head).chain(rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in std::iter::once(&head).chain(rows) {
            let mut line = String::from(" ");
            for (width, cell) in widths.iter().zip(row) {
                // Writing to a String cannot fail.
                let _ = write!(line, " {cell:<width$} ");
            }
            self.line(&line);
        }
    }

    fn pd(&self, index: PdIndex) -> &str {
        let domain = self.system.protection_domains.get(index.0);
        domain.map_or("?", |domain| domain.name.as_str())
    }

    fn region(&self, index: RegionIndex) -> &str {
        let region = self.system.regions.get(index.0);
        region.map_or("?", |region| region.name.as_str())
    }

    /// Bytes of a region.
    fn size(&self, index: RegionIndex) -> u64 {
        let Some(region) = self.system.regions.get(index.0) else {
            return 0;
        };
        match region.contents {
            Contents::Symbols => {
                let needed = self.symbols_bytes.next_multiple_of(region.page_size);
                region.size.max(needed)
            }
            _ => region.size,
        }
    }

    fn function(&self, function: PciFunction) -> String {
        for device in &self.system.devices {
            if device.function == function {
                return format!("{} ({function})", device.name);
            }
            for (index, virtual_function) in device.virtual_functions.iter().enumerate() {
                if virtual_function.function == function {
                    return format!("{}.vf{index} ({function})", device.name);
                }
            }
        }
        function.to_string()
    }

    fn totals(&mut self, summary: &ImageSummary) {
        let regions = self.system.regions.iter().enumerate();
        let memory: u64 = regions
            .filter(|(_, region)| region.physical_address.is_none())
            .map(|(index, _)| self.size(RegionIndex(index)))
            .sum();
        let rows = [
            ("boot image", show_kibibytes(summary.image_bytes)),
            ("symbol tables in it", show_kibibytes(summary.symbols_bytes)),
            (
                "memory that is handed out",
                format!(
                    "{} of {}",
                    show_kibibytes(summary.memory_needed),
                    show_kibibytes(summary.memory_available)
                ),
            ),
            ("memory regions of it", show_kibibytes(memory)),
            (
                "capability slots of init",
                format!("{} of {}", summary.slots_needed, summary.slots_available),
            ),
            (
                "protection domains",
                self.system.protection_domains.len().to_string(),
            ),
            ("channels", self.system.channels.len().to_string()),
            (
                "IO address spaces",
                self.system.io_address_spaces.len().to_string(),
            ),
            (
                // Always in MiB: the Makefile reads it.
                "machine's memory",
                format!("{} MiB", self.system.machine_memory >> 20),
            ),
        ];
        for (what, how_much) in rows {
            self.line(&format!("  {what:<28}{how_much}"));
        }
    }

    fn maps_of(&self, region: RegionIndex) -> Vec<(PdIndex, bool)> {
        let mut users: BTreeMap<usize, bool> = BTreeMap::new();
        for (index, domain) in self.system.protection_domains.iter().enumerate() {
            for map in domain.maps.iter().filter(|map| map.region == region) {
                *users.entry(index).or_default() |= map.writable;
            }
        }
        users
            .into_iter()
            .map(|(index, writes)| (PdIndex(index), writes))
            .collect()
    }

    fn shared_memory(&mut self) {
        let mut rows = Vec::new();
        for (index, region) in self.system.regions.iter().enumerate() {
            let users = self.maps_of(RegionIndex(index));
            let by_init = matches!(
                region.contents,
                Contents::SystemStatus | Contents::CrashReports
            );
            if users.len() + usize::from(by_init) < 2 {
                continue;
            }
            let names = |wanted: bool| -> Vec<&str> {
                let users = users.iter().filter(|(_, writes)| *writes == wanted);
                users.map(|(user, _)| self.pd(*user)).collect()
            };
            let mut writers = names(true);
            if by_init {
                writers.insert(0, "init");
            }
            rows.push(vec![
                region.name.clone(),
                or_nobody(&writers),
                or_nobody(&names(false)),
            ]);
        }
        self.heading("Shared memory", '-');
        self.table(&["region", "written by", "read only by"], &rows);
    }

    fn calls_and_notifications(&mut self) {
        let mut calls = Vec::new();
        let mut notifications = Vec::new();
        for channel in &self.system.channels {
            let [one, other] = &channel.ends;
            for (from, to) in [(one, other), (other, one)] {
                let row = vec![
                    self.pd(from.pd).to_string(),
                    from.id.to_string(),
                    self.pd(to.pd).to_string(),
                    to.id.to_string(),
                ];
                if from.protected_calls {
                    calls.push(row.clone());
                }
                if from.notify {
                    notifications.push(row);
                }
            }
        }
        self.heading("Protected calls", '-');
        self.table(&["caller", "on its id", "callee", "as its id"], &calls);
        self.heading("Notifications", '-');
        self.table(
            &["sender", "on its id", "receiver", "as its id"],
            &notifications,
        );
    }

    fn direct_memory_access(&mut self) {
        let mut rows = Vec::new();
        for space in &self.system.io_address_spaces {
            for map in &space.maps {
                let users = self.maps_of(map.region);
                let names: Vec<&str> = users.iter().map(|(user, _)| self.pd(*user)).collect();
                rows.push(vec![
                    self.function(space.function),
                    space.domain_id.to_string(),
                    self.range(map.address, map.region),
                    if map.writable { "rw" } else { "r" }.into(),
                    self.region(map.region).to_string(),
                    or_nobody(&names),
                ]);
            }
        }
        self.heading("DMA (nothing else is reachable by a device)", '-');
        self.table(
            &[
                "function",
                "domain",
                "device addresses",
                "rights",
                "region",
                "also mapped by",
            ],
            &rows,
        );
    }

    /// What is not fixed: functions that somebody may get while the system runs.
    fn grants(&mut self) {
        let Some(grants) = &self.system.grants else {
            return;
        };
        let rows = grants.grantees.iter().map(|grantee| {
            let allowed = grants.functions.iter();
            let allowed = allowed.filter(|function| grantee.functions >> function.number & 1 != 0);
            let names: Vec<String> = allowed
                .map(|function| self.function(function.function))
                .collect();
            vec![
                self.pd(grantee.pd).to_string(),
                self.pd(grants.manager).to_string(),
                names.join(", "),
                self.region(grantee.memory).to_string(),
                self.range(grantee.address, grantee.memory),
            ]
        });
        let rows: Vec<Vec<String>> = rows.collect();
        self.heading("Grants of functions while the system runs", '-');
        self.table(
            &[
                "to",
                "by",
                "any one of",
                "which then reaches",
                "device addresses",
            ],
            &rows,
        );
    }

    fn fault_injection(&mut self) {
        if self.system.fault_regions.is_empty() {
            return;
        }
        self.heading("Fault injection", '-');
        let console = self.system.console.map_or("nobody", |pd| self.pd(pd));
        let line = format!(
            "For tests: {console} can tell each protection domain to fail (faults.orders), which says in a region of its own what it did."
        );
        self.line(&line);
    }

    fn devices(&mut self) {
        let mut rows = Vec::new();
        for device in &self.system.devices {
            rows.push(vec![
                device.name.clone(),
                device.function.to_string(),
                self.pd(device.manager).to_string(),
                self.pd(device.owner).to_string(),
                String::new(),
            ]);
            for (index, function) in device.virtual_functions.iter().enumerate() {
                let users: Vec<&str> = function
                    .registers
                    .iter()
                    .flat_map(|region| self.maps_of(*region))
                    .map(|(user, _)| self.pd(user))
                    .collect();
                rows.push(vec![
                    format!("{}.vf{index}", device.name),
                    function.function.to_string(),
                    self.pd(device.manager).to_string(),
                    or_nobody(&users),
                    match (
                        function.mac.map_or(String::new(), show_mac),
                        function.further_macs,
                    ) {
                        (mac, 0) => mac,
                        (mac, more) => format!("{mac} and {more} more"),
                    },
                ]);
            }
        }
        self.heading("PCI devices", '-');
        self.table(
            &["device", "function", "managed by", "driven by", "MAC"],
            &rows,
        );
    }

    /// Who is reached at which address.
    fn addresses(&mut self) {
        self.heading("Addresses", '-');
        self.line("Besides, each has the link-local IPv6 address that comes with its MAC address.");
        self.table(
            &[
                "application",
                "addresses",
                "MAC",
                "IPv4",
                "gateway",
                "IPv6",
                "gateway",
            ],
            &addresses::rows(self.system),
        );
        if self.system.address_pools.is_empty() {
            return;
        }
        self.line("\nPools: each member has the addresses that follow those of the one before");
        self.table(
            &[
                "pool",
                "members",
                "users",
                "first MAC",
                "first IPv4",
                "gateway",
                "first IPv6",
                "gateway",
            ],
            &addresses::pool_rows(self.system),
        );
    }

    fn range(&self, address: u64, region: RegionIndex) -> String {
        let size = self.size(region);
        let last = address.saturating_add(size.saturating_sub(1));
        format!("{address:#014x}-{last:#014x}")
    }

    fn protection_domain(
        &mut self,
        index: PdIndex,
        domain: &ProtectionDomain,
        segments: &[Segment],
        summary: Option<&DomainSummary>,
    ) {
        self.heading(&domain.name, '-');
        let program = domain.program.file_name().unwrap_or_default();
        self.line(&format!(
            "priority {}, program {}, stack {}",
            domain.priority,
            program.display(),
            show_size(domain.stack_size)
        ));
        if let Some(restart) = domain.restart {
            let when = if restart.always {
                "a fault or its end"
            } else {
                "a fault"
            };
            self.line(&format!(
                "started again after {when}, at most {} times in a row, at once, then after {} ms and more",
                restart.limit, restart.backoff
            ));
        }
        for image in &domain.images {
            match &image.program {
                Some(program) => {
                    let program = program.file_name().unwrap_or_default();
                    let program = program.display();
                    self.line(&format!("other image {}, program {program}", image.name));
                }
                None => self.line(&format!(
                    "other image {}, up to {}",
                    image.name,
                    show_size(image.sent_size)
                )),
            }
        }
        let updater = self.system.updater.filter(|updater| updater.pd == index);
        if let Some(updater) = updater {
            let domains = self.system.protection_domains.iter();
            let targets = domains.filter(|domain| {
                let mut images = domain.images.iter();
                images.any(|image| image.program.is_none())
            });
            let names: Vec<&str> = targets.map(|target| target.name.as_str()).collect();
            self.line(&format!("takes packages for {}", names.join(", ")));
            self.line(&format!(
                "signed with {}, serial numbers above {}",
                show_hexadecimal(&updater.public_key),
                updater.serial
            ));
        }
        if domain.heartbeat > 0 {
            self.line(&format!(
                "hangs if it has work and makes no progress for {} ms",
                domain.heartbeat
            ));
        }
        if let Some(summary) = summary {
            self.line(&format!(
                "memory of its own {}: {} pages copied from the image, {} zero; {} pages mapped in place from the image",
                show_kibibytes(summary.memory),
                summary.pages_copied,
                show_kibibytes(summary.zero_bytes),
                summary.pages_in_place
            ));
            let rows: Vec<Vec<String>> = summary
                .capabilities
                .iter()
                .map(|capability| {
                    vec![
                        capability.slot.to_string(),
                        capability.what.clone(),
                        capability.rights.clone(),
                        match capability.badge {
                            0 => "-".into(),
                            badge => format!("{badge:#x}"),
                        },
                    ]
                })
                .collect();
            self.line("\nCapabilities");
            self.table(&["slot", "to", "rights", "badge"], &rows);
        }
        self.line("\nMemory");
        let rows = self.memory_of(domain, segments);
        self.table(&["addresses", "rights", "", "holds"], &rows);
        self.line("\nChannels");
        let rows = self.channels_of(index);
        self.table(&["id", "other end", "its id", "may"], &rows);
        if !domain.irqs.is_empty() {
            self.line("\nInterrupts");
            let rows: Vec<Vec<String>> = domain
                .irqs
                .iter()
                .map(|irq| {
                    vec![
                        irq.id.to_string(),
                        irq.vector.to_string(),
                        self.interrupt(irq.source),
                    ]
                })
                .collect();
            self.table(&["id", "vector", "from"], &rows);
        }
        if !domain.io_ports.is_empty() {
            self.line("\nIO ports");
            let rows: Vec<Vec<String>> = domain
                .io_ports
                .iter()
                .map(|ports| {
                    let last = u32::from(ports.first) + u32::from(ports.count) - 1;
                    vec![
                        ports.id.to_string(),
                        format!("{:#x}-{last:#x}", ports.first),
                    ]
                })
                .collect();
            self.table(&["id", "ports"], &rows);
        }
        if !domain.patches.is_empty() {
            self.line("\nSymbols that the image builder sets");
            let rows: Vec<Vec<String>> = domain
                .patches
                .iter()
                .map(|patch| vec![patch.symbol.clone(), value(&patch.bytes)])
                .collect();
            self.table(&["symbol", "value"], &rows);
        }
    }

    /// Everything in a protection domain's address space, by address.
    fn memory_of(&self, domain: &ProtectionDomain, segments: &[Segment]) -> Vec<Vec<String>> {
        let mut rows: Vec<(u64, Vec<String>)> = Vec::new();
        let mut add = |start: u64, size: u64, rights: &str, cached: bool, what: &str| {
            let last = start.saturating_add(size.saturating_sub(1));
            let range = format!("{start:#014x}-{last:#014x}");
            let cells = [
                range.as_str(),
                rights,
                if cached { "" } else { "uncached" },
                what,
            ];
            rows.push((start, cells.map(Into::into).to_vec()));
        };
        for segment in segments {
            let (rights, what) = match (segment.executable, segment.writable) {
                (true, true) => ("rwx", "program: code that it may change"),
                (true, false) => ("rx", "program: code"),
                (false, true) => ("rw", "program: data"),
                (false, false) => ("r", "program: constants"),
            };
            let size = segment.pages.end - segment.pages.start;
            add(segment.pages.start, size, rights, true, what);
        }
        for map in &domain.maps {
            let size = self.size(map.region);
            let rights = if map.writable { "rw" } else { "r" };
            add(
                map.address,
                size,
                rights,
                map.cached,
                self.region(map.region),
            );
        }
        let stack = STACK_TOP.saturating_sub(domain.stack_size);
        add(
            stack,
            domain.stack_size,
            "rw",
            true,
            "stack; the page below it is free",
        );
        add(IPC_BUFFER, PAGE, "rw", true, "IPC buffer");
        rows.sort();
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn channels_of(&self, index: PdIndex) -> Vec<Vec<String>> {
        let mut rows: Vec<(u8, Vec<String>)> = Vec::new();
        for channel in &self.system.channels {
            let [one, other] = &channel.ends;
            for (end, peer) in [(one, other), (other, one)] {
                if end.pd == index {
                    rows.push((
                        end.id,
                        vec![
                            end.id.to_string(),
                            self.pd(peer.pd).to_string(),
                            peer.id.to_string(),
                            may(end, peer),
                        ],
                    ));
                }
            }
        }
        rows.sort();
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn interrupt(&self, source: IrqSource) -> String {
        match source {
            IrqSource::IoApic {
                pin, level, low, ..
            } => format!(
                "pin {pin} of the IO APIC, {}, active {}",
                if level { "level" } else { "edge" },
                if low { "low" } else { "high" }
            ),
            IrqSource::Msi { function, handle } => {
                format!("message {handle} of {}", self.function(function))
            }
        }
    }

    fn regions(&mut self) {
        let rows: Vec<Vec<String>> = self
            .system
            .regions
            .iter()
            .enumerate()
            .map(|(index, region)| {
                let place = match region.physical_address {
                    Some(address) => format!("registers at {address:#x}"),
                    None => match &region.contents {
                        Contents::Zero => "zeroes".into(),
                        Contents::Bytes(bytes) => {
                            format!("{} from the host", show_size(bytes.len() as u64))
                        }
                        Contents::TscFrequency => "the processor's clock rate".into(),
                        Contents::Symbols => "the programs' symbols".into(),
                        Contents::SystemStatus => "init's view of the system".into(),
                        Contents::CrashReports => "crash reports of init".into(),
                        Contents::Orders => "orders to init".into(),
                        Contents::Staging => "an image that was sent".into(),
                    },
                };
                let size = show_size(self.size(RegionIndex(index)));
                vec![region.name.clone(), size, place]
            })
            .collect();
        self.table(&["region", "size", "holds"], &rows);
    }
}

fn show_kibibytes(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

fn or_nobody(names: &[&str]) -> String {
    match names.is_empty() {
        true => "-".into(),
        false => names.join(", "),
    }
}

/// What passes a channel, seen from one end.
fn may(end: &ChannelEnd, peer: &ChannelEnd) -> String {
    let mut parts = Vec::new();
    if end.protected_calls {
        parts.push("call");
    }
    if end.notify {
        parts.push("notify");
    }
    if peer.protected_calls {
        parts.push("be called");
    }
    if peer.notify {
        parts.push("be notified");
    }
    parts.join(", ")
}

/// The value of a symbol: a number, or how long it is.
fn value(bytes: &[u8]) -> String {
    match <[u8; 8]>::try_from(bytes) {
        Ok(bytes) => format!("{:#x}", u64::from_le_bytes(bytes)),
        Err(_) => format!("a table of {}", show_size(bytes.len() as u64)),
    }
}
