//! Reads a system description, checks all of it and expands Segue's extensions
//! into the plain model.
//!
//! The passes run one after the other over the elements of the top level and
//! fill a [`Draft`]. A mistake is noted and the pass goes on with a harmless
//! value, so that one run finds all mistakes; what depends on a wrong value is
//! not checked, so that one mistake is reported once.

mod addresses;
mod always_direct;
mod channels;
mod claims;
mod console;
mod device_tables;
mod devices;
mod direct_mode;
mod domains;
mod faults;
mod filters;
mod frame_channels;
mod images;
mod interrupts;
pub(crate) mod layout;
mod patches;
mod port_tables;
mod references;
mod regions;
mod restart;
pub(crate) mod schema;
mod spaces;
mod stations;
mod updater;
mod value;

use std::collections::{BTreeMap, HashMap};

use roxmltree::{Document, Node};

use crate::diagnostics::{Diagnostic, Diagnostics, Position, Severity, printable, suggestion};
use crate::files::Files;
use crate::model::{PciFunction, RegionIndex, System};
use crate::program::{Program, Segment};
use layout::Spans;
use value::{Value, attribute};

/// What a description without a mistake yields.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The system.
    pub system: System,
    /// What is legal but looks unintended, in the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// Where the description states the machine, to report what does not fit.
    pub machine: Position,
    /// Where the program of each protection domain lies, in the order of the
    /// model.
    pub segments: Vec<Vec<Segment>>,
}

/// Longest name of a protection domain, region or IO address space, in bytes.
const LONGEST_NAME: usize = 63;

/// Most protection domains in a system.
const MOST_PROTECTION_DOMAINS: usize = 63;

/// Reads the system description `text`. All mistakes are returned at once, in
/// the order of the file.
///
/// # Errors
///
/// The list of mistakes (and warnings) if there is at least one mistake.
pub fn parse(text: &str, files: &dyn Files) -> Result<Parsed, Vec<Diagnostic>> {
    let mut diagnostics = Diagnostics::new(text);
    let options = roxmltree::ParsingOptions {
        allow_dtd: false,
        nodes_limit: 1 << 20,
        ..Default::default()
    };
    let document = match Document::parse_with_options(text, options) {
        Ok(document) => document,
        Err(error) => return Err(vec![malformed(&error)]),
    };
    let elements = schema::check(&document, &mut diagnostics);
    let mut draft = Draft::new(diagnostics, files);
    draft.machine_at = document.root_element().range().start;
    draft.read(&elements);
    draft.finish()
}

/// Says what is wrong with XML that is not well-formed.
fn malformed(error: &roxmltree::Error) -> Diagnostic {
    let place = error.pos();
    // The parser's sentence names the place in its own form.
    let what = error.to_string().replace(&format!(" at {place}"), "");
    let message = match error {
        roxmltree::Error::DtdDetected => {
            "document types mean nothing here: remove <!DOCTYPE ...>".into()
        }
        _ => printable(&format!("this is not well-formed XML: {what}")),
    };
    Diagnostic {
        position: Position {
            line: place.row,
            column: place.col,
        },
        severity: Severity::Error,
        message,
    }
}

/// The system while it is being read.
struct Draft<'t, 'f> {
    diagnostics: Diagnostics<'t>,
    files: &'f dyn Files,
    system: System,
    machine_at: usize,
    regions: Vec<RegionNotes>,
    region_names: Names,
    domains: Vec<DomainNotes>,
    domain_names: Names,
    spaces: Vec<SpaceNotes>,
    space_names: Names,
    devices: Vec<devices::DeviceNotes>,
    device_names: Names,
    pools: Vec<addresses::PoolNotes>,
    pool_names: Names,
    /// Vectors taken, and where.
    vectors: HashMap<u8, usize>,
    /// IO APIC pins taken, and where.
    pins: HashMap<u8, usize>,
    /// Messages of functions taken, and where.
    messages: HashMap<(PciFunction, u16), usize>,
    /// IO ports taken: first, one past the last, where.
    io_ports: Vec<(u32, u32, usize)>,
    /// Sizes that programs may want to know.
    implied_sizes: Vec<domains::ImpliedSize>,
    has_console: bool,
    /// The protection domain of the console.
    console_domain: Option<usize>,
}

/// What the passes know of a region besides the model.
#[derive(Default)]
struct RegionNotes {
    /// The element.
    at: usize,
    /// Whether its size in the model is right.
    size_known: bool,
    /// Bytes that fill it at start, if it is filled from the host.
    filled: Option<u64>,
    /// Whether anything uses it.
    used: bool,
    /// Where its physical address is stated.
    physical_at: usize,
    /// The register window of a device that it lies in.
    bar: Option<references::BarReference>,
}

/// What the passes know of a protection domain besides the model.
#[derive(Default)]
struct DomainNotes {
    /// The element.
    at: usize,
    /// Whether its priority in the model is right.
    priority_known: bool,
    /// Its program, if it could be read.
    program: Option<Program>,
    /// Its program as the description names it.
    program_path: String,
    /// What its address space holds.
    spans: Spans,
    /// Channel ids taken, by channels and interrupts alike, and where.
    ids: BTreeMap<u8, usize>,
    /// IO port ids taken, and where.
    io_port_ids: BTreeMap<u8, usize>,
    /// Symbols patched, and where.
    patched: HashMap<String, usize>,
    /// Maps whose address a variable receives.
    named_maps: Vec<NamedMap>,
}

/// A map whose address a variable receives.
struct NamedMap {
    symbol: String,
    region: RegionIndex,
    writable: bool,
    at: usize,
}

/// What the passes know of an IO address space besides the model.
#[derive(Default)]
struct SpaceNotes {
    /// Whether its function in the model is right.
    function_known: bool,
    /// What it holds.
    spans: Spans,
}

/// Names of one sort.
#[derive(Default)]
struct Names {
    /// What they name, `protection domain`.
    sort: &'static str,
    /// Name to index and place.
    known: HashMap<String, (usize, usize)>,
}

impl Names {
    fn new(sort: &'static str) -> Self {
        Names {
            sort,
            known: HashMap::new(),
        }
    }

    /// Notes the name of element `index`.
    fn add(&mut self, index: usize, name: Value<'_>, diagnostics: &mut Diagnostics<'_>) {
        let sort = self.sort;
        if let Some(&(_, first)) = self.known.get(name.text) {
            let line = diagnostics.line(first);
            diagnostics.error(
                name.at,
                format!(
                    "the {sort} \"{}\" is already described in line {line}: choose another name",
                    name.text
                ),
            );
            return;
        }
        self.known.insert(name.text.into(), (index, name.at));
        let fine = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if name.text.is_empty() || !name.text.chars().all(fine) {
            diagnostics.error(
                name.at,
                format!(
                    "\"{}\" cannot be the name of a {sort}: use letters, digits, - _ and .",
                    name.text
                ),
            );
        } else if name.text.len() > LONGEST_NAME {
            diagnostics.error(
                name.at,
                format!(
                    "the name of this {sort} has {} letters: use at most {LONGEST_NAME}",
                    name.text.len()
                ),
            );
        }
    }

    /// The index of the element that `value` names.
    fn find(&self, value: Value<'_>, diagnostics: &mut Diagnostics<'_>) -> Option<usize> {
        if let Some(&(index, _)) = self.known.get(value.text) {
            return Some(index);
        }
        let hint = match self.known.is_empty() {
            true => {
                let element = self.sort.replace(' ', "_").to_lowercase();
                format!(": describe one with <{element}>")
            }
            false => suggestion(value.text, self.known.keys().map(String::as_str)),
        };
        diagnostics.error(
            value.at,
            format!("there is no {} \"{}\"{hint}", self.sort, value.text),
        );
        None
    }
}

impl<'t, 'f> Draft<'t, 'f> {
    fn new(diagnostics: Diagnostics<'t>, files: &'f dyn Files) -> Self {
        Draft {
            diagnostics,
            files,
            system: System {
                machine_memory: DEFAULT_MEMORY,
                ..System::default()
            },
            machine_at: 0,
            regions: Vec::new(),
            region_names: Names::new("memory region"),
            domains: Vec::new(),
            domain_names: Names::new("protection domain"),
            spaces: Vec::new(),
            space_names: Names::new("IO address space"),
            devices: Vec::new(),
            device_names: Names::new("PCI device"),
            pools: Vec::new(),
            pool_names: Names::new("address pool"),
            vectors: HashMap::new(),
            pins: HashMap::new(),
            messages: HashMap::new(),
            io_ports: Vec::new(),
            implied_sizes: Vec::new(),
            has_console: false,
            console_domain: None,
        }
    }

    /// Runs all passes.
    fn read(&mut self, elements: &[Node<'_, '_>]) {
        let named = |name: &str| -> Vec<Node<'_, '_>> {
            elements
                .iter()
                .filter(|node| node.tag_name().name() == name)
                .copied()
                .collect()
        };
        let devices = named("pci_device");
        let regions = named("memory_region");
        let spaces = named("io_address_space");
        let domains = named("protection_domain");
        let pools = named("address_pool");
        let consoles = named("console");
        // All names first, so that the order of elements does not matter.
        for (nodes, names) in [
            (&devices, &mut self.device_names),
            (&regions, &mut self.region_names),
            (&spaces, &mut self.space_names),
            (&domains, &mut self.domain_names),
            (&pools, &mut self.pool_names),
        ] {
            for (index, node) in nodes.iter().enumerate() {
                if let Some(name) = attribute(*node, "name") {
                    names.add(index, name, &mut self.diagnostics);
                }
            }
        }
        self.has_console = !consoles.is_empty();
        self.read_machine(&named("machine"));
        self.read_devices(&devices);
        self.read_regions(&regions);
        self.read_spaces(&spaces);
        self.read_domains(&domains);
        self.read_channels(&named("channel"));
        self.read_address_pools(&pools);
        self.expand_frame_channels(&named("frame_channel"));
        self.expand_always_direct(&named("always_direct"));
        self.console_domain = consoles.first().and_then(|node| {
            // Who it is not is said when the console is expanded.
            let name = node.attribute("pd")?;
            self.domain_names.known.get(name).map(|(index, _)| *index)
        });
        self.expand_direct_mode(&named("director"), &named("direct_mode"));
        self.expand_filters_of_devices();
        self.expand_console(&consoles);
        self.expand_images();
        self.expand_updater(&named("updater"));
        self.expand_fault_injection(&named("fault_injection"));
        self.check_physical_ranges();
        self.expand_device_tables();
        self.set_implied_sizes();
        self.patch_runtime();
        // After a mistake, what uses a region may not have been understood.
        if !self.diagnostics.any_error() {
            self.warn_of_unused_regions();
        }
    }

    fn read_machine(&mut self, nodes: &[Node<'_, '_>]) {
        self.at_most_one(nodes);
        let Some(&node) = nodes.first() else { return };
        self.machine_at = node.range().start;
        let Some(memory) = attribute(node, "memory") else {
            return;
        };
        let Some(size) = memory.size(&mut self.diagnostics) else {
            return;
        };
        if !size.is_multiple_of(1 << 20) || !MEMORY.contains(&size) {
            self.diagnostics.error(
                memory.at,
                format!(
                    "memory=\"{}\" cannot be: write a size from 32M to 16G, in whole MiB",
                    memory.text
                ),
            );
            return;
        }
        self.system.machine_memory = size;
    }

    fn at_most_one(&mut self, nodes: &[Node<'_, '_>]) {
        let Some(first) = nodes.first() else { return };
        let line = self.diagnostics.line(first.range().start);
        for node in &nodes[1..] {
            self.diagnostics.error(
                node.range().start,
                format!(
                    "<{}> stands in line {line} already: remove one",
                    node.tag_name().name()
                ),
            );
        }
    }

    fn find_domain(&mut self, value: Value<'_>) -> Option<usize> {
        self.domain_names.find(value, &mut self.diagnostics)
    }

    fn find_region(&mut self, value: Value<'_>) -> Option<RegionIndex> {
        let index = self.region_names.find(value, &mut self.diagnostics)?;
        self.regions[index].used = true;
        Some(RegionIndex(index))
    }

    fn domain_name(&self, index: usize) -> &str {
        &self.system.protection_domains[index].name
    }

    fn finish(self) -> Result<Parsed, Vec<Diagnostic>> {
        let machine = self.diagnostics.position(self.machine_at);
        let failed = self.diagnostics.any_error();
        let found = self.diagnostics.into_sorted();
        match failed {
            true => Err(found),
            false => Ok(Parsed {
                system: self.system,
                warnings: found,
                machine,
                segments: self
                    .domains
                    .into_iter()
                    .map(|notes| notes.program.map_or(Vec::new(), |program| program.segments))
                    .collect(),
            }),
        }
    }
}

/// Memory of the machine if the description does not state it.
const DEFAULT_MEMORY: u64 = 256 << 20;

/// Memory that a machine can have.
const MEMORY: std::ops::RangeInclusive<u64> = (32 << 20)..=(16 << 30);
