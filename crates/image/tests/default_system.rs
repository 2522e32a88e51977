//! The project's own system description.

mod support;

use std::path::Path;

use segue_director_core::config::{DirectConfig, DirectorTable, GrantTable, RouteTable};
use segue_frame_channel::config::{
    ADDRESS_LEASED, ADDRESS_OWN, ClientConfig, DHCP_CLIENT, ServerTable,
};
use segue_igb_driver::filters::FilterTable;
use segue_image::model::System;
use segue_log_ring::config::RingTable;
use segue_pci_driver::config::DeviceTable;
use segue_portmap_core::config::{OwnerTable, PoolTable};
use zerocopy::FromBytes;

fn default_system() -> System {
    let text = support::DEFAULT_SYSTEM;
    match segue_image::parse(text, &support::default_programs()) {
        Ok(parsed) => {
            let warnings: Vec<String> = parsed
                .warnings
                .iter()
                .map(|warning| warning.line("system.xml"))
                .collect();
            assert_eq!(warnings, Vec::<String>::new());
            parsed.system
        }
        Err(found) => panic!(
            "{}",
            found
                .iter()
                .map(|diagnostic| diagnostic.line("system.xml"))
                .collect::<Vec<_>>()
                .join("\n")
        ),
    }
}

/// The bytes that the builder writes over a symbol.
fn patch<'s>(system: &'s System, pd: &str, symbol: &str) -> &'s [u8] {
    let mut domains = system.protection_domains.iter();
    let domain = domains.find(|domain| domain.name == pd).unwrap();
    let mut patches = domain.patches.iter();
    let patch = patches.find(|patch| patch.symbol == symbol);
    &patch.unwrap_or_else(|| panic!("{symbol} of {pd}")).bytes
}

/// Where a protection domain sees a region, and whether it may write it.
fn map(system: &System, pd: &str, region: &str) -> (u64, bool) {
    let mut domains = system.protection_domains.iter();
    let domain = domains.find(|domain| domain.name == pd).unwrap();
    let mut maps = domain.maps.iter();
    let map = maps.find(|map| system.regions[map.region.0].name == region);
    let map = map.unwrap_or_else(|| panic!("{region} in {pd}"));
    (map.address, map.writable)
}

#[test]
fn the_default_system_is_read_the_same_each_time() {
    let system = default_system();
    assert_eq!(system.machine_memory, 256 << 20);
    assert_eq!(format!("{system:#?}"), format!("{:#?}", default_system()));
}

#[test]
fn both_ends_of_the_frame_channel_are_told_the_same() {
    let system = default_system();
    let bytes = patch(&system, "netserver", "frame_channels");
    let server = ServerTable::read_from_bytes(bytes).unwrap();
    let client = ClientConfig::read_from_bytes(patch(&system, "http", "frame_channel")).unwrap();
    let owners = OwnerTable::read_from_bytes(patch(&system, "portmap", "port_owners")).unwrap();
    let [application] = server.applications() else {
        panic!("{} applications", server.count);
    };
    assert_eq!((application.name(), client.server()), ("http", "netserver"));
    assert_eq!(application.addresses.mac, [0x52, 0x54, 0, 0x5e, 0x61, 0x15]);
    assert_eq!(
        (application.addresses.mac, application.addresses.ipv4),
        (client.addresses.mac, client.addresses.ipv4)
    );
    assert_eq!(
        (
            client.addresses.gateway,
            client.addresses.ipv4_prefix_length
        ),
        ([10, 0, 2, 2], 24)
    );
    let ipv6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    assert_eq!(client.addresses.ipv6, ipv6("fd00:5e60::15"));
    assert_eq!(client.addresses.ipv6_gateway, ipv6("fd00:5e60::2"));
    assert_eq!(client.addresses.ipv6_prefix_length, 64);
    assert_eq!(application.addresses, client.addresses);
    // Its own, so that it can take it along.
    let own = (ADDRESS_OWN, ADDRESS_OWN);
    assert_eq!((application.flags, client.flags), own);
    assert_eq!((application.owner, client.owner), (1, 1));
    assert_eq!((application.channel, client.channel), (60, 60));

    let owner = owners.owner_of_channel(60).unwrap();
    assert_eq!(
        (owners.count, owner.owner, client.portmap_channel),
        (1, 1, 59)
    );

    // Each region has one writer, and one address everywhere.
    for (part, address, size, client_writes) in [
        (
            "client",
            client.client_region,
            client.client_region_size,
            true,
        ),
        (
            "server",
            client.server_region,
            client.server_region_size,
            false,
        ),
        ("pool", client.pool, client.pool_size, true),
    ] {
        let name = format!("netserver.http.{part}");
        assert_eq!(map(&system, "http", &name), (address, client_writes));
        assert_eq!(map(&system, "netserver", &name), (address, !client_writes));
        let mut regions = system.regions.iter();
        assert_eq!(
            regions.find(|region| region.name == name).unwrap().size,
            size
        );
    }
    assert_eq!(application.pool, client.pool);
    let space = &system.io_address_spaces[0];
    let pool = space.maps.iter().find(|map| map.address == client.pool);
    assert!(!pool.unwrap().writable);
    assert_eq!(space.function.to_string(), "00:13.0");
}

#[test]
fn the_manager_and_the_owner_of_the_nic_know_where_everything_is() {
    let system = default_system();
    let bytes = patch(&system, "pcie", "pci_devices");
    assert_eq!(bytes, patch(&system, "igb-pf", "pci_devices"));
    let table = DeviceTable::read_from_bytes(bytes).unwrap();
    let [nic] = table.devices().unwrap() else {
        panic!("{} devices", table.device_count);
    };
    assert_eq!(
        (nic.name(), nic.requester_id, nic.vf_count),
        ("nic", 0x18, 7)
    );
    assert_eq!(
        (nic.bars[0].address, nic.bars[0].size),
        (0xe000_0000, 0x20000)
    );
    assert_eq!(nic.vf_mac(0), Some([0x52, 0x54, 0, 0x5e, 0x60, 0]));
    let vf = table
        .interrupts()
        .unwrap()
        .iter()
        .find(|interrupt| interrupt.requester_id == 0x98)
        .unwrap();
    assert_eq!((vf.table_index, vf.vector), (0, 16));
}

/// The default system with an application that has addresses of its own, one with some out of a
/// pool, and with the shared address by DHCP.
#[test]
fn all_sorts_of_addresses_reach_the_tables() {
    let fixed = "mac=\"52:54:00:5e:61:15\" ipv4=\"10.0.2.15/24\" gateway=\"10.0.2.2\"";
    assert_eq!(support::DEFAULT_SYSTEM.matches(fixed).count(), 1);
    let application = |name: &str, addresses: &str| {
        format!(
            "<protection_domain name='{name}' priority='100'><program_image path='segue-http'/></protection_domain>
             <frame_channel server='netserver' client='{name}' portmap='portmap' io_address_space='netserver_io'
                            pool_size='0x40000' {addresses}/>"
        )
    };
    let more = [
        "<address_pool name='guests' mac='52:54:00:5e:62:00' ipv4='10.0.2.32/24' gateway='10.0.2.2' count='2'/>".into(),
        application("guest", "address_pool='guests'"),
        application("own", "mac='52:54:00:5e:61:20' ipv4='10.0.2.20/24'"),
        application(
            "dhcp",
            "mac='nic.vf0' ipv4='dhcp' dhcp_client='true' ipv6='fd00:5e60::15/64' ipv6_gateway='fd00:5e60::2'",
        ),
        "</system>".into(),
    ];
    let text = support::DEFAULT_SYSTEM
        .replace(fixed, "mac=\"nic.vf0\" ipv4=\"dhcp\"")
        .replace("<direct_mode application=\"http\"/>", "")
        .replace("</system>", &more.concat());
    let parsed = segue_image::parse(&text, &support::default_programs()).unwrap();
    let system = parsed.system;

    let bytes = patch(&system, "portmap", "port_owners");
    let owners = OwnerTable::read_from_bytes(bytes).unwrap();
    let bytes = patch(&system, "netserver", "frame_channels");
    let server = ServerTable::read_from_bytes(bytes).unwrap();
    let pools = PoolTable::read_from_bytes(patch(&system, "portmap", "address_pools")).unwrap();
    let mac = |last| [0x52, 0x54, 0, 0x5e, 0x60, last];
    let expected = [
        ("http", ADDRESS_LEASED, mac(0), [0; 4], 0),
        ("guest", ADDRESS_OWN | ADDRESS_LEASED, [0; 6], [0; 4], 1),
        (
            "own",
            ADDRESS_OWN,
            [0x52, 0x54, 0, 0x5e, 0x61, 0x20],
            [10, 0, 2, 20],
            0,
        ),
        ("dhcp", ADDRESS_LEASED | DHCP_CLIENT, mac(0), [0; 4], 0),
    ];
    for (index, (name, flags, mac, ipv4, pool)) in expected.into_iter().enumerate() {
        let (owner, entry) = (&owners.owners()[index], &server.applications()[index]);
        let bytes = patch(&system, name, "frame_channel");
        let client = ClientConfig::read_from_bytes(bytes).unwrap();
        assert_eq!((owner.name(), entry.name()), (name, name));
        assert_eq!(
            [owner.flags, entry.flags, client.flags],
            [flags; 3],
            "{name}"
        );
        assert_eq!(
            (owner.addresses.mac, owner.addresses.ipv4),
            (mac, ipv4),
            "{name}"
        );
        assert_eq!(owner.addresses, entry.addresses);
        assert_eq!(owner.addresses, client.addresses);
        assert_eq!(owner.pool, pool, "{name}");
        assert_eq!(owner.owner, client.owner);
    }
    let [pool] = pools.pools() else {
        panic!("{} pools", pools.count);
    };
    assert_eq!((pool.name(), pool.count), ("guests", 2));
    assert_eq!(pool.base.ipv4, [10, 0, 2, 32]);
    assert_eq!(pool.base.gateway, [10, 0, 2, 2]);

    let bytes = patch(&system, "igb-pf", "mac_filters");
    let filters = FilterTable::read_from_bytes(bytes).unwrap();
    let unicast = filters
        .filters()
        .iter()
        .filter(|filter| !filter.is_multicast());
    let unicast: Vec<_> = unicast
        .map(|filter| (filter.mac, filter.function))
        .collect();
    let expected = [[0x62, 0], [0x62, 1], [0x61, 0x20]];
    assert_eq!(
        unicast,
        expected.map(|[a, b]| ([0x52, 0x54, 0, 0x5e, a, b], 0))
    );
}

#[test]
fn the_nic_lets_neighbour_discovery_through() {
    let system = default_system();
    let bytes = patch(&system, "igb-pf", "mac_filters");
    let table = FilterTable::read_from_bytes(bytes).unwrap();
    let filters: Vec<_> = table
        .filters()
        .iter()
        .map(|filter| (filter.mac, filter.device, filter.function))
        .collect();
    let solicited = |a, b, c| ([0x33, 0x33, 0xff, a, b, c], 0, 0);
    assert_eq!(
        filters,
        [
            ([0x33, 0x33, 0, 0, 0, 1], 0, 0),
            ([0x52, 0x54, 0, 0x5e, 0x61, 0x15], 0, 0),
            solicited(0x5e, 0x61, 0x15),
            solicited(0, 0, 0x15),
        ]
    );
}

/// Who takes part in mode switches is told what fits together.
#[test]
fn the_tables_of_direct_mode_go_together() {
    let system = default_system();
    let director = patch(&system, "director", "director_table");
    let director = DirectorTable::read_from_bytes(director).unwrap();
    assert_eq!(
        patch(&system, "director", "director_table"),
        patch(&system, "console", "switchable")
    );
    let [http] = director.applications() else {
        panic!("{} applications", director.count);
    };
    let index = |name: &str| {
        let mut domains = system.protection_domains.iter();
        domains.position(|domain| domain.name == name).unwrap() as u32
    };
    assert_eq!((http.name(), http.domain), ("http", index("http")));
    assert_eq!(http.mac, [0x52, 0x54, 0, 0x5e, 0x61, 0x15]);
    assert_eq!((http.owner, http.functions), (1, 0x7e));
    assert_eq!(director.server_function, 0);
    assert_eq!(director.server_domain, index("netserver"));

    let direct = DirectConfig::read_from_bytes(patch(&system, "http", "direct_mode")).unwrap();
    let grants = GrantTable::read_from_bytes(patch(&system, "pcie", "grants")).unwrap();
    let routes = RouteTable::read_from_bytes(patch(&system, "igb-pf", "routes")).unwrap();
    assert_eq!(grants.windows[0], direct.window);
    assert_eq!((grants.functions, routes.functions), (0x7e, 0x7e));
    assert_eq!(direct.inside(), [http.mac]);
    assert_eq!((direct.memory_size, direct.io_tables), (0x30_3000, 4));
    for (name, board) in [
        ("pcie", grants.board),
        ("igb-pf", routes.board),
        ("http", direct.board),
    ] {
        assert_eq!(map(&system, name, "director.board"), (board, false));
    }
    for (name, address) in [
        ("pcie", director.answers[0]),
        ("igb-pf", director.answers[1]),
        ("http", http.answers),
    ] {
        let region = format!("{name}.answers");
        assert_eq!(map(&system, name, &region), (address, true));
        assert_eq!(map(&system, "director", &region), (address, false));
    }
    assert_eq!(map(&system, "http", "http.direct"), (direct.memory, true));
    // Nobody has a function's registers before it is granted.
    let made = system.grants.as_ref().unwrap();
    assert_eq!(made.functions.len(), 6);
    for function in &made.functions {
        let maps = system.protection_domains.iter().flat_map(|pd| &pd.maps);
        assert!(maps.into_iter().all(|map| map.region != function.region));
    }
}

/// An application on a function of its own, without network server, port map and director.
#[test]
fn an_application_that_is_always_direct_needs_no_server() {
    let text = support::always_direct();
    let parsed = segue_image::parse(&text, &support::default_programs()).unwrap();
    let system = parsed.system;
    assert!(system.frame_channels.is_empty() && system.grants.is_none());
    let direct = DirectConfig::read_from_bytes(patch(&system, "http", "direct_mode")).unwrap();
    let config = ClientConfig::read_from_bytes(patch(&system, "http", "frame_channel")).unwrap();
    assert_eq!((direct.channel, config.channel), (u32::MAX, u32::MAX));
    assert_eq!(config.addresses.ipv4, [10, 0, 2, 15]);
    assert_eq!(
        map(&system, "http", "http.registers"),
        (direct.window, true)
    );
    let [space] = &system.io_address_spaces[..] else {
        panic!("{} spaces", system.io_address_spaces.len());
    };
    assert_eq!(space.maps[0].address, direct.memory);
    assert_eq!(space.function.to_string(), "00:13.2");
    let user = patch(&system, "igb-pf", "vf1_user");
    let channel = system.channels.iter().find(|channel| {
        let [owner, http] = &channel.ends;
        user == u64::from(owner.id).to_le_bytes() && u32::from(http.id) == direct.owner_channel
    });
    assert!(channel.is_some());
}

#[test]
fn the_console_reads_the_ring_that_each_other_writes() {
    let system = default_system();
    let table = RingTable::read_from_bytes(patch(&system, "console", "log_rings")).unwrap();
    assert_eq!(table.rings().len(), system.protection_domains.len() - 1);
    assert_eq!(
        map(&system, "console", "console.memory"),
        (table.memory, true)
    );
    for ring in table.rings() {
        let name = format!("log.{}", ring.name());
        assert_eq!(map(&system, ring.name(), &name), (ring.address, true));
        assert_eq!(map(&system, "console", &name), (ring.address, false));
        let address = patch(&system, ring.name(), "log_ring");
        assert_eq!(address, ring.address.to_le_bytes());
    }
    let to_console = system.channels.iter().filter(|channel| {
        let [from, to] = &channel.ends;
        Some(to.pd) == system.console && to.id == 61 && from.id == 61 && from.notify && !to.notify
    });
    assert_eq!(to_console.count(), table.rings().len());
}

/// `SEGUE_BLESS=1 cargo test` draws it anew.
#[test]
fn the_picture_in_the_documentation_shows_the_default_system() {
    let system = default_system();
    let picture = segue_image::picture::draw(&system);
    assert_eq!(picture, segue_image::picture::draw(&system));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/system.svg");
    if std::env::var_os("SEGUE_BLESS").is_some() {
        std::fs::write(&path, &picture).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == picture,
        "system.xml has changed: SEGUE_BLESS=1 cargo test -p segue-image draws docs/system.svg anew"
    );
}
