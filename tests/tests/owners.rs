//! 16 applications under load at one address, seen from the wire: each byte is its owner's.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::path::Path;
use std::time::Duration;
use std::{fs, thread};

use segue_qemu::Machine;
use segue_system_tests::changed::{OwnImage, build_system};
use segue_system_tests::http::Client;
use segue_system_tests::random::{Random, seed};
use segue_system_tests::systems::APPLICATIONS;
use segue_system_tests::wire::Judge;
use segue_system_tests::{Cable, TestMachine, paths, system_memory};

/// Connections to each application at the same time.
const CONNECTIONS: u64 = 2;
/// Requests on each.
const REQUESTS: usize = 20;
/// Bytes of a file.
const LENGTH: usize = 20_000;

/// What the application at this port serves and no other does.
fn contents(port: u16) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH];
    Random::new(u64::from(port)).fill(&mut bytes);
    bytes
}

/// The system `many`, with files of its own for each application.
fn description(text: String, folder: &Path) -> String {
    let region = |port: u16| format!("files_{port}");
    let mut regions = String::new();
    let mut parts = text.split("mr=\"http_files\"");
    let mut changed = parts.next().expect("a text has a beginning").to_owned();
    let mut ports = 80..;
    for part in parts {
        let port: u16 = ports.next().expect("there are ports enough");
        let own = folder.join(port.to_string());
        fs::create_dir(&own).expect("a folder can be made");
        fs::write(own.join("own.bin"), contents(port)).expect("a file can be written");
        regions += &format!(
            r#"<memory_region name="{}" prefill_directory="{}"/>"#,
            region(port),
            own.display()
        );
        changed += &format!("mr=\"{}\"{part}", region(port));
    }
    assert_eq!(ports.next(), Some(80 + APPLICATIONS), "adapt this test");
    // Nobody reads those of `many` now.
    let start = changed
        .find("<memory_region name=\"http_files\"")
        .expect("adapt this test");
    let end = start + changed[start..].find("/>").expect("an end") + 2;
    changed.replace_range(start..end, &regions);
    changed
}

/// What an application has sent on one connection, put together from frames.
#[derive(Default)]
struct Stream {
    first: u32,
    bytes: Vec<u8>,
    known: Vec<bool>,
}

impl Stream {
    fn add(&mut self, number: u32, payload: &[u8]) {
        let at = number.wrapping_sub(self.first) as usize;
        assert!(at < 1 << 24, "far outside of the stream");
        let end = at + payload.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
            self.known.resize(end, false);
        }
        for (offset, byte) in payload.iter().enumerate() {
            // Who sends bytes again sends the same.
            assert!(
                !self.known[at + offset] || self.bytes[at + offset] == *byte,
                "other bytes at the same place"
            );
            self.bytes[at + offset] = *byte;
            self.known[at + offset] = true;
        }
    }
}

/// Adds a frame from the machine to the stream it is part of, by its ports.
fn collect(streams: &mut HashMap<(u16, u16), Stream>, frame: &[u8]) {
    if frame[12..14] != [8, 0] || frame[23] != 6 {
        return;
    }
    let half = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let number = u32::from(half(38)) << 16 | u32::from(half(40));
    let end = 14 + usize::from(half(16));
    let start = 34 + usize::from(frame[46] >> 4) * 4;
    let stream = streams.entry((half(34), half(36))).or_default();
    if frame[47] & 2 != 0 {
        stream.first = number.wrapping_add(1);
    } else if end > start {
        stream.add(number, &frame[start..end]);
    }
}

#[test]
fn each_byte_on_the_wire_is_its_owners() {
    let seed = seed();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let image = build_system("many", |text| description(text, folder.path()));
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
                    let (mut client, expected) = (Client::new(stream), contents(port));
                    for _ in 0..REQUESTS {
                        let answer = client.get("/own.bin");
                        let answer = answer.unwrap_or_else(|error| panic!("port {port}: {error}"));
                        assert!(answer.body == expected, "port {port}: a wrong body");
                    }
                });
            }
        }
    });

    let mut judge = Judge::new(ports.clone().collect(), Vec::new());
    let (mut frames, mut streams) = (0, HashMap::new());
    peer.recorded(Duration::from_millis(200), |frame| {
        if let Err(what) = judge.verify(frame) {
            panic!("on the wire: {what}: {frame:02x?}");
        }
        frames += 1;
        collect(&mut streams, frame);
        false
    });
    let mut answers = BTreeMap::<u16, usize>::new();
    for ((port, peer_port), stream) in streams {
        assert!(
            stream.known.iter().all(|known| *known),
            "port {port} to {peer_port}: bytes are missing"
        );
        let (length, expected) = (stream.bytes.len() as u64, contents(port));
        let mut client = Client::new(Cursor::new(stream.bytes));
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
