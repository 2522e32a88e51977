//! References to devices in the rest of a description: `nic.vf0`, `nic.bar0`.

use segue_pci_driver::address::RequesterId;
use segue_pci_driver::config;

use super::Draft;
use super::devices::model_function;
use super::value::Value;
use crate::diagnostics::suggestion;
use crate::model::PciFunction;
use crate::number;

/// A register window of a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct BarReference {
    /// The device.
    pub(super) device: usize,
    /// Whose it is.
    pub(super) function: Function,
    /// The BAR's number.
    pub(super) bar: usize,
    /// Bytes the window has; unknown for the physical function's.
    pub(super) size: Option<u64>,
}

/// A device's function, as a reference in the description names it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Physical,
    /// One virtual function.
    Virtual(usize),
    /// All virtual functions.
    AllVirtual,
}

impl Draft<'_, '_> {
    pub(super) fn function_address(&mut self, value: Value<'_>) -> Option<PciFunction> {
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
}
