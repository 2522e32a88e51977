//! An ELF file as a flat list of pages.

use std::collections::{BTreeMap, HashMap};

use object::elf;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol, SymbolKind};
use segue_status::symbols::write::Named;
use segue_system_image::format::{Run, run_kind, run_role};

const PAGE: u64 = 0x1000;
const LARGE_PAGE: u64 = 0x20_0000;
/// Most bytes of a segment, and where its end must be below: more is a mistake,
/// and would take the builder's own memory to find out.
const SIZE_LIMIT: u64 = 1 << 30;
const ADDRESS_LIMIT: u64 = 1 << 46;

/// A segment as the file has it.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) address: u64,
    pub(super) bytes: Vec<u8>,
    /// Bytes in memory; those after `bytes` are zero.
    pub(super) size: u64,
    pub(super) writable: bool,
    pub(super) executable: bool,
}

/// A program whose symbols can be written over.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) entry: u64,
    pub(super) segments: Vec<Segment>,
    /// Address and size of each data symbol; `None` if the name is not unique.
    data: HashMap<String, Option<(u64, u64)>>,
    /// All functions with demangled names.
    pub(super) functions: Vec<Named>,
}

/// A page.
pub(super) struct Page {
    /// Its bytes; `None` if all are zero.
    pub(super) bytes: Option<Box<[u8; PAGE as usize]>>,
    pub(super) writable: bool,
}

impl Program {
    /// Reads an ELF file; an error is the end of a sentence about the file.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let file = ElfFile64::<Endianness>::parse(bytes)
            .map_err(|error| format!("is not a 64-bit ELF file ({error})"))?;
        let endian = file.endian();
        let mut segments = Vec::new();
        for header in file.elf_program_headers() {
            if header.p_type(endian) != elf::PT_LOAD || header.p_memsz(endian) == 0 {
                continue;
            }
            let content = header
                .data(endian, file.data())
                .map_err(|()| "has a segment that lies behind its end".to_string())?;
            let size = header.p_memsz(endian);
            if content.len() as u64 > size {
                return Err("has a segment that is larger in the file than in memory".into());
            }
            let address = header.p_vaddr(endian);
            if size > SIZE_LIMIT || address > ADDRESS_LIMIT - SIZE_LIMIT {
                return Err(format!(
                    "has a segment of {size:#x} bytes at {address:#x}: at most {SIZE_LIMIT:#x} \
                     bytes below {ADDRESS_LIMIT:#x} can be loaded"
                ));
            }
            segments.push(Segment {
                address,
                bytes: content.to_vec(),
                size,
                writable: header.p_flags(endian).contains(elf::PF_W),
                executable: header.p_flags(endian).contains(elf::PF_X),
            });
        }
        let mut data = HashMap::new();
        let mut functions = Vec::new();
        for symbol in file.symbols().filter(|symbol| symbol.is_definition()) {
            let Ok(name) = symbol.name() else { continue };
            match symbol.kind() {
                SymbolKind::Data => {
                    data.entry(name.to_string())
                        .and_modify(|place| *place = None)
                        .or_insert(Some((symbol.address(), symbol.size())));
                }
                SymbolKind::Text => {
                    let name = format!("{:#}", rustc_demangle::demangle(name));
                    functions.push((symbol.address(), symbol.size(), name));
                }
                _ => (),
            }
        }
        Ok(Self {
            entry: file.elf_header().e_entry(endian),
            segments,
            data,
            functions,
        })
    }

    /// Writes `bytes` over a symbol; an error is the end of a sentence about
    /// the program.
    pub(super) fn patch(&mut self, symbol: &str, bytes: &[u8]) -> Result<(), String> {
        let (address, size) = match self.data.get(symbol) {
            Some(Some(place)) => *place,
            Some(None) => return Err(format!("has more than one symbol {symbol}")),
            None => return Err(format!("has no symbol {symbol}")),
        };
        if size != bytes.len() as u64 {
            return Err(format!(
                "has a symbol {symbol} of {size} bytes, but {} bytes belong there",
                bytes.len()
            ));
        }
        let segment = self
            .segments
            .iter_mut()
            .find(|segment| {
                let offset = address.checked_sub(segment.address);
                offset.is_some_and(|offset| offset + size <= segment.size)
            })
            .ok_or_else(|| format!("does not load its symbol {symbol}"))?;
        let start = (address - segment.address) as usize;
        let end = start + bytes.len();
        if segment.bytes.len() < end {
            segment.bytes.resize(end, 0);
        }
        segment.bytes[start..end].copy_from_slice(bytes);
        Ok(())
    }

    /// Its pages, by address.
    pub(super) fn pages(&self) -> BTreeMap<u64, Page> {
        let mut pages = BTreeMap::new();
        for segment in &self.segments {
            let first = segment.address & !(PAGE - 1);
            for address in (first..segment.address + segment.size).step_by(PAGE as usize) {
                let page = pages.entry(address).or_insert(Page {
                    bytes: None,
                    writable: false,
                });
                page.writable |= segment.writable;
            }
            for (index, chunk) in chunks(segment) {
                if chunk.iter().all(|byte| *byte == 0) {
                    continue;
                }
                if let Some(page) = pages.get_mut(&(index & !(PAGE - 1))) {
                    let bytes = page
                        .bytes
                        .get_or_insert_with(|| Box::new([0; PAGE as usize]));
                    let start = (index % PAGE) as usize;
                    bytes[start..start + chunk.len()].copy_from_slice(chunk);
                }
            }
        }
        pages
    }

    /// The program's pages as runs and the bytes of those that are not zero;
    /// offsets in the runs count from the start of these bytes.
    pub(super) fn flatten(&self) -> (Vec<Run>, Vec<u8>) {
        let mut runs: Vec<Run> = Vec::new();
        let mut bytes = Vec::new();
        for (address, page) in self.pages() {
            let kind = match (&page.bytes, page.writable) {
                (None, _) => run_kind::ZERO,
                (Some(_), true) => run_kind::COPIED,
                (Some(_), false) => run_kind::IN_PLACE,
            };
            let offset = bytes.len() as u64;
            if let Some(content) = &page.bytes {
                bytes.extend_from_slice(&content[..]);
            }
            let writable = u8::from(page.writable);
            match runs.last_mut() {
                Some(run)
                    if run.kind == kind
                        && run.writable == writable
                        && run.address + u64::from(run.pages) * PAGE == address =>
                {
                    run.pages += 1;
                }
                _ => runs.push(Run {
                    address,
                    offset: if kind == run_kind::ZERO { 0 } else { offset },
                    pages: 1,
                    kind,
                    role: run_role::PROGRAM,
                    page_bits: 12,
                    writable,
                }),
            }
        }
        (runs.into_iter().flat_map(enlarge).collect(), bytes)
    }
}

/// The parts of a segment's bytes that lie in one page each, by address.
fn chunks(segment: &Segment) -> impl Iterator<Item = (u64, &[u8])> {
    let mut address = segment.address;
    let mut rest = &segment.bytes[..];
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = rest.len().min((PAGE - address % PAGE) as usize);
        let (chunk, tail) = rest.split_at(length);
        let start = address;
        address += length as u64;
        rest = tail;
        Some((start, chunk))
    })
}

/// Splits a run of zero pages so that its middle uses large pages: one slot and
/// one entry of the translation cache for 512 small ones.
fn enlarge(run: Run) -> Vec<Run> {
    let end = run.address + u64::from(run.pages) * PAGE;
    let first = run.address.next_multiple_of(LARGE_PAGE);
    let last = end & !(LARGE_PAGE - 1);
    if run.kind != run_kind::ZERO || first >= last {
        return vec![run];
    }
    let small = |from: u64, to: u64| Run {
        address: from,
        pages: ((to - from) / PAGE) as u32,
        ..run
    };
    let large = Run {
        address: first,
        pages: ((last - first) / LARGE_PAGE) as u32,
        page_bits: 21,
        ..run
    };
    [small(run.address, first), large, small(last, end)]
        .into_iter()
        .filter(|run| run.pages > 0)
        .collect()
}
