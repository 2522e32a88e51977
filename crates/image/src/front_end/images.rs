//! Images of protection domains besides their first ones, and who may order them.

use roxmltree::Node;
use segue_status::orders::{ImageEntry, ImageTable, MAXIMUM_IMAGES, REGION_SIZE};
use segue_system_image::format::{LARGEST_SENT_IMAGE, limits};
use zerocopy::IntoBytes;

use super::Draft;
use super::layout::{PAGE, generated_address};
use super::patches::Reason;
use super::value::{attribute, children};
use crate::model::{Contents, Image, Map, PdIndex};
use crate::program::Program;

/// Longest name of an image; a byte stays free.
const NAME_LENGTH: usize = 31;
/// Names of the images that are sent to the machine. There are two places, so that one is free while the
/// program in the other runs, and that is there again if the new one does not work.
const SENT: [&str; 2] = ["sent", "sent-2"];

/// Where an image and what it is called stand.
fn image_name(node: Node<'_, '_>, path: &str) -> String {
    match attribute(node, "name") {
        Some(name) => name.text.into(),
        None => {
            let file = path.rsplit('/').next().unwrap_or(path);
            file.chars().take(NAME_LENGTH).collect()
        }
    }
}

impl Draft<'_, '_> {
    /// Reads the images of a protection domain: the names of all of them, and the programs of those
    /// besides the first.
    pub(super) fn read_images(&mut self, domain: usize, node: Node<'_, '_>) {
        let mut names: Vec<String> = Vec::new();
        let first = children(node, "program_image").next();
        if let Some(first) = first
            && let Some(path) = attribute(first, "path")
        {
            names.push(image_name(first, path.text));
            self.system.protection_domains[domain].image_name = image_name(first, path.text);
        }
        for image in children(node, "alternative_image") {
            let Some(path) = attribute(image, "path") else {
                continue;
            };
            let name = image_name(image, path.text);
            let at = attribute(image, "name").map_or(path.at, |name| name.at);
            if name.is_empty() || name.len() > NAME_LENGTH || name.contains(char::is_whitespace) {
                self.diagnostics.error(
                    at,
                    format!("\"{name}\" cannot be the name of an image: write 1 to {NAME_LENGTH} bytes without blanks"),
                );
            }
            if SENT.contains(&name.as_str()) || names.contains(&name) {
                self.diagnostics.error(
                    at,
                    format!("another image of this protection domain is called \"{name}\": add name=\"...\""),
                );
            }
            names.push(name.clone());
            match self.files.program(path.text) {
                Err(why) => self.diagnostics.error(
                    path.at,
                    format!(
                        "the program \"{}\" {why}: build it, or correct the path",
                        path.text
                    ),
                ),
                Ok((place, bytes)) => match Program::read(&bytes) {
                    Err(why) => self
                        .diagnostics
                        .error(path.at, format!("the program \"{}\" {why}", path.text)),
                    Ok(_) => self.system.protection_domains[domain].images.push(Image {
                        name,
                        program: Some(place),
                        sent_size: 0,
                    }),
                },
            }
        }
        let mut sent = children(node, "sent_image");
        if let Some(image) = sent.next()
            && let Some(value) = attribute(image, "size")
            && let Some(size) = value.size(&mut self.diagnostics)
        {
            if size == 0 || !size.is_multiple_of(PAGE) || size > LARGEST_SENT_IMAGE {
                self.diagnostics.error(
                    value.at,
                    format!(
                        "size=\"{}\" cannot be: write a multiple of 0x1000 up to {LARGEST_SENT_IMAGE:#x}",
                        value.text
                    ),
                );
            }
            for name in SENT {
                self.system.protection_domains[domain].images.push(Image {
                    name: name.into(),
                    program: None,
                    sent_size: size,
                });
            }
        }
        if let Some(second) = sent.next() {
            self.diagnostics.error(
                second.range().start,
                "a protection domain has room for one image that is sent: remove this <sent_image>",
            );
        }
    }

    /// Gives the console the means to order other images, if there are any.
    pub(super) fn expand_images(&mut self) {
        let domains = &self.system.protection_domains;
        let count: usize = domains.iter().map(|domain| domain.images.len()).sum();
        if count == 0 {
            return;
        }
        if count > limits::IMAGES {
            self.diagnostics.error(
                self.machine_at,
                format!(
                    "too many images: {} are possible besides the first ones",
                    limits::IMAGES
                ),
            );
        }
        let images = domains.iter().flat_map(|domain| &domain.images);
        let sent = images.filter(|image| image.program.is_none()).count();
        if sent > limits::SENT_IMAGES {
            self.diagnostics.error(
                self.machine_at,
                format!(
                    "too many <sent_image>: {} are possible",
                    limits::SENT_IMAGES / SENT.len()
                ),
            );
        }
        let grantees = self
            .system
            .grants
            .iter()
            .flat_map(|grants| &grants.grantees);
        for grantee in grantees {
            let index = grantee.pd.0;
            if !self.system.protection_domains[index].images.is_empty() {
                let name = &self.system.protection_domains[index].name;
                self.diagnostics.error(
                    self.domains[index].at,
                    format!("\"{name}\" can be switched to direct mode, and only what cannot has other images: remove one of both"),
                );
            }
        }
        let Some(console) = self.console_domain else {
            return;
        };
        let at = self.domains[console].at;
        let reason = |declare| Reason::Table {
            element: "alternative_image",
            declare,
        };
        let table = self.image_table();
        let declare = "images: ImageTable = ImageTable::EMPTY";
        if self.patch(
            console,
            at,
            "images",
            table.as_bytes().to_vec(),
            reason(declare),
        ) {
            self.add_orderer(console, "alternative_image", at);
        }
    }

    /// Gives a protection domain a region of orders and the right to tell `init` of them.
    pub(super) fn add_orderer(&mut self, domain: usize, element: &'static str, at: usize) {
        let size = REGION_SIZE as u64;
        let name = format!("orders.{}", self.domain_name(domain));
        let Some(address) = generated_address(&[&self.domains[domain].spans], size) else {
            self.diagnostics.error(
                at,
                format!("no address below 2^39 is free for \"{name}\": map less there"),
            );
            return;
        };
        let Some(region) = self.generated_region(name.clone(), size, at) else {
            return;
        };
        self.system.regions[region.0].contents = Contents::Orders;
        self.domains[domain]
            .spans
            .insert(address..address + size, &name, Some(at));
        self.system.protection_domains[domain].maps.push(Map {
            region,
            address,
            writable: true,
            cached: true,
        });
        self.system.orderers.push(PdIndex(domain));
        let number = self.system.orderers.len() as u64 - 1;
        for (symbol, value, declare) in [
            ("init_orders", address, "init_orders: u64 = 0"),
            ("init_orderer", number, "init_orderer: u64 = 0"),
        ] {
            let reason = Reason::Table { element, declare };
            self.patch(domain, at, symbol, value.to_le_bytes().to_vec(), reason);
        }
    }

    /// All images of those who have several.
    pub(super) fn image_table(&self) -> ImageTable {
        let mut table = ImageTable::EMPTY;
        let domains = self.system.protection_domains.iter().enumerate();
        for (index, domain) in domains.filter(|(_, domain)| !domain.images.is_empty()) {
            let names = domain.images.iter().map(|image| &image.name);
            for (image, name) in std::iter::once(&domain.image_name).chain(names).enumerate() {
                if table.count as usize >= MAXIMUM_IMAGES {
                    return table;
                }
                let entry: &mut ImageEntry = &mut table.entries[table.count as usize];
                for (to, from) in entry.name[..NAME_LENGTH].iter_mut().zip(name.bytes()) {
                    *to = from;
                }
                for (to, from) in entry.domain_name[..63].iter_mut().zip(domain.name.bytes()) {
                    *to = from;
                }
                (entry.domain, entry.image) = (index as u32, image as u32);
                table.count += 1;
            }
        }
        table
    }
}
