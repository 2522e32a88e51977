//! A program for a protection domain that runs already, as a package to be sent to the machine.

use std::fmt::Write;
use std::path::Path;

use segue_updater_core::config::{Target, UpgradeTable};
use segue_upgrade_package::write::{self, Contents, PageContents};
use sha2::{Digest, Sha256};

use super::Problem;
use super::lower::{configure, read_program, symbol_tables, symbols_size};
use crate::model::{PdIndex, System, Updater};
use crate::program;

/// A package to be made.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Whose program it is.
    pub domain: PdIndex,
    /// The ELF file.
    pub program: &'a Path,
    /// What people call it.
    pub label: &'a str,
    /// Higher than that of each earlier package.
    pub serial: u64,
    /// The signer's private key.
    pub private_key: &'a [u8; 32],
}

/// Makes a signed package.
///
/// # Errors
///
/// Why the program cannot replace that of the protection domain.
pub fn package(system: &System, wanted: &Wanted<'_>) -> Result<Vec<u8>, Problem> {
    let domain = &system.protection_domains[wanted.domain.0];
    let sent = domain.images.iter().find(|image| image.program.is_none());
    let Some(sent) = sent else {
        return Err(Problem::new(format!(
            "\"{}\" has no place for a program that is sent: give it a <sent_image size=\"...\"/>",
            domain.name
        )));
    };
    let path = wanted.program.display();
    let of_program = |what: String| Problem::new(format!("the program {path} {what}"));
    let bytes = super::read(wanted.program)?;
    program::Program::read(&bytes).map_err(of_program)?;
    let mut new = super::program::Program::read(&bytes).map_err(of_program)?;
    // Of the programs in the image: it is in their regions that the new one will run.
    let programs: Result<Vec<_>, String> = system
        .protection_domains
        .iter()
        .map(|domain| read_program(&domain.program))
        .collect();
    let symbols_size = symbols_size(&symbol_tables(
        system,
        programs.map_err(Problem::new)?.iter(),
    ));
    if let Some(why) = configure(&mut new, domain, symbols_size).into_iter().next() {
        return Err(of_program(format!(
            "{why}: it is not one for \"{}\"",
            domain.name
        )));
    }
    let pages: Vec<PageContents> = new
        .pages()
        .into_iter()
        .map(|(address, page)| PageContents {
            address,
            is_writable: page.writable,
            bytes: page.bytes.map_or([0; _], |bytes| *bytes),
        })
        .collect();
    let contents = Contents {
        domain: &domain.name,
        label: wanted.label,
        entry: new.entry,
        built_for: built_for(system, wanted.domain, symbols_size),
        serial: wanted.serial,
        pages: &pages,
    };
    let mut package = write::package(&contents, sent.sent_size)
        .map_err(|error| Problem::new(format!("{path} makes no package: {error}")))?;
    write::sign(&mut package, wanted.private_key);
    Ok(package)
}

/// What the updater must know: whose programs it can take.
pub(super) fn table(system: &System, updater: &Updater, symbols_size: u64) -> UpgradeTable {
    let mut table = UpgradeTable {
        serial: updater.serial,
        public_key: updater.public_key,
        ..UpgradeTable::EMPTY
    };
    let domains = system.protection_domains.iter().enumerate();
    let targets = domains.filter_map(|(index, domain)| {
        let mut images = domain.images.iter();
        // The first image is not in the list, and there are two places, one after the other.
        let place = images.position(|image| image.program.is_none())?;
        let mut target = Target {
            built_for: built_for(system, PdIndex(index), symbols_size),
            place: domain.images[place].sent_size,
            index: index as u32,
            images: [place as u32 + 1, place as u32 + 2],
            ..Target::EMPTY
        };
        let name = domain.name.bytes();
        target
            .name
            .iter_mut()
            .zip(name)
            .for_each(|(to, from)| *to = from);
        Some(target)
    });
    // The front end allows no more of them than fit.
    for (place, target) in table.targets.iter_mut().zip(targets) {
        *place = target;
        table.count += 1;
    }
    table
}

/// SHA-256 of all that a program of the protection domain relies on: its maps, channels, interrupts, IO
/// ports and variables. A program that was configured for anything else must not run in its place.
pub(super) fn built_for(system: &System, index: PdIndex, symbols_size: u64) -> [u8; 32] {
    Sha256::digest(relied_on(system, index, symbols_size)).into()
}

/// The same as text: one line for each, in an order that does not depend on the description's.
fn relied_on(system: &System, index: PdIndex, symbols_size: u64) -> String {
    let domain = &system.protection_domains[index.0];
    let mut lines = Vec::new();
    for map in &domain.maps {
        let region = &system.regions[map.region.0];
        lines.push(format!(
            "map {} at {:#x}, {:#x} bytes in pages of {:#x}, writable {}, cached {}",
            region.name, map.address, region.size, region.page_size, map.writable, map.cached
        ));
    }
    let ends = system.channels.iter().flat_map(|channel| {
        let [first, second] = &channel.ends;
        [(first, second), (second, first)]
    });
    for (end, other) in ends.filter(|(end, _)| end.pd == index) {
        lines.push(format!(
            "channel {} to {}, notifies {} {}, calls {} {}",
            end.id,
            system.protection_domains[other.pd.0].name,
            end.notify,
            other.notify,
            end.protected_calls,
            other.protected_calls
        ));
    }
    lines.extend(
        domain
            .irqs
            .iter()
            .map(|irq| format!("interrupt {}", irq.id)),
    );
    lines.extend(
        domain
            .io_ports
            .iter()
            .map(|ports| format!("IO ports {}: {:#x}, {}", ports.id, ports.first, ports.count)),
    );
    lines.extend(domain.patches.iter().map(|patch| {
        let mut line = format!("variable {} ", patch.symbol);
        for byte in &patch.bytes {
            // Writing to a string does not fail.
            let _ = write!(line, "{byte:02x}");
        }
        line
    }));
    let sizes = domain.symbols_size_patches.iter();
    lines.extend(sizes.map(|symbol| format!("variable {symbol} is {symbols_size:#x}")));
    lines.sort();
    format!(
        "{}, {:#x} bytes of stack\n{}\n",
        domain.name,
        domain.stack_size,
        lines.join("\n")
    )
}
