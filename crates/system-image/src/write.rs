//! Putting a payload together.

use alloc::vec;
use alloc::vec::Vec;

use sha2::{Digest, Sha256};
use zerocopy::{Immutable, IntoBytes};

use crate::format::{
    Capability, Function, Grantee, Header, Image, IoMap, IoSpace, IoTable, Irq, Location, MAGIC,
    Map, NONE, PAGE_SIZE, Paging, Ports, ProtectionDomain, Region, Run, Span, Table, Untyped,
    VERSION, region_kind, run_kind,
};
use crate::payload::tables_hash;
use crate::resources;

/// All tables of a payload, and its data.
///
/// Offsets into the data are relative to [`Tables::data`] until
/// [`Tables::finish`] makes them relative to the payload.
#[derive(Clone, Debug)]
pub struct Tables {
    /// See [`Header::console`].
    pub console: u32,
    /// See [`Header::lasting_memory`].
    pub lasting_memory: Span,
    /// Records of [`Table::ProtectionDomains`].
    pub protection_domains: Vec<ProtectionDomain>,
    /// Records of [`Table::Runs`].
    pub runs: Vec<Run>,
    /// Records of [`Table::Paging`].
    pub paging: Vec<Paging>,
    /// Records of [`Table::Maps`].
    pub maps: Vec<Map>,
    /// Records of [`Table::Capabilities`].
    pub capabilities: Vec<Capability>,
    /// Records of [`Table::Regions`].
    pub regions: Vec<Region>,
    /// Records of [`Table::Memory`].
    pub memory: Vec<Untyped>,
    /// Records of [`Table::Irqs`].
    pub irqs: Vec<Irq>,
    /// Records of [`Table::Ports`].
    pub ports: Vec<Ports>,
    /// Records of [`Table::IoSpaces`].
    pub io_spaces: Vec<IoSpace>,
    /// Records of [`Table::IoTables`].
    pub io_tables: Vec<IoTable>,
    /// Records of [`Table::IoMaps`].
    pub io_maps: Vec<IoMap>,
    /// Records of [`Table::Functions`].
    pub functions: Vec<Function>,
    /// Records of [`Table::Grantees`].
    pub grantees: Vec<Grantee>,
    /// Records of [`Table::Images`].
    pub images: Vec<Image>,
    /// What follows the tables; its length is always a multiple of the page
    /// size.
    pub data: Vec<u8>,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            console: NONE,
            lasting_memory: Span::default(),
            protection_domains: vec![],
            runs: vec![],
            paging: vec![],
            maps: vec![],
            capabilities: vec![],
            regions: vec![],
            memory: vec![],
            irqs: vec![],
            ports: vec![],
            io_spaces: vec![],
            io_tables: vec![],
            io_maps: vec![],
            functions: vec![],
            grantees: vec![],
            images: vec![],
            data: vec![],
        }
    }
}

/// Appends `records` to `table` and says where.
pub fn append<T>(table: &mut Vec<T>, records: impl IntoIterator<Item = T>) -> Span {
    let first = table.len();
    table.extend(records);
    Span {
        first: first as u32,
        count: (table.len() - first) as u32,
    }
}

impl Tables {
    /// Appends bytes to the data, zero-padded to whole pages, and says where.
    pub fn append_data(&mut self, bytes: &[u8]) -> u64 {
        let offset = self.data.len();
        self.data.extend_from_slice(bytes);
        self.data
            .resize(self.data.len().next_multiple_of(PAGE_SIZE as usize), 0);
        offset as u64
    }

    /// Appends the untypeds that hold `bytes`.
    pub fn append_memory(&mut self, bytes: u64) -> Span {
        let untypeds = resources::untypeds_for(bytes).map(|bits| Untyped { bits, reserved: 0 });
        append(&mut self.memory, untypeds)
    }

    /// Adds the hashes of the programs and the memory for what lasts, and turns
    /// everything into bytes.
    pub fn finish(mut self) -> Vec<u8> {
        let lasting = resources::lasting_bytes(
            &self.protection_domains,
            self.io_tables.len(),
            &self.grantees,
        );
        self.lasting_memory = self.append_memory(lasting);

        let sizes = [
            size_of_val(&self.protection_domains[..]),
            size_of_val(&self.runs[..]),
            size_of_val(&self.paging[..]),
            size_of_val(&self.maps[..]),
            size_of_val(&self.capabilities[..]),
            size_of_val(&self.regions[..]),
            size_of_val(&self.memory[..]),
            size_of_val(&self.irqs[..]),
            size_of_val(&self.ports[..]),
            size_of_val(&self.io_spaces[..]),
            size_of_val(&self.io_tables[..]),
            size_of_val(&self.io_maps[..]),
            size_of_val(&self.functions[..]),
            size_of_val(&self.grantees[..]),
            size_of_val(&self.images[..]),
        ];
        let tables_length = size_of::<Header>()
            + sizes
                .iter()
                .map(|size| size.next_multiple_of(8))
                .sum::<usize>();
        let data_offset = tables_length.next_multiple_of(PAGE_SIZE as usize) as u64;
        self.move_offsets(data_offset);

        let mut header = Header {
            magic: MAGIC,
            version: VERSION,
            console: self.console,
            length: data_offset + self.data.len() as u64,
            tables_length: tables_length as u64,
            hash: [0; 32],
            lasting_memory: self.lasting_memory,
            tables: [Location::default(); Table::COUNT],
        };
        let mut bytes = vec![0; size_of::<Header>()];
        let mut put = |table: Table, records: Location, content: &[u8]| {
            header.tables[table as usize] = Location {
                offset: bytes.len() as u64,
                ..records
            };
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        };
        fn count<T: IntoBytes + Immutable>(records: &[T]) -> (Location, &[u8]) {
            (
                Location {
                    offset: 0,
                    count: records.len() as u64,
                },
                records.as_bytes(),
            )
        }
        macro_rules! put {
            ($($table:ident $records:ident)*) => {
                $(let (location, content) = count(&self.$records); put(Table::$table, location, content);)*
            };
        }
        put! {
            ProtectionDomains protection_domains
            Runs runs
            Paging paging
            Maps maps
            Capabilities capabilities
            Regions regions
            Memory memory
            Irqs irqs
            Ports ports
            IoSpaces io_spaces
            IoTables io_tables
            IoMaps io_maps
            Functions functions
            Grantees grantees
            Images images
        }
        debug_assert_eq!(bytes.len(), tables_length);
        bytes[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        seal(&mut bytes);
        bytes.resize(data_offset as usize, 0);
        bytes.append(&mut self.data);
        bytes
    }

    /// Hashes the programs, then makes all offsets relative to the payload.
    fn move_offsets(&mut self, data_offset: u64) {
        for domain in &mut self.protection_domains {
            let start = domain.program_offset as usize;
            let program = &self.data[start..start + domain.program_length as usize];
            domain.program_hash = Sha256::digest(program).into();
            domain.program_offset += data_offset;
        }
        for image in &mut self.images {
            let start = image.program_offset as usize;
            let program = &self.data[start..start + image.program_length as usize];
            image.program_hash = Sha256::digest(program).into();
            image.program_offset += data_offset;
        }
        for run in &mut self.runs {
            if run.kind != run_kind::ZERO {
                run.offset += data_offset;
            }
        }
        for region in &mut self.regions {
            let is_device = matches!(region.kind, region_kind::DEVICE | region_kind::UNTYPED);
            if region.data_length > 0 && !is_device {
                region.data_offset += data_offset;
            }
        }
    }
}

/// Writes the hash of header and tables, which are all of `tables`, into the
/// header.
pub fn seal(tables: &mut [u8]) {
    let hash = tables_hash(tables);
    let start = core::mem::offset_of!(Header, hash);
    tables[start..start + 32].copy_from_slice(&hash);
}
