//! The boot image that the back end makes of a model, read as the kernel and
//! `init` read it.

mod support;

use std::path::PathBuf;

use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, elf};
use segue_image::back_end::{self, BootImage, Problem};
use segue_image::model::*;
use segue_system_image::Payload;
use segue_system_image::format::{self, capability_kind, layout, region_kind, run_kind};
use support::{CODE, DATA, raw_program};

/// A folder of programs that is removed again.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("segue-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
    fn init(&self) -> PathBuf {
        self.put("init", &raw_program(&[("payload_location", 24)]))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn region(name: &str, size: u64, contents: Contents) -> MemoryRegion {
    MemoryRegion {
        name: name.into(),
        size,
        page_size: 0x1000,
        physical_address: None,
        is_granted: false,
        contents,
    }
}

fn domain(name: &str, priority: u8, program: PathBuf) -> ProtectionDomain {
    ProtectionDomain {
        name: name.into(),
        priority,
        stack_size: 0x2000,
        restart: None,
        heartbeat: 0,
        program,
        image_name: String::new(),
        images: vec![],
        maps: vec![],
        irqs: vec![],
        io_ports: vec![],
        patches: vec![],
        symbols_size_patches: vec![],
    }
}

fn map(region: usize, address: u64, writable: bool) -> Map {
    Map {
        region: RegionIndex(region),
        address,
        writable,
        cached: true,
    }
}

fn end(pd: usize, id: u8, protected_calls: bool, notify: bool) -> ChannelEnd {
    ChannelEnd {
        pd: PdIndex(pd),
        id,
        protected_calls,
        notify,
    }
}

const FUNCTION: PciFunction = PciFunction {
    bus: 0,
    device: 0x13,
    function: 2,
};

/// A server with a device, and a client that calls it.
fn system(folder: &Folder) -> System {
    let program = folder.put("program", &raw_program(&[("word", 8), ("size", 8)]));
    let mut server = domain("server", 200, program.clone());
    server.maps = vec![map(0, 0x1000_0000, true), map(1, 0x2000_0000, false)];
    server.irqs = vec![
        Irq {
            id: 4,
            vector: 16,
            source: IrqSource::Msi {
                function: FUNCTION,
                handle: 1,
            },
        },
        Irq {
            id: 5,
            vector: 3,
            source: IrqSource::IoApic {
                ioapic: 0,
                pin: 4,
                level: true,
                low: true,
            },
        },
    ];
    server.io_ports = vec![IoPorts {
        id: 2,
        first: 0x3f8,
        count: 8,
    }];
    server.symbols_size_patches = vec!["size".into()];
    let mut client = domain("client", 100, program);
    client.maps = vec![map(0, 0x3000_0000, false), map(2, 0x4000_0000, false)];
    client.patches = vec![Patch {
        symbol: "word".into(),
        bytes: vec![1, 2, 3, 4, 5, 6, 7, 8],
    }];
    System {
        machine_memory: 128 << 20,
        regions: vec![
            region("shared", 0x4000, Contents::Zero),
            region("symbols", 0, Contents::Symbols),
            region("files", 0x2000, Contents::Bytes(vec![7; 0x1001])),
        ],
        protection_domains: vec![server, client],
        channels: vec![
            Channel {
                ends: [end(1, 1, true, true), end(0, 9, false, true)],
            },
            Channel {
                ends: [end(0, 30, false, true), end(1, 31, false, false)],
            },
        ],
        io_address_spaces: vec![IoAddressSpace {
            name: "io".into(),
            function: FUNCTION,
            domain_id: 3,
            maps: vec![IoMap {
                region: RegionIndex(0),
                address: 0x1000_0000,
                writable: true,
            }],
        }],
        console: Some(PdIndex(0)),
        ..System::default()
    }
}

fn messages(problems: Vec<Problem>) -> Vec<String> {
    problems
        .into_iter()
        .map(|problem| problem.message)
        .collect()
}

/// The payload as `init` finds it: by the words that the builder wrote over its
/// symbol.
fn payload(image: &BootImage) -> Vec<u64> {
    let file = ElfFile64::<Endianness>::parse(&image.bytes[..]).expect("an ELF file");
    let endian = Endianness::Little;
    assert_eq!(file.elf_header().e_entry(endian), CODE);
    let segments: Vec<(u64, &[u8])> = file
        .elf_program_headers()
        .iter()
        .filter(|header| header.p_type(endian) == elf::PT_LOAD)
        .map(|header| {
            (
                header.p_vaddr(endian),
                header.data(endian, file.data()).unwrap(),
            )
        })
        .collect();
    let (_, data) = segments
        .iter()
        .find(|(address, _)| *address == DATA)
        .unwrap();
    let word = |index: usize| u64::from_le_bytes(data[index * 8..][..8].try_into().unwrap());
    assert_eq!(word(2), CODE, "the lowest address of the image");
    let (_, payload) = segments
        .iter()
        .find(|(address, _)| *address == word(0))
        .unwrap();
    assert_eq!(word(1), payload.len() as u64);
    assert!(
        word(0) - DATA <= 0x1000,
        "no hole, which would cost memory and slots"
    );
    let mut words = vec![0; payload.len().div_ceil(8)];
    zerocopy::IntoBytes::as_mut_bytes(&mut words[..])[..payload.len()].copy_from_slice(payload);
    words
}

fn build(system: &System, folder: &Folder) -> BootImage {
    back_end::build(system, &folder.init())
        .map_err(messages)
        .expect("an image")
}

/// Rights of each protection domain to what it receives from.
fn input_rights(image: &BootImage) -> Vec<u8> {
    let words = payload(image);
    let payload = Payload::read(zerocopy::IntoBytes::as_bytes(&words[..])).expect("a payload");
    let domains = payload.protection_domains.iter();
    let rights = domains.map(|domain| {
        let mut capabilities = Payload::slice(payload.capabilities, domain.capabilities).iter();
        let input = capabilities.find(|capability| capability.slot == layout::INPUT);
        input.unwrap().rights
    });
    rights.collect()
}

#[test]
fn who_can_be_told_to_wait_for_ever_may_send_to_itself() {
    let folder = Folder::new("input");
    let mut system = system(&folder);
    let (read, write) = (format::rights::READ, format::rights::WRITE);
    assert_eq!(input_rights(&build(&system, &folder)), [read, read]);
    system.fault_regions.push(RegionIndex(0));
    // Who serves no calls waits for signals, and none comes for ever.
    assert_eq!(input_rights(&build(&system, &folder)), [read | write, read]);
}

#[test]
fn each_protection_domain_gets_exactly_its_capabilities() {
    let folder = Folder::new("capabilities");
    let image = build(&system(&folder), &folder);
    let words = payload(&image);
    let payload = Payload::read(zerocopy::IntoBytes::as_bytes(&words[..])).expect("a payload");
    let found = |index: usize| -> Vec<(u16, u8, u32, u8, u64)> {
        Payload::slice(
            payload.capabilities,
            payload.protection_domains[index].capabilities,
        )
        .iter()
        .map(|found| {
            (
                found.slot,
                found.kind,
                found.object,
                found.rights,
                found.badge,
            )
        })
        .collect()
    };
    let signal = |id: usize| layout::notification_badge(id);
    assert_eq!(
        found(0),
        [
            (1, capability_kind::ENDPOINT, 0, 2, 0),
            (2, capability_kind::FAULT_ENDPOINT, 0, 5, 1),
            (3, capability_kind::VSPACE, 0, 7, 0),
            (10 + 9, capability_kind::NOTIFICATION, 1, 1, signal(1)),
            (10 + 30, capability_kind::NOTIFICATION, 1, 1, signal(31)),
            (138 + 4, capability_kind::IRQ_HANDLER, 0, 7, 0),
            (138 + 5, capability_kind::IRQ_HANDLER, 1, 7, 0),
            (394 + 2, capability_kind::IO_PORTS, 0, 7, 0),
        ]
    );
    assert_eq!(
        found(1),
        [
            (1, capability_kind::NOTIFICATION, 1, 2, 0),
            (2, capability_kind::FAULT_ENDPOINT, 0, 5, 2),
            (3, capability_kind::VSPACE, 1, 7, 0),
            (10 + 1, capability_kind::NOTIFICATION, 0, 1, signal(9)),
            (74 + 1, capability_kind::ENDPOINT, 0, 5, 9),
        ]
    );
    assert_eq!(payload.header.console, 0);
    let [message, pin] = payload.irqs else {
        panic!("two interrupts")
    };
    assert_eq!(
        (message.requester, message.handle, message.badge),
        (0x9a, 1, signal(4))
    );
    assert_eq!(
        (pin.pin, pin.level, pin.low, pin.badge),
        (4, 1, 1, signal(5))
    );
    assert_eq!(
        (payload.ports[0].first, payload.ports[0].last),
        (0x3f8, 0x3ff)
    );
    let lines = &image.summary.protection_domains[1].capabilities;
    assert_eq!(lines.len(), 5);
    assert_eq!(
        (lines[4].what.as_str(), lines[4].rights.as_str()),
        ("endpoint of server", "write, grant")
    );
}

#[test]
fn regions_are_in_place_only_if_nobody_writes_them() {
    let folder = Folder::new("regions");
    let mut system = system(&folder);
    let image = build(&system, &folder);
    let words = payload(&image);
    let read = Payload::read(zerocopy::IntoBytes::as_bytes(&words[..])).expect("a payload");
    let kinds: Vec<u8> = read.regions.iter().map(|region| region.kind).collect();
    assert_eq!(
        kinds,
        [
            region_kind::MEMORY,
            region_kind::IN_PLACE,
            region_kind::IN_PLACE
        ]
    );
    let files = &read.regions[2];
    assert_eq!(
        read.data(files.data_offset, files.data_length)[0x1000..0x1002],
        [7, 0]
    );
    assert_eq!(read.io_spaces[0].domain, 3);
    assert_eq!(read.io_tables.len(), 3);
    system.protection_domains[1].maps[1].writable = true;
    let words = payload(&build(&system, &folder));
    let read = Payload::read(zerocopy::IntoBytes::as_bytes(&words[..])).expect("a payload");
    assert_eq!(read.regions[2].kind, region_kind::MEMORY);
    assert_eq!(read.regions[2].data_length, 0x1001);
}

#[test]
fn symbols_are_written_over() {
    let folder = Folder::new("patches");
    let image = build(&system(&folder), &folder);
    let words = payload(&image);
    let payload = Payload::read(zerocopy::IntoBytes::as_bytes(&words[..])).expect("a payload");
    let data = |index: usize| {
        let domain = &payload.protection_domains[index];
        assert!(payload.program_is_intact(domain));
        let runs = Payload::slice(payload.runs, domain.runs);
        let run = runs
            .iter()
            .find(|run| run.address == DATA)
            .expect("the data page");
        assert_eq!(run.kind, run_kind::COPIED);
        payload.data(run.offset, 16)
    };
    assert_eq!(data(1)[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
    let symbols = &payload.regions[1];
    assert_eq!(data(0)[8..], symbols.size.to_le_bytes());
    assert_eq!(
        image.summary.symbols_bytes.next_multiple_of(0x1000),
        symbols.size
    );
    let name = format::name(&payload.protection_domains[1].name);
    assert_eq!(
        (name, payload.protection_domains[1].entry),
        ("client", CODE)
    );
}

#[test]
fn problems_of_programs_are_told_together_and_name_the_culprit() {
    let folder = Folder::new("problems");
    let mut system = system(&folder);
    system.protection_domains[0].patches = vec![Patch {
        symbol: "absent".into(),
        bytes: vec![0; 8],
    }];
    system.protection_domains[1].patches[0].bytes.push(9);
    let problems = messages(back_end::build(&system, &folder.init()).unwrap_err());
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("server") && problems[0].ends_with("has no symbol absent"));
    assert!(
        problems[1].contains("client")
            && problems[1].ends_with("has a symbol word of 8 bytes, but 9 bytes belong there"),
        "{problems:?}"
    );
    system.protection_domains[0].program = folder.0.join("nothing");
    system.protection_domains[1].program = folder.put("text", b"not a program");
    let problems = messages(back_end::build(&system, &folder.init()).unwrap_err());
    assert!(problems[0].contains("server") && problems[0].contains("cannot be read"));
    assert!(problems[1].contains("client") && problems[1].contains("is not a 64-bit ELF file"));
}

#[test]
fn an_init_without_a_place_for_the_payload_is_refused() {
    let folder = Folder::new("init");
    let system = system(&folder);
    let init = folder.put("init", &raw_program(&[("something", 8)]));
    let problems = messages(back_end::build(&system, &init).unwrap_err());
    assert!(
        problems[0].ends_with("has no symbol payload_location"),
        "{problems:?}"
    );
}

#[test]
fn an_init_that_can_be_moved_is_refused() {
    let folder = Folder::new("moved");
    let system = system(&folder);
    let mut file = raw_program(&[("payload_location", 24)]);
    file[16] = 3; // ET_DYN
    let problems = messages(back_end::build(&system, &folder.put("init", &file)).unwrap_err());
    assert!(
        problems[0].contains("is not linked for a fixed address"),
        "{problems:?}"
    );
}

#[test]
fn a_segment_without_bounds_is_refused() {
    let folder = Folder::new("bounds");
    let mut system = system(&folder);
    let mut file = raw_program(&[("word", 8), ("size", 8)]);
    // Size in memory of the second program header: the data.
    file[64 + 56 + 40..][..8].copy_from_slice(&(1u64 << 45).to_le_bytes());
    system.protection_domains[1].program = folder.put("huge", &file);
    let problems = messages(back_end::build(&system, &folder.init()).unwrap_err());
    assert!(
        problems[0].contains("client") && problems[0].contains("has a segment of 0x200000000000"),
        "{problems:?}"
    );
}

#[test]
fn what_does_not_fit_the_machine_is_refused() {
    let folder = Folder::new("capacity");
    let mut system = system(&folder);
    system
        .regions
        .push(region("huge", 120 << 20, Contents::Zero));
    let problems = messages(back_end::build(&system, &folder.init()).unwrap_err());
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("the system needs 120.") && problems[0].contains("huge, 120 MiB"),
        "{problems:?}"
    );
    // 600 MiB in small pages are 153,600 slots.
    system.machine_memory = 2 << 30;
    system.regions[3].size = 600 << 20;
    let problems = messages(back_end::build(&system, &folder.init()).unwrap_err());
    assert!(
        problems[0].contains("capability slots, but init has 131072"),
        "{problems:?}"
    );
    // In large pages they fit.
    system.regions[3].page_size = 0x20_0000;
    let image = build(&system, &folder);
    assert!(image.summary.memory_needed > 600 << 20);
    // An image that does not fit twice cannot be loaded.
    system.regions.truncate(3);
    system.machine_memory = 32 << 20;
    system.regions[2] = region("files", 16 << 20, Contents::Bytes(vec![1; 16 << 20]));
    let problems = messages(back_end::build(&system, &folder.init()).unwrap_err());
    assert!(
        problems[0].contains("cannot be loaded into a machine with 32 MiB"),
        "{problems:?}"
    );
}

#[test]
fn a_file_is_written_as_a_whole_or_not_at_all() {
    let folder = Folder::new("atomic");
    let path = folder.put("image.elf", b"old");
    back_end::write_atomically(&path, b"new").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    assert!(back_end::write_atomically(&folder.0.join("no/image.elf"), b"new").is_err());
    let left: Vec<_> = std::fs::read_dir(&folder.0).unwrap().collect();
    assert_eq!(left.len(), 1, "no temporary file is left");
}
