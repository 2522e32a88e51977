//! Symbol tables of all programs, for readable backtraces.
//!
//! A [`Header`], one [`Program`] for each protection domain, the [`Function`]s
//! of all programs, sorted by address within each, and their names, each ended
//! by a zero byte. The image builder writes it; `console` reads it.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Source, name};

/// First bytes of a symbol table.
pub const MAGIC: [u8; 8] = *b"SEGSYMB1";
/// Bytes of a function's name that are kept.
pub const NAME_LENGTH: usize = 200;

/// The start of a symbol table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// Number of [`Program`]s.
    pub programs: u32,
    /// Number of [`Function`]s.
    pub functions: u32,
}

/// A program and where its functions are in the table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Program {
    /// Name of the protection domain, NUL-padded.
    pub name: [u8; 64],
    /// Index of its first function.
    pub first: u32,
    /// Number of its functions.
    pub count: u32,
}

/// A function.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Function {
    /// Where it starts.
    pub address: u64,
    /// Its length in bytes.
    pub size: u32,
    /// Where its name is, counted from the end of the functions.
    pub name: u32,
}

const PROGRAMS: usize = size_of::<Header>();

/// A symbol table in memory.
#[derive(Clone, Copy, Debug)]
pub struct Symbols<S> {
    source: S,
    header: Header,
}

/// What [`Symbols::find`] found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    name: [u8; NAME_LENGTH],
    /// Bytes from the start of the function.
    pub offset: u64,
}

impl Found {
    /// The function's name.
    pub fn name(&self) -> &str {
        name(&self.name)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}", self.name(), self.offset)
    }
}

impl<S: Source> Symbols<S> {
    /// The symbol table in `source`, or `None` if there is none.
    pub fn new(source: S) -> Option<Self> {
        let header: Header = record(&source, 0)?;
        (header.magic == MAGIC).then_some(Self { source, header })
    }

    /// The function of a protection domain's program that `address` lies in.
    pub fn find(&self, domain: &str, address: u64) -> Option<Found> {
        let program = (0..self.header.programs as usize)
            .map_while(|index| {
                record::<Program>(&self.source, PROGRAMS + index * size_of::<Program>())
            })
            .find(|program| name(&program.name) == domain)?;
        // The last function that starts at or before the address.
        let (mut low, mut high) = (0, program.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.function(program.first.checked_add(middle)?)?.address <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let function = self.function(program.first.checked_add(low.checked_sub(1)?)?)?;
        let offset = address.checked_sub(function.address)?;
        if offset >= u64::from(function.size.max(1)) {
            return None;
        }
        let mut found = Found {
            name: [0; NAME_LENGTH],
            offset,
        };
        let start = self.names().checked_add(function.name as usize)?;
        let length = NAME_LENGTH.min(self.source.length().checked_sub(start)?);
        self.source
            .read(start, &mut found.name[..length])
            .then_some(found)
    }

    fn functions(&self) -> usize {
        PROGRAMS + self.header.programs as usize * size_of::<Program>()
    }

    fn names(&self) -> usize {
        self.functions() + self.header.functions as usize * size_of::<Function>()
    }

    fn function(&self, index: u32) -> Option<Function> {
        if index >= self.header.functions {
            return None;
        }
        record(
            &self.source,
            self.functions() + index as usize * size_of::<Function>(),
        )
    }
}

fn record<T: FromBytes + IntoBytes>(source: &impl Source, offset: usize) -> Option<T> {
    let mut record = T::new_zeroed();
    source.read(offset, record.as_mut_bytes()).then_some(record)
}

/// Writing a symbol table.
#[cfg(feature = "write")]
pub mod write {
    use alloc::string::String;
    use alloc::vec::Vec;

    use zerocopy::IntoBytes;

    use super::{Function, Header, MAGIC, NAME_LENGTH, Program};

    /// A function to be listed: address, size in bytes, name.
    pub type Named = (u64, u64, String);

    /// The symbol table of these programs, each with the name of its
    /// protection domain. The order of functions does not matter.
    pub fn table(programs: impl IntoIterator<Item = (String, Vec<Named>)>) -> Vec<u8> {
        let mut header = Header {
            magic: MAGIC,
            programs: 0,
            functions: 0,
        };
        let (mut listed, mut functions, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for (domain, mut named) in programs {
            named.sort();
            named.dedup_by_key(|(address, ..)| *address);
            let mut program = Program {
                name: [0; 64],
                first: header.functions,
                count: named.len() as u32,
            };
            let length = domain.len().min(63);
            program.name[..length].copy_from_slice(&domain.as_bytes()[..length]);
            header.programs += 1;
            header.functions += program.count;
            listed.extend_from_slice(program.as_bytes());
            for (address, size, name) in named {
                let size = u32::try_from(size).unwrap_or(u32::MAX);
                let function = Function {
                    address,
                    size,
                    name: names.len() as u32,
                };
                functions.extend_from_slice(function.as_bytes());
                let length = (0..NAME_LENGTH.min(name.len() + 1))
                    .rev()
                    .find(|length| name.is_char_boundary(*length))
                    .unwrap_or(0);
                names.extend_from_slice(&name.as_bytes()[..length]);
                names.push(0);
            }
        }
        let mut bytes = header.as_bytes().to_vec();
        bytes.append(&mut listed);
        bytes.append(&mut functions);
        bytes.append(&mut names);
        bytes
    }
}
