//! IO address spaces: what PCI functions may reach by DMA.

use std::collections::HashMap;

use roxmltree::Node;

use super::layout::{DEVICE_ADDRESS_END, PAGE};
use super::value::{Value, attribute, children};
use super::{Draft, SpaceNotes};
use crate::model::{Contents, IoAddressSpace, IoMap, PciFunction};

/// Where a device's writes are interrupts instead of memory.
const INTERRUPT_WINDOW: std::ops::Range<u64> = 0xfee0_0000..0xfef0_0000;

impl Draft<'_, '_> {
    pub(super) fn read_spaces(&mut self, nodes: &[Node<'_, '_>]) {
        let mut functions: HashMap<PciFunction, usize> = HashMap::new();
        let mut domains: HashMap<u16, usize> = HashMap::new();
        for &node in nodes {
            let function = attribute(node, "peripheral_id").and_then(|value| self.function(value));
            if let Some(function) = function {
                let at = attribute(node, "peripheral_id").map_or(0, |value| value.at);
                if function == PciFunction::default() {
                    self.diagnostics.error(
                        at,
                        format!("{function} can have no IO address space: the kernel takes its number for none"),
                    );
                }
                if let Some(first) = functions.insert(function, at) {
                    let line = self.diagnostics.line(first);
                    self.diagnostics.error(
                        at,
                        format!(
                            "{function} already has an IO address space in line {line}: put all its <iomap> there"
                        ),
                    );
                }
            }
            let domain_id = attribute(node, "domain_id").and_then(|value| {
                let id = value.within(1..=u16::MAX, &mut self.diagnostics)?;
                if let Some(first) = domains.insert(id, value.at) {
                    let line = self.diagnostics.line(first);
                    self.diagnostics.error(
                        value.at,
                        format!("domain id {id} is already taken in line {line}: choose another"),
                    );
                }
                Some(id)
            });
            let mut notes = SpaceNotes {
                function_known: function.is_some(),
                ..SpaceNotes::default()
            };
            notes
                .spans
                .insert(0..PAGE, "the page at 0, which stays empty", None);
            notes.spans.insert(
                INTERRUPT_WINDOW,
                "the window in which writes of a device are interrupts",
                None,
            );
            self.spaces.push(notes);
            self.system.io_address_spaces.push(IoAddressSpace {
                name: node.attribute("name").unwrap_or_default().into(),
                function: function.unwrap_or_default(),
                domain_id: domain_id.unwrap_or_default(),
                maps: Vec::new(),
            });
            let space = self.spaces.len() - 1;
            for map in children(node, "iomap") {
                self.read_io_map(space, map);
            }
        }
    }

    fn read_io_map(&mut self, space: usize, node: Node<'_, '_>) {
        let writable = match attribute(node, "perms") {
            None => Some(true),
            Some(value) => value.writable(&mut self.diagnostics),
        };
        let place = attribute(node, "iovaddr");
        let address = place.and_then(|value| value.number(&mut self.diagnostics));
        let Some(name) = attribute(node, "mr") else {
            return;
        };
        let Some(region) = self.find_region(name) else {
            return;
        };
        let described = &self.system.regions[region.0];
        let notes = &self.regions[region.0];
        let (size, size_known) = (described.size, notes.size_known);
        if described.page_size != PAGE {
            self.diagnostics.error(
                name.at,
                format!(
                    "\"{}\" has pages of 2 MiB, which this kernel cannot give to a device: write page_size=\"0x1000\" there",
                    name.text
                ),
            );
            return;
        }
        if described.physical_address.is_some() || notes.bar.is_some() {
            self.diagnostics.error(
                name.at,
                format!(
                    "\"{}\" is device memory, which other devices may not reach: remove this <iomap>",
                    name.text
                ),
            );
            return;
        }
        if described.contents.is_of_init() || described.contents == Contents::Symbols {
            self.diagnostics.error(
                name.at,
                format!(
                    "\"{}\" holds what the system tells of itself, which no device may reach: remove this <iomap>",
                    name.text
                ),
            );
            return;
        }
        let (Some(place), Some(address)) = (place, address) else {
            return;
        };
        if self.claim_io_map(space, place, address, name.text, size_known.then_some(size))
            && let Some(writable) = writable
        {
            self.system.io_address_spaces[space].maps.push(IoMap {
                region,
                address,
                writable,
            });
        }
    }

    fn claim_io_map(
        &mut self,
        space: usize,
        value: Value<'_>,
        address: u64,
        name: &str,
        size: Option<u64>,
    ) -> bool {
        if !address.is_multiple_of(PAGE) {
            self.diagnostics.error(
                value.at,
                format!(
                    "iovaddr=\"{}\" is not a multiple of the page size {PAGE:#x}",
                    value.text
                ),
            );
            return false;
        }
        let end = address.saturating_add(size.unwrap_or(PAGE));
        if end > DEVICE_ADDRESS_END {
            self.diagnostics.error(
                value.at,
                format!(
                    "a device cannot name {:#x}: \"{name}\" must end at or below {DEVICE_ADDRESS_END:#x} (2^39)",
                    end - 1
                ),
            );
            return false;
        }
        if size.is_some() {
            self.spaces[space].spans.claim(
                address..end,
                format!("the IO map of \"{name}\""),
                value.at,
                DEVICE_ADDRESS_END,
                PAGE,
                &mut self.diagnostics,
            );
        }
        true
    }
}
