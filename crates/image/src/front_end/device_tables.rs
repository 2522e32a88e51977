//! The tables that tell drivers what the description says about devices.

use segue_pci_driver::address::RequesterId;
use segue_pci_driver::config::{self, DeviceTable, Interrupt};
use zerocopy::IntoBytes;

use super::Draft;
use super::devices::{model_function, requester_id, virtual_index};
use super::layout::PAGE;
use super::patches::Reason;
use super::references::Function;
use crate::diagnostics::Diagnostics;
use crate::model::{self, IrqSource, PdIndex, RegionIndex};

impl Draft<'_, '_> {
    /// Fills the drivers' tables: regions tell how large the registers are,
    /// interrupts which messages the functions send.
    pub(super) fn expand_device_tables(&mut self) {
        self.measure_bars();
        self.check_bar_overlaps();
        let tables_wanted: Vec<usize> = (0..self.domains.len())
            .filter(|&domain| {
                self.devices
                    .iter()
                    .any(|device| device.manager == Some(domain) || device.owner == Some(domain))
            })
            .collect();
        for domain in tables_wanted {
            let (table, at) = self.device_table(domain);
            if let Some((table, at)) = table.zip(at) {
                self.patch(
                    domain,
                    at,
                    "pci_devices",
                    table.as_bytes().to_vec(),
                    Reason::Table {
                        element: "pci_device",
                        declare: "pci_devices: DeviceTable = DeviceTable::EMPTY",
                    },
                );
            }
        }
        for (position, device) in self.devices.iter().enumerate() {
            let (Some(manager), Some(owner)) = (device.manager, device.owner) else {
                continue;
            };
            let entry = &device.entry;
            let registers = |wanted: &dyn Fn(Function) -> bool| -> Vec<RegionIndex> {
                let regions = self.regions.iter().enumerate();
                regions
                    .filter(|(_, notes)| {
                        notes.bar.is_some_and(|reference| {
                            reference.device == position && wanted(reference.function)
                        })
                    })
                    .map(|(index, _)| RegionIndex(index))
                    .collect()
            };
            self.system.devices.push(model::Device {
                name: device.name.clone(),
                function: model_function(RequesterId(entry.requester_id)),
                manager: PdIndex(manager),
                owner: PdIndex(owner),
                registers: registers(&|function| !matches!(function, Function::Virtual(_))),
                virtual_functions: (0..usize::from(entry.vf_count))
                    .filter_map(|index| {
                        Some(model::VirtualFunction {
                            function: model_function(entry.vf_requester_id(index)?),
                            mac: entry.vf_mac(index),
                            further_macs: device
                                .filters
                                .iter()
                                .filter(|(mac, function)| mac[0] & 1 == 0 && *function == index)
                                .count(),
                            registers: registers(&|function| function == Function::Virtual(index)),
                        })
                    })
                    .collect(),
            });
        }
    }

    /// The table of all devices that `domain` manages or owns.
    fn device_table(&mut self, domain: usize) -> (Option<DeviceTable>, Option<usize>) {
        let mut table = DeviceTable::EMPTY;
        let mut at = None;
        let mut fits = true;
        for device in &self.devices {
            if device.manager != Some(domain) && device.owner != Some(domain) {
                continue;
            }
            at = at.or(Some(device.at));
            fits &= table.add_device(device.entry);
            let described = self
                .system
                .protection_domains
                .iter()
                .flat_map(|domain| &domain.irqs)
                .filter_map(|irq| match irq.source {
                    IrqSource::Msi { function, handle } => Some((function, handle, irq.vector)),
                    IrqSource::IoApic { .. } => None,
                });
            let granted = self
                .system
                .grants
                .iter()
                .flat_map(|grants| &grants.functions)
                .flat_map(|granted| {
                    let handles = (0..).zip(granted.vectors);
                    handles.map(|(handle, vector)| (granted.function, handle, vector))
                });
            for (function, handle, vector) in described.chain(granted) {
                let id = requester_id(function);
                if id != device.entry.requester_id && virtual_index(&device.entry, id).is_none() {
                    continue;
                }
                let interrupt = Interrupt {
                    requester_id: id,
                    table_index: handle,
                    vector: u32::from(vector),
                };
                if !table.add_interrupt(interrupt) && fits {
                    fits = false;
                    self.diagnostics.error(
                        device.at,
                        format!(
                            "the devices have more interrupts than the {} that the drivers' table holds",
                            config::MAX_INTERRUPTS
                        ),
                    );
                }
            }
        }
        (fits.then_some(table), at)
    }

    /// Notes how many bytes of each BAR the regions map, and checks those whose
    /// size is known.
    fn measure_bars(&mut self) {
        for (region, notes) in self.system.regions.iter().zip(&self.regions) {
            let Some(reference) = notes.bar.filter(|_| notes.size_known) else {
                continue;
            };
            match reference.size {
                Some(size) if region.size > size => self.diagnostics.error(
                    notes.physical_at,
                    format!(
                        "the region of {:#x} bytes is larger than these registers, which have {size:#x}: make it smaller",
                        region.size
                    ),
                ),
                _ => {}
            }
            if reference.function == Function::Physical {
                let bar = &mut self.devices[reference.device].entry.bars[reference.bar];
                bar.size = bar.size.max(region.size);
            }
        }
    }

    /// Reports registers that are placed over each other.
    fn check_bar_overlaps(&mut self) {
        let mut windows: Vec<(u64, u64, usize, String)> = Vec::new();
        for device in &self.devices {
            let count = u64::from(device.entry.vf_count);
            let physical = device.entry.bars.iter().zip(device.bar_at);
            let virtual_ones = device.entry.vf_bars.iter().zip(device.vf_bar_at);
            for (bar, (placement, at)) in physical.enumerate() {
                if placement.address != 0 {
                    let end = placement.address + placement.size.max(PAGE);
                    windows.push((
                        placement.address,
                        end,
                        at,
                        format!("{}.bar{bar}", device.name),
                    ));
                }
            }
            for (bar, (placement, at)) in virtual_ones.enumerate() {
                if placement.address != 0 {
                    let end = placement.address + placement.size * count;
                    let name = format!("{}.vf.bar{bar}", device.name);
                    windows.push((placement.address, end, at, name));
                }
            }
        }
        report_overlaps(&mut windows, &mut self.diagnostics);
        self.check_plain_addresses(&windows);
    }

    /// Reports regions whose address is a number, but that of registers which a
    /// reference names: so nobody gets them, the tables of interrupt messages
    /// among them, without the description saying what they are.
    fn check_plain_addresses(&mut self, windows: &[(u64, u64, usize, String)]) {
        for (region, notes) in self.system.regions.iter().zip(&self.regions) {
            let Some(start) = region.physical_address else {
                continue;
            };
            if notes.bar.is_some() || !notes.size_known {
                continue;
            }
            let end = start.saturating_add(region.size);
            let over = windows
                .iter()
                .find(|(first, last, ..)| start < *last && *first < end);
            if let Some((first, last, _, name)) = over {
                self.diagnostics.error(
                    notes.physical_at,
                    format!(
                        "the region covers {name} at {first:#x} to {:#x}: name the registers, as in phys_addr=\"{name}\", or move it",
                        last - 1
                    ),
                );
            }
        }
    }
}

fn report_overlaps(windows: &mut [(u64, u64, usize, String)], diagnostics: &mut Diagnostics<'_>) {
    windows.sort();
    for index in 1..windows.len() {
        let (first, second) = (&windows[index - 1], &windows[index]);
        if second.0 < first.1 {
            let (later, earlier) = match first.2 < second.2 {
                true => (second, first),
                false => (first, second),
            };
            diagnostics.error(
                later.2,
                format!(
                    "{} at {:#x} to {:#x} lies over {} at {:#x} to {:#x}: move one of them",
                    later.3,
                    later.0,
                    later.1 - 1,
                    earlier.3,
                    earlier.0,
                    earlier.1 - 1
                ),
            );
        }
    }
}
