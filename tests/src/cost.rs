//! What a request costs, in instructions: the machine's speed does not matter.

use crate::http::{Client, request};
use crate::instructions::Counter;
use crate::{Cable, Connection, PeerStream, TestMachine, files};

/// Connections that ask.
const CLIENTS: usize = 16;
/// Requests that each of them sends in one go.
const PIPELINED: usize = 10;
/// How often in one measurement.
const ROUNDS: usize = 20;

/// Guest instructions for a request: the least of some repeats, since what disturbs (ticks, an
/// interrupt more when the machine was about to sleep) only ever adds.
pub fn per_request(counter: &mut Counter, clients: &mut [Client<Connection>]) -> u64 {
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

/// Clients enough for [`per_request`].
pub fn clients(machine: &TestMachine) -> Vec<Client<Connection>> {
    (0..CLIENTS).map(|_| machine.client()).collect()
}

/// What a request to the first of `applications` applications costs: while the others have nothing
/// to do, and while each of them has `connections` that are idle.
pub fn beside_others(system: &str, applications: u16, connections: usize) -> [u64; 2] {
    let (machine, mut counter) = Counter::add(TestMachine::machine(system));
    let mut machine = TestMachine::start(machine, Cable::Peer(1));
    machine.wait_until_it_answers();
    let mut clients = clients(&machine);
    per_request(&mut counter, &mut clients);
    let alone = per_request(&mut counter, &mut clients);
    let peer = machine.host().peer().expect("the cable leads to a peer");
    let mut idle: Vec<PeerStream> = Vec::new();
    for port in 81..80 + applications {
        for _ in 0..connections {
            let stream = peer.connect(port);
            idle.push(stream.unwrap_or_else(|error| panic!("port {port}: {error}")));
        }
    }
    let beside = per_request(&mut counter, &mut clients);
    [alone, beside]
}
