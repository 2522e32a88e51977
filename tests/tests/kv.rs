//! The key-value server with the clients that people use.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::Duration;

use segue_system_tests::background::{Rate, rates};
use segue_system_tests::scenarios::may_make_tap_devices;
use segue_system_tests::{Cable, TestMachine};

const ADDRESS: &str = "10.0.2.15";
const PORT: &str = "6379";

/// A machine with the server, on a tap device: the clients are programs of this system.
fn boot(system: &str) -> Option<TestMachine> {
    if let Err(why) = may_make_tap_devices() {
        println!("not tested, since it takes a tap device: {why}");
        return None;
    }
    let machine = TestMachine::start(TestMachine::machine(system), Cable::Tap);
    machine.expect_line("kv: listening on 10.0.2.15:6379");
    Some(machine)
}

/// What a program of this system says, run on the other end of the cable.
fn run(machine: &TestMachine, program: &str, arguments: &[&str]) -> String {
    let namespace = machine.namespace().expect("the cable is a tap");
    let output = namespace
        .run(|| {
            Command::new("timeout")
                .args(["120", program, "-h", ADDRESS, "-p", PORT])
                .args(arguments)
                .output()
        })
        .expect("the namespace is there")
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{text}\n{errors}",
        output.status
    );
    text
}

fn cli(machine: &TestMachine, arguments: &[&str]) -> String {
    run(machine, "redis-cli", arguments).trim_end().to_owned()
}

fn connect(machine: &TestMachine) -> TcpStream {
    let namespace = machine.namespace().expect("the cable is a tap");
    let stream = namespace
        .run(|| TcpStream::connect((ADDRESS, 6379)))
        .expect("the namespace is there")
        .expect("the server accepts");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a timeout can be set");
    stream
}

/// The number that `INFO` gives a field.
fn information(machine: &TestMachine, field: &str) -> u64 {
    let text = cli(machine, &["info"]);
    let line = text.lines().find_map(|line| {
        let (name, value) = line.trim_end().split_once(':')?;
        (name == field).then(|| value.parse().ok())?
    });
    line.unwrap_or_else(|| panic!("no {field} in\n{text}"))
}

/// `redis-benchmark` with 50 clients; its requests per second for each command.
fn benchmark(machine: &TestMachine, requests: u32, pipeline: &str) -> Vec<Rate> {
    let count = requests.to_string();
    let text = run(
        machine,
        "redis-benchmark",
        &[
            "-c",
            "50",
            "-P",
            pipeline,
            "-n",
            &count,
            "-t",
            "set,get,incr",
            "-r",
            "1000",
            "--csv",
        ],
    );
    let figures = rates(&text);
    println!("-P {pipeline}: {figures:?}");
    figures
}

#[test]
fn redis_cli_is_served() {
    let Some(machine) = boot("kv") else { return };
    assert_eq!(cli(&machine, &["ping"]), "PONG");
    assert_eq!(cli(&machine, &["set", "greeting", "hello world"]), "OK");
    assert_eq!(cli(&machine, &["get", "greeting"]), "hello world");
    assert_eq!(cli(&machine, &["get", "nothing"]), "");
    assert_eq!(cli(&machine, &["incr", "counter"]), "1");
    assert_eq!(cli(&machine, &["incrby", "counter", "41"]), "42");
    assert_eq!(
        cli(&machine, &["incr", "greeting"]),
        "ERR value is not an integer or out of range"
    );
    assert_eq!(cli(&machine, &["expire", "counter", "1"]), "1");
    let left: i64 = cli(&machine, &["pttl", "counter"]).parse().unwrap();
    assert!((-2..=1000).contains(&left), "{left} ms left");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(cli(&machine, &["exists", "counter"]), "0");
    assert_eq!(information(&machine, "expired_keys"), 1);
    // Expired by the server itself: nobody asks for it.
    assert_eq!(cli(&machine, &["set", "short", "x", "px", "200"]), "OK");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(cli(&machine, &["dbsize"]), "1");
    assert_eq!(cli(&machine, &["--scan"]), "greeting");
    assert_eq!(cli(&machine, &["flushall"]), "OK");
    assert_eq!(information(&machine, "used_memory"), 0);
    assert_eq!(
        cli(&machine, &["lpush", "list", "x"]),
        "ERR unknown command 'lpush', with args beginning with: 'list' 'x'"
    );
    assert_eq!(
        cli(&machine, &["-3", "ping"]).lines().last(),
        Some("PONG"),
        "a client that wants RESP3 goes on with RESP2"
    );
}

#[test]
fn redis_benchmark_without_pipelining() {
    let Some(machine) = boot("kv") else { return };
    let figures = benchmark(&machine, 20_000, "1");
    assert_eq!(figures.len(), 3, "{figures:?}");
    assert!(
        figures.iter().all(|figure| figure.per_second > 0.0),
        "{figures:?}"
    );
    assert!(information(&machine, "total_commands_processed") >= 60_000);
    // A counter of each key of 1000, so all together are the requests.
    let keys = cli(&machine, &["keys", "counter:*"]);
    let mut arguments = vec!["mget"];
    arguments.extend(keys.lines());
    let counts = cli(&machine, &arguments);
    let sum: u64 = counts
        .lines()
        .filter_map(|line| line.parse::<u64>().ok())
        .sum();
    assert_eq!(sum, 20_000, "each INCR counts once");
}

#[test]
fn redis_benchmark_with_sixteen_requests_at_once() {
    let Some(machine) = boot("kv") else { return };
    let figures = benchmark(&machine, 48_000, "16");
    assert_eq!(figures.len(), 3, "{figures:?}");
    assert!(information(&machine, "total_commands_processed") >= 3 * 48_000);
    assert_eq!(information(&machine, "evicted_clients"), 0);
}

#[test]
fn large_values_and_the_end_of_memory() {
    let Some(machine) = boot("kv") else { return };
    let mut stream = connect(&machine);
    let value: Vec<u8> = (0..512 * 1024u32).map(|at| (at * 7 / 5) as u8).collect();
    let mut answer = vec![0; 5];
    let mut stored = 0;
    let refused = loop {
        let head = format!(
            "*3\r\n$3\r\nSET\r\n$2\r\n{stored:02}\r\n${}\r\n",
            value.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&value).unwrap();
        stream.write_all(b"\r\n").unwrap();
        stream.read_exact(&mut answer).unwrap();
        if answer != b"+OK\r\n" {
            break answer;
        }
        stored += 1;
        assert!(stored < 99, "memory has no end");
    };
    assert_eq!(refused, b"-OOM ");
    println!("{stored} values of 512 KiB fit");
    assert!(stored > 20);
    // All that was taken is there.
    let mut stream = connect(&machine);
    for number in 0..stored {
        stream
            .write_all(format!("GET {number:02}\r\n").as_bytes())
            .unwrap();
        let mut answer = vec![0; "$524288\r\n".len() + value.len() + 2];
        stream.read_exact(&mut answer).unwrap();
        assert!(
            answer[9..9 + value.len()] == value,
            "value {number} differs"
        );
    }
    assert_eq!(cli(&machine, &["del", "00"]), "1");
    assert_eq!(cli(&machine, &["set", "small", "x"]), "OK");
}

#[test]
fn hostile_clients_harm_nobody() {
    let Some(machine) = boot("kv") else { return };
    assert_eq!(cli(&machine, &["set", "key", &"v".repeat(100_000)]), "OK");
    // Some ask for much and read nothing, some send half a request, one sends what is none.
    let mut deaf: Vec<TcpStream> = (0..10).map(|_| connect(&machine)).collect();
    for stream in &mut deaf {
        stream.write_all(&b"GET key\r\n".repeat(1000)).unwrap();
    }
    let mut halves: Vec<TcpStream> = (0..40).map(|_| connect(&machine)).collect();
    for stream in &mut halves {
        stream
            .write_all(b"*2\r\n$4\r\nECHO\r\n$400000\r\nonly the beginning")
            .unwrap();
    }
    let mut nonsense = connect(&machine);
    nonsense.write_all(b"*1\r\n:5\r\nmore").unwrap();
    nonsense.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    nonsense.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "-ERR Protocol error: expected '$', got ':'\r\n");
    for number in 1..=50 {
        assert_eq!(cli(&machine, &["incr", "counter"]), number.to_string());
    }
    // One that listens after all gets every answer.
    let mut listener = deaf.pop().unwrap();
    let mut all = vec![0; 1000 * (100_000 + "$100000\r\n\r\n".len())];
    listener.read_exact(&mut all).unwrap();
    assert!(all.ends_with(b"vvv\r\n"));
}

#[test]
fn two_applications_behind_one_address() {
    let Some(mut machine) = boot("http-kv") else {
        return;
    };
    machine.wait_until_it_answers();
    let namespace = machine.namespace().expect("the cable is a tap");
    let page = std::thread::spawn(move || {
        namespace.run(|| {
            Command::new("timeout")
                .args([
                    "120",
                    "wrk",
                    "-t1",
                    "-c8",
                    "-d3s",
                    "http://10.0.2.15/1k.bin",
                ])
                .output()
        })
    });
    let figures = benchmark(&machine, 5_000, "16");
    let output = page.join().unwrap().unwrap().expect("wrk can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success());
    assert!(
        !text.contains("Socket errors") && !text.contains("Non-2xx"),
        "{text}"
    );
    assert_eq!(figures.len(), 3, "{figures:?}");
    assert_eq!(cli(&machine, &["ping"]), "PONG");
    machine.assert_page_loads();
}
