//! Thousands of connections across applications that share an address.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use segue_system_tests::changed::{OwnImage, build_system};
use segue_system_tests::http::{Client, request};
use segue_system_tests::scenarios::may_make_tap_devices;
use segue_system_tests::{Cable, TestMachine, files, systems};
use serde_json::Value;

const PORTS: [u16; 2] = [80, 81];
/// Connections to each application.
const OPEN: usize = 1000;
/// Opened and closed again in all, and by how many at once.
const CYCLES: usize = 20_000;
const CLIENTS: usize = 8;
/// For busy hosts.
const LIMIT: Duration = Duration::from_secs(120);

fn boot() -> Option<(TestMachine, OwnImage)> {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return None;
    }
    let more = format!("{}</system>", systems::more_applications(2));
    let image = build_system("files", |text| text.replace("</system>", &more));
    let image = OwnImage::new("connections", &image.bytes);
    let machine = TestMachine::start(image.machine(), Cable::Tap);
    for port in PORTS {
        machine.expect_line(&format!("listening on 10.0.2.15:{port}"));
    }
    machine.expect_line("netserver: the virtual function is running");
    Some((machine, image))
}

/// Does something inside the machine's network.
fn inside<T>(machine: &TestMachine, action: impl FnOnce() -> T) -> T {
    let namespace = machine.namespace().expect("the cable is a tap");
    namespace.run(action).expect("the namespace is there")
}

fn connect(port: u16) -> TcpStream {
    let address = SocketAddr::from((Ipv4Addr::new(10, 0, 2, 15), port));
    let stream = TcpStream::connect_timeout(&address, LIMIT)
        .unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_nodelay(true).expect("a flag can be set");
    let set = stream.set_read_timeout(Some(LIMIT));
    set.expect("a timeout can be set");
    stream
}

fn get(client: &mut Client<TcpStream>, expected: &[u8], who: &str) {
    let answer = client.get("/1k.bin");
    let answer = answer.unwrap_or_else(|error| panic!("{who}: {error}"));
    assert!(answer.status == 200 && answer.body == expected, "{who}");
}

/// What an application says of itself, over a connection of its own.
fn status(machine: &TestMachine, port: u16) -> Value {
    let mut client = inside(machine, || Client::new(connect(port)));
    let answer = client.get("/status.json").expect("the application answers");
    serde_json::from_slice(&answer.body).expect("/status.json is JSON")
}

/// What an application holds, without the connection over which it is asked.
fn held(machine: &TestMachine, port: u16) -> BTreeMap<&'static str, u64> {
    let status = status(machine, port);
    let number = |name: &str| status["stack"][name].as_u64().expect("a number");
    BTreeMap::from([
        (
            "connections",
            status["connections"].as_u64().expect("a number") - 1,
        ),
        ("not closed", number("accepted") - number("closed") - 1),
        ("handshakes", number("open_handshakes")),
        ("ports", number("open_ports")),
        ("in TIME_WAIT", number("in_time_wait")),
    ])
}

/// Waits until an application holds nothing but its port.
fn expect_nothing_held(machine: &TestMachine, port: u16) {
    let nothing = BTreeMap::from([
        ("connections", 0),
        ("not closed", 0),
        ("handshakes", 0),
        ("ports", 1),
        ("in TIME_WAIT", 0),
    ]);
    let deadline = Instant::now() + LIMIT;
    loop {
        let held = held(machine, port);
        if held == nothing {
            return;
        }
        assert!(Instant::now() < deadline, "port {port}: {held:?}");
        thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn two_thousand_connections_are_open_at_once() {
    let Some((machine, _image)) = boot() else {
        return;
    };
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("it may be used up");
    let expected = files::contents("1k.bin");
    let began = Instant::now();
    let mut clients: Vec<_> = inside(&machine, || {
        (0..PORTS.len() * OPEN)
            .map(|number| Client::new(connect(PORTS[number % PORTS.len()])))
            .collect()
    });
    println!("{} connections in {:?}", clients.len(), began.elapsed());
    for port in PORTS {
        assert_eq!(held(&machine, port)["connections"], OPEN as u64);
    }
    // Half of them, of both applications, say nothing while the others work.
    let (idle, busy) = clients.split_at_mut(OPEN);
    thread::scope(|scope| {
        let share = busy.len() / CLIENTS;
        for (number, part) in busy.chunks_mut(share).enumerate() {
            let expected = &expected;
            scope.spawn(move || {
                for round in 0..5 {
                    for client in &mut *part {
                        get(client, expected, &format!("part {number}, round {round}"));
                    }
                }
            });
        }
    });
    println!(
        "5 requests on {} of them after {:?}",
        busy.len(),
        began.elapsed()
    );
    for (number, client) in idle.iter_mut().enumerate() {
        get(client, &expected, &format!("idle connection {number}"));
    }
    for port in PORTS {
        let status = status(&machine, port);
        for count in ["handshakes_lost", "no_room", "no_buffers", "stuck"] {
            assert_eq!(status["stack"][count], 0, "port {port}: {count}");
        }
    }
    drop(clients);
    for port in PORTS {
        expect_nothing_held(&machine, port);
    }
}

#[test]
fn twenty_thousand_connections_leave_nothing() {
    let Some((machine, _image)) = boot() else {
        return;
    };
    let expected = files::contents("1k.bin");
    let cycle = |number: usize| {
        let port = PORTS[number / 2 % 2];
        let mut client = Client::new(connect(port));
        if number.is_multiple_of(2) {
            // The application closes first, and has it in TIME_WAIT.
            let close = request("GET", "/1k.bin", "Connection: close\r\n");
            client.send(close.as_bytes()).expect("it can be sent");
            let answer = client.response().expect("the application answers");
            assert!(answer.status == 200 && answer.body == expected);
            let rest = client.stream().read(&mut [0]).expect("it closes");
            assert_eq!(rest, 0);
        } else {
            get(&mut client, &expected, "a connection");
        }
    };
    let run = |count: usize| {
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (namespace, cycle) = (machine.namespace(), &cycle);
                scope.spawn(move || {
                    let namespace = namespace.expect("the cable is a tap");
                    let mine = (client..count).step_by(CLIENTS);
                    namespace
                        .run(|| mine.for_each(cycle))
                        .expect("the namespace is there");
                });
            }
        });
    };
    let buffers = |port| status(&machine, port)["stack"]["buffer_bytes"].as_u64();
    // The first ones make the buffers.
    run(CYCLES / 10);
    let before = PORTS.map(buffers);
    let began = Instant::now();
    run(CYCLES);
    println!("{CYCLES} connections in {:?}", began.elapsed());
    for port in PORTS {
        let accepted = status(&machine, port)["stack"]["accepted"].as_u64();
        assert!(accepted >= Some(11 * CYCLES as u64 / 20), "{accepted:?}");
        expect_nothing_held(&machine, port);
    }
    assert_eq!(PORTS.map(buffers), before, "bytes of buffers");
}
