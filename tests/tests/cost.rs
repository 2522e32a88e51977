//! What a request costs, in instructions: the machine's speed does not matter.

use std::time::Duration;

use segue_system_tests::changed::{OwnImage, build_system};
use segue_system_tests::cost::{beside_others, clients, per_request};
use segue_system_tests::instructions::Counter;
use segue_system_tests::systems::MOST_APPLICATIONS;
use segue_system_tests::{Cable, TestMachine, system_memory};

/// Waits until the machine has accepted `count` connections.
fn wait_for_connections(machine: &TestMachine, count: u64) {
    for _ in 0..1000 {
        if machine.status()["connections"].as_u64() >= Some(count) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{count} connections are not accepted");
}

/// A thousand idle connections must not make the frames of one other dearer.
#[test]
fn a_request_costs_the_same_beside_a_thousand_idle_connections() {
    let (machine, mut counter) = Counter::add(TestMachine::machine("files"));
    let mut machine = TestMachine::start(machine, Cable::Peer(1));
    machine.wait_until_it_answers();
    let mut clients = clients(&machine);
    per_request(&mut counter, &mut clients);
    let alone = per_request(&mut counter, &mut clients);
    let peer = machine.host().peer().expect("the cable leads to a peer");
    peer.acknowledge_at_once(true);
    for number in 0..1000 {
        // Forgotten on this side: it is the machine's cost that counts.
        peer.connect(80).expect("a connection").forget();
        // More at once than the backlog holds would be refused.
        if number % 50 == 0 {
            wait_for_connections(&machine, number);
        }
    }
    let status = machine.status();
    assert!(status["connections"].as_u64() >= Some(1001), "{status}");
    let beside = per_request(&mut counter, &mut clients);
    let status = machine.status();
    assert!(status["connections"].as_u64() >= Some(1001), "{status}");
    println!("{alone} instructions alone, {beside} beside 1000 idle connections");
    assert!(
        beside * 100 <= alone * 105,
        "{beside} beside, {alone} alone: more than 5 % dearer"
    );
}

/// An application that computes checksums itself pays for it, and not much: what it receives is
/// mostly requests and acknowledgements.
#[test]
fn checksums_in_software_are_cheap() {
    let [without, with] = [false, true].map(|verifies| {
        let image = build_system("files", |text| {
            let channel = "<frame_channel ";
            assert!(text.contains(channel), "adapt this test");
            text.replace(
                channel,
                &format!(r#"{channel}verify_checksums="{verifies}" "#),
            )
        });
        let image = OwnImage::new("checksums", &image.bytes);
        let machine = image.machine().memory_mib(system_memory("files"));
        let (machine, mut counter) = Counter::add(machine);
        let mut machine = TestMachine::start(machine, Cable::Peer(1));
        machine.wait_until_it_answers();
        let mut clients = clients(&machine);
        per_request(&mut counter, &mut clients);
        let before = machine.status()["stack"]["software_checksums"].as_u64();
        let spent = per_request(&mut counter, &mut clients);
        let after = machine.status()["stack"]["software_checksums"].as_u64();
        assert!(before.is_some() && (after > before) == verifies);
        spent
    });
    println!("{without} instructions with the card's checksums, {with} with its own");
    assert!(
        with * 100 <= without * 110,
        "{with} instead of {without}: more than 10 % dearer"
    );
}

/// Nor must other applications at the same address, whether they have connections or not.
#[test]
fn a_request_costs_the_same_beside_other_applications() {
    let [alone, _] = beside_others("files", 1, 0);
    let [many, connected] = beside_others("forty-eight", MOST_APPLICATIONS, 2);
    println!(
        "{alone} instructions alone, {many} with {MOST_APPLICATIONS} applications, \
         {connected} when all have connections"
    );
    for cost in [many, connected] {
        assert!(
            cost * 100 <= alone * 105,
            "{cost} with {MOST_APPLICATIONS} applications, {alone} alone: more than 5 % dearer"
        );
    }
}
