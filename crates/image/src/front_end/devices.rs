//! PCI devices: where their registers go, and their virtual functions.

use std::collections::HashMap;

use roxmltree::Node;
use segue_pci_driver::address::RequesterId;
use segue_pci_driver::config::{self, BarPlacement};

use super::Draft;
use super::layout::PAGE;
use super::regions::{KERNEL_PAGES, memory_ranges};
use super::value::{Value, attribute, children};
use crate::model::PciFunction;
use crate::number;

/// One past the highest address of a virtual function's registers. QEMU's
/// emulation drops the upper half of a 64-bit address there.
const VIRTUAL_BAR_END: u64 = 1 << 32;

/// What the passes know of a device.
pub(super) struct DeviceNotes {
    pub(super) name: String,
    pub(super) at: usize,
    pub(super) manager: Option<usize>,
    pub(super) owner: Option<usize>,
    /// What the drivers' table will say.
    pub(super) entry: config::Device,
    /// Whether function addresses computed from `entry` are right.
    pub(super) functions_known: bool,
    /// Where each BAR's address is stated.
    pub(super) bar_at: [usize; config::BAR_COUNT],
    /// Where each virtual BAR's address is stated.
    pub(super) vf_bar_at: [usize; config::BAR_COUNT],
    /// Frames to these addresses go to these virtual functions, besides those to a
    /// function's own.
    pub(super) filters: Vec<([u8; 6], usize)>,
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
            filters: Vec::new(),
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
        } else if let Some((page, what)) = KERNEL_PAGES
            .iter()
            // The size of a physical function's registers is not known.
            .find(|(page, _)| {
                address < page + PAGE && end.is_some_and(|end| *page < end.max(address + PAGE))
            })
        {
            format!("lies over {what} at {page:#x}: write another address")
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
        for node in nodes {
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
            }
        }
    }
}

/// The number of the virtual function `id` of a device, if it is one.
pub(super) fn virtual_index(device: &config::Device, id: u16) -> Option<usize> {
    (0..usize::from(device.vf_count))
        .find(|&index| device.vf_requester_id(index) == Some(RequesterId(id)))
}

pub(super) fn requester_id(function: PciFunction) -> u16 {
    u16::from(function.bus) << 8 | u16::from(function.device) << 3 | u16::from(function.function)
}

pub(super) fn model_function(id: RequesterId) -> PciFunction {
    let address = id.address();
    PciFunction {
        bus: address.bus(),
        device: address.device(),
        function: address.function(),
    }
}
