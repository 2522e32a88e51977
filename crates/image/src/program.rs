//! What the front end must know of a program: where it lies in memory, and
//! where its symbols are.

use std::collections::HashMap;
use std::ops::Range;

use object::elf;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol};

/// A checked program.
#[derive(Debug)]
pub(crate) struct Program {
    /// Its segments in memory, rounded to pages, in ascending order, disjoint.
    pub(crate) segments: Vec<Segment>,
    /// Its data symbols.
    symbols: HashMap<String, Vec<Symbol>>,
}

/// A loaded segment of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its pages.
    pub pages: Range<u64>,
    /// Whether the program may write it.
    pub writable: bool,
    /// Whether it holds code.
    pub executable: bool,
}

/// A symbol's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    pub(crate) address: u64,
    pub(crate) size: u64,
}

/// What looking for a symbol brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// It is there, once, in memory that is loaded.
    Found(Symbol),
    /// The program does not have it.
    Missing,
    /// It is there more than once.
    Ambiguous,
    /// It is not in a loaded segment.
    NotLoaded,
}

const PAGE: u64 = 0x1000;

impl Program {
    /// Reads an ELF file; the reason for a failure is the end of a sentence.
    pub(crate) fn read(bytes: &[u8]) -> Result<Program, String> {
        let file = ElfFile64::<Endianness>::parse(bytes)
            .map_err(|_| "is not a 64-bit ELF file".to_string())?;
        let header = file.elf_header();
        let endian = Endianness::Little;
        if file.endian() != endian || header.e_machine(endian) != elf::EM_X86_64 {
            return Err("is not for x86_64".into());
        }
        let dynamic = file
            .elf_program_headers()
            .iter()
            .any(|segment| matches!(segment.p_type(endian), elf::PT_INTERP | elf::PT_DYNAMIC));
        if header.e_type(endian) != elf::ET_EXEC || dynamic {
            return Err(
                "is not linked for a fixed address: link it with -static and -no-pie".into(),
            );
        }
        let segments = segments(&file)?;
        let entry = header.e_entry(endian);
        let in_code = |segment: &Segment| segment.executable && segment.pages.contains(&entry);
        if !segments.iter().any(in_code) {
            return Err(format!("starts at {entry:#x}, where it has no code"));
        }
        let mut symbols: HashMap<String, Vec<Symbol>> = HashMap::new();
        for symbol in file.symbols() {
            if !symbol.is_definition() || symbol.kind() != object::SymbolKind::Data {
                continue;
            }
            if let Ok(name) = symbol.name() {
                symbols.entry(name.into()).or_default().push(Symbol {
                    address: symbol.address(),
                    size: symbol.size(),
                });
            }
        }
        Ok(Program { segments, symbols })
    }

    /// Looks for a data symbol.
    pub(crate) fn symbol(&self, name: &str) -> Lookup {
        match self.symbols.get(name).map(Vec::as_slice) {
            None | Some([]) => Lookup::Missing,
            Some(&[symbol]) => {
                let loaded = symbol.address.checked_add(symbol.size).is_some_and(|end| {
                    self.segments.iter().any(|segment| {
                        segment.pages.start <= symbol.address && end <= segment.pages.end
                    })
                });
                match loaded {
                    true => Lookup::Found(symbol),
                    false => Lookup::NotLoaded,
                }
            }
            Some(_) => Lookup::Ambiguous,
        }
    }

    /// The names of all data symbols.
    pub(crate) fn symbol_names(&self) -> impl Iterator<Item = &str> {
        self.symbols.keys().map(String::as_str)
    }
}

fn segments(file: &ElfFile64<'_, Endianness>) -> Result<Vec<Segment>, String> {
    let endian = Endianness::Little;
    let mut segments = Vec::new();
    for header in file.elf_program_headers() {
        if header.p_type(endian) != elf::PT_LOAD || header.p_memsz(endian) == 0 {
            continue;
        }
        let start = header.p_vaddr(endian);
        let end = start
            .checked_add(header.p_memsz(endian))
            .and_then(|end| end.checked_next_multiple_of(PAGE))
            .filter(|_| header.p_filesz(endian) <= header.p_memsz(endian))
            .ok_or("has a segment that does not fit into memory")?;
        header
            .data(endian, file.data())
            .map_err(|()| "is cut off: a segment lies behind its end".to_string())?;
        segments.push(Segment {
            pages: start & !(PAGE - 1)..end,
            writable: header.p_flags(endian).contains(elf::PF_W),
            executable: header.p_flags(endian).contains(elf::PF_X),
        });
    }
    segments.sort_by_key(|segment: &Segment| segment.pages.start);
    if segments
        .windows(2)
        .any(|pair| pair[0].pages.end > pair[1].pages.start)
    {
        return Err(
            "has two segments in one page: link it with -z max-page-size=4096 -z separate-code"
                .into(),
        );
    }
    Ok(segments)
}
