//! Protection domains: their programs, memory, interrupts and IO ports.

use roxmltree::Node;

use super::layout::{IPC_BUFFER, LARGE_PAGE, PAGE, STACK_TOP};
use super::patches::Reason;
use super::value::{Value, attribute, children};
use super::{DomainNotes, Draft, MOST_PROTECTION_DOMAINS, NamedMap};
use crate::model::{Contents, Map, ProtectionDomain};
use crate::program::{Lookup, Program};

/// Largest channel, interrupt or IO port id.
pub(super) const LAST_ID: u8 = 61;

/// Stack of a protection domain that states none.
const DEFAULT_STACK: u64 = 0x2000;

/// Largest stack.
const LARGEST_STACK: u64 = 16 << 20;

/// Address space kept free for the symbols, whose size only the back end knows.
const SYMBOLS_RESERVE: u64 = 64 << 20;

/// A size that the program wants to know, if it has a variable for it.
pub(super) struct ImpliedSize {
    domain: usize,
    symbol: String,
    at: usize,
    /// `None`: that of the symbol tables.
    size: Option<u64>,
}

impl Draft<'_, '_> {
    /// Sets, beside each address `x` that a map sets, the variable `x_size`, if
    /// the program has it and the description does not set it.
    pub(super) fn set_implied_sizes(&mut self) {
        for implied in std::mem::take(&mut self.implied_sizes) {
            let notes = &self.domains[implied.domain];
            let wanted = notes.program.as_ref().is_some_and(|program| {
                matches!(program.symbol(&implied.symbol), Lookup::Found(found) if found.size == 8)
            });
            if !wanted || notes.patched.contains_key(&implied.symbol) {
                continue;
            }
            let symbol = Value {
                name: "setvar_vaddr",
                text: &implied.symbol,
                at: implied.at,
            };
            match implied.size {
                Some(size) => self.set_variable(implied.domain, symbol, size),
                None => self.set_symbols_size(implied.domain, symbol),
            }
        }
    }

    pub(super) fn read_domains(&mut self, nodes: &[Node<'_, '_>]) {
        if let Some(node) = nodes.get(MOST_PROTECTION_DOMAINS) {
            self.diagnostics.error(
                node.range().start,
                format!("too many protection domains: {MOST_PROTECTION_DOMAINS} are possible"),
            );
        }
        // All of them exist before any refers to another.
        for &node in nodes {
            self.begin_domain(node);
        }
        for (index, &node) in nodes.iter().enumerate() {
            self.read_program(index, node);
            self.read_images(index, node);
            for map in children(node, "map") {
                self.read_map(index, map);
            }
            for irq in children(node, "irq") {
                self.read_irq(index, irq);
            }
            for ports in children(node, "ioport") {
                self.read_io_ports(index, ports);
            }
            for setvar in children(node, "setvar") {
                self.read_setvar(index, setvar);
            }
        }
    }

    fn begin_domain(&mut self, node: Node<'_, '_>) {
        let mut notes = DomainNotes {
            at: node.range().start,
            priority_known: true,
            ..DomainNotes::default()
        };
        let priority = match attribute(node, "priority") {
            None => 0,
            Some(value) => match value.within(0..=254, &mut self.diagnostics) {
                Some(priority) => priority,
                None => {
                    notes.priority_known = false;
                    0
                }
            },
        };
        let stack_size = match attribute(node, "stack_size") {
            None => DEFAULT_STACK,
            Some(value) => self.stack_size(value).unwrap_or(DEFAULT_STACK),
        };
        if let Some(value) = attribute(node, "cpu")
            && let Some(cpu) = value.number(&mut self.diagnostics)
            && cpu != 0
        {
            self.diagnostics.error(
                value.at,
                format!(
                    "cpu=\"{}\": this kernel runs on one processor: write 0 or remove it",
                    value.text
                ),
            );
        }
        if let Some(value) = attribute(node, "fpu")
            && value.boolean(&mut self.diagnostics) == Some(false)
        {
            self.diagnostics.error(
                value.at,
                "fpu=\"false\": this kernel lets every thread use the floating point unit: remove it",
            );
        }
        let restart = self.read_restart(node);
        let heartbeat = self.read_heartbeat(node);
        notes
            .spans
            .insert(0..PAGE, "the page at 0, which stays empty", None);
        notes.spans.insert(
            STACK_TOP - stack_size - PAGE..STACK_TOP,
            "the stack and the page kept free below it",
            Some(notes.at),
        );
        notes
            .spans
            .insert(STACK_TOP..u64::MAX, "the IPC buffer and the kernel", None);
        const { assert!(STACK_TOP < IPC_BUFFER) };
        self.domains.push(notes);
        self.system.protection_domains.push(ProtectionDomain {
            name: node.attribute("name").unwrap_or_default().into(),
            priority,
            stack_size,
            restart,
            heartbeat,
            program: Default::default(),
            image_name: String::new(),
            images: Vec::new(),
            maps: Vec::new(),
            irqs: Vec::new(),
            io_ports: Vec::new(),
            patches: Vec::new(),
            symbols_size_patches: Vec::new(),
        });
    }

    fn stack_size(&mut self, value: Value<'_>) -> Option<u64> {
        let size = value.size(&mut self.diagnostics)?;
        if !size.is_multiple_of(PAGE) || !(PAGE..=LARGEST_STACK).contains(&size) {
            self.diagnostics.error(
                value.at,
                format!(
                    "stack_size=\"{}\" cannot be: write a multiple of 0x1000 from 0x1000 to 16M",
                    value.text
                ),
            );
            return None;
        }
        Some(size)
    }

    fn read_program(&mut self, domain: usize, node: Node<'_, '_>) {
        let mut images = children(node, "program_image");
        let Some(image) = images.next() else {
            self.diagnostics.error(
                node.range().start,
                "the protection domain has no program: add <program_image path=\"...\"/>",
            );
            return;
        };
        for second in images {
            self.diagnostics.error(
                second.range().start,
                "a protection domain has one program: remove this <program_image>",
            );
        }
        let Some(path) = attribute(image, "path") else {
            return;
        };
        let (place, bytes) = match self.files.program(path.text) {
            Ok(found) => found,
            Err(why) => {
                self.diagnostics.error(
                    path.at,
                    format!(
                        "the program \"{}\" {why}: build it, or correct the path",
                        path.text
                    ),
                );
                return;
            }
        };
        let program = match Program::read(&bytes) {
            Ok(program) => program,
            Err(why) => {
                self.diagnostics
                    .error(path.at, format!("the program \"{}\" {why}", path.text));
                return;
            }
        };
        self.system.protection_domains[domain].program = place;
        let notes = &mut self.domains[domain];
        notes.program_path = path.text.into();
        for segment in &program.segments {
            let what = match (segment.executable, segment.writable) {
                (true, _) => "the program's code",
                (false, true) => "the program's data",
                (false, false) => "the program's constants",
            };
            notes.spans.claim(
                segment.pages.clone(),
                what.into(),
                path.at,
                STACK_TOP,
                PAGE,
                &mut self.diagnostics,
            );
        }
        notes.program = Some(program);
    }

    fn read_map(&mut self, domain: usize, node: Node<'_, '_>) {
        let writable = match attribute(node, "perms") {
            None => Some(true),
            Some(value) => value.writable(&mut self.diagnostics),
        };
        let cached = match attribute(node, "cached") {
            None => Some(true),
            Some(value) => value.boolean(&mut self.diagnostics),
        };
        let address =
            attribute(node, "vaddr").and_then(|value| value.number(&mut self.diagnostics));
        let Some(region) = attribute(node, "mr").and_then(|value| self.find_region(value)) else {
            return;
        };
        let notes = &self.regions[region.0];
        let described = &self.system.regions[region.0];
        let device = described.physical_address.is_some() || notes.bar.is_some();
        let is_symbols = described.contents == Contents::Symbols;
        let (size, filled) = (described.size, notes.filled);
        let (page_size, size_known) = (described.page_size, notes.size_known);
        let name = described.name.clone();

        if described.contents.is_of_init() && writable == Some(true) {
            let at = attribute(node, "perms").map_or(node.range().start, |value| value.at);
            self.diagnostics.error(
                at,
                format!("\"{name}\" is written by init and nobody else: write perms=\"r\""),
            );
        }
        if device && cached == Some(true) {
            let at = attribute(node, "cached").map_or(node.range().start, |value| value.at);
            self.diagnostics.warning(
                at,
                format!("\"{name}\" is device memory but mapped cached: write cached=\"false\""),
            );
        }
        if let (Some(value), Some(address)) = (attribute(node, "vaddr"), address) {
            self.claim_map(
                domain, value, address, &name, size, size_known, page_size, is_symbols,
            );
            if let Some(symbol) = attribute(node, "setvar_vaddr") {
                self.set_variable(domain, symbol, address);
                self.domains[domain].named_maps.push(NamedMap {
                    symbol: symbol.text.into(),
                    region,
                    writable: writable == Some(true),
                    at: symbol.at,
                });
                if !node.has_attribute("setvar_size") && (size_known || is_symbols) {
                    self.implied_sizes.push(ImpliedSize {
                        domain,
                        symbol: format!("{}_size", symbol.text),
                        at: symbol.at,
                        size: (!is_symbols).then_some(size),
                    });
                }
            }
        }
        if let Some(symbol) = attribute(node, "setvar_size") {
            match (is_symbols, size_known) {
                (true, _) => self.set_symbols_size(domain, symbol),
                (false, true) => self.set_variable(domain, symbol, size),
                (false, false) => {}
            }
        }
        if let Some(symbol) = attribute(node, "setvar_prefill_size") {
            match filled {
                Some(filled) => self.set_variable(domain, symbol, filled),
                None if !size_known => {}
                None => self.diagnostics.error(
                    symbol.at,
                    format!(
                        "nothing fills \"{name}\" from a file: use setvar_size, or add prefill_path or prefill_directory to the region"
                    ),
                ),
            }
        }
        if let (Some(address), Some(writable), Some(cached)) = (address, writable, cached) {
            self.system.protection_domains[domain].maps.push(Map {
                region,
                address,
                writable,
                cached,
            });
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one map has this many properties"
    )]
    fn claim_map(
        &mut self,
        domain: usize,
        value: Value<'_>,
        address: u64,
        name: &str,
        size: u64,
        size_known: bool,
        page_size: u64,
        is_symbols: bool,
    ) {
        if !address.is_multiple_of(page_size) {
            let hint = address
                .checked_next_multiple_of(page_size)
                .map_or(String::new(), |next| format!(": write {next:#x}"));
            self.diagnostics.error(
                value.at,
                format!(
                    "vaddr=\"{}\" is not a multiple of the page size {page_size:#x} of \"{name}\"{hint}",
                    value.text
                ),
            );
            return;
        }
        let size = match (is_symbols, size_known) {
            (true, _) => size.max(SYMBOLS_RESERVE),
            (false, true) => size,
            (false, false) => return,
        };
        let stack = STACK_TOP - self.system.protection_domains[domain].stack_size - PAGE;
        let Some(end) = address.checked_add(size).filter(|end| *end <= stack) else {
            self.diagnostics.error(
                value.at,
                format!(
                    "the map of \"{name}\" does not fit below the stack: it must end at or below {stack:#x}"
                ),
            );
            return;
        };
        self.domains[domain].spans.claim(
            address..end,
            format!("the map of \"{name}\""),
            value.at,
            stack,
            page_size.min(LARGE_PAGE),
            &mut self.diagnostics,
        );
    }

    /// Takes a channel id for a channel or an interrupt.
    pub(super) fn claim_id(&mut self, domain: usize, value: Value<'_>) -> Option<u8> {
        let id = value.within(0..=LAST_ID, &mut self.diagnostics)?;
        if id == LAST_ID && self.has_console {
            self.diagnostics.error(
                value.at,
                format!(
                    "id {LAST_ID} belongs to the log of each protection domain: choose a lower one"
                ),
            );
            return None;
        }
        if let Some(first) = self.domains[domain].ids.insert(id, value.at) {
            let line = self.diagnostics.line(first);
            let name = self.domain_name(domain).to_string();
            self.diagnostics.error(
                value.at,
                format!(
                    "id {id} of \"{name}\" is already taken in line {line}: channels and interrupts of a protection domain need different ones"
                ),
            );
        }
        Some(id)
    }

    fn read_setvar(&mut self, domain: usize, node: Node<'_, '_>) {
        let mut sources = ["region_paddr", "value", "ipv4", "mac"]
            .into_iter()
            .filter_map(|name| attribute(node, name));
        let Some(source) = sources.next() else {
            self.diagnostics.error(
                node.range().start,
                "<setvar> needs the attribute \"region_paddr\", \"value\", \"ipv4\" or \"mac\"",
            );
            return;
        };
        if let Some(second) = sources.next() {
            self.diagnostics.error(
                second.at,
                format!(
                    "a variable has one value: remove {} or {}",
                    source.name, second.name
                ),
            );
            return;
        }
        let bytes = match source.name {
            "value" => source
                .number(&mut self.diagnostics)
                .map(|number| number.to_le_bytes()),
            // Addresses stand in the order of their bytes on the network.
            "ipv4" => source.ipv4(&mut self.diagnostics).map(|address| {
                let [a, b, c, d] = address;
                [a, b, c, d, 0, 0, 0, 0]
            }),
            "mac" => self.mac(source).map(|mac| {
                let [a, b, c, d, e, f] = mac;
                [a, b, c, d, e, f, 0, 0]
            }),
            _ => self.region_address(source).map(u64::to_le_bytes),
        };
        if let (Some(symbol), Some(bytes)) = (attribute(node, "symbol"), bytes) {
            self.patch(
                domain,
                symbol.at,
                symbol.text,
                bytes.to_vec(),
                Reason::Variable,
            );
        }
    }

    fn region_address(&mut self, value: Value<'_>) -> Option<u64> {
        let region = self.find_region(value)?;
        let address = self.system.regions[region.0].physical_address;
        if address.is_none() && self.regions[region.0].physical_at == 0 {
            self.diagnostics.error(
                value.at,
                format!(
                    "\"{}\" has no physical address: init chooses it, so give the region phys_addr or use setvar_vaddr",
                    value.text
                ),
            );
        }
        address
    }
}
