//! What `<fault_injection/>` makes, and that nothing is made without it.

mod support;

use segue_fault_points::config::{FaultTable, Injection};
use segue_image::model::System;
use support::TestFiles;
use zerocopy::FromBytes;

fn system(element: &str) -> System {
    let injection = ("fault_injection", size_of::<Injection>() as u64);
    let console = [
        injection,
        ("faulty_domains", size_of::<FaultTable>() as u64),
        (
            "log_rings",
            size_of::<segue_log_ring::config::RingTable>() as u64,
        ),
    ];
    let files = TestFiles {
        programs: [
            ("console".into(), support::program(&console)),
            ("other".into(), support::program(&[injection])),
        ]
        .into(),
        ..TestFiles::default()
    };
    let text = format!(
        "<system>
        {element}
        <console pd='console'/>
        <protection_domain name='server' priority='3'><program_image path='other'/></protection_domain>
        <protection_domain name='console' priority='2'><program_image path='console'/></protection_domain>
        <protection_domain name='client' priority='1'><program_image path='other'/></protection_domain>
        <channel><end pd='client' id='1' pp='true'/><end pd='server' id='1'/></channel>
        </system>"
    );
    segue_image::parse(&text, &files).unwrap().system
}

fn patch<'s>(system: &'s System, domain: usize, symbol: &str) -> Option<&'s [u8]> {
    let mut patches = system.protection_domains[domain].patches.iter();
    let patch = patches.find(|patch| patch.symbol == symbol)?;
    Some(&patch.bytes)
}

/// Who maps the region at this address, and whether it may write it.
fn users(system: &System, name: &str, address: u64) -> Vec<(String, bool)> {
    let domains = system.protection_domains.iter();
    let users = domains.flat_map(|domain| {
        let maps = domain.maps.iter();
        let here = maps.filter(|map| system.regions[map.region.0].name == name);
        here.map(|map| {
            assert_eq!(map.address, address, "{name} in {}", domain.name);
            (domain.name.clone(), map.writable)
        })
    });
    users.collect()
}

#[test]
fn each_has_a_page_and_the_console_tells_all() {
    let system = system("<fault_injection/>");
    let table = FaultTable::read_from_bytes(patch(&system, 1, "faulty_domains").unwrap()).unwrap();
    let names: Vec<&str> = table.domains().iter().map(|domain| domain.name()).collect();
    assert_eq!(names, ["server", "console", "client"]);
    let reads = |name: &str| (name.to_string(), false);
    let writes = |name: &str| (name.to_string(), true);
    assert_eq!(
        users(&system, "faults.orders", table.orders),
        [reads("server"), writes("console"), reads("client")]
    );
    for (place, domain) in table.domains().iter().enumerate() {
        let told = patch(&system, place, "fault_injection").unwrap();
        let expected = Injection {
            orders: table.orders,
            place: place as u64,
            page: domain.page,
        };
        assert_eq!(Injection::read_from_bytes(told).unwrap(), expected);
        let mut users = users(&system, &format!("faults.{}", domain.name()), domain.page);
        users.retain(|user| *user != reads("console"));
        assert_eq!(users, [writes(domain.name())]);
    }
    assert_eq!(system.fault_regions.len(), 4);
}

#[test]
fn without_the_element_nothing_is_made() {
    let system = system("");
    assert!(system.fault_regions.is_empty());
    for (index, domain) in system.protection_domains.iter().enumerate() {
        assert_eq!(patch(&system, index, "fault_injection"), None);
        let mut maps = domain.maps.iter();
        assert!(maps.all(|map| {
            let name = &system.regions[map.region.0].name;
            name.starts_with("log.") || name == "console.memory"
        }));
    }
}
