//! Interrupts and IO ports of protection domains.

use roxmltree::Node;
use segue_system_image::format::clock;

use super::Draft;
use super::domains::LAST_ID;
use super::value::{Value, attribute};
use crate::model::{IoPorts, Irq, IrqSource, PciFunction};

/// Largest vector: 0x30 to 0x9a on the processor; the one after it is `init`'s.
const LAST_VECTOR: u8 = clock::VECTOR - 1;

/// Largest pin of the IO APIC.
const LAST_PIN: u8 = 23;

/// Largest number of a message: an MSI-X table has up to 2048.
const LAST_HANDLE: u16 = 2047;

impl Draft<'_, '_> {
    pub(super) fn read_irq(&mut self, domain: usize, node: Node<'_, '_>) {
        let id = attribute(node, "id").and_then(|value| self.claim_id(domain, value));
        if let (Some(id), Some(symbol)) = (id, attribute(node, "setvar_id")) {
            self.set_variable(domain, symbol, u64::from(id));
        }
        let vector = attribute(node, "vector").and_then(|value| {
            let vector = value.within(0..=LAST_VECTOR, &mut self.diagnostics)?;
            if let Some(first) = self.vectors.insert(vector, value.at) {
                let line = self.diagnostics.line(first);
                self.diagnostics.error(
                    value.at,
                    format!(
                        "vector {vector} is already taken in line {line}: each interrupt needs its own"
                    ),
                );
            }
            Some(vector)
        });
        let source = match (attribute(node, "pin"), attribute(node, "pcidev")) {
            (Some(pin), None) => self.pin_source(node, pin),
            (None, Some(device)) => self.message_source(node, device),
            (Some(_), Some(device)) => {
                self.diagnostics.error(
                    device.at,
                    "an interrupt comes from a pin or from a PCI function: remove pin or pcidev",
                );
                None
            }
            // Interrupts of other machines have been reported.
            (None, None) if node.has_attribute("irq") => None,
            (None, None) => {
                self.diagnostics.error(
                    node.range().start,
                    "<irq> needs the attribute \"pin\" or the attribute \"pcidev\"",
                );
                None
            }
        };
        if let (Some(id), Some(vector), Some(source)) = (id, vector, source) {
            self.system.protection_domains[domain]
                .irqs
                .push(Irq { id, vector, source });
        }
    }

    /// Refuses attributes that mean nothing beside `with`.
    fn refuse_beside(&mut self, node: Node<'_, '_>, names: &[&str], with: &str) {
        for name in names {
            if let Some(value) = attribute(node, name) {
                self.diagnostics.error(
                    value.at,
                    format!("{name} means nothing beside {with}: remove it"),
                );
            }
        }
    }

    fn pin_source(&mut self, node: Node<'_, '_>, value: Value<'_>) -> Option<IrqSource> {
        self.refuse_beside(node, &["handle"], "pin");
        let ioapic = match attribute(node, "ioapic") {
            None => Some(0),
            Some(ioapic) => ioapic.within(0..=0, &mut self.diagnostics),
        };
        let level = match attribute(node, "trigger") {
            None => Some(true),
            Some(trigger) => trigger
                .word(&["edge", "level"], &mut self.diagnostics)
                .map(|index| index == 1),
        };
        let low = match attribute(node, "polarity") {
            None => Some(false),
            Some(polarity) => polarity
                .word(&["high", "low"], &mut self.diagnostics)
                .map(|index| index == 1),
        };
        let pin = value.within(0..=LAST_PIN, &mut self.diagnostics)?;
        if pin == clock::PIN {
            self.diagnostics.error(
                value.at,
                format!("pin {pin} is that of init's own clock: choose another"),
            );
        }
        if let Some(first) = self.pins.insert(pin, value.at) {
            let line = self.diagnostics.line(first);
            self.diagnostics.error(
                value.at,
                format!(
                    "pin {pin} is already taken in line {line}: one protection domain handles it"
                ),
            );
        }
        Some(IrqSource::IoApic {
            ioapic: ioapic?,
            pin,
            level: level?,
            low: low?,
        })
    }

    fn message_source(&mut self, node: Node<'_, '_>, value: Value<'_>) -> Option<IrqSource> {
        self.refuse_beside(node, &["ioapic", "trigger", "polarity"], "pcidev");
        let function: Option<PciFunction> = self.function(value);
        let Some(number) = attribute(node, "handle") else {
            self.diagnostics.error(
                node.range().start,
                "<irq> with pcidev needs the attribute \"handle\": the number of the function's message",
            );
            return None;
        };
        let handle = number.within(0..=LAST_HANDLE, &mut self.diagnostics)?;
        let function = function?;
        if let Some(first) = self.messages.insert((function, handle), number.at) {
            let line = self.diagnostics.line(first);
            self.diagnostics.error(
                number.at,
                format!(
                    "message {handle} of {function} is already taken in line {line}: write another handle"
                ),
            );
        }
        Some(IrqSource::Msi { function, handle })
    }

    pub(super) fn read_io_ports(&mut self, domain: usize, node: Node<'_, '_>) {
        let id = attribute(node, "id").and_then(|value| {
            let id = value.within(0..=LAST_ID, &mut self.diagnostics)?;
            if let Some(first) = self.domains[domain].io_port_ids.insert(id, value.at) {
                let line = self.diagnostics.line(first);
                self.diagnostics.error(
                    value.at,
                    format!("IO port id {id} is already taken in line {line}: choose another"),
                );
            }
            Some(id)
        });
        let first = attribute(node, "addr")
            .and_then(|value| value.within(0..=0xffff_u16, &mut self.diagnostics));
        let count = attribute(node, "size")
            .and_then(|value| value.within(1..=0x8000_u16, &mut self.diagnostics));
        if let (Some(id), Some(symbol)) = (id, attribute(node, "setvar_id")) {
            self.set_variable(domain, symbol, u64::from(id));
        }
        let Some(first) = first else { return };
        if let Some(symbol) = attribute(node, "setvar_addr") {
            self.set_variable(domain, symbol, u64::from(first));
        }
        let Some(count) = count else { return };
        let at = attribute(node, "addr").map_or(node.range().start, |value| value.at);
        let (start, end) = (u32::from(first), u32::from(first) + u32::from(count));
        if end > 0x1_0000 {
            self.diagnostics.error(
                at,
                format!(
                    "the IO ports {start:#x} to {:#x} do not exist: the last is 0xffff",
                    end - 1
                ),
            );
            return;
        }
        let overlap = self
            .io_ports
            .iter()
            .find(|(other_start, other_end, _)| *other_start < end && start < *other_end);
        if let Some(&(other_start, other_end, other_at)) = overlap {
            let line = self.diagnostics.line(other_at);
            self.diagnostics.error(
                at,
                format!(
                    "the IO ports {start:#x} to {:#x} overlap {other_start:#x} to {:#x} in line {line}: one protection domain may use a port",
                    end - 1,
                    other_end - 1
                ),
            );
        }
        self.io_ports.push((start, end, at));
        if let Some(id) = id {
            self.system.protection_domains[domain]
                .io_ports
                .push(IoPorts { id, first, count });
        }
    }
}
