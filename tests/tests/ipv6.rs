//! IPv6 with the clients that people use, and with the operating system's own TCP and UDP.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Output};
use std::time::Duration;

use segue_system_tests::files;
use segue_system_tests::random::{Random, seed};
use segue_system_tests::scenarios::may_make_tap_devices;
use segue_system_tests::{Cable, TestMachine};

const SHARED: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x5e60, 0, 0, 0, 0, 0, 0x15);
/// The name of the tap device, which link-local addresses need.
const LINK: &str = "segue0";

fn boot(system: &str, lines: &[&str]) -> Option<TestMachine> {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return None;
    }
    let machine = TestMachine::start(TestMachine::machine(system), Cable::Tap);
    for line in lines {
        machine.expect_line(line);
    }
    Some(machine)
}

/// Does something at the other end of the cable.
fn outside<T>(machine: &TestMachine, action: impl FnOnce() -> T) -> T {
    let namespace = machine.namespace().expect("the cable is a tap");
    namespace.run(action).expect("the namespace is there")
}

fn try_run(machine: &TestMachine, program: &str, arguments: &[&str]) -> Output {
    outside(machine, || {
        Command::new("timeout")
            .args(["120", program])
            .args(arguments)
            .output()
    })
    .unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// What a program of this system says, run at the other end of the cable.
fn run(machine: &TestMachine, program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = try_run(machine, program, arguments);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn curl(machine: &TestMachine, url: &str) -> Vec<u8> {
    run(
        machine,
        "curl",
        &["-6", "-g", "-s", "-S", "--fail", "--max-time", "60", url],
    )
}

/// The server's `/status.json`, asked for over IPv6.
fn status(machine: &TestMachine) -> serde_json::Value {
    let text = curl(machine, &format!("http://[{SHARED}]/status.json"));
    serde_json::from_slice(&text).expect("/status.json is JSON")
}

/// Sends so many echo requests of so many bytes; all must be answered.
fn ping(machine: &TestMachine, address: &str, count: u32, size: u32) {
    let (count, size) = (count.to_string(), size.to_string());
    let arguments = [
        "-6", "-c", &count, "-s", &size, "-i", "0.1", "-W", "10", address,
    ];
    let text = String::from_utf8(run(machine, "ping", &arguments)).expect("ping writes text");
    let expected = format!("{count} packets transmitted, {count} received, 0% packet loss");
    assert!(text.contains(&expected), "{text}");
}

fn connect(machine: &TestMachine, address: SocketAddr) -> TcpStream {
    let stream = outside(machine, || TcpStream::connect(address)).expect("it accepts");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a timeout can be set");
    stream
}

fn datagrams(machine: &TestMachine, port: u16) -> UdpSocket {
    let socket = outside(machine, || UdpSocket::bind("[::]:0")).expect("a port is free");
    socket.connect((SHARED, port)).expect("a local operation");
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a timeout can be set");
    socket
}

/// Sends a datagram until it comes back: datagrams may get lost.
fn comes_back(socket: &UdpSocket, payload: &[u8]) -> bool {
    let mut answer = vec![0; 65_536];
    for _ in 0..5 {
        socket.send(payload).expect("a datagram can be sent");
        match socket.recv(&mut answer) {
            Ok(length) => {
                assert!(
                    answer[..length] == *payload,
                    "{} bytes differ",
                    payload.len()
                );
                return true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
    false
}

#[test]
fn curl_ping_and_redis_cli_are_served() {
    let lines = [
        "http: listening on 10.0.2.15:80",
        "http: listening on [fd00:5e60::15]:80",
        "kv: listening on [fd00:5e60::15]:6379",
    ];
    let Some(machine) = boot("http-kv", &lines) else {
        return;
    };
    let page = curl(&machine, &format!("http://[{SHARED}]/"));
    assert!(String::from_utf8_lossy(&page).contains("<title>Segue</title>"));
    let bytes = curl(&machine, &format!("http://[{SHARED}]/1m.bin"));
    assert!(bytes == files::contents("1m.bin"), "{} bytes", bytes.len());
    assert_eq!(
        status(&machine)["addresses"],
        serde_json::json!(["10.0.2.15", "fd00:5e60::15"])
    );
    // The link-local address, which nobody has set.
    let link_local = format!("fe80::5054:ff:fe5e:6000%{LINK}");
    let page = curl(&machine, &format!("http://[{link_local}]/"));
    assert!(!page.is_empty());
    ping(&machine, &SHARED.to_string(), 20, 56);
    ping(&machine, &SHARED.to_string(), 5, 1452);
    ping(&machine, &link_local, 5, 56);
    // A longer one comes in fragments, which are refused and counted.
    let fragments = ["-6", "-c", "2", "-s", "3000", "-W", "2", "fd00:5e60::15"];
    assert!(!try_run(&machine, "ping", &fragments).status.success());
    let refused = &status(&machine)["dropped"]["fragment"];
    assert!(
        refused.as_u64().unwrap_or(0) >= 2,
        "{refused} fragments refused"
    );
    let host = SHARED.to_string();
    let redis = |arguments: &[&str]| {
        let arguments = [&["-h", &host], arguments].concat();
        let text = run(&machine, "redis-cli", &arguments);
        String::from_utf8_lossy(&text).trim_end().to_owned()
    };
    assert_eq!(redis(&["set", "greeting", "hello over IPv6"]), "OK");
    assert_eq!(redis(&["get", "greeting"]), "hello over IPv6");
    assert_eq!(redis(&["strlen", "greeting"]), "15");
    let arguments = [
        "-h", &host, "-c", "50", "-n", "2000", "-P", "16", "-t", "set,get", "--csv",
    ];
    let figures = run(&machine, "redis-benchmark", &arguments);
    print!("{}", String::from_utf8_lossy(&figures));
    // Both families talk to the same store.
    let old = ["-h", "10.0.2.15", "get", "greeting"];
    assert_eq!(run(&machine, "redis-cli", &old), b"hello over IPv6\n");
    // Nobody at these ports: a reset, and an ICMPv6 message.
    let refused = outside(&machine, || TcpStream::connect((SHARED, 4711))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let socket = datagrams(&machine, 4712);
    socket
        .send(b"anybody there?")
        .expect("a datagram can be sent");
    let refused = socket.recv(&mut [0; 16]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    machine.assert_page_loads();
}

/// A host beyond a router at the other end of the cable. The way to it takes packets of 1,300
/// bytes, which the host does not know.
struct Far(Child);

impl Far {
    fn new(machine: &TestMachine) -> Self {
        let own = || std::fs::read_link("/proc/thread-self/ns/net").ok();
        let (near, child) = outside(machine, || {
            let child = Command::new("unshare")
                .args(["--net", "sleep", "900"])
                .spawn();
            (own(), Self(child.expect("root may make namespaces")))
        });
        let pid = child.0.id().to_string();
        let there = || std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        for _ in 0..100 {
            if there() != near {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        for line in [
            &format!("link add near0 type veth peer name far0 netns {pid}"),
            "link set near0 mtu 1300 up",
            "-6 addr add fd00:5e61::2/64 dev near0 nodad",
        ] {
            let arguments: Vec<&str> = line.split(' ').collect();
            run(machine, "ip", &arguments);
        }
        let forward = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
        run(machine, "sh", &["-c", forward]);
        for line in [
            "ip link set lo up",
            "ip link set far0 up",
            "ip -6 addr add fd00:5e61::9/64 dev far0 nodad",
            "ip -6 route add default via fd00:5e61::2",
        ] {
            child.run(machine, &line.split(' ').collect::<Vec<_>>());
        }
        child
    }

    /// What a program says that runs there.
    fn run(&self, machine: &TestMachine, command: &[&str]) -> Vec<u8> {
        let namespace = format!("--net=/proc/{}/ns/net", self.0.id());
        run(
            machine,
            "nsenter",
            &[&[namespace.as_str()], command].concat(),
        )
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_router_with_a_narrow_link_is_passed() {
    let lines = ["http: listening on [fd00:5e60::15]:80"];
    let Some(machine) = boot("http-kv", &lines) else {
        return;
    };
    let far = Far::new(&machine);
    let url = format!("http://[{SHARED}]/1m.bin");
    let get = ["curl", "-6", "-g", "-s", "-S", "--fail", "-m", "60", &url];
    // What comes to the machine does not say how narrow the way is.
    for count in 1..4 {
        let bytes = far.run(&machine, &get);
        assert!(bytes == files::contents("1m.bin"), "{} bytes", bytes.len());
        let narrowed = &status(&machine)["stack"]["narrowed"];
        assert_eq!(
            narrowed.as_u64(),
            Some(count),
            "connections with small segments"
        );
    }
    // Who is near is served with large segments as before.
    assert!(curl(&machine, &url) == files::contents("1m.bin"));
    assert_eq!(status(&machine)["stack"]["narrowed"].as_u64(), Some(3));
}

#[test]
fn streams_and_datagrams_come_back() {
    let lines = ["echo: listening on [fd00:5e60::15]:7 (UDP)"];
    let Some(machine) = boot("echo", &lines) else {
        return;
    };
    let mut random = Random::new(seed());
    let mut payload = vec![0; 1452];
    random.fill(&mut payload);
    let socket = datagrams(&machine, 7);
    for length in [0, 1, 100, 1231, 1232, 1233, 1451, 1452] {
        assert!(comes_back(&socket, &payload[..length]), "{length} bytes");
    }
    for round in 0..200 {
        assert!(comes_back(&socket, &payload), "round {round}");
        payload.rotate_left(1);
    }
    // One in fragments does not come back; what follows is not troubled.
    socket.send(&[1; 3000]).expect("a datagram can be sent");
    let nothing = socket.recv(&mut [0; 4096]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    assert!(comes_back(&socket, &payload));
    // From the link-local address to the link-local address.
    let socket = outside(&machine, || {
        let socket = UdpSocket::bind("[::]:0").expect("a port is free");
        socket
            .connect((format!("fe80::5054:ff:fe5e:6000%{LINK}").as_str(), 7))
            .expect("a local operation");
        socket
    });
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a timeout can be set");
    assert!(comes_back(&socket, b"near"));
    // A stream, both ways at once.
    let mut stream = connect(&machine, SocketAddr::new(SHARED.into(), 7));
    let mut sent = vec![0; 4 << 20];
    random.fill(&mut sent);
    let mut writer = stream.try_clone().expect("a socket can be cloned");
    let received = std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).expect("it takes all");
            writer.shutdown(Shutdown::Write).expect("it can be closed");
        });
        let mut received = vec![];
        stream.read_to_end(&mut received).expect("all comes back");
        received
    });
    assert!(
        received == sent,
        "{} of {} bytes",
        received.len(),
        sent.len()
    );
}

#[test]
fn own_addresses_are_answered_for_by_their_applications() {
    let lines = ["http-own: listening on ", "http-guest: listening on "];
    let Some(machine) = boot("addresses", &lines) else {
        return;
    };
    for address in ["fd00:5e60::20", "fd00:5e60::32"] {
        ping(&machine, address, 10, 56);
        ping(&machine, address, 3, 1452);
        let page = curl(&machine, &format!("http://[{address}]/"));
        assert!(!page.is_empty());
    }
    // The link-local address of its own MAC address.
    ping(&machine, &format!("fe80::5054:ff:fe5e:6120%{LINK}"), 3, 56);
    // Neighbours are found anew after they were forgotten.
    run(&machine, "ip", &["-6", "neigh", "flush", "dev", LINK]);
    ping(&machine, "fd00:5e60::20", 3, 56);
    // Who wants to have an address learns that it is taken, from the application or, if it is
    // shared, from the network server.
    for address in ["fd00:5e60::20", "fd00:5e60::15"] {
        let network = format!("{address}/64");
        run(
            &machine,
            "ip",
            &["-6", "addr", "add", &network, "dev", LINK],
        );
        let taken = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            let state = run(&machine, "ip", &["-6", "addr", "show", "dev", LINK]);
            String::from_utf8_lossy(&state).contains("dadfailed")
        });
        assert!(taken, "{address} is taken twice");
        run(
            &machine,
            "ip",
            &["-6", "addr", "del", &network, "dev", LINK],
        );
        ping(&machine, address, 3, 56);
    }
}
