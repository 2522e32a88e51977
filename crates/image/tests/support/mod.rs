//! Programs and files for tests, made in memory.
#![allow(dead_code, reason = "each test file uses a part")]

use segue_director_core::config::{DirectConfig, DirectorTable, GrantTable, RouteTable};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use segue_image::files::Files;
use segue_updater_core::config::UpgradeTable;

/// Where the code of a test program is.
pub const CODE: u64 = 0x20_0000;
/// Where the data of a test program is.
pub const DATA: u64 = 0x20_2000;

/// What every program has, put there by its runtime.
pub const RUNTIME: [(&str, u64); 7] = [
    ("microkit_name", 64),
    ("microkit_passive", 1),
    ("microkit_irqs", 8),
    ("microkit_notifications", 8),
    ("microkit_pps", 8),
    ("microkit_ioports", 8),
    ("log_ring", 8),
];

/// An ELF file with one page of code, and data with these symbols besides those
/// of the runtime.
pub fn program(symbols: &[(&str, u64)]) -> Vec<u8> {
    raw_program(&[&RUNTIME, symbols].concat())
}

/// An ELF file with these symbols only.
pub fn raw_program(symbols: &[(&str, u64)]) -> Vec<u8> {
    let mut names = vec![0_u8];
    let mut table = vec![0_u8; 24];
    let mut address = DATA;
    for (name, size) in symbols {
        let place = u32::try_from(names.len()).unwrap();
        names.extend(name.as_bytes());
        names.push(0);
        table.extend(place.to_le_bytes());
        table.push(0x11); // global object
        table.push(0);
        table.extend(1_u16.to_le_bytes()); // its section
        table.extend(address.to_le_bytes());
        table.extend(size.to_le_bytes());
        address += size.next_multiple_of(8);
    }
    let data_size = (address - DATA).max(8);
    let mut file = vec![0_u8; 0x1000];
    file.resize(0x2000, 0xcc); // code
    file.resize(0x2000 + data_size as usize, 0);
    let table_at = file.len();
    file.extend(&table);
    let names_at = file.len();
    file.extend(&names);
    file.resize(file.len().next_multiple_of(8), 0);
    let sections_at = file.len();
    let section = |kind: u32, address: u64, at: usize, size: usize, link: u32, entry: u64| {
        let mut header = Vec::new();
        header.extend(0_u32.to_le_bytes());
        header.extend(kind.to_le_bytes());
        header.extend(3_u64.to_le_bytes());
        header.extend(address.to_le_bytes());
        header.extend((at as u64).to_le_bytes());
        header.extend((size as u64).to_le_bytes());
        header.extend(link.to_le_bytes());
        header.extend(1_u32.to_le_bytes());
        header.extend(8_u64.to_le_bytes());
        header.extend(entry.to_le_bytes());
        header
    };
    file.extend([0_u8; 64]);
    file.extend(section(1, DATA, 0x2000, data_size as usize, 0, 0));
    file.extend(section(2, 0, table_at, table.len(), 3, 24));
    file.extend(section(3, 0, names_at, names.len(), 0, 0));

    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(16, 0);
    for half in [2_u16, 62] {
        header.extend(half.to_le_bytes());
    }
    header.extend(1_u32.to_le_bytes());
    for word in [CODE, 64, sections_at as u64] {
        header.extend(word.to_le_bytes());
    }
    header.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 2, 64, 4, 3] {
        header.extend(half.to_le_bytes());
    }
    for (flags, at, address, size) in [
        (5_u32, 0x1000_u64, CODE, 0x1000),
        (6, 0x2000, DATA, data_size),
    ] {
        header.extend(1_u32.to_le_bytes());
        header.extend(flags.to_le_bytes());
        for word in [at, address, address, size, size, 0x1000] {
            header.extend(word.to_le_bytes());
        }
    }
    file[..header.len()].copy_from_slice(&header);
    file
}

/// Files that exist only here.
#[derive(Default)]
pub struct TestFiles {
    /// Programs by path.
    pub programs: BTreeMap<String, Vec<u8>>,
    /// Other files by path.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Files for TestFiles {
    fn program(&self, path: &str) -> Result<(PathBuf, Vec<u8>), String> {
        match self.programs.get(path) {
            Some(bytes) => Ok((PathBuf::from(path), bytes.clone())),
            None => Err("is not there".into()),
        }
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        self.files.get(path).cloned().ok_or("is not there".into())
    }

    fn directory(&self, path: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
        let prefix = format!("{path}/");
        let found: Vec<(String, Vec<u8>)> = self
            .files
            .iter()
            .filter_map(|(name, bytes)| Some((name.strip_prefix(&prefix)?.into(), bytes.clone())))
            .collect();
        match found.is_empty() {
            true => Err("is not there".into()),
            false => Ok(found),
        }
    }
}

/// The tables of direct mode: of the director, the manager, the owner, an application.
pub const DIRECT_MODE_TABLES: [(&str, u64); 4] = [
    ("director_table", size_of::<DirectorTable>() as u64),
    ("grants", size_of::<GrantTable>() as u64),
    ("routes", size_of::<RouteTable>() as u64),
    ("direct_mode", size_of::<DirectConfig>() as u64),
];

/// What a description with an updater sets in it.
pub const UPDATER_VARIABLES: [(&str, u64); 6] = [
    ("upgrades", size_of::<UpgradeTable>() as u64),
    ("staging", 8),
    ("staging_size", 8),
    ("serials", 8),
    ("init_orders", 8),
    ("init_orderer", 8),
];

/// The programs of the default system, with the symbols that it sets.
pub fn default_programs() -> TestFiles {
    let table = |name, size: usize| (name, size as u64);
    let devices = table("pci_devices", segue_pci_driver::config::TABLE_SIZE);
    let servers = table(
        "frame_channels",
        segue_frame_channel::config::SERVER_TABLE_SIZE,
    );
    let client = table(
        "frame_channel",
        segue_frame_channel::config::CLIENT_CONFIG_SIZE,
    );
    let owners = table("port_owners", segue_portmap_core::config::OWNER_TABLE_SIZE);
    let pools = table("address_pools", segue_portmap_core::config::POOL_TABLE_SIZE);
    let rings = table("log_rings", size_of::<segue_log_ring::config::RingTable>());
    let filters = table("mac_filters", segue_igb_driver::filters::FILTER_TABLE_SIZE);
    let [switched, grants, routes, direct] = DIRECT_MODE_TABLES;
    let (board, wishes) = (("director_board", 8), ("wishes", 8));
    let switchable = ("switchable", switched.1);
    let special = [
        ("segue-timer", vec![]),
        ("segue-pcie", vec![devices, grants]),
        (
            "segue-igb-pf",
            vec![devices, filters, routes, ("vf1_user", 8)],
        ),
        ("segue-portmap", vec![owners, pools]),
        ("segue-director", vec![switched, ("board", 8), wishes]),
        (
            "segue-console",
            vec![rings, switchable, board, wishes, ("director_channel", 8)],
        ),
        ("segue-netserver", vec![servers, board]),
        ("segue-http", vec![client, direct, switchable, board]),
    ];
    let mut files = TestFiles::default();
    let variables = default_variables();
    for (name, mut symbols) in special {
        symbols.extend(variables.iter().map(|name| (name.as_str(), 8)));
        files.programs.insert(name.into(), program(&symbols));
    }
    files
        .files
        .insert("apps/http/files/index.html".into(), b"<p>".to_vec());
    files
}

/// The project's own system description.
pub const DEFAULT_SYSTEM: &str = include_str!("../../../../system.xml");

/// A system whose application is always on a function of its own, with nobody between it and
/// the network.
pub fn always_direct() -> String {
    let text = include_str!("../../../../tests/systems/always-direct.xml");
    text.replace("../../build/test-files/files", "apps/http/files")
}

/// All variables that the default system sets in any program.
fn default_variables() -> BTreeSet<String> {
    // What stands before a value in quotes says what it is.
    let parts: Vec<&str> = DEFAULT_SYSTEM.split('"').collect();
    let named = parts.windows(2).filter(|pair| {
        let attribute = pair[0].trim_end_matches('=').rsplit(' ').next();
        attribute.is_some_and(|name| name.starts_with("setvar_") || name == "symbol")
    });
    named.map(|pair| pair[1].to_string()).collect()
}
