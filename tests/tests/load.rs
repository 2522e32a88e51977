//! Load and large transfers.

use segue_system_tests::load::Load;
use segue_system_tests::random::seed;
use segue_system_tests::{Cable, TestMachine, scenarios};

#[test]
fn twenty_thousand_requests_over_64_kept_connections() {
    scenarios::load(20_000);
}

#[test]
fn load_over_the_network_that_needs_no_rights() {
    let machine = TestMachine::boot("files", Cable::User);
    // QEMU's listener has a backlog of one: many connections at once wait for each other outside.
    let load = Load {
        connections: 8,
        requests: 2_000,
        files: vec!["1k.bin", "8k.bin"],
    };
    load.run(machine.host())
        .unwrap_or_else(|failures| panic!("{failures}"));
}

#[test]
fn a_file_of_64_mib_arrives_whole() {
    scenarios::large_file();
}

#[test]
fn a_file_of_16_mib_survives_a_lossy_cable() {
    scenarios::lossy_cable(seed());
}

#[test]
fn five_hundred_connections_from_the_same_ports() {
    scenarios::connections_from_the_same_ports(500, seed());
}
