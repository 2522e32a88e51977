//! 16 applications under load at one address, seen from the wire: each byte is its owner's.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::thread;
use std::time::Duration;

use segue_qemu::Machine;
use segue_system_tests::changed::{OwnImage, build_system};
use segue_system_tests::http::Client;
use segue_system_tests::own_files;
use segue_system_tests::random::seed;
use segue_system_tests::streams::Streams;
use segue_system_tests::systems::APPLICATIONS;
use segue_system_tests::wire::Judge;
use segue_system_tests::{Cable, TestMachine, paths, system_memory};

/// Connections to each application at the same time.
const CONNECTIONS: u64 = 2;
/// Requests on each.
const REQUESTS: usize = 20;
#[test]
fn each_byte_on_the_wire_is_its_owners() {
    let seed = seed();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let image = build_system("many", |text| own_files::describe(text, folder.path()));
    let image = OwnImage::new("owners", &image.bytes);
    let machine = Machine::new(paths::kernel("release"), image.path());
    let machine = machine.memory_mib(system_memory("many"));
    let mut machine = TestMachine::start(machine, Cable::Peer(seed));
    machine.wait_until_it_answers();
    let peer = machine.host().peer().expect("the cable leads to a peer");
    peer.record(true);
    let ports = 80..80 + APPLICATIONS;
    thread::scope(|scope| {
        for port in ports.clone() {
            for _ in 0..CONNECTIONS {
                let stream = peer
                    .connect(port)
                    .unwrap_or_else(|error| panic!("port {port}: {error}"));
                scope.spawn(move || {
                    let (mut client, expected) = (
                        Client::new(stream),
                        own_files::contents(usize::from(port - 80)),
                    );
                    for _ in 0..REQUESTS {
                        let answer = client.get(own_files::PATH);
                        let answer = answer.unwrap_or_else(|error| panic!("port {port}: {error}"));
                        assert!(answer.body == expected, "port {port}: a wrong body");
                    }
                });
            }
        }
    });

    let mut judge = Judge::new(ports.clone().collect(), Vec::new());
    let (mut frames, mut streams) = (0, Streams::default());
    peer.recorded(Duration::from_millis(200), |frame| {
        if let Err(what) = judge.verify(frame) {
            panic!("on the wire: {what}: {frame:02x?}");
        }
        frames += 1;
        streams.add(frame);
        false
    });
    let mut answers = BTreeMap::<u16, usize>::new();
    for ((source, destination), bytes) in streams.whole() {
        let port = source.port();
        let bytes = bytes.unwrap_or_else(|| panic!("{source} to {destination}: bytes are missing"));
        let (length, expected) = (
            bytes.len() as u64,
            own_files::contents(usize::from(port - 80)),
        );
        let mut client = Client::new(Cursor::new(bytes));
        let mut count = 0;
        // The client writes nothing: it reads the answers that the stream consists of.
        while let Ok(answer) = client.response() {
            assert_eq!(answer.status, 200, "port {port}");
            assert!(answer.body == expected, "port {port}: another's bytes");
            count += 1;
        }
        assert_eq!(
            client.stream().position(),
            length,
            "port {port}: more bytes"
        );
        *answers.entry(port).or_default() += count;
    }
    println!("{frames} frames on the wire, answers by port: {answers:?}");
    for port in ports {
        let expected = CONNECTIONS as usize * REQUESTS;
        assert_eq!(answers.get(&port), Some(&expected), "port {port}");
    }
}
