//! Reading payloads, whole and damaged ones.

use proptest::prelude::*;
use segue_system_image::format::*;
use segue_system_image::resources::{self, Bin};
use segue_system_image::write::{Tables, append, seal};
use segue_system_image::{Error, Payload};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes at an address that is a multiple of 8.
struct Aligned(Vec<u64>, usize);

impl Aligned {
    fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        Self(words, bytes.len())
    }
    fn bytes(&self) -> &[u8] {
        &self.0.as_bytes()[..self.1]
    }
}

fn domain(tables: &mut Tables, name: &str, has_endpoint: bool) {
    let program: Vec<u8> = (0..0x3000u32)
        .map(|index| index as u8 ^ name.as_bytes()[0])
        .collect();
    let offset = tables.append_data(&program);
    let run = |address, offset, pages, kind, role, page_bits, writable| Run {
        address,
        offset,
        pages,
        kind,
        role,
        page_bits,
        writable,
    };
    let runs = [
        run(
            0x20_0000,
            offset,
            2,
            run_kind::IN_PLACE,
            run_role::PROGRAM,
            12,
            0,
        ),
        run(
            0x20_2000,
            offset + 0x2000,
            1,
            run_kind::COPIED,
            run_role::PROGRAM,
            12,
            1,
        ),
        run(0x40_0000, 0, 3, run_kind::ZERO, run_role::PROGRAM, 21, 1),
        run(
            layout::STACK_TOP - 0x2000,
            0,
            2,
            run_kind::ZERO,
            run_role::STACK,
            12,
            1,
        ),
        run(
            layout::IPC_BUFFER,
            0,
            1,
            run_kind::ZERO,
            run_role::IPC_BUFFER,
            12,
            1,
        ),
    ];
    let paging = [(0, 3), (0, 2), (0x20_0000, 1)].map(|(address, level)| Paging {
        address,
        level,
        reserved: 0,
    });
    let memory = resources::domain_bytes(&runs, paging.len());
    let own = tables.protection_domains.len() as u32;
    let input = if has_endpoint {
        capability_kind::ENDPOINT
    } else {
        capability_kind::NOTIFICATION
    };
    let capabilities = [
        Capability {
            badge: 0,
            object: own,
            slot: 1,
            kind: input,
            rights: rights::READ,
        },
        Capability {
            badge: u64::from(own) + 1,
            object: 0,
            slot: 2,
            kind: capability_kind::FAULT_ENDPOINT,
            rights: 5,
        },
        Capability {
            badge: 0,
            object: 0,
            slot: 138,
            kind: capability_kind::IRQ_HANDLER,
            rights: 7,
        },
        Capability {
            badge: 0,
            object: 0,
            slot: 394,
            kind: capability_kind::IO_PORTS,
            rights: 7,
        },
    ];
    let map = |address, region, writable, cached| Map {
        address,
        region,
        writable,
        cached,
        reserved: [0; 2],
    };
    let maps = [
        map(0x1000_0000, 0, 1, 1),
        map(0x2000_0000, 1, 0, 1),
        map(0x3000_0000, 2, 1, 0),
    ];
    let record = ProtectionDomain {
        name: padded_name(name),
        entry: 0x20_0000,
        program_offset: offset,
        program_length: program.len() as u64,
        program_hash: [0; 32],
        runs: append(&mut tables.runs, runs),
        paging: append(&mut tables.paging, paging),
        maps: append(&mut tables.maps, maps),
        capabilities: append(&mut tables.capabilities, capabilities),
        memory: tables.append_memory(memory),
        priority: 100,
        has_endpoint: u32::from(has_endpoint),
        restart_limit: 0,
        restart_always: 0,
        heartbeat: 0,
        paced: 0,
        reserved: 0,
        restart_backoff: 0,
    };
    tables.protection_domains.push(record);
}

fn region(name: &str, kind: u8, size: u64, memory: Span) -> Region {
    Region {
        name: padded_name(name),
        size,
        physical_address: 0,
        data_offset: 0,
        data_length: 0,
        memory,
        kind,
        contents: region_contents::ZERO,
        page_bits: 12,
        reserved: [0; 5],
    }
}

/// A payload with a record of each kind.
fn sample_tables() -> Tables {
    let mut tables = Tables {
        console: 0,
        ..Tables::default()
    };
    let memory = tables.append_memory(0x5000);
    let data = tables.append_data(b"some files");
    tables.regions = vec![
        region("pool", region_kind::MEMORY, 0x5000, memory),
        Region {
            data_offset: data,
            data_length: 0x1000,
            contents: region_contents::BYTES,
            ..region("files", region_kind::IN_PLACE, 0x1000, Span::default())
        },
        Region {
            physical_address: 0xe000_0000,
            ..region("registers", region_kind::DEVICE, 0x4000, Span::default())
        },
    ];
    tables.irqs.push(Irq {
        badge: layout::notification_badge(0),
        protection_domain: 0,
        kind: irq_kind::MSI,
        vector: 16,
        ioapic: 0,
        pin: 0,
        level: 0,
        low: 0,
        requester: 0x98,
        handle: 0,
        reserved: [0; 2],
    });
    tables.ports.push(Ports {
        first: 0x3f8,
        last: 0x3ff,
    });
    let io_tables = append(
        &mut tables.io_tables,
        [0, 0, 0x1000_0000].map(|address| IoTable { address }),
    );
    let maps = append(
        &mut tables.io_maps,
        [IoMap {
            address: 0x1000_0000,
            region: 0,
            writable: 1,
        }],
    );
    tables.io_spaces.push(IoSpace {
        name: padded_name("nic"),
        requester: 0x98,
        domain: 1,
        reserved: 0,
        tables: io_tables,
        maps,
    });
    domain(&mut tables, "server", true);
    domain(&mut tables, "client", false);
    tables
}

fn sample() -> Vec<u8> {
    sample_tables().finish()
}

#[test]
fn what_is_written_is_read() {
    let bytes = Aligned::new(&sample());
    let payload = Payload::read(bytes.bytes()).expect("a good payload");
    let names: Vec<&str> = payload
        .protection_domains
        .iter()
        .map(|domain| name(&domain.name))
        .collect();
    assert_eq!(names, ["server", "client"]);
    assert!(
        payload
            .protection_domains
            .iter()
            .all(|domain| payload.program_is_intact(domain))
    );
    let client = &payload.protection_domains[1];
    let runs = Payload::slice(payload.runs, client.runs);
    assert_eq!(
        payload.data(runs[1].offset, 4),
        [b'c', b'c' ^ 1, b'c' ^ 2, b'c' ^ 3]
    );
    let files = &payload.regions[1];
    assert_eq!(
        &payload.data(files.data_offset, files.data_length)[..10],
        b"some files"
    );
    assert!(runs.iter().all(|run| run.offset % PAGE_SIZE == 0));
}

#[test]
fn a_changed_program_is_noticed() {
    let mut bytes = sample();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let bytes = Aligned::new(&bytes);
    let payload = Payload::read(bytes.bytes()).expect("the tables are unchanged");
    let intact: Vec<bool> = payload
        .protection_domains
        .iter()
        .map(|domain| payload.program_is_intact(domain))
        .collect();
    assert_eq!(intact, [true, false]);
}

#[test]
fn a_policy_that_means_nothing_is_refused() {
    let fields = [
        core::mem::offset_of!(ProtectionDomain, restart_always),
        core::mem::offset_of!(ProtectionDomain, heartbeat) + 3,
        core::mem::offset_of!(ProtectionDomain, paced),
        core::mem::offset_of!(ProtectionDomain, reserved),
    ];
    for field in fields {
        let mut bytes = sample();
        let (header, _) = Header::read_from_prefix(&bytes).expect("a header");
        let tables = header.tables_length as usize;
        let records = header.tables[Table::ProtectionDomains as usize].offset as usize;
        bytes[records + size_of::<ProtectionDomain>() + field] = 2;
        seal(&mut bytes[..tables]);
        assert_eq!(
            Payload::read(Aligned::new(&bytes).bytes()).unwrap_err(),
            Error::Record(Table::ProtectionDomains, 1, "restart policy")
        );
    }
}

#[test]
fn what_is_no_payload_is_refused() {
    assert_eq!(Payload::read(&[]).unwrap_err(), Error::NotAPayload);
    assert_eq!(
        Payload::read(Aligned::new(&[0; 4096]).bytes()).unwrap_err(),
        Error::NotAPayload
    );
    let whole = sample();
    let cut = Aligned::new(&whole[..whole.len() - 1]);
    let length = whole.len() as u64;
    assert_eq!(
        Payload::read(cut.bytes()).unwrap_err(),
        Error::Truncated(length, length - 1)
    );
}

#[test]
fn every_changed_bit_of_the_tables_is_noticed() {
    let whole = sample();
    let (header, _) = Header::read_from_prefix(&whole).expect("a header");
    let mut bytes = Aligned::new(&whole);
    for byte in 0..header.tables_length as usize {
        bytes.0.as_mut_bytes()[byte] ^= 4;
        assert!(Payload::read(bytes.bytes()).is_err(), "byte {byte}");
        bytes.0.as_mut_bytes()[byte] ^= 4;
    }
    assert!(Payload::read(bytes.bytes()).is_ok());
}

/// Uses everything of a payload as `init` does, so that a wrong index panics.
fn use_all(payload: &Payload) {
    let mut sum = 0u64;
    for domain in payload.protection_domains {
        sum += u64::from(payload.program_is_intact(domain));
        for run in domain.runs.range().map(|index| &payload.runs[index]) {
            let length = u64::from(run.pages) << run.page_bits;
            if run.kind != run_kind::ZERO {
                assert_eq!(payload.data(run.offset, length).len() as u64, length);
            }
        }
        for map in domain.maps.range().map(|index| &payload.maps[index]) {
            sum += payload.regions[map.region as usize].size & 1;
        }
        for index in domain.paging.range() {
            sum += u64::from(payload.paging[index].level);
        }
        for index in domain.capabilities.range() {
            let capability = &payload.capabilities[index];
            let object = capability.object as usize;
            match capability.kind {
                capability_kind::NOTIFICATION | capability_kind::ENDPOINT => {
                    sum += payload.protection_domains[object].entry & 1;
                }
                capability_kind::IRQ_HANDLER => sum += payload.irqs[object].badge & 1,
                capability_kind::IO_PORTS => sum += u64::from(payload.ports[object].last),
                _ => (),
            }
        }
    }
    for region in payload.regions {
        let data = payload.data(region.data_offset, region.data_length);
        assert_eq!(data.len() as u64, region.data_length);
        let memory: u64 = region
            .memory
            .range()
            .map(|index| 1u64 << payload.memory[index].bits)
            .sum();
        assert!(region.kind != region_kind::MEMORY || memory >= region.size);
    }
    for space in payload.io_spaces {
        sum += space
            .tables
            .range()
            .map(|index| payload.io_tables[index].address & 1)
            .sum::<u64>();
        for map in space.maps.range().map(|index| &payload.io_maps[index]) {
            assert!(map.address + payload.regions[map.region as usize].size <= 1 << 39);
        }
    }
    for irq in payload.irqs {
        sum += payload.protection_domains[irq.protection_domain as usize].entry & 1;
    }
    let needs = resources::needs(payload);
    assert!(needs.slots > 0 && sum < u64::MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Even with a right hash, no change of the tables makes reading panic, and
    /// what is accepted can be used.
    #[test]
    fn changed_tables_with_a_right_hash_are_refused_or_harmless(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = with_grants(|_, _, _| ());
        let (header, _) = Header::read_from_prefix(&bytes).expect("a header");
        let tables = header.tables_length as usize;
        for (place, value) in changes {
            bytes[place.index(tables)] = value;
        }
        seal(&mut bytes[..tables]);
        let bytes = Aligned::new(&bytes);
        if let Ok(payload) = Payload::read(bytes.bytes()) {
            use_all(&payload);
        }
    }

    /// The untypeds for a size hold it, and any objects that are made largest
    /// first fill them without a gap.
    #[test]
    fn untypeds_are_filled_without_a_gap(large in 0u64..5, pages in 0u64..1500, small in 0u64..600) {
        let sizes: Vec<u64> = std::iter::repeat_n(1 << 21, large as usize)
            .chain(std::iter::repeat_n(1 << 12, pages as usize))
            .chain(std::iter::repeat_n(1 << 5, small as usize))
            .collect();
        let total: u64 = sizes.iter().sum();
        let mut chunks = resources::untypeds_for(total);
        let (mut room, mut used) = (0, 0);
        for size in sizes {
            if used + size > room {
                prop_assert_eq!(used, room, "a gap");
                room = 1 << chunks.next().expect("one more untyped");
                used = 0;
            }
            used += size;
        }
        prop_assert_eq!(chunks.next(), None);
    }

    /// Largest first, an allocation fails only if there is less memory than
    /// wanted or no untyped is large enough.
    #[test]
    fn nothing_is_lost_to_alignment(
        bins in prop::collection::vec(12u32..24, 1..12),
        mut wanted in prop::collection::vec(12u32..20, 1..60),
    ) {
        let mut bins: Vec<Bin> = bins.into_iter().map(|bits| Bin { bits, used: 0 }).collect();
        wanted.sort_by(|a, b| b.cmp(a));
        for bits in wanted {
            let room = bins.iter().map(|bin| ((1u64 << bin.bits) - bin.used) >> bits).sum::<u64>();
            let taken = resources::allocate(&mut bins, bits);
            prop_assert_eq!(taken.is_some(), room > 0);
        }
    }

    #[test]
    fn a_range_is_split_into_aligned_powers_of_two(start in 0u64..1 << 20, pages in 1u64..1 << 20) {
        let (start, end) = (start << 12, (start + pages) << 12);
        let mut next = start;
        resources::split_range(start, end, |bits| {
            assert!(next.is_multiple_of(1 << bits));
            next += 1 << bits;
        });
        prop_assert_eq!(next, end);
    }
}

#[test]
fn a_used_untyped_is_preferred_then_a_small_one() {
    let bin = |bits, used| Bin { bits, used };
    let mut bins = [bin(20, 0), bin(14, 0), bin(16, 0x1000)];
    assert_eq!(resources::allocate(&mut bins, 14), Some(2));
    assert_eq!(bins[2].used, 0x8000);
    assert_eq!(resources::allocate(&mut bins, 15), Some(2));
    assert_eq!(resources::allocate(&mut bins, 13), Some(1));
    assert_eq!(resources::allocate(&mut bins, 16), Some(0));
    assert_eq!(resources::allocate(&mut bins, 20), None);
}

#[test]
fn needs_counts_every_slot_and_byte() {
    let bytes = Aligned::new(&sample());
    let payload = Payload::read(bytes.bytes()).expect("a good payload");
    let needs = resources::needs(&payload);
    // Two protection domains: runs 2+1+3+2+1 pages, 3 page tables, 8 objects,
    // maps of 5, 1 and 4 pages; regions of 5 and 4 frames (and carving), an IO
    // map of 5 pages, 3 IO page tables, an interrupt (two slots), an IO space.
    let domain = 9 + 3 + 8 + 10;
    let memory = payload.memory.len() as u64;
    let expected =
        resources::INIT_SLOTS + memory + 2 * domain + 5 + 4 + resources::CARVING_SLOTS + 5 + 3 + 3;
    assert_eq!(needs.slots, expected);
    let own = (3 << 21) + ((4 + 4) << 12) + (1 << 14) + 2 * (1 << 11);
    let lasting: u64 = (5 << 12) + (1 << 11) + 4 * 32 + 2 * 16;
    let rounded = |bytes: u64| bytes.next_multiple_of(0x1000);
    assert_eq!(needs.memory, 0x5000 + 2 * rounded(own) + rounded(lasting));
}

/// The slots, without those of untypeds, of a system with a status region, mapped once.
fn with_status(size: u64, page_bits: u8, writable: u8, reached: bool) -> Result<u64, Error> {
    let mut tables = Tables::default();
    let memory = tables.append_memory(size);
    tables.regions = vec![Region {
        contents: region_contents::SYSTEM_STATUS,
        page_bits,
        ..region("status", region_kind::MEMORY, size, memory)
    }];
    tables.maps.push(Map {
        address: 0x2000_0000,
        region: 0,
        writable,
        cached: 1,
        reserved: [0; 2],
    });
    if reached {
        tables.io_maps.push(IoMap {
            address: 0x2000_0000,
            region: 0,
            writable: 0,
        });
    }
    let bytes = Aligned::new(&tables.finish());
    Payload::read(bytes.bytes())
        .map(|payload| resources::needs(&payload).slots - payload.memory.len() as u64)
}

#[test]
fn init_alone_writes_what_it_keeps_in_view() {
    let pages = 2;
    assert_eq!(
        with_status(pages << 12, 12, 0, false),
        Ok(resources::INIT_SLOTS + 3 * pages),
        "frames, those of the map, those in view"
    );
    let refused = |result: Result<u64, Error>, table: Table, what: &str| match result {
        Err(Error::Record(found, _, why)) => assert_eq!((found, why), (table, what)),
        other => panic!("{other:?}"),
    };
    let large = "large pages that init writes";
    refused(with_status(1 << 21, 21, 0, false), Table::Regions, large);
    let many = "regions that init writes are too large";
    refused(with_status(257 << 12, 12, 0, false), Table::Regions, many);
    let written = "a region of init's that may be written";
    refused(with_status(0x2000, 12, 1, false), Table::Maps, written);
    let reached = "a region of init's that a device may reach";
    refused(with_status(0x2000, 12, 0, true), Table::IoMaps, reached);
}

/// The sample with a function that the first protection domain grants to the second, after a change.
fn with_grants(change: impl FnOnce(&mut Function, &mut Grantee, &mut [Region])) -> Vec<u8> {
    let mut tables = sample_tables();
    let first = tables.regions.len() as u32;
    let memory = tables.append_memory(0x8000);
    let dummies = tables.append_memory(0x4000);
    tables.regions.extend([
        Region {
            physical_address: 0xe010_4000,
            ..region("vf1", region_kind::UNTYPED, 0x4000, Span::default())
        },
        region("memory", region_kind::MEMORY, 0x8000, memory),
        region("dummies", region_kind::MEMORY, 0x4000, dummies),
    ]);
    let mut function = Function {
        number: 1,
        manager: 0,
        region: first,
        requester: 0x9a,
        vectors: [40, 41],
    };
    let mut grantee = Grantee {
        badges: [1 << 63 | 1, 1 << 63 | 2],
        protection_domain: 1,
        manager: 0,
        index: 0,
        memory: first + 1,
        dummies: first + 2,
        io_tables: 3,
    };
    change(&mut function, &mut grantee, &mut tables.regions);
    tables.functions.push(function);
    tables.grantees.push(grantee);
    tables.finish()
}

#[test]
fn grants_are_counted_and_what_makes_no_sense_is_refused() {
    let plain = Aligned::new(&sample());
    let plain = Payload::read(plain.bytes()).expect("a good payload");
    let bytes = Aligned::new(&with_grants(|_, _, _| ()));
    let payload = Payload::read(bytes.bytes()).expect("a good payload");
    let slots = |payload: &Payload| resources::needs(payload).slots - payload.memory.len() as u64;
    // Registers (and carving), two handlers; frames of memory and dummies; two CNodes, three IO page
    // tables; the CNode of authority.
    let expected = 1 + resources::CARVING_SLOTS + 2 + 8 + 4 + 2 + 3 + 1;
    assert_eq!(slots(&payload) - slots(&plain), expected);

    type Change = fn(&mut Function, &mut Grantee, &mut [Region]);
    let mistakes: [(Change, Table, &str); 9] = [
        (|f, _, _| f.manager = 9, Table::Functions, "manager"),
        (|_, g, _| g.manager = 1, Table::Grantees, "manager"),
        (|f, _, _| f.number = 8, Table::Functions, "number"),
        (|f, _, _| f.region = 0, Table::Functions, "registers"),
        (|f, _, _| f.vectors[1] = 107, Table::Functions, "vector"),
        (
            |_, g, _| g.protection_domain = 0,
            Table::Grantees,
            "protection domain",
        ),
        (
            |_, g, _| g.io_tables = 2041,
            Table::Grantees,
            "more memory than a function can reach",
        ),
        (
            |_, g, _| g.dummies = g.memory,
            Table::Grantees,
            "pages that stand in for registers",
        ),
        (
            |f, _, regions| regions[f.region as usize].physical_address += 0x1000,
            Table::Regions,
            "size of an untyped",
        ),
    ];
    for (change, table, what) in mistakes {
        let bytes = Aligned::new(&with_grants(change));
        match Payload::read(bytes.bytes()) {
            Err(Error::Record(found, _, why)) => assert_eq!((found, why), (table, what)),
            other => panic!("{what}: {other:?}"),
        }
    }
}
