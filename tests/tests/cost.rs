//! What a request costs, in instructions: the machine's speed does not matter.

use std::time::Duration;

use segue_system_tests::http::{Client, request};
use segue_system_tests::instructions::Counter;
use segue_system_tests::{Cable, Connection, TestMachine, files};

/// Connections that ask.
const CLIENTS: usize = 16;
/// Requests that each of them sends in one go.
const PIPELINED: usize = 10;
/// How often in one measurement.
const ROUNDS: usize = 20;

/// Guest instructions for a request: the least of some repeats, since what disturbs (ticks, an
/// interrupt more when the machine was about to sleep) only ever adds.
fn per_request(counter: &mut Counter, clients: &mut [Client<Connection>]) -> u64 {
    let expected = files::contents("1k.bin");
    let requests = request("GET", "/1k.bin", "").repeat(PIPELINED);
    let mut repeat = || {
        let before = counter.read();
        for _ in 0..ROUNDS {
            for client in clients.iter_mut() {
                client.send(requests.as_bytes()).expect("requests go out");
            }
            for client in clients.iter_mut() {
                for _ in 0..PIPELINED {
                    let answer = client.response().expect("an answer");
                    assert!(answer.status == 200 && answer.body == expected);
                }
            }
        }
        let spent = counter.read().since(before).total();
        spent / (clients.len() * PIPELINED * ROUNDS) as u64
    };
    (0..7).map(|_| repeat()).min().expect("there are repeats")
}

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
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| machine.client()).collect();
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

/// Nor must applications that do nothing at the same address.
#[test]
fn a_request_costs_the_same_beside_other_applications() {
    let costs = ["files", "four", "many"].map(|system| {
        let (machine, mut counter) = Counter::add(TestMachine::machine(system));
        let mut machine = TestMachine::start(machine, Cable::Peer(1));
        machine.wait_until_it_answers();
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| machine.client()).collect();
        per_request(&mut counter, &mut clients);
        per_request(&mut counter, &mut clients)
    });
    let [alone, four, many] = costs;
    println!("{alone} instructions alone, {four} with 4 applications, {many} with 16");
    assert!(
        many * 100 <= alone * 105,
        "{many} with 16 applications, {alone} alone: more than 5 % dearer"
    );
}
