//! The console: every other protection domain gets a log ring that the console
//! reads, and a channel to wake it.

use roxmltree::Node;
use segue_log_ring::REGION_SIZE;
use segue_log_ring::config::{CONSOLE_MEMORY_SIZE, MAXIMUM_RINGS, Ring, RingTable};
use zerocopy::IntoBytes;

use super::Draft;
use super::domains::LAST_ID;
use super::layout::{PAGE, generated_address};
use super::patches::Reason;
use super::value::attribute;
use crate::model::{Channel, ChannelEnd, LogRing, Map, PdIndex, RegionIndex};

const _: () = assert!(MAXIMUM_RINGS + 1 >= super::MOST_PROTECTION_DOMAINS);
const _: () = assert!((REGION_SIZE as u64).is_multiple_of(PAGE));
const _: () = assert!((CONSOLE_MEMORY_SIZE as u64).is_multiple_of(PAGE));

impl Draft<'_, '_> {
    pub(super) fn expand_console(&mut self, nodes: &[Node<'_, '_>]) {
        self.at_most_one(nodes);
        let Some(&node) = nodes.first() else { return };
        let at = node.range().start;
        let Some(console) = attribute(node, "pd").and_then(|value| self.find_domain(value)) else {
            return;
        };
        self.system.console = Some(PdIndex(console));
        let mut table = RingTable::EMPTY;
        let size = CONSOLE_MEMORY_SIZE as u64;
        table.memory = match self.console_region("console.memory", size, &[(console, true)], at) {
            Some((_, address)) => address,
            None => return,
        };
        for domain in 0..self.domains.len() {
            if domain == console {
                continue;
            }
            let Some(ring) = self.log_ring(console, domain, at) else {
                continue;
            };
            // More protection domains than fit have been reported.
            if let Some(place) = table.rings.get_mut(table.count as usize) {
                *place = ring;
                table.count += 1;
            }
        }
        let reason = Reason::Table {
            element: "console",
            declare: "log_rings: RingTable = RingTable::EMPTY",
        };
        let bytes = table.as_bytes().to_vec();
        self.patch(console, at, "log_rings", bytes, reason);
    }

    /// Makes the log ring of `domain`.
    fn log_ring(&mut self, console: usize, domain: usize, at: usize) -> Option<Ring> {
        let size = REGION_SIZE as u64;
        let pd_name = self.domain_name(domain).to_string();
        let users = [(domain, true), (console, false)];
        let (region, address) = self.console_region(&format!("log.{pd_name}"), size, &users, at)?;
        // One way: the console never signals, and all rings share its bit.
        let end = |pd: usize, notify: bool| ChannelEnd {
            pd: PdIndex(pd),
            id: LAST_ID,
            protected_calls: false,
            notify,
        };
        let channel = self.system.channels.len();
        self.system.channels.push(Channel {
            ends: [end(domain, true), end(console, false)],
        });
        self.system.log_rings.push(LogRing {
            pd: PdIndex(domain),
            region,
            channel,
        });
        self.patch(
            domain,
            at,
            "log_ring",
            address.to_le_bytes().to_vec(),
            Reason::Table {
                element: "console",
                declare: "log_ring: u64 = 0",
            },
        );
        Some(Ring::new(&pd_name, address, size))
    }

    /// Makes a region that lies at the same address in all its users, some of whom may write.
    fn console_region(
        &mut self,
        name: &str,
        size: u64,
        users: &[(usize, bool)],
        at: usize,
    ) -> Option<(RegionIndex, u64)> {
        let spaces: Vec<_> = users
            .iter()
            .map(|(user, _)| &self.domains[*user].spans)
            .collect();
        let Some(address) = generated_address(&spaces, size) else {
            self.diagnostics.error(
                at,
                format!("no address below 2^39 is free for \"{name}\": map less there"),
            );
            return None;
        };
        let region = self.generated_region(name.to_string(), size, at)?;
        for &(user, writable) in users {
            self.domains[user]
                .spans
                .insert(address..address + size, name, Some(at));
            self.system.protection_domains[user].maps.push(Map {
                region,
                address,
                writable,
                cached: true,
            });
        }
        Some((region, address))
    }
}
