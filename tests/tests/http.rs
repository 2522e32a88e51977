//! HTTP from outside: what is asked properly, and what is not.

use std::time::Duration;

use segue_system_tests::http::{Client, Response, request};
use segue_system_tests::{Cable, Connection, TestMachine, files};

fn boot() -> TestMachine {
    TestMachine::boot("files", Cable::User)
}

fn ask(machine: &TestMachine, bytes: &[u8]) -> (Client<Connection>, Response) {
    let mut client = machine.client();
    client.send(bytes).expect("the request goes out");
    let answer = client.response();
    let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", bytes.escape_ascii()));
    (client, answer)
}

#[test]
fn files_heads_ranges_and_misses() {
    let machine = boot();
    machine.assert_page_loads();
    for name in ["1k.bin", "8k.bin", "128k.bin", "1m.bin"] {
        let answer = machine.get(&format!("/{name}"));
        assert_eq!(answer.status, 200);
        assert!(answer.body == files::contents(name), "{name} differs");
    }

    // One connection for all of these: each answer leaves it in step.
    let mut client = machine.client();
    client
        .send(request("HEAD", "/8k.bin", "").as_bytes())
        .unwrap();
    let head = client.head().unwrap();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length"), Some("8192"));

    let contents = files::contents("8k.bin");
    let ranges: [(&str, &[u8], &str); 3] = [
        ("bytes=100-199", &contents[100..200], "bytes 100-199/8192"),
        ("bytes=8000-", &contents[8000..], "bytes 8000-8191/8192"),
        ("bytes=-10", &contents[8182..], "bytes 8182-8191/8192"),
    ];
    for (range, part, content_range) in ranges {
        let field = format!("Range: {range}\r\n");
        client
            .send(request("GET", "/8k.bin", &field).as_bytes())
            .unwrap();
        let answer = client.response().unwrap();
        assert_eq!(answer.status, 206, "{range}");
        assert_eq!(answer.header("content-range"), Some(content_range));
        assert!(answer.body == part, "{range}");
    }
    client
        .send(request("GET", "/8k.bin", "Range: bytes=8192-\r\n").as_bytes())
        .unwrap();
    let answer = client.response().unwrap();
    assert_eq!(answer.status, 416);
    assert_eq!(answer.header("content-range"), Some("bytes */8192"));
    assert_eq!(client.get("/nothing-here").unwrap().status, 404);
    assert_eq!(client.get("/../etc/passwd").unwrap().status, 404);
    assert_eq!(client.get("/1k.bin").unwrap().status, 200);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let machine = boot();
    let names = ["1k.bin", "8k.bin", "128k.bin"];
    let mut client = machine.client();
    let mut all = String::new();
    for round in 0..60 {
        all += &request("GET", &format!("/{}", names[round % 3]), "");
    }
    // Cut where it hurts: in the middle of a request, and a single byte at the end.
    let (first, rest) = all.as_bytes().split_at(all.len() / 3 + 7);
    let (second, last) = rest.split_at(rest.len() - 1);
    for piece in [first, second, last] {
        client.send(piece).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    for round in 0..60 {
        let answer = client.response().unwrap();
        assert_eq!(answer.status, 200, "request {round}");
        assert!(
            answer.body == files::contents(names[round % 3]),
            "request {round}"
        );
    }
}

#[test]
fn malformed_and_oversized_requests_are_refused() {
    let machine = boot();
    let long = "x".repeat(20_000);
    let many: String = (0..200)
        .map(|number| format!("X-{number}: y\r\n"))
        .collect();
    let cases: Vec<(Vec<u8>, u16)> = vec![
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n".to_vec(), 400),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), 400),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(),
            400,
        ),
        (b"GET nowhere HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400),
        (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n".to_vec(),
            400,
        ),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nbroken line\r\n\r\n".to_vec(),
            400,
        ),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n".to_vec(), 505),
        (request("DELETE", "/", "").into_bytes(), 405),
        (
            request("POST", "/", "Content-Length: 3\r\n").into_bytes(),
            405,
        ),
        (
            request("POST", "/", "Content-Length: 99999999\r\n").into_bytes(),
            413,
        ),
        (request("GET", &format!("/{long}"), "").into_bytes(), 431),
        (
            request("GET", "/", &format!("X: {long}\r\n")).into_bytes(),
            431,
        ),
        (request("GET", "/", &many).into_bytes(), 431),
    ];
    for (mut bytes, status) in cases {
        if bytes.starts_with(b"POST") && status == 405 {
            bytes.extend_from_slice(b"abc");
        }
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let (_, answer) = ask(&machine, &bytes);
        assert_eq!(answer.status, status, "{shown}");
        if status == 405 {
            assert_eq!(answer.header("allow"), Some("GET, HEAD"));
        }
    }
    // Garbage without an end is cut off, and nobody else is troubled.
    let mut client = machine.client();
    let _ = client.send(&vec![0xff; 100_000]);
    let answer = client.response().expect("an answer to garbage");
    assert!(matches!(answer.status, 400 | 431), "{}", answer.status);
    machine.assert_page_loads();
    let status = machine.status();
    assert!(status["requests_refused"].as_u64() >= Some(15), "{status}");
}

#[test]
fn slow_clients_hold_nobody_up_and_are_shown_out() {
    let machine = boot();
    // Clients that send a piece of a request and stop, that read nothing, that say nothing.
    let mut started: Vec<Client<Connection>> = (0..30).map(|_| machine.client()).collect();
    for client in &mut started {
        client.send(b"GET /1k.bin HT").unwrap();
    }
    let mut deaf: Vec<Client<Connection>> = (0..10).map(|_| machine.client()).collect();
    for client in &mut deaf {
        let much = request("GET", "/1m.bin", "").repeat(20);
        client.send(much.as_bytes()).unwrap();
    }
    let _silent: Vec<Client<Connection>> = (0..30).map(|_| machine.client()).collect();
    for _ in 0..50 {
        assert!(machine.get("/8k.bin").body == files::contents("8k.bin"));
    }
    // Those who take longer than the server allows get an answer that says so.
    for client in &mut started {
        let answer = client.response().expect("an answer to a slow request");
        assert_eq!(answer.status, 408);
    }
    // A deaf one that listens after all has lost nothing, if it was not shown out meanwhile.
    machine.assert_page_loads();
}
