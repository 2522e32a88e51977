//! The updater: takes programs that are sent to the machine, and has init run them.

use roxmltree::Node;
use segue_updater_core::config::{MAXIMUM_TARGETS, SERIALS_SIZE, UpgradeTable};
use segue_upgrade_package::{is_usable_key, largest_package};

use super::Draft;
use super::layout::{PAGE, generated_address};
use super::patches::Reason;
use super::value::{Value, attribute};
use crate::model::{Contents, Map, PdIndex, Updater};
use crate::number::hexadecimal_bytes;

const _: () = assert!(MAXIMUM_TARGETS + 1 >= super::MOST_PROTECTION_DOMAINS);

impl Draft<'_, '_> {
    pub(super) fn expand_updater(&mut self, nodes: &[Node<'_, '_>]) {
        self.at_most_one(nodes);
        let Some(&node) = nodes.first() else { return };
        let at = node.range().start;
        let pd = attribute(node, "pd").and_then(|value| self.find_domain(value));
        let public_key = attribute(node, "public_key").and_then(|value| self.public_key(value));
        let serial = match attribute(node, "serial") {
            Some(value) => value.number(&mut self.diagnostics),
            None => Some(0),
        };
        let (Some(pd), Some(public_key), Some(serial)) = (pd, public_key, serial) else {
            return;
        };
        let name = self.domain_name(pd).to_string();
        let domains = self.system.protection_domains.iter();
        let sizes = domains.map(|domain| domain.images.iter().map(|image| image.sent_size).max());
        let sizes: Vec<u64> = sizes.map(Option::unwrap_or_default).collect();
        if sizes[pd] > 0 {
            self.diagnostics.error(
                self.domains[pd].at,
                format!("\"{name}\" is the updater, which cannot replace itself: remove its <sent_image>"),
            );
        }
        let largest = sizes.iter().max().copied().unwrap_or_default();
        if largest == 0 {
            self.diagnostics.error(
                at,
                "nobody can be sent a program: give a protection domain a <sent_image size=\"...\"/>",
            );
            return;
        }
        let staging_size = largest_package(largest).next_multiple_of(PAGE);
        for (region, size, contents, variables) in [
            (
                "staging",
                staging_size,
                Contents::Staging,
                &["staging", "staging_size"][..],
            ),
            // What must outlive the updater.
            (
                "serials",
                SERIALS_SIZE as u64,
                Contents::Zero,
                &["serials"][..],
            ),
        ] {
            let region = format!("{name}.{region}");
            let Some(address) = self.region_of_updater(pd, &region, size, contents, at) else {
                return;
            };
            for (symbol, value) in variables.iter().zip([address, size]) {
                let reason = Reason::Table {
                    element: "updater",
                    declare: "staging, staging_size and serials, all u64 = 0,",
                };
                self.patch(pd, at, symbol, value.to_le_bytes().to_vec(), reason);
            }
        }
        self.add_orderer(pd, "updater", at);
        // The back end sets it, when all variables are known.
        let reason = Reason::Table {
            element: "updater",
            declare: "upgrades: UpgradeTable = UpgradeTable::EMPTY",
        };
        if self.check_symbol(pd, at, "upgrades", size_of::<UpgradeTable>(), reason) {
            self.system.updater = Some(Updater {
                pd: PdIndex(pd),
                public_key,
                serial,
            });
        }
    }

    /// A region that the updater alone maps; its address.
    fn region_of_updater(
        &mut self,
        pd: usize,
        name: &str,
        size: u64,
        contents: Contents,
        at: usize,
    ) -> Option<u64> {
        let Some(address) = generated_address(&[&self.domains[pd].spans], size) else {
            self.diagnostics.error(
                at,
                format!("no address below 2^39 is free for \"{name}\": map less there"),
            );
            return None;
        };
        let region = self.generated_region(name.into(), size, at)?;
        self.system.regions[region.0].contents = contents;
        self.domains[pd]
            .spans
            .insert(address..address + size, name, Some(at));
        self.system.protection_domains[pd].maps.push(Map {
            region,
            address,
            writable: true,
            cached: true,
        });
        Some(address)
    }

    /// A public key: 64 hexadecimal digits, or a file that holds them.
    fn public_key(&mut self, value: Value<'_>) -> Option<[u8; 32]> {
        let found = match hexadecimal_bytes(value.text) {
            Some(key) => Ok(key),
            None => match self.files.file(value.text) {
                Ok(bytes) => std::str::from_utf8(&bytes)
                    .ok()
                    .and_then(|text| hexadecimal_bytes(text.trim()))
                    .ok_or("does not hold 64 hexadecimal digits, and nothing else".to_string()),
                Err(why) => Err(format!("{why}; a key has 64 hexadecimal digits")),
            },
        };
        let found = found.and_then(|key| match is_usable_key(&key) {
            true => Ok(key),
            false => Err("is not a public key of Ed25519: write that of a pair of keys".into()),
        });
        match found {
            Ok(key) => Some(key),
            Err(why) => {
                self.diagnostics
                    .error(value.at, format!("public_key=\"{}\" {why}", value.text));
                None
            }
        }
    }
}
