//! One small description for each mistake, with the lines that must be reported.
//!
//! Each file in `tests/mistakes` ends in a comment that holds exactly these lines.
//! `SEGUE_BLESS=1 cargo test` writes what is reported into the comments, to be
//! read before it is committed.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use segue_image::diagnostics::Diagnostic;
use support::TestFiles;

const MARK: &str = "<!-- expected:\n";

/// What the descriptions may refer to.
fn files() -> TestFiles {
    let tables = [
        ("pci_devices", segue_pci_driver::config::TABLE_SIZE),
        (
            "frame_channels",
            segue_frame_channel::config::SERVER_TABLE_SIZE,
        ),
        (
            "frame_channel",
            segue_frame_channel::config::CLIENT_CONFIG_SIZE,
        ),
        ("port_owners", segue_portmap_core::config::OWNER_TABLE_SIZE),
        ("address_pools", segue_portmap_core::config::POOL_TABLE_SIZE),
        ("mac_filters", segue_igb_driver::filters::FILTER_TABLE_SIZE),
        ("log_rings", size_of::<segue_log_ring::config::RingTable>()),
    ];
    let faults = [
        (
            "fault_injection",
            size_of::<segue_fault_points::config::Injection>() as u64,
        ),
        (
            "faulty_domains",
            size_of::<segue_fault_points::config::FaultTable>() as u64,
        ),
    ];
    let variables = [("x", 8), ("y", 8), ("port_table", 8), ("wide", 16)];
    let mut all: Vec<(&str, u64)> = variables.to_vec();
    all.extend(tables.map(|(name, size)| (name, size as u64)));
    all.extend(support::DIRECT_MODE_TABLES);
    all.extend(support::UPDATER_VARIABLES);
    all.extend([("director_board", 8), ("board", 8), ("vf1_user", 8)]);
    let faulty = [all.as_slice(), &faults].concat();
    let mut old = variables.to_vec();
    old.push(("fault_injection", 8));
    old.extend(tables.map(|(name, _)| (name, 24)));
    let twice = [("x", 8), ("x", 8)];
    let mut wrong_machine = support::program(&variables);
    wrong_machine[18] = 183;
    let mut position_independent = support::program(&variables);
    position_independent[16] = 3;
    let mut cut = support::program(&variables);
    // Its data segment claims to have more bytes than the file.
    cut[64 + 56 + 32..][..8].copy_from_slice(&0x10_0000_u64.to_le_bytes());
    cut[64 + 56 + 40..][..8].copy_from_slice(&0x10_0000_u64.to_le_bytes());
    let mut one_page = support::program(&variables);
    one_page[64 + 56 + 16..][..8].copy_from_slice(&(support::CODE + 0x800).to_le_bytes());
    let mut no_entry = support::program(&variables);
    no_entry[24..32].copy_from_slice(&support::DATA.to_le_bytes());
    let mut far = support::program(&variables);
    let symbol = symbol_table(&far) + 24 * 8;
    far[symbol + 8..][..8].copy_from_slice(&0x900_0000_u64.to_le_bytes());
    let mut wraps = support::program(&variables);
    wraps[64 + 56 + 16..][..8].copy_from_slice(&0xffff_ffff_ffff_f000_u64.to_le_bytes());
    wraps[64 + 56 + 40..][..8].copy_from_slice(&0x2000_u64.to_le_bytes());
    let silent: Vec<(&str, u64)> = support::RUNTIME
        .into_iter()
        .filter(|(name, _)| *name != "log_ring")
        .collect();
    let programs = [
        // Its variable x is where nothing is loaded.
        ("far", far),
        ("wraps", wraps),
        // Without a log.
        ("silent", support::raw_program(&silent)),
        // With everything that any case wants.
        ("app", support::program(&all)),
        // The same, built for fault injection.
        ("faulty", support::program(&faulty)),
        // With fault points, but no way to order faults of others.
        (
            "no_orders",
            support::program(&[("log_rings", tables[6].1 as u64), faults[0]]),
        ),
        // Without the tables of extensions.
        ("plain", support::program(&variables)),
        // With tables of another layout.
        ("old", support::program(&old)),
        // Without the runtime.
        ("bare", support::raw_program(&variables)),
        ("twice", support::program(&twice)),
        ("text", b"hello".to_vec()),
        ("arm", wrong_machine),
        ("pie", position_independent),
        ("cut", cut),
        ("one_page", one_page),
        ("no_entry", no_entry),
    ];
    let others = [
        ("hello.txt", b"hello".to_vec()),
        ("key.pub", format!("{}\n", "3b".repeat(32)).into_bytes()),
        ("large.bin", vec![1; 5000]),
        ("site/index.html", vec![b'.'; 9000]),
    ];
    TestFiles {
        programs: own(programs),
        files: own(others),
    }
}

/// Where the symbols of a program start: its third section.
fn symbol_table(program: &[u8]) -> usize {
    let word = |at: usize| u64::from_le_bytes(program[at..at + 8].try_into().unwrap()) as usize;
    word(word(40) + 2 * 64 + 24)
}

fn own<const N: usize>(list: [(&str, Vec<u8>); N]) -> BTreeMap<String, Vec<u8>> {
    list.into_iter()
        .map(|(name, bytes)| (name.into(), bytes))
        .collect()
}

fn reported(text: &str, files: &TestFiles) -> String {
    let found = match segue_image::parse(text, files) {
        Ok(parsed) => parsed.warnings,
        Err(found) => found,
    };
    // Without the file's name, which all lines share.
    let line = |diagnostic: &Diagnostic| format!("{}\n", &diagnostic.line("")[1..]);
    found.iter().map(line).collect()
}

#[test]
fn each_mistake_is_reported_as_written_in_its_file() {
    let files = files();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let mut wrong = Vec::new();
    let mut cases: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "xml"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 100, "{} cases only", cases.len());
    for path in cases {
        let text = std::fs::read_to_string(&path).unwrap();
        let (description, expected) = text.split_once(MARK).unwrap_or((&text, ""));
        let expected = expected.strip_suffix("-->\n").unwrap_or(expected);
        let reported = reported(&text, &files);
        // A comment must not hold two dashes; the reports hold none either.
        assert!(!reported.contains("--"), "{reported}");
        if std::env::var_os("SEGUE_BLESS").is_some() {
            std::fs::write(&path, format!("{description}{MARK}{reported}-->\n")).unwrap();
        } else if reported != expected {
            wrong.push(format!(
                "{}\nexpected:\n{expected}reported:\n{reported}",
                path.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn without_its_mistakes_a_description_is_fine() {
    let text = "<system>
        <machine memory='64M'/>
        <memory_region name='shared' size='8K'/>
        <memory_region name='hello' prefill_path='hello.txt'/>
        <memory_region name='large' size='4M' page_size='2M'/>
        <memory_region name='site' prefill_directory='site'/>
        <protection_domain name='a' priority='2'>
            <program_image path='app'/>
            <map mr='shared' vaddr='0x1000000' setvar_vaddr='x' setvar_size='y'/>
            <map mr='large' vaddr='0x2000000'/>
        </protection_domain>
        <protection_domain name='b' priority='1' cpu='0' fpu='true'>
            <program_image path='plain'/>
            <map mr='shared' vaddr='0x1000' perms='r'/>
            <map mr='hello' vaddr='0x3000' perms='r' setvar_prefill_size='y'/>
            <map mr='site' vaddr='0x4000' perms='r'/>
        </protection_domain>
        <channel><end pd='a' id='0'/><end pd='b' id='1' pp='true' setvar_id='x'/></channel>
        </system>";
    assert_eq!(reported(text, &files()), "");
    let system = segue_image::parse(text, &files()).unwrap().system;
    let patch = |pd: usize, symbol: &str| {
        let mut patches = system.protection_domains[pd].patches.iter();
        let patch = patches.find(|patch| patch.symbol == symbol).unwrap();
        u64::from_le_bytes(patch.bytes.as_slice().try_into().unwrap())
    };
    assert_eq!((patch(0, "x"), patch(0, "y")), (0x100_0000, 0x2000));
    assert_eq!((patch(1, "x"), patch(1, "y")), (1, 5));
    assert_eq!(patch(0, "microkit_notifications"), 1);
    assert_eq!(patch(1, "microkit_pps"), 2);
}
