//! Which protection domains are started again after a fault.

use std::ops::RangeInclusive;

use roxmltree::Node;

use super::Draft;
use super::value::attribute;
use crate::model::{PdIndex, Restart};

/// Restarts in a row, unless the description says how many.
const DEFAULT_LIMIT: u32 = 5;
const LIMITS: RangeInclusive<u32> = 1..=1000;
/// Milliseconds until the first, unless the description says how many.
const DEFAULT_BACKOFF: u32 = 10;
const BACKOFFS: RangeInclusive<u32> = 0..=60_000;

impl Draft<'_, '_> {
    /// The policy that a protection domain states.
    pub(super) fn read_restart(&mut self, node: Node<'_, '_>) -> Option<Restart> {
        let policy = attribute(node, "restart")
            .and_then(|value| value.word(&["never", "on_fault"], &mut self.diagnostics));
        if policy != Some(1) {
            for name in ["restart_limit", "restart_backoff_ms"] {
                if let Some(value) = attribute(node, name) {
                    self.diagnostics.error(
                        value.at,
                        format!("{name} means nothing without restart=\"on_fault\": remove it, or add that"),
                    );
                }
            }
            return None;
        }
        let mut number = |name, range, default| match attribute(node, name) {
            Some(value) => value.within(range, &mut self.diagnostics),
            None => Some(default),
        };
        Some(Restart {
            limit: number("restart_limit", LIMITS, DEFAULT_LIMIT)?,
            backoff: number("restart_backoff_ms", BACKOFFS, DEFAULT_BACKOFF)?,
        })
    }

    /// Refuses to restart what cannot be restarted yet. To be called when all
    /// channels are there.
    pub(super) fn check_restarts(&mut self) {
        for index in 0..self.system.protection_domains.len() {
            if self.system.protection_domains[index].restart.is_none() {
                continue;
            }
            let Some(why) = self.why_not_restarted(PdIndex(index)) else {
                continue;
            };
            let name = self.domain_name(index).to_string();
            self.diagnostics.error(
                self.domains[index].restart_at,
                format!(
                    "restart=\"on_fault\": \"{name}\" {why}, and only what has no device and serves no calls can be restarted yet: remove it"
                ),
            );
        }
    }

    fn why_not_restarted(&self, index: PdIndex) -> Option<&'static str> {
        let system = &self.system;
        let domain = &system.protection_domains[index.0];
        let is_served = |first: usize| {
            let channel = |ends: &[crate::model::ChannelEnd; 2]| {
                ends[first].protected_calls && ends[1 - first].pd == index
            };
            system.channels.iter().any(|both| channel(&both.ends))
        };
        let has_device = domain.maps.iter().any(|map| {
            let notes = &self.regions[map.region.0];
            system.regions[map.region.0].physical_address.is_some() || notes.bar.is_some()
        });
        let has_dma = domain.maps.iter().any(|map| {
            let mut io_maps = system
                .io_address_spaces
                .iter()
                .flat_map(|space| &space.maps);
            io_maps.any(|io_map| io_map.region == map.region && io_map.writable)
        });
        let is_of_device =
            (system.devices.iter()).any(|device| device.manager == index || device.owner == index);
        if is_served(0) || is_served(1) {
            Some("answers protected calls")
        } else if !domain.irqs.is_empty() {
            Some("handles interrupts")
        } else if !domain.io_ports.is_empty() {
            Some("has IO ports")
        } else if has_device || is_of_device {
            Some("has a device")
        } else if has_dma {
            Some("has memory that a device writes")
        } else if system.console == Some(index) {
            Some("is the console")
        } else {
            None
        }
    }
}
