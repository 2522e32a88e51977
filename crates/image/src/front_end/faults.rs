//! Fault injection: what lets the console tell each protection domain to fail.

use roxmltree::Node;
use segue_fault_points::config::{FaultTable, FaultyDomain, Injection, MAXIMUM_DOMAINS};
use segue_fault_points::{ORDERS_SIZE, PAGE_SIZE};
use zerocopy::IntoBytes;

use super::Draft;
use super::layout::{PAGE, generated_address};
use super::patches::Reason;
use crate::model::Map;

const _: () = assert!(MAXIMUM_DOMAINS >= super::MOST_PROTECTION_DOMAINS);
const _: () = assert!((ORDERS_SIZE as u64).is_multiple_of(PAGE));
const _: () = assert!((PAGE_SIZE as u64).is_multiple_of(PAGE));

/// The region of the orders, which the console writes and all others read.
const ORDERS: &str = "faults.orders";

impl Draft<'_, '_> {
    /// Expands `<fault_injection>`. The console is known.
    pub(super) fn expand_fault_injection(&mut self, nodes: &[Node<'_, '_>]) {
        self.at_most_one(nodes);
        let Some(&node) = nodes.first() else { return };
        let at = node.range().start;
        let Some(console) = self.console_domain else {
            // One that is described but does not exist has been reported.
            if !self.has_console {
                self.diagnostics.error(
                    at,
                    "<fault_injection> needs somebody who is told what to break: describe one with <console>",
                );
            }
            return;
        };
        // What is missing has been reported.
        let _ = self.make_fault_regions(console, at);
    }

    fn make_fault_regions(&mut self, console: usize, at: usize) -> Option<()> {
        let all: Vec<usize> = (0..self.domains.len()).collect();
        let orders = self.fault_region(ORDERS, ORDERS_SIZE as u64, console, &all, at)?;
        let mut table = FaultTable::EMPTY;
        table.orders = orders;
        for domain in all {
            let name = self.domain_name(domain).to_string();
            let region = format!("faults.{name}");
            let page = self.fault_region(&region, PAGE_SIZE as u64, domain, &[console], at)?;
            let told = Injection {
                orders,
                place: domain as u64,
                page,
            };
            let bytes = told.as_bytes().to_vec();
            self.patch(domain, at, "fault_injection", bytes, Reason::FaultInjection);
            // More protection domains than fit have been reported.
            if let Some(place) = table.domains.get_mut(domain) {
                *place = FaultyDomain::new(&name, page);
                table.count += 1;
            }
        }
        let bytes = table.as_bytes().to_vec();
        self.patch(console, at, "faulty_domains", bytes, Reason::FaultInjection);
        Some(())
    }

    /// Makes a region that `writer` writes and the others read, all at one address.
    fn fault_region(
        &mut self,
        name: &str,
        size: u64,
        writer: usize,
        readers: &[usize],
        at: usize,
    ) -> Option<u64> {
        let readers = readers.iter().copied().filter(|reader| *reader != writer);
        let users: Vec<usize> = std::iter::once(writer).chain(readers).collect();
        let spaces: Vec<_> = users
            .iter()
            .map(|user| &self.domains[*user].spans)
            .collect();
        let Some(address) = generated_address(&spaces, size) else {
            self.diagnostics.error(
                at,
                format!("no address below 2^39 is free for \"{name}\": map less there"),
            );
            return None;
        };
        let region = self.generated_region(name.into(), size, at)?;
        self.system.fault_regions.push(region);
        for user in users {
            self.domains[user]
                .spans
                .insert(address..address + size, name, Some(at));
            self.system.protection_domains[user].maps.push(Map {
                region,
                address,
                writable: user == writer,
                cached: true,
            });
        }
        Some(address)
    }
}
