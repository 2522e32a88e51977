//! Reading a payload: everything is checked before anything is used.

use core::fmt;
use core::mem::offset_of;

use sha2::{Digest, Sha256};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::format::{
    self, Capability, Function, Grantee, Header, Image, IoMap, IoSpace, IoTable, Irq,
    LARGEST_SENT_IMAGE, LONGEST_HEARTBEAT, Location, MAGIC, Map, NONE, PAGE_SIZE, Paging, Ports,
    ProtectionDomain, Region, Run, Span, Table, Untyped, VERSION, capability_kind, clock,
    image_kind, irq_kind, layout, limits, paging_level, region_contents, region_kind, run_kind,
    run_role,
};
use crate::resources;

/// Highest address that user space may map, exclusive: one page below the
/// canonical hole stays free.
const USER_TOP: u64 = 0x7fff_ffff_f000;
/// IO virtual addresses are below this; the kernel would alias higher ones.
const IO_TOP: u64 = 1 << 39;

/// Why a payload cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It does not start as a payload does.
    NotAPayload,
    /// Its version is not ours.
    Version(u32),
    /// It is cut short: bytes expected, bytes there.
    Truncated(u64, u64),
    /// Its tables are not what the builder wrote.
    Damaged,
    /// A table does not lie inside it or has too many records.
    Location(Table),
    /// A record makes no sense: table, index, what is wrong.
    Record(Table, usize, &'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotAPayload => write!(f, "there is no system description in the boot image"),
            Error::Version(version) => write!(
                f,
                "the boot image has format version {version}, this init reads version {VERSION}"
            ),
            Error::Truncated(expected, found) => {
                write!(
                    f,
                    "the boot image is cut short: {found} of {expected} bytes are there"
                )
            }
            Error::Damaged => {
                write!(
                    f,
                    "the boot image is damaged: its tables do not have the hash they were written with"
                )
            }
            Error::Location(table) => {
                write!(
                    f,
                    "the boot image is malformed: table {table:?} is out of bounds"
                )
            }
            Error::Record(table, index, what) => {
                write!(
                    f,
                    "the boot image is malformed: {table:?} record {index}: {what}"
                )
            }
        }
    }
}

impl core::error::Error for Error {}

/// A payload whose every index and range has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    bytes: &'a [u8],
    /// The header.
    pub header: &'a Header,
    /// All protection domains.
    pub protection_domains: &'a [ProtectionDomain],
    /// All page runs.
    pub runs: &'a [Run],
    /// All paging structures.
    pub paging: &'a [Paging],
    /// All maps of regions into protection domains.
    pub maps: &'a [Map],
    /// All capabilities.
    pub capabilities: &'a [Capability],
    /// All memory regions.
    pub regions: &'a [Region],
    /// All untypeds.
    pub memory: &'a [Untyped],
    /// All interrupts.
    pub irqs: &'a [Irq],
    /// All ranges of IO ports.
    pub ports: &'a [Ports],
    /// All IO address spaces.
    pub io_spaces: &'a [IoSpace],
    /// All IO page tables.
    pub io_tables: &'a [IoTable],
    /// All maps of regions into IO address spaces.
    pub io_maps: &'a [IoMap],
    /// All virtual functions that can be granted.
    pub functions: &'a [Function],
    /// All that they can be granted to.
    pub grantees: &'a [Grantee],
    /// All images of protection domains besides the first ones.
    pub images: &'a [Image],
}

/// SHA-256 of header and tables, with the header's hash field taken as zero.
pub(crate) fn tables_hash(tables: &[u8]) -> [u8; 32] {
    const START: usize = offset_of!(Header, hash);
    const END: usize = START + 32;
    let mut hasher = Sha256::new();
    hasher.update(&tables[..START]);
    hasher.update([0; 32]);
    hasher.update(&tables[END..]);
    hasher.finalize().into()
}

fn table<'a, T: FromBytes + Immutable + KnownLayout>(
    tables: &'a [u8],
    header: &Header,
    which: Table,
    limit: usize,
) -> Result<&'a [T], Error> {
    let Location { offset, count } = header.tables[which as usize];
    let error = Error::Location(which);
    if count > limit as u64 {
        return Err(error);
    }
    let start = usize::try_from(offset).map_err(|_| error)?;
    let length = count as usize * size_of::<T>();
    let end = start.checked_add(length).ok_or(error)?;
    let bytes = tables.get(start..end).ok_or(error)?;
    <[T]>::ref_from_bytes(bytes).map_err(|_| error)
}

impl<'a> Payload<'a> {
    /// Reads and checks the payload at the start of `bytes`, which may be
    /// longer and must be aligned to 8 bytes.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| Error::NotAPayload)?;
        if header.magic != MAGIC {
            return Err(Error::NotAPayload);
        }
        if header.version != VERSION {
            return Err(Error::Version(header.version));
        }
        let found = bytes.len() as u64;
        if header.length > found {
            return Err(Error::Truncated(header.length, found));
        }
        let bytes = &bytes[..header.length as usize];
        if header.tables_length > header.length || header.tables_length < size_of::<Header>() as u64
        {
            return Err(Error::Truncated(header.tables_length, header.length));
        }
        let tables = &bytes[..header.tables_length as usize];
        if tables_hash(tables) != header.hash {
            return Err(Error::Damaged);
        }
        let payload = Payload {
            bytes,
            header,
            protection_domains: table(
                tables,
                header,
                Table::ProtectionDomains,
                limits::PROTECTION_DOMAINS,
            )?,
            runs: table(tables, header, Table::Runs, limits::RUNS)?,
            paging: table(tables, header, Table::Paging, limits::PAGING)?,
            maps: table(tables, header, Table::Maps, limits::MAPS)?,
            capabilities: table(tables, header, Table::Capabilities, limits::CAPABILITIES)?,
            regions: table(tables, header, Table::Regions, limits::REGIONS)?,
            memory: table(tables, header, Table::Memory, limits::MEMORY)?,
            irqs: table(tables, header, Table::Irqs, limits::IRQS)?,
            ports: table(tables, header, Table::Ports, limits::PORTS)?,
            io_spaces: table(tables, header, Table::IoSpaces, limits::IO_SPACES)?,
            io_tables: table(tables, header, Table::IoTables, limits::IO_TABLES)?,
            io_maps: table(tables, header, Table::IoMaps, limits::IO_MAPS)?,
            functions: table(tables, header, Table::Functions, limits::FUNCTIONS)?,
            grantees: table(tables, header, Table::Grantees, limits::GRANTEES)?,
            images: table(tables, header, Table::Images, limits::IMAGES)?,
        };
        payload.check()?;
        Ok(payload)
    }

    /// The records of `table` in `span`; none if it does not lie inside, which
    /// [`Payload::read`] excludes for the spans of records.
    pub fn slice<T>(table: &'a [T], span: Span) -> &'a [T] {
        table.get(span.range()).unwrap_or(&[])
    }

    /// `length` bytes at `offset`; none if they do not lie inside.
    pub fn data(&self, offset: u64, length: u64) -> &'a [u8] {
        self.checked_data(offset, length).unwrap_or(&[])
    }

    fn checked_data(&self, offset: u64, length: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        self.bytes.get(start..end)
    }

    /// Whether the stored pages of a protection domain's program have the hash
    /// that the builder gave them.
    pub fn program_is_intact(&self, domain: &ProtectionDomain) -> bool {
        let bytes = self.data(domain.program_offset, domain.program_length);
        let hash: [u8; 32] = Sha256::digest(bytes).into();
        hash == domain.program_hash
    }

    /// The same for another image of one.
    pub fn image_is_intact(&self, image: &Image) -> bool {
        let bytes = self.data(image.program_offset, image.program_length);
        let hash: [u8; 32] = Sha256::digest(bytes).into();
        hash == image.program_hash
    }

    /// The indices of the images that a protection domain has besides its first.
    pub fn images_of(&self, domain: usize) -> impl Iterator<Item = usize> + use<'a> {
        let images = self.images.iter().enumerate();
        images
            .filter(move |(_, image)| image.protection_domain as usize == domain)
            .map(|(index, _)| index)
    }

    fn check(&self) -> Result<(), Error> {
        let console = self.header.console;
        if console != NONE && console as usize >= self.protection_domains.len() {
            return Err(Error::Record(
                Table::ProtectionDomains,
                console as usize,
                "no such console",
            ));
        }
        each(Table::Memory, self.memory, |untyped| {
            require((12..=47).contains(&untyped.bits), "size of an untyped")
        })?;
        each(Table::Regions, self.regions, |region| {
            self.check_region(region)
        })?;
        let kept = self.regions.iter().try_fold(0u64, |sum, region| {
            sum.checked_add(resources::kept_pages(region))
        });
        if kept.is_none_or(|pages| pages > resources::KEPT_PAGES) {
            let what = "regions that init writes are too large";
            return Err(Error::Record(Table::Regions, 0, what));
        }
        each(Table::Maps, self.maps, |map| self.check_map(map))?;
        each(Table::Runs, self.runs, |run| self.check_run(run))?;
        each(Table::Paging, self.paging, |paging| {
            require(
                (paging_level::PAGE_TABLE..=paging_level::PDPT).contains(&paging.level),
                "level",
            )?;
            require(paging.address < USER_TOP, "address")
        })?;
        each(Table::Irqs, self.irqs, |irq| {
            require(self.is_domain(irq.protection_domain), "protection domain")?;
            require(irq.vector < clock::VECTOR, "vector")?;
            require(
                matches!(irq.kind, irq_kind::IO_APIC | irq_kind::MSI),
                "kind",
            )?;
            require(
                irq.kind != irq_kind::IO_APIC || irq.ioapic != 0 || irq.pin != clock::PIN,
                "the pin of init's clock",
            )
        })?;
        each(Table::Ports, self.ports, |ports| {
            require(ports.first <= ports.last, "range")
        })?;
        each(Table::IoMaps, self.io_maps, |map| self.check_io_map(map))?;
        each(Table::IoSpaces, self.io_spaces, |space| {
            require(space.domain != 0, "domain")?;
            require(inside(space.tables, self.io_tables), "page tables")?;
            require(inside(space.maps, self.io_maps), "maps")
        })?;
        each(
            Table::ProtectionDomains,
            self.protection_domains,
            |domain| self.check_domain(domain),
        )?;
        each(Table::Functions, self.functions, |function| {
            self.check_function(function)
        })?;
        each(Table::Grantees, self.grantees, |grantee| {
            self.check_grantee(grantee)
        })?;
        each(Table::Images, self.images, |image| self.check_image(image))?;
        let sent = self.images.iter();
        let sent = sent.filter(|image| image.kind == image_kind::SENT);
        if sent.count() > limits::SENT_IMAGES {
            return Err(Error::Record(
                Table::Images,
                0,
                "too many images that are sent",
            ));
        }
        let orderers = self.regions.iter();
        let orderers = orderers.filter(|region| region.contents == region_contents::ORDERS);
        if orderers.count() > limits::ORDERERS {
            let what = "too many regions with orders";
            return Err(Error::Record(Table::Regions, 0, what));
        }
        let lasting =
            resources::lasting_bytes(self.protection_domains, self.io_tables.len(), self.grantees);
        if self
            .memory_in(self.header.lasting_memory)
            .is_none_or(|bytes| bytes < lasting)
        {
            return Err(Error::Record(
                Table::Memory,
                0,
                "too little memory for what lasts",
            ));
        }
        Ok(())
    }

    fn is_domain(&self, index: u32) -> bool {
        (index as usize) < self.protection_domains.len()
    }

    /// Bytes in a span of untypeds; `None` if it lies outside or is not sorted.
    fn memory_in(&self, span: Span) -> Option<u64> {
        let chunks = self.memory.get(span.range())?;
        if !chunks.is_sorted_by(|a, b| a.bits >= b.bits) {
            return None;
        }
        chunks
            .iter()
            .try_fold(0u64, |sum, chunk| sum.checked_add(1 << chunk.bits))
    }

    fn check_region(&self, region: &Region) -> Result<(), &'static str> {
        require(matches!(region.page_bits, 12 | 21), "page size")?;
        let page = 1u64 << region.page_bits;
        require(region.size > 0 && region.size.is_multiple_of(page), "size")?;
        require(region.size < USER_TOP, "size")?;
        require(region.data_length <= region.size, "more data than room")?;
        require(
            self.checked_data(region.data_offset, region.data_length)
                .is_some(),
            "data outside the image",
        )?;
        require(region.contents <= region_contents::STAGING, "contents")?;
        require(
            resources::kept_pages(region) == 0 || region.page_bits == 12,
            "large pages that init writes",
        )?;
        let memory = self.memory_in(region.memory).ok_or("memory")?;
        if region.contents >= region_contents::ORDERS {
            require(
                region.kind == region_kind::MEMORY,
                "kind of a region for init",
            )?;
            require(region.page_bits == 12, "large pages that init reads")?;
        }
        match region.kind {
            region_kind::MEMORY => require(memory >= region.size, "too little memory"),
            region_kind::IN_PLACE => {
                require(region.page_bits == 12, "large pages in the image")?;
                require(region.contents == region_contents::BYTES, "contents")?;
                require(
                    region.data_offset.is_multiple_of(PAGE_SIZE),
                    "data not aligned",
                )?;
                require(
                    region.data_length == region.size,
                    "data does not fill the region",
                )
            }
            region_kind::DEVICE | region_kind::UNTYPED => {
                require(
                    region.kind != region_kind::UNTYPED
                        || (region.size.is_power_of_two()
                            && region.physical_address.is_multiple_of(region.size)),
                    "size of an untyped",
                )?;
                require(region.contents == region_contents::ZERO, "contents")?;
                require(
                    region.physical_address.is_multiple_of(page),
                    "physical address",
                )?;
                require(region.physical_address < 1 << 47, "physical address")
            }
            _ => Err("kind"),
        }
    }

    fn check_map(&self, map: &Map) -> Result<(), &'static str> {
        let region = self.regions.get(map.region as usize).ok_or("region")?;
        require(
            region.kind != region_kind::UNTYPED,
            "registers that are granted at run time",
        )?;
        require(map.address.is_multiple_of(1 << region.page_bits), "address")?;
        require(
            map.address < USER_TOP && region.size <= USER_TOP - map.address,
            "address",
        )?;
        require(
            region.kind != region_kind::IN_PLACE || map.writable == 0,
            "a part of the image that may be written",
        )?;
        require(
            !resources::is_of_init(region) || map.writable == 0,
            "a region of init's that may be written",
        )
    }

    fn check_io_map(&self, map: &IoMap) -> Result<(), &'static str> {
        let region = self.regions.get(map.region as usize).ok_or("region")?;
        require(region.page_bits == 12, "large pages for a device")?;
        require(
            region.kind == region_kind::MEMORY,
            "a region that no device may reach",
        )?;
        require(
            resources::kept_pages(region) == 0 && region.contents != region_contents::STAGING,
            "a region of init's that a device may reach",
        )?;
        require(map.address.is_multiple_of(PAGE_SIZE), "address")?;
        require(
            map.address < IO_TOP && region.size <= IO_TOP - map.address,
            "address",
        )
    }

    fn check_run(&self, run: &Run) -> Result<(), &'static str> {
        require(matches!(run.page_bits, 12 | 21), "page size")?;
        require(run.pages > 0, "no pages")?;
        require(run.address.is_multiple_of(1 << run.page_bits), "address")?;
        let length = u64::from(run.pages) << run.page_bits;
        require(
            run.address < USER_TOP && length <= USER_TOP - run.address,
            "address",
        )?;
        require(run.role <= run_role::IPC_BUFFER, "role")?;
        require(
            run.role != run_role::IPC_BUFFER
                || (run.pages == 1
                    && run.page_bits == 12
                    && run.kind == run_kind::ZERO
                    && run.address == layout::IPC_BUFFER),
            "IPC buffer",
        )?;
        match run.kind {
            run_kind::ZERO => return Ok(()),
            run_kind::COPIED => (),
            run_kind::IN_PLACE => require(run.writable == 0, "writable part of the image")?,
            _ => return Err("kind"),
        }
        require(run.page_bits == 12, "large pages in the image")?;
        require(run.offset.is_multiple_of(PAGE_SIZE), "data not aligned")?;
        require(
            self.checked_data(run.offset, length).is_some(),
            "data outside the image",
        )
    }

    fn check_domain(&self, domain: &ProtectionDomain) -> Result<(), &'static str> {
        require(domain.priority < 255, "priority")?;
        require(
            self.checked_data(domain.program_offset, domain.program_length)
                .is_some(),
            "program outside the image",
        )?;
        require(
            domain.restart_always <= 1
                && domain.paced <= 1
                && domain.reserved == 0
                && domain.heartbeat <= LONGEST_HEARTBEAT,
            "restart policy",
        )?;
        let runs = self.runs.get(domain.runs.range()).ok_or("runs")?;
        let buffers = runs.iter().filter(|run| run.role == run_role::IPC_BUFFER);
        require(buffers.count() == 1, "IPC buffer")?;
        let paging = self
            .paging
            .get(domain.paging.range())
            .ok_or("page tables")?;
        require(inside(domain.maps, self.maps), "maps")?;
        let needed = resources::domain_bytes(runs, paging.len());
        require(
            self.memory_in(domain.memory)
                .is_some_and(|bytes| bytes >= needed),
            "too little memory",
        )?;
        let capabilities = self
            .capabilities
            .get(domain.capabilities.range())
            .ok_or("capabilities")?;
        capabilities
            .iter()
            .try_for_each(|capability| self.check_capability(capability))
    }

    fn check_image(&self, image: &Image) -> Result<(), &'static str> {
        let domain = self
            .protection_domains
            .get(image.protection_domain as usize)
            .ok_or("protection domain")?;
        require(
            self.checked_data(image.program_offset, image.program_length)
                .is_some(),
            "program outside the image",
        )?;
        match image.kind {
            image_kind::PACKED => require(image.sent_size == 0, "size")?,
            image_kind::SENT => require(
                image.sent_size > 0
                    && image.sent_size <= LARGEST_SENT_IMAGE
                    && image.sent_size.is_multiple_of(PAGE_SIZE)
                    && image.program_length == 0,
                "size",
            )?,
            _ => return Err("kind"),
        }
        let runs = self.runs.get(image.runs.range()).ok_or("runs")?;
        let buffers = runs.iter().filter(|run| run.role == run_role::IPC_BUFFER);
        require(buffers.count() == 1, "IPC buffer")?;
        let paging = self.paging.get(image.paging.range()).ok_or("page tables")?;
        let maps = self.maps.get(image.maps.range()).ok_or("maps")?;
        let its = Self::slice(self.maps, domain.maps);
        let same = maps.len() == its.len()
            && maps.iter().zip(its).all(|(a, b)| {
                let key = |map: &Map| (map.address, map.region, map.writable, map.cached);
                key(a) == key(b)
            });
        require(same, "other maps than the protection domain's")?;
        let needed = resources::image_bytes(image, runs, paging.len());
        require(
            self.memory_in(image.memory)
                .is_some_and(|bytes| bytes >= needed),
            "too little memory",
        )
    }

    /// Whoever grants is one protection domain, in all records.
    fn check_manager(&self, manager: u32) -> Result<(), &'static str> {
        let first = self.functions.first().map(|function| function.manager);
        let other = self.grantees.first().map(|grantee| grantee.manager);
        require(
            self.is_domain(manager) && first.or(other) == Some(manager),
            "manager",
        )
    }

    fn check_function(&self, function: &Function) -> Result<(), &'static str> {
        self.check_manager(function.manager)?;
        require((function.number as usize) < limits::FUNCTIONS, "number")?;
        let region = self.regions.get(function.region as usize);
        require(
            region.is_some_and(|region| region.kind == region_kind::UNTYPED),
            "registers",
        )?;
        require(
            function
                .vectors
                .iter()
                .all(|vector| *vector < clock::VECTOR),
            "vector",
        )?;
        let same = |other: &&Function| other.number == function.number;
        require(self.functions.iter().filter(same).count() == 1, "number")
    }

    fn check_grantee(&self, grantee: &Grantee) -> Result<(), &'static str> {
        self.check_manager(grantee.manager)?;
        require(
            self.is_domain(grantee.protection_domain)
                && grantee.protection_domain != grantee.manager,
            "protection domain",
        )?;
        let same = |other: &&Grantee| {
            other.index == grantee.index || other.protection_domain == grantee.protection_domain
        };
        require(
            (grantee.index as usize) < limits::GRANTEES
                && self.grantees.iter().filter(same).count() == 1,
            "index",
        )?;
        let pages = |index: u32| {
            let region = self.regions.get(index as usize)?;
            let plain = region.kind == region_kind::MEMORY
                && region.page_bits == 12
                && resources::kept_pages(region) == 0;
            plain.then_some(region.size >> 12)
        };
        let memory = pages(grantee.memory).ok_or("memory")?;
        require(
            memory + u64::from(grantee.io_tables) <= 1 << layout::grant::MEMORY_BITS,
            "more memory than a function can reach",
        )?;
        require(
            pages(grantee.dummies) == Some(layout::grant::FRAME_COUNT),
            "pages that stand in for registers",
        )
    }

    fn check_capability(&self, capability: &Capability) -> Result<(), &'static str> {
        require(
            capability.slot > 0 && capability.slot < 1 << layout::CNODE_BITS,
            "slot of a capability",
        )?;
        require(
            capability.rights <= format::rights::ALL,
            "rights of a capability",
        )?;
        let object = capability.object as usize;
        let exists = match capability.kind {
            capability_kind::NOTIFICATION => object < self.protection_domains.len(),
            capability_kind::ENDPOINT => self
                .protection_domains
                .get(object)
                .is_some_and(|domain| domain.has_endpoint == 1),
            capability_kind::FAULT_ENDPOINT | capability_kind::VSPACE | capability_kind::INIT => {
                true
            }
            capability_kind::IRQ_HANDLER => object < self.irqs.len(),
            capability_kind::IO_PORTS => object < self.ports.len(),
            _ => false,
        };
        require(exists, "object of a capability")
    }
}

fn inside<T>(span: Span, table: &[T]) -> bool {
    table.get(span.range()).is_some()
}

fn require(condition: bool, what: &'static str) -> Result<(), &'static str> {
    if condition { Ok(()) } else { Err(what) }
}

fn each<T>(
    table: Table,
    records: &[T],
    check: impl Fn(&T) -> Result<(), &'static str>,
) -> Result<(), Error> {
    records.iter().enumerate().try_for_each(|(index, record)| {
        check(record).map_err(|what| Error::Record(table, index, what))
    })
}
