//! What a device reaches: the rows of the IO table, H1 to H3, H7 and H9 as a device sees them.

use sel4::cap::{IoPageTable, IoSpace, Page};
use sel4::{CPtr, CapRights, Error, ObjectType, Word};

use crate::Finding;
use crate::edu::{Edu, io_space};
use crate::workshop::{Workshop, delete, read, retype, revoke, write};

/// Where the device sees the page that it is to write to.
const TARGET: Word = 0x10_0000;
/// Where nothing is ever mapped, though the tables are there.
const NEIGHBOUR: Word = TARGET + 0x1000;
/// Where it sees the page that it fetches the word from.
const SOURCE: Word = TARGET + 0x2000;
/// Where it sees a table that is mapped once more than there are levels: tables are mapped on
/// 2 MiB borders.
const TABLE: Word = TARGET & !0x1f_ffff;
/// Where nothing is mapped, and no last table either.
const ELSEWHERE: Word = TABLE + (1 << 21);
/// The word.
const WORD: Word = 0x5e90_e5e9_05e9_0e5e;

/// Levels of a device's page tables on this kernel.
const LEVELS: usize = 3;
/// An entry of such a table that allows reading and writing.
const PRESENT: Word = 3;

/// Which entry of a table is for `address`; the tables of level 0 lead to pages.
fn entry(address: Word, level: usize) -> Word {
    address >> (12 + 9 * level) & 0x1ff
}

/// A device that has fetched `WORD` and may write to one page.
struct Bench {
    edu: Edu,
    space: CPtr,
    /// Untyped memory of each table, from the top.
    table_memory: [CPtr; LEVELS],
    tables: [CPtr; LEVELS],
    /// Untyped memory of the page.
    memory: CPtr,
    /// The capability that the memory was retyped to; not mapped anywhere.
    page: CPtr,
    /// The capability that is mapped for the device.
    mapped: CPtr,
    /// Where the root task sees the page.
    address: Word,
}

impl Bench {
    fn new(workshop: &mut Workshop) -> Self {
        assert_eq!(workshop.boot_info.io_page_table_levels(), LEVELS as Word);
        let edu = Edu::new(workshop);
        let space = io_space(workshop);
        let table_memory = [(); LEVELS].map(|()| workshop.object(ObjectType::Untyped, 12));
        let tables = table_memory.map(|memory| {
            let table = workshop.slot();
            retype(memory, ObjectType::IoPageTable, 0, table, 1).expect("the memory suffices");
            table
        });
        for table in tables {
            IoPageTable(table)
                .map(space, TARGET)
                .expect("a table is missing");
        }

        let source = workshop.object(ObjectType::SmallPage, 0);
        let seen = workshop.copy(source);
        write(workshop.map(seen), WORD);
        map(source, space, SOURCE, CapRights::READ);
        edu.fetch(SOURCE);

        let memory = workshop.object(ObjectType::Untyped, 12);
        let page = workshop.slot();
        retype(memory, ObjectType::SmallPage, 0, page, 1).expect("the memory suffices");
        let mapped = workshop.copy(page);
        let seen = workshop.copy(page);
        let bench = Self {
            edu,
            space,
            table_memory,
            tables,
            memory,
            page,
            mapped,
            address: workshop.map(seen),
        };
        map(mapped, space, TARGET, CapRights::READ_WRITE);
        bench
    }

    /// Like `new`, and the device was seen to reach the page, so its way is in every cache.
    fn reached(workshop: &mut Workshop) -> Self {
        let bench = Self::new(workshop);
        assert_eq!(bench.reaches(TARGET), Finding::Open);
        bench
    }

    /// Whether the device reaches the page through its address `to`.
    fn reaches(&self, to: Word) -> Finding {
        self.reaches_page(to, self.address)
    }

    /// Whether the device reaches the page at `address` through its address `to`.
    fn reaches_page(&self, to: Word, address: Word) -> Finding {
        write(address, 0);
        self.edu.store(to);
        match read(address) {
            0 => Finding::Shut,
            WORD => Finding::Open,
            other => panic!("the device wrote {other:#x}"),
        }
    }

    /// Has the device fetch `word`, by way of the page.
    fn hand_over(&self, word: Word) {
        write(self.address, word);
        self.edu.fetch(TARGET);
    }

    /// A new table, mapped where all levels are there already, if the kernel does that.
    fn table_as_page(&self, workshop: &mut Workshop) -> Option<IoPageTable> {
        let table = IoPageTable(workshop.object(ObjectType::IoPageTable, 0));
        match table.map(self.space, TARGET) {
            Ok(()) => Some(table),
            Err(Error::DeleteFirst) => None,
            Err(error) => panic!("neither mapped nor refused, but: {error}"),
        }
    }

    /// New memory from what was one page or table: a page of the root task's.
    fn page_from(&self, workshop: &mut Workshop, memory: CPtr) -> Word {
        let page = workshop.slot();
        retype(memory, ObjectType::SmallPage, 0, page, 1).expect("the memory is free");
        let address = workshop.map(page);
        assert_eq!(read(address), 0, "memory is new");
        address
    }
}

fn map(page: CPtr, space: CPtr, address: Word, rights: CapRights) {
    Page(page)
        .map_io(space, rights, address)
        .expect("the page can be mapped for the device");
}

/// A mapped page is read (by the bench) and written.
pub fn mapped(workshop: &mut Workshop) -> Finding {
    Bench::new(workshop).reaches(TARGET)
}

/// A device without tables reaches nothing.
pub fn no_context(workshop: &mut Workshop) -> Finding {
    let edu = Edu::new(workshop);
    let page = workshop.object(ObjectType::SmallPage, 0);
    let address = workshop.map(page);
    let physical = physical_address(page);
    for to in [TARGET, physical] {
        write(address, WORD);
        edu.store(to);
        if read(address) != WORD {
            return Finding::Open;
        }
    }
    Finding::Shut
}

/// An address beside a mapped one.
pub fn neighbour(workshop: &mut Workshop) -> Finding {
    Bench::reached(workshop).reaches(NEIGHBOUR)
}

/// The page's physical address.
pub fn at_physical_address(workshop: &mut Workshop) -> Finding {
    let bench = Bench::reached(workshop);
    bench.reaches(physical_address(bench.page))
}

fn physical_address(page: CPtr) -> Word {
    let address = Page(page).get_address().expect("a page has an address");
    assert!(address < 1 << 28, "the device has 28 address bits");
    address
}

/// The page was unmapped.
pub fn unmapped(workshop: &mut Workshop) -> Finding {
    let bench = Bench::reached(workshop);
    Page(bench.mapped).unmap().expect("it is mapped");
    bench.reaches(TARGET)
}

/// The page is mapped for reading only.
pub fn read_only(workshop: &mut Workshop) -> Finding {
    let bench = Bench::new(workshop);
    let page = workshop.copy(bench.page);
    map(page, bench.space, NEIGHBOUR, CapRights::READ);
    bench.reaches(NEIGHBOUR)
}

/// H1: the mapped capability was deleted, another one for the page is left.
pub fn mapped_copy_deleted(workshop: &mut Workshop) -> Finding {
    let bench = Bench::reached(workshop);
    delete(bench.mapped);
    bench.reaches(TARGET)
}

/// H1: all capabilities for the page were revoked, the mapped one not as the last, and the memory is
/// a page of somebody else's.
pub fn frame_revoked(workshop: &mut Workshop) -> Finding {
    let bench = Bench::reached(workshop);
    // A copy is deleted after what it was copied from.
    workshop.copy(bench.mapped);
    revoke(bench.memory);
    let address = bench.page_from(workshop, bench.memory);
    bench.reaches_page(TARGET, address)
}

/// The last table was unmapped.
pub fn table_unmapped(workshop: &mut Workshop) -> Finding {
    let bench = Bench::reached(workshop);
    IoPageTable(bench.tables[LEVELS - 1])
        .unmap()
        .expect("it is mapped");
    bench.reaches(TARGET)
}

/// H3: the last table was unmapped, the page's memory given to somebody else, the table mapped again.
pub fn table_mapped_again(workshop: &mut Workshop) -> Finding {
    let bench = Bench::reached(workshop);
    let table = IoPageTable(bench.tables[LEVELS - 1]);
    table.unmap().expect("it is mapped");
    revoke(bench.memory);
    let address = bench.page_from(workshop, bench.memory);
    table.map(bench.space, TARGET).expect("the place is free");
    bench.reaches_page(TARGET, address)
}

/// H2: the top table was deleted.
pub fn top_table_deleted(workshop: &mut Workshop) -> Finding {
    let bench = Bench::reached(workshop);
    delete(bench.tables[0]);
    bench.reaches(TARGET)
}

/// H2: the memory of all tables was revoked, from the top.
pub fn tables_revoked(workshop: &mut Workshop) -> Finding {
    let bench = Bench::reached(workshop);
    for memory in bench.table_memory {
        revoke(memory);
    }
    bench.reaches(TARGET)
}

/// H2: the IO space was deleted.
pub fn space_deleted(workshop: &mut Workshop) -> Finding {
    let bench = Bench::reached(workshop);
    delete(bench.space);
    bench.reaches(TARGET)
}

/// H2: the memory of all tables was revoked and given to somebody who writes tables of their own
/// there, for a page that was never the device's.
pub fn tables_forged(workshop: &mut Workshop) -> Finding {
    let bench = Bench::reached(workshop);
    let victim = workshop.object(ObjectType::SmallPage, 0);
    let address = workshop.map(victim);
    for memory in bench.table_memory {
        revoke(memory);
    }
    // Each table's entry for the target leads to the next one, and the last to the victim.
    let mut next = physical_address(victim);
    for (level, memory) in bench.table_memory.into_iter().rev().enumerate() {
        let page = workshop.slot();
        retype(memory, ObjectType::SmallPage, 0, page, 1).expect("the memory is free");
        let table = workshop.map(page);
        write(table + 8 * entry(TARGET, level), next | PRESENT);
        next = physical_address(page);
    }
    bench.reaches_page(TARGET, address)
}

/// After the tables are gone, new ones take their place.
pub fn new_tables(workshop: &mut Workshop) -> Finding {
    let bench = Bench::reached(workshop);
    for memory in bench.table_memory {
        revoke(memory);
    }
    Page(bench.mapped).unmap().expect("it was mapped");
    for _ in 0..LEVELS {
        let table = workshop.object(ObjectType::IoPageTable, 0);
        IoPageTable(table)
            .map(bench.space, TARGET)
            .expect("a table is missing");
    }
    map(bench.mapped, bench.space, TARGET, CapRights::READ_WRITE);
    bench.reaches(TARGET)
}

/// H3: a table was unmapped and mapped elsewhere through one of two capabilities. When both are
/// gone, its memory is somebody else's, who forges an entry in it.
pub fn table_copy_unmapped(workshop: &mut Workshop) -> Finding {
    let bench = Bench::reached(workshop);
    let elsewhere = TARGET + (1 << 21);
    let table = IoPageTable(bench.tables[LEVELS - 1]);
    let copy = workshop.copy(table.cptr());
    match table.unmap() {
        Ok(()) => {}
        Err(Error::RevokeFirst) => return Finding::Shut,
        Err(error) => panic!("not unmapped, but: {error}"),
    }
    table
        .map(bench.space, elsewhere)
        .expect("the place is free");
    delete(table.cptr());
    delete(copy);
    let forged = bench.page_from(workshop, bench.table_memory[LEVELS - 1]);
    let victim = workshop.object(ObjectType::SmallPage, 0);
    let address = workshop.map(victim);
    write(
        forged + 8 * entry(elsewhere, 0),
        physical_address(victim) | PRESENT,
    );
    bench.reaches_page(elsewhere, address)
}

/// H7: a copy of an IO space survives the revocation of what it was copied from, and maps a table
/// for the next holder of the device.
pub fn space_copy_survives(workshop: &mut Workshop) -> Finding {
    let space = io_space(workshop);
    let copy = workshop.copy(space);
    revoke(space);
    delete(space);
    let next = IoSpace(io_space(workshop));
    let table = IoPageTable(workshop.object(ObjectType::IoPageTable, 0));
    if workshop.try_copy(copy).is_ok() {
        table
            .map(IoSpace(copy), TARGET)
            .expect("the copy is as good as ever");
        return Finding::Open;
    }
    table
        .map(next, TARGET)
        .expect("the next holder can use the device");
    Finding::Shut
}

/// H9: a table that is mapped where no level is missing is a page of the device's. Used to have the
/// device write into the table and read from it.
pub fn table_as_page(workshop: &mut Workshop) -> Finding {
    let bench = Bench::reached(workshop);
    if bench.table_as_page(workshop).is_none() {
        return Finding::Shut;
    }
    bench.edu.store(TABLE + 8);
    bench.hand_over(0);
    bench.edu.fetch(TABLE + 8);
    bench.reaches(TARGET)
}

/// H9: as above, and then the same table is also one of the device's last tables, so that the device
/// writes its own translations. The entry that makes the table a page is kept by unmapping and
/// mapping the table it is in (which H3 lets it survive); meanwhile the kernel does not find it.
pub fn table_forged_by_the_device(workshop: &mut Workshop) -> Finding {
    let bench = Bench::reached(workshop);
    let victim = workshop.object(ObjectType::SmallPage, 0);
    let address = workshop.map(victim);
    let Some(forged) = bench.table_as_page(workshop) else {
        return Finding::Shut;
    };
    let last = IoPageTable(bench.tables[LEVELS - 1]);
    last.unmap().expect("it is mapped");
    forged.unmap().expect("it is mapped");
    forged
        .map(bench.space, ELSEWHERE)
        .expect("the place is free");
    last.map(bench.space, TARGET).expect("the place is free");

    bench.hand_over(physical_address(victim) | PRESENT);
    bench.edu.store(TABLE + 8 * entry(ELSEWHERE, 0));
    bench.hand_over(WORD);
    bench.reaches_page(ELSEWHERE, address)
}

/// An address that the levels do not reach is the same as one that they do, for the kernel: nothing
/// is mapped over what is there, and a page that is mapped so is unmapped like any other.
pub fn address_beyond_the_levels(workshop: &mut Workshop) -> Finding {
    const BEYOND: Word = 1 << 39;
    let bench = Bench::reached(workshop);
    let other = workshop.object(ObjectType::SmallPage, 0);
    let over = Page(other).map_io(bench.space, CapRights::READ_WRITE, BEYOND + TARGET);
    assert!(matches!(over, Err(Error::DeleteFirst)), "{over:?}");
    Page(bench.mapped).unmap().expect("it is mapped");
    let mapped = workshop.copy(bench.page);
    map(mapped, bench.space, BEYOND + TARGET, CapRights::READ_WRITE);
    assert_eq!(bench.reaches(TARGET), Finding::Open);
    Page(mapped).unmap().expect("it is mapped");
    bench.reaches(TARGET)
}

/// Capabilities to a table and a page of an IO space that was taken back: what is unmapped through
/// them is no longer the next holder's.
pub fn stale_capabilities(workshop: &mut Workshop) -> Finding {
    let bench = Bench::reached(workshop);
    delete(bench.space);
    let space = io_space(workshop);
    for _ in 0..LEVELS {
        let table = workshop.object(ObjectType::IoPageTable, 0);
        IoPageTable(table)
            .map(space, TARGET)
            .expect("a table is missing");
    }
    let page = workshop.object(ObjectType::SmallPage, 0);
    let seen = workshop.copy(page);
    let address = workshop.map(seen);
    map(page, space, TARGET, CapRights::READ_WRITE);
    for table in bench.tables {
        IoPageTable(table)
            .unmap()
            .expect("an unmapped table may be unmapped");
    }
    Page(bench.mapped).unmap().expect("it was mapped");
    bench.reaches_page(TARGET, address)
}
