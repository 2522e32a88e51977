//! PCI devices: where their registers go, their virtual functions, and the
//! references to both in the rest of the description.

use std::collections::HashMap;

use roxmltree::Node;
use segue_pci_driver::address::RequesterId;
use segue_pci_driver::config::{self, BarPlacement, DeviceTable, Interrupt};
use zerocopy::IntoBytes;

use super::Draft;
use super::layout::PAGE;
use super::patches::Reason;
use super::regions::memory_ranges;
use super::value::{Value, attribute, children};
use crate::diagnostics::{Diagnostics, suggestion};
use crate::model::{self, IrqSource, PciFunction, PdIndex, RegionIndex};
use crate::number;

/// MAC addresses that an 82576 can tell apart: its receive address registers
/// (82576 datasheet, RAL/RAH, 8.10.12).
const MOST_MAC_ADDRESSES: usize = 24;

/// One past the highest address of a virtual function's registers. QEMU's
/// emulation drops the upper half of a 64-bit address there.
const VIRTUAL_BAR_END: u64 = 1 << 32;

/// What the passes know of a device.
pub(super) struct DeviceNotes {
    name: String,
    at: usize,
    manager: Option<usize>,
    owner: Option<usize>,
    /// What the drivers' table will say.
    entry: config::Device,
    /// Whether function addresses computed from `entry` are right.
    functions_known: bool,
    /// Where each BAR's address is stated.
    bar_at: [usize; config::BAR_COUNT],
    /// Where each virtual BAR's address is stated.
    vf_bar_at: [usize; config::BAR_COUNT],
    /// MAC addresses in use and who has them.
    macs: Vec<[u8; 6]>,
}

/// A register window of a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct BarReference {
    /// The device.
    device: usize,
    /// Whose it is.
    function: Function,
    /// The BAR's number.
    bar: usize,
    /// Bytes the window has; unknown for the physical function's.
    size: Option<u64>,
}

/// A device's function, as a reference in the description names it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Function {
    Physical,
    /// One virtual function.
    Virtual(usize),
    /// All virtual functions.
    AllVirtual,
}

impl Draft<'_, '_> {
    pub(super) fn read_devices(&mut self, nodes: &[Node<'_, '_>]) {
        for &node in nodes {
            let notes = self.read_device(node);
            self.devices.push(notes);
        }
        if let Some(node) = nodes.get(config::MAX_DEVICES) {
            self.diagnostics.error(
                node.range().start,
                format!(
                    "too many devices: the drivers' table holds {}",
                    config::MAX_DEVICES
                ),
            );
        }
        self.check_functions();
        self.check_macs(nodes);
    }

    fn read_device(&mut self, node: Node<'_, '_>) -> DeviceNotes {
        let mut entry = config::Device::EMPTY;
        let name = node.attribute("name").unwrap_or_default();
        if let Some(value) = attribute(node, "name")
            && (name.len() > config::NAME_LENGTH || name.contains('.'))
        {
            self.diagnostics.error(
                value.at,
                format!(
                    "\"{name}\" cannot be the name of a PCI device: use at most {} letters and no .",
                    config::NAME_LENGTH
                ),
            );
        }
        entry.set_name(name);
        let mut functions_known = true;
        match attribute(node, "peripheral_id").and_then(|value| self.function_address(value)) {
            Some(function) => entry.requester_id = requester_id(function),
            None => functions_known = false,
        }
        entry.vendor_id = self.device_number(node, "vendor_id", 0xfffe).unwrap_or(0);
        entry.device_id = self.device_number(node, "device_id", 0xffff).unwrap_or(0);
        let manager = attribute(node, "manager").and_then(|value| self.find_domain(value));
        let owner = attribute(node, "owner").and_then(|value| self.find_domain(value));

        let most = config::MAX_VIRTUAL_FUNCTIONS as u64;
        match self.device_number(node, "vfs", most) {
            Some(count) => entry.vf_count = count,
            None => functions_known &= !node.has_attribute("vfs"),
        }
        for (name, field) in [
            ("vf_offset", &mut entry.vf_offset),
            ("vf_stride", &mut entry.vf_stride),
        ] {
            match self.device_number(node, name, 0xffff) {
                Some(number) => *field = number,
                None => functions_known &= !node.has_attribute(name),
            }
        }
        if entry.vf_count > 0
            && (entry.vf_offset == 0 || (entry.vf_stride == 0 && entry.vf_count > 1))
        {
            if functions_known {
                self.diagnostics.error(
                    node.range().start,
                    "virtual functions need vf_offset and vf_stride, both above 0: take them from the device's SR-IOV capability",
                );
            }
            functions_known = false;
        }
        if functions_known
            && entry.vf_count > 0
            && entry
                .vf_requester_id(usize::from(entry.vf_count) - 1)
                .is_none()
        {
            self.diagnostics.error(
                node.range().start,
                "the virtual functions lie beyond the last bus: correct vfs, vf_offset or vf_stride",
            );
            functions_known = false;
        }
        let bar_at = self.read_bars(node, &mut entry);
        let vf_bar_at = self.read_virtual_bars(node, &mut entry);
        self.read_virtual_functions(node, &mut entry);
        DeviceNotes {
            name: name.into(),
            at: node.range().start,
            manager,
            owner,
            entry,
            functions_known,
            bar_at,
            vf_bar_at,
            macs: Vec::new(),
        }
    }

    fn device_number(&mut self, node: Node<'_, '_>, name: &str, last: u64) -> Option<u16> {
        let value = attribute(node, name)?;
        let number = value.within(0..=last, &mut self.diagnostics)?;
        u16::try_from(number).ok()
    }

    fn read_bars(
        &mut self,
        node: Node<'_, '_>,
        entry: &mut config::Device,
    ) -> [usize; config::BAR_COUNT] {
        let mut places = [0; config::BAR_COUNT];
        for (bar, place) in places.iter_mut().enumerate() {
            let Some(value) = attribute(node, &format!("bar{bar}")) else {
                continue;
            };
            *place = value.at;
            let Some(address) = value.number(&mut self.diagnostics) else {
                continue;
            };
            if self.check_bar(value, address, PAGE, 1, 1 << 47) {
                entry.bars[bar].address = address;
            }
        }
        places
    }

    fn read_virtual_bars(
        &mut self,
        node: Node<'_, '_>,
        entry: &mut config::Device,
    ) -> [usize; config::BAR_COUNT] {
        let mut places = [0; config::BAR_COUNT];
        for (bar, place) in places.iter_mut().enumerate() {
            let address = attribute(node, &format!("vf_bar{bar}"));
            let size = attribute(node, &format!("vf_bar{bar}_size"));
            let (address, size) = match (address, size) {
                (Some(address), Some(size)) => (address, size),
                (None, None) => continue,
                (Some(one), None) | (None, Some(one)) => {
                    self.diagnostics.error(
                        one.at,
                        format!("vf_bar{bar} and vf_bar{bar}_size belong together: write both"),
                    );
                    continue;
                }
            };
            *place = address.at;
            let bytes = size.size(&mut self.diagnostics);
            let Some(start) = address.number(&mut self.diagnostics) else {
                continue;
            };
            let Some(bytes) = bytes else { continue };
            if !bytes.is_power_of_two() || !(PAGE..=1 << 30).contains(&bytes) {
                self.diagnostics.error(
                    size.at,
                    format!(
                        "vf_bar{bar}_size=\"{}\" cannot be: write a power of two from 0x1000 to 1G",
                        size.text
                    ),
                );
                continue;
            }
            let count = u64::from(entry.vf_count);
            if self.check_bar(address, start, bytes, count, VIRTUAL_BAR_END) {
                entry.vf_bars[bar] = BarPlacement {
                    address: start,
                    size: bytes,
                };
            }
        }
        places
    }

    /// Whether `count` windows of `size` bytes may start at `address`.
    fn check_bar(
        &mut self,
        value: Value<'_>,
        address: u64,
        size: u64,
        count: u64,
        limit: u64,
    ) -> bool {
        let end = size
            .checked_mul(count)
            .and_then(|length| address.checked_add(length));
        let problem = if address == 0 {
            "is no place for registers: write where they go, or remove it".into()
        } else if !address.is_multiple_of(size) {
            format!("is not a multiple of {size:#x}, as registers need")
        } else if end.is_none_or(|end| end > limit) {
            format!("leaves registers above {limit:#x}: write a lower address")
        } else if memory_ranges(self.system.machine_memory)
            .iter()
            .any(|range| address < range.end && end.is_some_and(|end| range.start < end))
        {
            "lies in the machine's memory: write a higher address".into()
        } else {
            return true;
        };
        self.diagnostics.error(
            value.at,
            format!("{}=\"{}\" {problem}", value.name, value.text),
        );
        false
    }

    fn read_virtual_functions(&mut self, node: Node<'_, '_>, entry: &mut config::Device) {
        let mut seen: HashMap<usize, usize> = HashMap::new();
        for child in children(node, "vf") {
            let mac = attribute(child, "mac").and_then(|value| value.mac(&mut self.diagnostics));
            let Some(value) = attribute(child, "index") else {
                continue;
            };
            if entry.vf_count == 0 {
                self.diagnostics.error(
                    value.at,
                    "the device has no virtual functions: write vfs=\"...\" into its <pci_device>",
                );
                continue;
            }
            let last = usize::from(entry.vf_count) - 1;
            let Some(index) = value.within(0..=last as u64, &mut self.diagnostics) else {
                continue;
            };
            let index = index as usize;
            if let Some(first) = seen.insert(index, value.at) {
                let line = self.diagnostics.line(first);
                self.diagnostics.error(
                    value.at,
                    format!(
                        "virtual function {index} is already described in line {line}: remove one"
                    ),
                );
            }
            if let (Some(place), Some(mac)) = (entry.vf_macs.get_mut(index), mac) {
                *place = mac;
            }
        }
    }

    /// Reports functions that two devices claim.
    fn check_functions(&mut self) {
        let mut seen: HashMap<RequesterId, usize> = HashMap::new();
        for device in self.devices.iter().filter(|device| device.functions_known) {
            let virtual_ids = (0..usize::from(device.entry.vf_count))
                .filter_map(|index| device.entry.vf_requester_id(index));
            let ids = std::iter::once(RequesterId(device.entry.requester_id)).chain(virtual_ids);
            for id in ids {
                if let Some(first) = seen.insert(id, device.at) {
                    let line = self.diagnostics.line(first);
                    self.diagnostics.error(
                        device.at,
                        format!(
                            "the function {id} of \"{}\" is also one of the device in line {line}: correct peripheral_id, vf_offset or vf_stride",
                            device.name
                        ),
                    );
                    break;
                }
            }
        }
    }

    /// Reports virtual functions with equal MAC addresses.
    fn check_macs(&mut self, nodes: &[Node<'_, '_>]) {
        let mut seen: HashMap<[u8; 6], usize> = HashMap::new();
        for (node, device) in nodes.iter().zip(&mut self.devices) {
            for child in children(*node, "vf") {
                let Some(value) = attribute(child, "mac") else {
                    continue;
                };
                let Some(mac) = number::mac(value.text) else {
                    continue;
                };
                if let Some(first) = seen.insert(mac, value.at) {
                    let line = self.diagnostics.line(first);
                    self.diagnostics.error(
                        value.at,
                        format!(
                            "the MAC address {} is already that of the virtual function in line {line}: each needs its own",
                            number::show_mac(mac)
                        ),
                    );
                }
                device.macs.push(mac);
            }
        }
    }

    /// Notes that frames with the address `mac` arrive at the device of
    /// `function`; reports addresses that it cannot tell apart any more.
    pub(super) fn add_mac(&mut self, function: PciFunction, mac: [u8; 6], at: usize) {
        let id = requester_id(function);
        let Some(device) = self.devices.iter_mut().find(|device| {
            device.entry.requester_id == id || virtual_index(&device.entry, id).is_some()
        }) else {
            return;
        };
        if device.macs.contains(&mac) {
            return;
        }
        device.macs.push(mac);
        if device.macs.len() > MOST_MAC_ADDRESSES {
            self.diagnostics.error(
                at,
                format!(
                    "\"{}\" would need to filter {} MAC addresses but has {MOST_MAC_ADDRESSES} filters: share an address",
                    device.name,
                    device.macs.len()
                ),
            );
        }
    }

    fn function_address(&mut self, value: Value<'_>) -> Option<PciFunction> {
        let read = number::pci_function(value.text);
        if read.is_none() {
            self.diagnostics.error(
                value.at,
                format!(
                    "{}=\"{}\" is not a PCI function: write bus:device.function like 00:03.0",
                    value.name, value.text
                ),
            );
        }
        read
    }

    /// The function that `value` names: `00:03.0`, `nic` or `nic.vf0`.
    pub(super) fn function(&mut self, value: Value<'_>) -> Option<PciFunction> {
        if let Some(function) = number::pci_function(value.text) {
            return Some(function);
        }
        if self.devices.is_empty() || value.text.contains(':') {
            return self.function_address(value);
        }
        let (device, rest) = self.device_reference(value)?;
        let known = self.devices[device].functions_known;
        let entry = self.devices[device].entry;
        let id = match rest {
            None => RequesterId(entry.requester_id),
            Some(rest) => match self.function_part(value, device, rest)? {
                Function::Physical => RequesterId(entry.requester_id),
                Function::Virtual(index) => entry.vf_requester_id(index)?,
                Function::AllVirtual => {
                    self.diagnostics.error(
                        value.at,
                        format!(
                            "\"{}\" names no single function: write {}.vf0 or another number",
                            value.text, self.devices[device].name
                        ),
                    );
                    return None;
                }
            },
        };
        known.then(|| model_function(id))
    }

    /// The MAC address that `value` states or names: `nic.vf0`.
    pub(super) fn mac(&mut self, value: Value<'_>) -> Option<[u8; 6]> {
        if value.text.contains(':') || self.devices.is_empty() {
            return value.mac(&mut self.diagnostics);
        }
        let (device, rest) = self.device_reference(value)?;
        let entry = self.devices[device].entry;
        if let Some(rest) = rest
            && let Function::Virtual(index) = self.function_part(value, device, rest)?
        {
            let mac = entry.vf_mac(index);
            if mac.is_none() {
                self.diagnostics.error(
                    value.at,
                    format!(
                        "virtual function {index} of \"{}\" has no MAC address: add <vf index=\"{index}\" mac=\"...\"/> to its <pci_device>",
                        self.devices[device].name
                    ),
                );
            }
            return mac;
        }
        self.diagnostics.error(
            value.at,
            format!(
                "\"{}\" names no virtual function: write {}.vf0 or a MAC address",
                value.text, self.devices[device].name
            ),
        );
        None
    }

    /// The physical address that `value` states or names: `nic.bar0`,
    /// `nic.vf0.bar0` or, for those of all virtual functions, `nic.vf.bar0`.
    pub(super) fn physical_address(
        &mut self,
        value: Value<'_>,
    ) -> Option<(u64, Option<BarReference>)> {
        let starts_with_digit = value.text.starts_with(|first: char| first.is_ascii_digit());
        if starts_with_digit || self.devices.is_empty() {
            return value
                .number(&mut self.diagnostics)
                .map(|address| (address, None));
        }
        let (device, rest) = self.device_reference(value)?;
        let name = self.devices[device].name.clone();
        let rest = rest.unwrap_or_default();
        let (function, bar) = match rest.split_once('.') {
            Some((function, bar)) => (self.function_part(value, device, function)?, bar),
            None => (Function::Physical, rest),
        };
        let number = bar
            .strip_prefix("bar")
            .and_then(number::number)
            .and_then(|number| usize::try_from(number).ok())
            .filter(|number| *number < config::BAR_COUNT);
        let Some(bar) = number else {
            self.diagnostics.error(
                value.at,
                format!(
                    "\"{}\" names no registers: write {name}.bar0, {name}.vf0.bar0 or {name}.vf.bar0",
                    value.text
                ),
            );
            return None;
        };
        let notes = &self.devices[device];
        let entry = &notes.entry;
        let (placement, written, attribute, size) = match function {
            Function::Physical => (Some(entry.bars[bar]), notes.bar_at[bar], "bar", None),
            Function::Virtual(index) => (
                entry.vf_bar(index, bar),
                notes.vf_bar_at[bar],
                "vf_bar",
                Some(entry.vf_bars[bar].size),
            ),
            Function::AllVirtual => (
                Some(entry.vf_bars[bar]),
                notes.vf_bar_at[bar],
                "vf_bar",
                entry.vf_bars[bar]
                    .size
                    .checked_mul(u64::from(entry.vf_count)),
            ),
        };
        match placement.filter(|placement| placement.address != 0) {
            Some(placement) => Some((
                placement.address,
                Some(BarReference {
                    device,
                    function,
                    bar,
                    size,
                }),
            )),
            None => {
                // Written but wrong is reported there.
                if written == 0 {
                    self.diagnostics.error(
                        value.at,
                        format!(
                            "it is not said where \"{}\" is: add {attribute}{bar}=\"...\" to the <pci_device> \"{name}\"",
                            value.text
                        ),
                    );
                }
                None
            }
        }
    }

    /// Splits a reference into its device and the rest behind the first dot.
    fn device_reference<'a>(&mut self, value: Value<'a>) -> Option<(usize, Option<&'a str>)> {
        let (name, rest) = match value.text.split_once('.') {
            Some((name, rest)) => (name, Some(rest)),
            None => (value.text, None),
        };
        let found = self
            .devices
            .iter()
            .position(|device| device.name == name && !name.is_empty());
        if found.is_none() {
            let names = self.devices.iter().map(|device| device.name.as_str());
            let hint = suggestion(name, names);
            self.diagnostics.error(
                value.at,
                format!(
                    "{}=\"{}\" names no PCI device{hint}",
                    value.name, value.text
                ),
            );
        }
        found.map(|index| (index, rest))
    }

    /// Reads `vf3` or `vf`.
    fn function_part(&mut self, value: Value<'_>, device: usize, part: &str) -> Option<Function> {
        let notes = &self.devices[device];
        let count = usize::from(notes.entry.vf_count);
        let number = part.strip_prefix("vf");
        match number {
            Some("") => return Some(Function::AllVirtual),
            Some(digits) if digits.chars().all(|digit| digit.is_ascii_digit()) => {
                match digits.parse::<usize>() {
                    Ok(index) if index < count => return Some(Function::Virtual(index)),
                    // What vfs says is wrong or missing is reported there.
                    _ if !notes.functions_known => return None,
                    _ => {}
                }
            }
            _ => {}
        }
        let name = &notes.name;
        let hint = match count {
            0 => {
                format!("\"{name}\" has no virtual functions, add vfs=\"...\" to its <pci_device>")
            }
            1 => format!("\"{name}\" has {name}.vf0"),
            _ => format!("\"{name}\" has {name}.vf0 to {name}.vf{}", count - 1),
        };
        self.diagnostics.error(
            value.at,
            format!("\"{}\" names no function: {hint}", value.text),
        );
        None
    }

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
            for irq in self
                .system
                .protection_domains
                .iter()
                .flat_map(|domain| &domain.irqs)
            {
                let IrqSource::Msi { function, handle } = irq.source else {
                    continue;
                };
                let id = requester_id(function);
                if id != device.entry.requester_id && virtual_index(&device.entry, id).is_none() {
                    continue;
                }
                let interrupt = Interrupt {
                    requester_id: id,
                    table_index: handle,
                    vector: u32::from(irq.vector),
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

/// The number of the virtual function `id` of a device, if it is one.
fn virtual_index(device: &config::Device, id: u16) -> Option<usize> {
    (0..usize::from(device.vf_count))
        .find(|&index| device.vf_requester_id(index) == Some(RequesterId(id)))
}

fn requester_id(function: PciFunction) -> u16 {
    u16::from(function.bus) << 8 | u16::from(function.device) << 3 | u16::from(function.function)
}

fn model_function(id: RequesterId) -> PciFunction {
    let address = id.address();
    PciFunction {
        bus: address.bus(),
        device: address.device(),
        function: address.function(),
    }
}
