//! What there is to draw.

use std::collections::BTreeMap;

use crate::addresses;
use crate::model::{IrqSource, PciFunction, RegionIndex, System};
use crate::number::show_mac;

/// A box.
pub(super) struct Node {
    pub(super) kind: NodeKind,
    /// What is written in it.
    pub(super) lines: Vec<String>,
}

/// What a box stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeKind {
    ProtectionDomain,
    Device,
}

/// An arrow.
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) head_at_from: bool,
    pub(super) head_at_to: bool,
    pub(super) kind: EdgeKind,
    /// What is written at it.
    pub(super) lines: Vec<String>,
}

/// What an arrow stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EdgeKind {
    FrameChannel,
    Call,
    Notification,
    Memory,
    Device,
    Dma,
}

impl EdgeKind {
    /// Its name in the picture's style sheet.
    pub(super) fn class(self) -> &'static str {
        match self {
            EdgeKind::FrameChannel => "frames",
            EdgeKind::Call => "call",
            EdgeKind::Notification => "notification",
            EdgeKind::Memory => "memory",
            EdgeKind::Device => "registers",
            EdgeKind::Dma => "dma",
        }
    }
}

/// All boxes and arrows.
#[derive(Default)]
pub(super) struct Graph {
    /// The protection domains in the order of the model, then the devices.
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
}

impl Graph {
    /// What is to be drawn of `system`.
    pub(super) fn of(system: &System) -> Graph {
        let mut graph = Graph::default();
        for (index, domain) in system.protection_domains.iter().enumerate() {
            let mut lines = vec![domain.name.clone(), format!("priority {}", domain.priority)];
            if system.console.is_some_and(|console| console.0 == index) {
                lines.push("reads every log".into());
            }
            for channel in system.frame_channels.iter() {
                if channel.client.0 == index {
                    lines.extend(addresses::lines(channel, system));
                }
            }
            graph.nodes.push(Node {
                kind: NodeKind::ProtectionDomain,
                lines,
            });
        }
        graph.add_channels(system);
        graph.add_memory(system);
        graph.add_functions(system);
        graph.add_platform(system);
        graph
    }

    /// Adds an arrow from one box to another, with its less urgent end above, or
    /// adds to the one that is there. What an arrow without a line means, its
    /// colour tells.
    fn add_edge(
        &mut self,
        system: &System,
        from: usize,
        to: usize,
        both: bool,
        kind: EdgeKind,
        line: &str,
    ) {
        let priority = |node: usize| {
            let domain = system.protection_domains.get(node);
            // Devices are at the bottom.
            domain.map_or(u16::MAX, |domain| u16::from(domain.priority))
        };
        let down = (priority(from), from) <= (priority(to), to);
        let (upper, lower) = if down { (from, to) } else { (to, from) };
        let (head_at_from, head_at_to) = (both || !down, both || down);
        let heads = (head_at_from, head_at_to);
        let same = self.edges.iter_mut().find(|edge| {
            let alike = (edge.head_at_from, edge.head_at_to) == heads;
            // Registers and interrupts of a device are one arrow with two heads.
            (edge.from, edge.to, edge.kind) == (upper, lower, kind)
                && (alike || kind == EdgeKind::Device)
        });
        let lines: Vec<String> = Some(line)
            .filter(|line| !line.is_empty())
            .map(Into::into)
            .into_iter()
            .collect();
        match same {
            Some(edge) => {
                edge.head_at_from |= head_at_from;
                edge.head_at_to |= head_at_to;
                for line in lines {
                    if !edge.lines.contains(&line) {
                        edge.lines.push(line);
                    }
                }
            }
            None => self.edges.push(Edge {
                from: upper,
                to: lower,
                head_at_from,
                head_at_to,
                kind,
                lines,
            }),
        }
    }

    fn add_channels(&mut self, system: &System) {
        for channel in &system.frame_channels {
            let (client, server) = (channel.client.0, channel.server.0);
            let line = "frame channel";
            self.add_edge(system, client, server, true, EdgeKind::FrameChannel, line);
        }
        for (index, channel) in system.channels.iter().enumerate() {
            let in_frame_channel = system
                .frame_channels
                .iter()
                .any(|frames| frames.channel == index);
            let log = system.log_rings.iter().any(|ring| ring.channel == index);
            if in_frame_channel || log {
                continue;
            }
            let [one, other] = &channel.ends;
            for (caller, callee) in [(one, other), (other, one)] {
                if caller.protected_calls {
                    let (from, to) = (caller.pd.0, callee.pd.0);
                    self.add_edge(system, from, to, false, EdgeKind::Call, "");
                }
            }
            // That a callee answers a call later with a notification goes without
            // saying.
            if one.protected_calls || other.protected_calls {
                continue;
            }
            let (from, to, both) = match (one.notify, other.notify) {
                (true, both) => (one.pd.0, other.pd.0, both),
                (false, true) => (other.pd.0, one.pd.0, false),
                (false, false) => continue,
            };
            self.add_edge(system, from, to, both, EdgeKind::Notification, "");
        }
    }

    /// Memory through which one protection domain tells another something.
    fn add_memory(&mut self, system: &System) {
        let drawn_otherwise = |region: RegionIndex| {
            let frames = system.frame_channels.iter().any(|channel| {
                [channel.client_region, channel.server_region, channel.pool].contains(&region)
            });
            let log = system.log_rings.iter().any(|ring| ring.region == region);
            frames || log || system.fault_regions.contains(&region)
        };
        for (index, region) in system.regions.iter().enumerate() {
            let region_index = RegionIndex(index);
            if region.physical_address.is_some() || drawn_otherwise(region_index) {
                continue;
            }
            let users = users(system, region_index);
            for (&writer, &writes) in &users {
                for (&reader, &reader_writes) in &users {
                    let once = !reader_writes || writer < reader;
                    if writes && writer != reader && once {
                        self.add_edge(
                            system,
                            writer,
                            reader,
                            reader_writes,
                            EdgeKind::Memory,
                            &region.name,
                        );
                    }
                }
            }
        }
    }

    /// PCI functions that anything in the system uses.
    fn add_functions(&mut self, system: &System) {
        let mut functions: BTreeMap<PciFunction, (Vec<String>, Vec<RegionIndex>)> = BTreeMap::new();
        for device in &system.devices {
            let lines = vec![device.name.clone(), device.function.to_string()];
            functions.insert(device.function, (lines, device.registers.clone()));
            for (index, function) in device.virtual_functions.iter().enumerate() {
                let used = !function.registers.is_empty()
                    || function.mac.is_some()
                    || is_named(system, function.function);
                if used {
                    let mut lines = vec![
                        format!("{} VF {index}", device.name),
                        function.function.to_string(),
                    ];
                    lines.extend(function.mac.map(show_mac));
                    match function.further_macs {
                        0 => {}
                        1 => lines.push("and one more address".into()),
                        more => lines.push(format!("and {more} more addresses")),
                    }
                    functions.insert(function.function, (lines, function.registers.clone()));
                }
            }
        }
        let others = system
            .io_address_spaces
            .iter()
            .map(|space| space.function)
            .chain(system.protection_domains.iter().flat_map(|domain| {
                domain.irqs.iter().filter_map(|irq| match irq.source {
                    IrqSource::Msi { function, .. } => Some(function),
                    IrqSource::IoApic { .. } => None,
                })
            }));
        for function in others {
            functions
                .entry(function)
                .or_insert_with(|| (vec![format!("PCI {function}")], Vec::new()));
        }
        for (function, (lines, registers)) in functions {
            let node = self.nodes.len();
            self.nodes.push(Node {
                kind: NodeKind::Device,
                lines,
            });
            for region in registers {
                for &domain in users(system, region).keys() {
                    self.add_edge(system, domain, node, false, EdgeKind::Device, "");
                }
            }
            for (index, domain) in system.protection_domains.iter().enumerate() {
                let sends = domain.irqs.iter().any(|irq| {
                    matches!(irq.source, IrqSource::Msi { function: from, .. } if from == function)
                });
                if sends {
                    self.add_edge(system, node, index, false, EdgeKind::Device, "");
                }
            }
            self.add_dma(system, function, node);
        }
    }

    fn add_dma(&mut self, system: &System, function: PciFunction, node: usize) {
        let maps = system
            .io_address_spaces
            .iter()
            .filter(|space| space.function == function)
            .flat_map(|space| &space.maps);
        for map in maps {
            let rights = if map.writable { "DMA" } else { "DMA, reads" };
            for (&domain, &writes) in &users(system, map.region) {
                // Memory that nobody but its writer owns: the application's pool.
                if writes {
                    self.add_edge(system, node, domain, false, EdgeKind::Dma, rights);
                }
            }
        }
    }

    /// Registers, pins and ports of the machine itself.
    fn add_platform(&mut self, system: &System) {
        let of_function = |region: RegionIndex| {
            system.devices.iter().any(|device| {
                let mut virtual_ones = device.virtual_functions.iter();
                device.registers.contains(&region)
                    || virtual_ones.any(|function| function.registers.contains(&region))
            })
        };
        for (index, region) in system.regions.iter().enumerate() {
            let Some(address) = region.physical_address else {
                continue;
            };
            if of_function(RegionIndex(index)) {
                continue;
            }
            let node = self.nodes.len();
            self.nodes.push(Node {
                kind: NodeKind::Device,
                lines: vec![region.name.clone(), format!("{address:#x}")],
            });
            for &domain in users(system, RegionIndex(index)).keys() {
                self.add_edge(system, domain, node, false, EdgeKind::Device, "");
            }
        }
        for (index, domain) in system.protection_domains.iter().enumerate() {
            for ports in &domain.io_ports {
                let node = self.nodes.len();
                let last = u32::from(ports.first) + u32::from(ports.count) - 1;
                self.nodes.push(Node {
                    kind: NodeKind::Device,
                    lines: vec![
                        "IO ports".into(),
                        format!("{:#x} to {last:#x}", ports.first),
                    ],
                });
                self.add_edge(system, index, node, false, EdgeKind::Device, "");
            }
            for irq in &domain.irqs {
                if let IrqSource::IoApic { pin, .. } = irq.source
                    && let Some(node) = self.nodes.get_mut(index)
                {
                    node.lines.push(format!("interrupt pin {pin}"));
                }
            }
        }
    }
}

/// Who maps a region, and whether it may write it.
fn users(system: &System, region: RegionIndex) -> BTreeMap<usize, bool> {
    let mut users = BTreeMap::new();
    for (index, domain) in system.protection_domains.iter().enumerate() {
        for map in domain.maps.iter().filter(|map| map.region == region) {
            *users.entry(index).or_default() |= map.writable;
        }
    }
    users
}

/// Whether an IO address space or an interrupt is that of `function`.
fn is_named(system: &System, function: PciFunction) -> bool {
    let mut spaces = system.io_address_spaces.iter();
    let mut irqs = system
        .protection_domains
        .iter()
        .flat_map(|domain| &domain.irqs);
    spaces.any(|space| space.function == function)
        || irqs.any(
            |irq| matches!(irq.source, IrqSource::Msi { function: from, .. } if from == function),
        )
}
