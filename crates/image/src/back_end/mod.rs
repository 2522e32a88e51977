//! From the checked model to the boot image.
//!
//! - `program`: an ELF file becomes a flat list of pages; configuration is
//!   written over its symbols.
//! - `lower`: the model becomes the tables of `segue_system_image`: every
//!   capability, page, page table and untyped that `init` is to make.
//! - `package`: a program by itself, to be sent to a machine that runs.
//! - `capacity`: whether the machine described can hold it.
//! - `root_image`: `init` and the payload become one ELF file, which the
//!   kernel starts.

mod capacity;
mod lower;
pub mod package;
mod program;
mod root_image;

pub(crate) use lower::io_tables;

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use segue_system_image::Payload;
use segue_system_image::format::{capability_kind, rights};

use crate::model::System;

/// What is wrong with a system as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A sentence that says what is wrong and what to do.
    pub message: String,
}

impl Problem {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// A boot image, ready to be written.
#[derive(Clone, Debug)]
pub struct BootImage {
    /// The ELF file that the kernel starts.
    pub bytes: Vec<u8>,
    /// What is in it.
    pub summary: ImageSummary,
}

/// What a boot image holds and takes.
#[derive(Clone, Debug)]
pub struct ImageSummary {
    /// Bytes of the boot image.
    pub image_bytes: u64,
    /// Bytes of the symbol tables in it.
    pub symbols_bytes: u64,
    /// Bytes of memory for all objects and regions.
    pub memory_needed: u64,
    /// Bytes of memory that the machine has for them.
    pub memory_available: u64,
    /// Capability slots in `init`'s CNode that are used, at most.
    pub slots_needed: u64,
    /// Capability slots in `init`'s CNode.
    pub slots_available: u64,
    /// Each protection domain, in the order of the model.
    pub protection_domains: Vec<DomainSummary>,
}

/// What a boot image holds for a protection domain.
#[derive(Clone, Debug)]
pub struct DomainSummary {
    /// Its name.
    pub name: String,
    /// Pages of its program that are mapped from the image, read-only.
    pub pages_in_place: u64,
    /// Pages of its program that are copied from the image.
    pub pages_copied: u64,
    /// Bytes of zero pages: bss, stack, IPC buffer.
    pub zero_bytes: u64,
    /// Bytes of memory of its own, kernel objects included.
    pub memory: u64,
    /// Every capability in its CSpace.
    pub capabilities: Vec<CapabilityLine>,
}

/// A capability, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapabilityLine {
    /// Its slot.
    pub slot: u16,
    /// What it is to.
    pub what: String,
    /// Its rights, such as "write, grant".
    pub rights: String,
    /// Its badge, zero for none.
    pub badge: u64,
}

/// Builds the boot image of `system`, whose root task is the ELF file `init`.
pub fn build(system: &System, init: &Path) -> Result<BootImage, Vec<Problem>> {
    let init_file = read(init).map_err(|problem| vec![problem])?;
    let lowered = lower::lower(system)?;
    let payload_bytes = lowered.tables.finish();
    // `Payload::read` wants alignment, which a Vec of bytes need not have.
    let aligned = Aligned::new(&payload_bytes);
    let payload = Payload::read(aligned.bytes()).map_err(|error| {
        vec![Problem::new(format!(
            "the image builder has made an image that init would refuse: {error}"
        ))]
    })?;
    let bytes = root_image::write(&init_file, &payload_bytes)
        .map_err(|problem| vec![Problem::new(format!("{}: {problem}", init.display()))])?;
    let capacity = capacity::check(system, &payload, &bytes)?;
    let summary = ImageSummary {
        image_bytes: bytes.len() as u64,
        symbols_bytes: lowered.symbols_bytes,
        memory_needed: capacity.memory_needed,
        memory_available: capacity.memory_available,
        slots_needed: capacity.slots_needed,
        slots_available: capacity.slots_available,
        protection_domains: summarise(system, &payload),
    };
    Ok(BootImage { bytes, summary })
}

/// Writes a file as a whole or not at all: under another name, then renamed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // What is left of the attempt is of no use; the first error counts.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    fs::read(path)
        .map_err(|error| Problem::new(format!("{} cannot be read: {error}", path.display())))
}

/// A copy of bytes that is aligned to 8.
struct Aligned {
    words: Vec<u64>,
    length: usize,
}

impl Aligned {
    fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        zerocopy::IntoBytes::as_mut_bytes(&mut words[..])[..bytes.len()].copy_from_slice(bytes);
        Self {
            words,
            length: bytes.len(),
        }
    }

    fn bytes(&self) -> &[u8] {
        &zerocopy::IntoBytes::as_bytes(&self.words[..])[..self.length]
    }
}

fn summarise(system: &System, payload: &Payload) -> Vec<DomainSummary> {
    use segue_system_image::format::run_kind;
    use segue_system_image::resources;

    let name = |index: u32| {
        system
            .protection_domains
            .get(index as usize)
            .map_or("?", |domain| domain.name.as_str())
    };
    payload
        .protection_domains
        .iter()
        .zip(&system.protection_domains)
        .map(|(record, domain)| {
            let runs = Payload::slice(payload.runs, record.runs);
            let pages = |kind: u8| {
                let runs = runs.iter().filter(|run| run.kind == kind);
                runs.map(|run| u64::from(run.pages) << run.page_bits)
                    .sum::<u64>()
            };
            let capabilities = Payload::slice(payload.capabilities, record.capabilities);
            DomainSummary {
                name: domain.name.clone(),
                pages_in_place: pages(run_kind::IN_PLACE) >> 12,
                pages_copied: pages(run_kind::COPIED) >> 12,
                zero_bytes: pages(run_kind::ZERO),
                memory: resources::domain_bytes(runs, record.paging.count as usize),
                capabilities: capabilities
                    .iter()
                    .map(|capability| CapabilityLine {
                        slot: capability.slot,
                        what: match capability.kind {
                            capability_kind::NOTIFICATION => {
                                format!("notification of {}", name(capability.object))
                            }
                            capability_kind::ENDPOINT => {
                                format!("endpoint of {}", name(capability.object))
                            }
                            capability_kind::FAULT_ENDPOINT => "fault endpoint of init".into(),
                            capability_kind::VSPACE => "its own VSpace".into(),
                            capability_kind::INIT => "notification of init, for orders".into(),
                            capability_kind::IRQ_HANDLER => {
                                let vector = payload
                                    .irqs
                                    .get(capability.object as usize)
                                    .map_or(0, |irq| irq.vector);
                                format!("interrupt handler of vector {vector}")
                            }
                            _ => payload.ports.get(capability.object as usize).map_or_else(
                                || "?".into(),
                                |ports| format!("IO ports {:#x}-{:#x}", ports.first, ports.last),
                            ),
                        },
                        rights: rights_text(capability.rights),
                        badge: capability.badge,
                    })
                    .collect(),
            }
        })
        .collect()
}

fn rights_text(bits: u8) -> String {
    let names = [
        (rights::READ, "read"),
        (rights::WRITE, "write"),
        (rights::GRANT, "grant"),
    ];
    let named = names
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, name)| *name);
    named.collect::<Vec<_>>().join(", ")
}
