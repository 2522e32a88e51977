//! Many connections across many applications.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::ops::Range;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use segue_qemu::NetworkNamespace;

use crate::http::{Client, request};
use crate::scenarios::may_make_tap_devices;
use crate::systems::APPLICATIONS;
use crate::{Cable, TestMachine, files};

/// Open at once, half of them idle.
const AT_ONCE: usize = 2_000;
/// Requests on each connection that is not idle.
const REQUESTS: usize = 5;
/// Files that this process may have open.
const DESCRIPTORS: &str = "8192";
const PATIENCE: Duration = Duration::from_secs(60);

/// 2,000 connections at once across 16 applications, half of them idle while the others ask; then
/// `count` opened and closed. Afterwards nothing is left of any.
pub fn across_applications(count: u64) {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return;
    }
    let own = std::process::id().to_string();
    let raised = Command::new("prlimit")
        .args(["--pid", &own, &format!("--nofile={DESCRIPTORS}")])
        .status();
    assert!(
        raised.is_ok_and(|status| status.success()),
        "this process may not have {DESCRIPTORS} files open"
    );
    let machine = TestMachine::boot("many", Cable::Tap);
    let namespace = &*machine.namespace().expect("the cable is a tap");
    let before: Vec<Value> = ports().map(|port| status(namespace, port)).collect();
    many_at_once(namespace);
    leave_no_trace(namespace, &before);
    println!("{AT_ONCE} connections at once have left nothing behind");
    one_after_the_other(namespace, count);
    leave_no_trace(namespace, &before);
    println!("{count} connections in a row have left nothing behind");
    // Whatever a connection takes, there is as much of it as before.
    many_at_once(namespace);
    leave_no_trace(namespace, &before);
}

fn ports() -> Range<u16> {
    80..80 + APPLICATIONS
}

fn connect(namespace: &NetworkNamespace, port: u16) -> Client<TcpStream> {
    let stream = namespace
        .run(|| TcpStream::connect(("10.0.2.15", port)))
        .expect("the namespace is there")
        .unwrap_or_else(|error| panic!("port {port}: {error}"));
    let settings = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_nodelay(true));
    settings.expect("a connection can be set up");
    Client::new(stream)
}

/// What the application at this port shows.
fn status(namespace: &NetworkNamespace, port: u16) -> Value {
    let answer = connect(namespace, port).get("/status.json");
    let answer = answer.unwrap_or_else(|error| panic!("port {port}: {error}"));
    serde_json::from_slice(&answer.body).expect("/status.json is JSON")
}

fn number(status: &Value, path: &str) -> u64 {
    let number = status.pointer(path).and_then(Value::as_u64);
    number.unwrap_or_else(|| panic!("no {path} in {status}"))
}

fn ask(client: &mut Client<TcpStream>, expected: &[u8]) -> io::Result<()> {
    let answer = client.get("/1k.bin")?;
    if answer.status != 200 || answer.body != expected {
        return Err(io::Error::new(ErrorKind::InvalidData, "a wrong answer"));
    }
    Ok(())
}

fn many_at_once(namespace: &NetworkNamespace) {
    let expected = files::contents("1k.bin");
    let mut clients: Vec<(u16, Client<TcpStream>)> = ports()
        .cycle()
        .take(AT_ONCE)
        .map(|port| (port, connect(namespace, port)))
        .collect();
    // Half of each application's connections: neighbours in the list are of different ones.
    let (asking, idle) = clients.split_at_mut(AT_ONCE / 2);
    thread::scope(|scope| {
        for chunk in asking.chunks_mut(AT_ONCE / 16) {
            let expected = &expected;
            scope.spawn(move || {
                for _ in 0..REQUESTS {
                    for (port, client) in chunk.iter_mut() {
                        ask(client, expected)
                            .unwrap_or_else(|error| panic!("port {port}: {error}"));
                    }
                }
            });
        }
    });
    // The connection that asks is one more.
    let open: u64 = ports()
        .map(|port| number(&status(namespace, port), "/connections") - 1)
        .sum();
    assert_eq!(open, AT_ONCE as u64, "connections open at once");
    // The idle ones are as good as the others.
    for (port, client) in idle {
        ask(client, &expected).unwrap_or_else(|error| panic!("port {port}, idle: {error}"));
    }
}

/// The machine closes half of them first, the client the other half.
fn one_after_the_other(namespace: &NetworkNamespace, count: u64) {
    let expected = files::contents("1k.bin");
    let each = count / u64::from(APPLICATIONS);
    thread::scope(|scope| {
        for port in ports() {
            let expected = &expected;
            scope.spawn(move || {
                for round in 0..each {
                    let mut client = connect(namespace, port);
                    let result = if round % 2 == 0 {
                        ask(&mut client, expected)
                    } else {
                        last(&mut client)
                    };
                    result.unwrap_or_else(|error| panic!("port {port}, {round}: {error}"));
                }
            });
        }
    });
}

/// A request after which the machine closes.
fn last(client: &mut Client<TcpStream>) -> io::Result<()> {
    client.send(request("GET", "/1k.bin", "Connection: close\r\n").as_bytes())?;
    client.response()?;
    if !client.at_end()?
        && !matches!(client.response(), Err(error) if error.kind() == ErrorKind::UnexpectedEof)
    {
        return Err(io::Error::new(ErrorKind::InvalidData, "not closed"));
    }
    Ok(())
}

/// Waits until each application has no connection but the one that asks, and looks that none was
/// lost on the way there.
fn leave_no_trace(namespace: &NetworkNamespace, before: &[Value]) {
    let deadline = Instant::now() + PATIENCE;
    for (port, before) in ports().zip(before) {
        loop {
            let now = status(namespace, port);
            let [open, accepted, closed] =
                ["/connections", "/stack/accepted", "/stack/closed"].map(|path| number(&now, path));
            // The connection that asks is there, and no other.
            if open == 1 && accepted - closed == 1 {
                for path in ["/stack/no_buffers", "/stack/stuck", "/requests_refused"] {
                    let more = number(&now, path) - number(before, path);
                    assert_eq!(more, 0, "port {port}: {path}");
                }
                break;
            }
            assert!(
                Instant::now() < deadline,
                "port {port}: {open} connections; {accepted} accepted, {closed} closed"
            );
            thread::sleep(Duration::from_millis(100));
        }
    }
    let status = status(namespace, 80);
    let channels = status["frame_channels"].as_array();
    for channel in channels.into_iter().flatten() {
        assert_eq!(channel["state"], "up", "{channel}");
        assert_eq!(number(channel, "/epochs"), 1, "{channel}");
    }
}
