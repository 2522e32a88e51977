//! The server as its clients see it.

use std::collections::VecDeque;

use segue_kv_core::{Action, Limits, Server, Stream};

#[derive(Default)]
struct Client {
    arriving: VecDeque<u8>,
    room: usize,
    sent: Vec<u8>,
    ended: bool,
}

impl Client {
    fn new(room: usize) -> Self {
        Self {
            room,
            ..Self::default()
        }
    }
}

impl Stream for Client {
    fn receive_with(&mut self, f: &mut dyn FnMut(&[u8]) -> usize) {
        if !self.arriving.is_empty() {
            let taken = f(self.arriving.as_slices().0);
            self.arriving.drain(..taken);
        }
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room);
        self.room -= count;
        self.sent.extend_from_slice(&bytes[..count]);
        count
    }

    fn at_end(&self) -> bool {
        self.ended && self.arriving.is_empty()
    }
}

fn server(limits: Limits) -> Server {
    let mut server = Server::new(limits, [1, 2], 6379, 300, 0);
    assert!(server.accepted(0));
    server
}

/// What the server answers to these lines, at `now` milliseconds.
fn ask(server: &mut Server, lines: &str, now: u64) -> String {
    let mut client = Client::new(usize::MAX);
    client.arriving.extend(lines.replace('\n', "\r\n").bytes());
    client.arriving.extend(b"\r\n");
    assert_eq!(server.ready(0, &mut client, now * 1000), Action::None);
    String::from_utf8(client.sent)
        .unwrap()
        .replace("\r\n", "\n")
}

fn array(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend(*word);
        bytes.extend(b"\r\n");
    }
    bytes
}

#[test]
fn answers_are_those_of_redis() {
    let mut server = server(Limits::default());
    let table: &[(&str, &str)] = &[
        ("PING", "+PONG\n"),
        ("ping hello", "$5\nhello\n"),
        (
            "PING a b",
            "-ERR wrong number of arguments for 'ping' command\n",
        ),
        ("ECHO x", "$1\nx\n"),
        ("GET a", "$-1\n"),
        ("SET a 1", "+OK\n"),
        ("get a", "$1\n1\n"),
        ("SET a 2 NX", "$-1\n"),
        ("SET a 2 XX", "+OK\n"),
        ("SET a 3 GET", "$1\n2\n"),
        ("SET b 3 XX GET", "$-1\n"),
        ("SET b 3 NX XX", "-ERR syntax error\n"),
        ("SET b 3 EX", "-ERR syntax error\n"),
        (
            "SET b 3 EX x",
            "-ERR value is not an integer or out of range\n",
        ),
        (
            "SET b 3 EX 0",
            "-ERR invalid expire time in 'set' command\n",
        ),
        (
            "SET b 3 EX 9223372036854775807",
            "-ERR invalid expire time in 'set' command\n",
        ),
        ("SET b 3 EX 1 KEEPTTL", "-ERR syntax error\n"),
        ("GET", "-ERR wrong number of arguments for 'get' command\n"),
        (
            "GET a b",
            "-ERR wrong number of arguments for 'get' command\n",
        ),
        (
            "LPUSH l x y",
            "-ERR unknown command 'LPUSH', with args beginning with: 'l' 'x' 'y' \n",
        ),
        ("INCR a", ":4\n"),
        ("INCRBY a -10", ":-6\n"),
        ("DECR a", ":-7\n"),
        ("DECRBY a 3", ":-10\n"),
        (
            "DECRBY a -9223372036854775808",
            "-ERR increment or decrement would overflow\n",
        ),
        (
            "INCRBY a x",
            "-ERR value is not an integer or out of range\n",
        ),
        ("SET s abc", "+OK\n"),
        ("INCR s", "-ERR value is not an integer or out of range\n"),
        ("SET m 9223372036854775807", "+OK\n"),
        ("INCR m", "-ERR increment or decrement would overflow\n"),
        ("APPEND s def", ":6\n"),
        ("APPEND new x", ":1\n"),
        ("STRLEN s", ":6\n"),
        ("STRLEN none", ":0\n"),
        ("GETRANGE s 0 -1", "$6\nabcdef\n"),
        ("GETRANGE s -3 -2", "$2\nde\n"),
        ("GETRANGE s 4 99", "$2\nef\n"),
        ("GETRANGE s 4 2", "$0\n\n"),
        ("GETRANGE none 0 1", "$0\n\n"),
        ("GETSET s z", "$6\nabcdef\n"),
        ("GETDEL s", "$1\nz\n"),
        ("GETDEL s", "$-1\n"),
        ("SETNX n 1", ":1\n"),
        ("SETNX n 2", ":0\n"),
        ("MSET x 1 y 2", "+OK\n"),
        (
            "MSET x 1 y",
            "-ERR wrong number of arguments for 'mset' command\n",
        ),
        ("MGET x none y", "*3\n$1\n1\n$-1\n$1\n2\n"),
        ("EXISTS x x y none", ":3\n"),
        ("DEL x none y", ":2\n"),
        ("TYPE a", "+string\n"),
        ("TYPE none", "+none\n"),
        ("DBSIZE", ":4\n"),
        ("SELECT 0", "+OK\n"),
        ("SELECT 1", "-ERR DB index is out of range\n"),
        ("HELLO 3", "-NOPROTO unsupported protocol version\n"),
        ("CLIENT GETNAME", "$-1\n"),
        ("CLIENT SETNAME me", "+OK\n"),
        ("CLIENT GETNAME", "$2\nme\n"),
        ("CLIENT SETINFO lib-name x", "+OK\n"),
        (
            "CLIENT NONSENSE",
            "-ERR unknown subcommand 'NONSENSE'. Try CLIENT HELP.\n",
        ),
        ("CONFIG GET save", "*2\n$4\nsave\n$0\n\n"),
        ("CONFIG GET append*", "*2\n$10\nappendonly\n$2\nno\n"),
        ("COMMAND DOCS", "*0\n"),
        ("COMMAND COUNT", ":40\n"),
        ("DEL n", ":1\n"),
        ("KEYS ?", "*2\n$1\na\n$1\nm\n"),
        ("FLUSHALL", "+OK\n"),
        ("KEYS *", "*0\n"),
        ("SCAN 0", "*2\n$1\n0\n*0\n"),
        ("SCAN x", "-ERR invalid cursor\n"),
    ];
    for (request, answer) in table {
        assert_eq!(ask(&mut server, request, 5), *answer, "{request}");
    }
    assert!(ask(&mut server, "HELLO 2", 5).contains("proto\n:2\n"));
    let information = ask(&mut server, "INFO", 5);
    for text in [
        "redis_version:",
        "used_memory:0\n",
        "connected_clients:1\n",
        "# Keyspace\n",
    ] {
        assert!(information.contains(text), "{information}");
    }
    assert!(!ask(&mut server, "INFO memory", 5).contains("redis_version"));
}

#[test]
fn keys_expire() {
    let mut server = server(Limits::default());
    let table: &[(u64, &str, &str)] = &[
        (0, "SET a 1 EX 10", "+OK\n"),
        (0, "SET b 1 PX 500", "+OK\n"),
        (0, "SETEX c 10 v", "+OK\n"),
        (
            0,
            "SETEX c 0 v",
            "-ERR invalid expire time in 'setex' command\n",
        ),
        (0, "TTL a", ":10\n"),
        (499, "GET b", "$1\n1\n"),
        (500, "GET b", "$-1\n"),
        (500, "TTL b", ":-2\n"),
        (600, "PTTL a", ":9400\n"),
        (600, "INCR a", ":2\n"),
        (600, "TTL a", ":9\n"),
        (600, "SET a 5 KEEPTTL", "+OK\n"),
        (600, "PERSIST a", ":1\n"),
        (600, "PERSIST a", ":0\n"),
        (600, "TTL a", ":-1\n"),
        (600, "EXPIRE a 1 XX", ":0\n"),
        (600, "EXPIRE a 1 GT", ":0\n"),
        (
            600,
            "EXPIRE a 1 NX XX",
            "-ERR NX and XX, GT or LT options at the same time are not compatible\n",
        ),
        (600, "EXPIRE a 2 LT", ":1\n"),
        (600, "EXPIRE a 1 GT", ":0\n"),
        (600, "EXPIRE a 3 GT", ":1\n"),
        (600, "EXPIRE a 3 NX", ":0\n"),
        (600, "EXPIRE none 3", ":0\n"),
        (
            600,
            "EXPIRE a 9223372036854775807",
            "-ERR invalid expire time in 'expire' command\n",
        ),
        (3599, "EXISTS a", ":1\n"),
        (3600, "EXISTS a", ":0\n"),
        (3600, "SET d 1", "+OK\n"),
        (3600, "EXPIRE d -1", ":1\n"),
        (3600, "EXISTS d", ":0\n"),
        (3600, "PEXPIRE c 1", ":1\n"),
        (3700, "KEYS *", "*0\n"),
    ];
    for (now, request, answer) in table {
        assert_eq!(ask(&mut server, request, *now), *answer, "{now} {request}");
    }
    // Nobody asks for it, and it goes all the same.
    ask(&mut server, "SET e 1 PX 10", 4000);
    assert!(server.next_tick().is_some());
    assert_eq!(server.store().keys(), 2);
    server.tick(4_200_000);
    assert_eq!(server.store().keys(), 0);
    assert_eq!(server.store().memory(), 0);
    assert_eq!(server.next_tick(), None);
}

#[test]
fn memory_is_bounded() {
    let limits = Limits {
        store_bytes: 100_000,
        ..Limits::default()
    };
    let mut server = server(limits);
    let mut stored = 0;
    let refused = loop {
        let answer = ask(&mut server, &format!("SET key:{stored} 0123456789"), 0);
        if answer != "+OK\n" {
            break answer;
        }
        stored += 1;
        assert!(stored < 1000, "memory has no end");
    };
    assert_eq!(
        refused,
        "-OOM command not allowed when used memory > 'maxmemory'.\n"
    );
    assert!(stored > 300 && server.store().memory() <= 100_000);
    assert_eq!(ask(&mut server, "GET key:0", 0), "$10\n0123456789\n");
    // What is there can be changed, as long as it grows no more than there is room.
    assert_eq!(ask(&mut server, "SET key:0 1", 0), "+OK\n");
    assert_eq!(ask(&mut server, "INCR key:0", 0), ":2\n");
    let long = "x".repeat(5000);
    assert!(ask(&mut server, &format!("APPEND key:1 {long}"), 0).starts_with("-OOM"));
    assert_eq!(ask(&mut server, "STRLEN key:1", 0), ":10\n");
    assert_eq!(ask(&mut server, "DEL key:2", 0), ":1\n");
    assert_eq!(ask(&mut server, "SET key:2 1", 0), "+OK\n");
    // What has expired makes room.
    assert_eq!(ask(&mut server, "FLUSHALL\nSET a 1 PX 5", 0), "+OK\n+OK\n");
    assert_eq!(server.store().keys(), 1);
}

#[test]
fn large_values_come_and_go_in_pieces() {
    let mut server = server(Limits::default());
    let value: Vec<u8> = (0..512 * 1024).map(|at: u32| (at / 7) as u8).collect();
    let mut bytes = array(&[b"SET", b"large", &value]);
    bytes.extend(array(&[b"GET", b"large"]));
    let mut client = Client::new(0);
    client.room = usize::MAX;
    for piece in bytes.chunks(1460) {
        client.arriving.extend(piece);
        assert_eq!(server.ready(0, &mut client, 0), Action::None);
    }
    let expected = [
        b"+OK\r\n$524288\r\n".to_vec(),
        value.clone(),
        b"\r\n".to_vec(),
    ]
    .concat();
    assert!(client.sent == expected);
    // Nothing is kept of it.
    assert!(
        server.client_memory() <= 64 * 1024,
        "{}",
        server.client_memory()
    );
    let too_large = array(&[b"SET", b"large", &vec![0; 512 * 1024 + 1]]);
    let mut client = Client::new(usize::MAX);
    client.arriving.extend(too_large);
    assert_eq!(server.ready(0, &mut client, 0), Action::Close);
    assert_eq!(client.sent, b"-ERR Protocol error: invalid bulk length\r\n");
}

#[test]
fn who_takes_no_answers_is_not_read_from() {
    let mut server = server(Limits::default());
    let value = vec![b'v'; 100_000];
    let mut client = Client::new(usize::MAX);
    client.arriving.extend(array(&[b"SET", b"k", &value]));
    assert_eq!(server.ready(0, &mut client, 0), Action::None);
    client.sent.clear();
    client.room = 1000;
    // 300 kB of requests, 2 GB of answers.
    let request = array(&[b"GET", b"k"]);
    let count = 20_000;
    for _ in 0..count {
        client.arriving.extend(&request);
        if client.arriving.len() < 16 * 1024 {
            assert_eq!(server.ready(0, &mut client, 0), Action::None);
        }
    }
    assert!(!client.arriving.is_empty(), "it was read on");
    assert!(
        server.client_memory() < 700_000,
        "{}",
        server.client_memory()
    );
    // When it listens, each answer comes.
    let mut received = client.sent.len();
    let answer = value.len() + "$100000\r\n\r\n".len();
    while received < 50 * answer {
        client.sent.clear();
        client.room = 33_333;
        assert_eq!(server.ready(0, &mut client, 0), Action::None);
        received += client.sent.len();
        assert!(!client.sent.is_empty());
    }
}

#[test]
fn the_client_with_the_largest_buffers_goes_first() {
    let limits = Limits {
        client_bytes: 1_000_000,
        ..Limits::default()
    };
    let mut server = server(limits);
    for index in 0..4 {
        assert!(server.accepted(index));
        let mut client = Client::new(usize::MAX);
        let length = 300_000 + 50_000 * index;
        client
            .arriving
            .extend(format!("*2\r\n$4\r\nECHO\r\n${length}\r\n").bytes());
        client.arriving.extend(vec![0; length - 1]);
        server.ready(index, &mut client, 0);
    }
    let evicted: Vec<usize> = std::iter::from_fn(|| server.next_evicted()).collect();
    assert_eq!(evicted, [3, 2], "of clients that hold more and more");
    assert_eq!(server.open(), 2);
    assert!(server.client_memory() <= 1_000_000);
    assert!(!server.accepted(256), "no more clients than are allowed");
    let mut gone = Client::new(1);
    assert_eq!(server.ready(3, &mut gone, 0), Action::Abort);
}

#[test]
fn an_answer_of_many_values_is_bounded() {
    let mut server = server(Limits::default());
    let value = "v".repeat(60_000);
    ask(&mut server, &format!("SET k {value}"), 0);
    let answer = ask(&mut server, &format!("MGET{}", " k".repeat(17)), 0);
    assert_eq!(
        answer.len(),
        "*17\n".len() + 17 * (60_000 + "$60000\n\n".len())
    );
    let answer = ask(&mut server, &format!("MGET{}", " k".repeat(18)), 0);
    assert!(
        answer.starts_with("-ERR the answer is too large"),
        "{answer}"
    );
}

#[test]
fn a_scan_sees_every_key_once() {
    let mut server = server(Limits::default());
    for number in 0..3000 {
        ask(&mut server, &format!("SET key:{number} x"), 0);
    }
    let mut seen = Vec::new();
    let mut cursor = String::from("0");
    loop {
        let answer = ask(
            &mut server,
            &format!("SCAN {cursor} COUNT 100 MATCH key:*"),
            0,
        );
        let mut lines = answer.lines();
        cursor = lines.nth(2).unwrap().to_owned();
        seen.extend(
            lines
                .skip(1)
                .filter(|line| line.starts_with("key"))
                .map(str::to_owned),
        );
        // Others come and go meanwhile.
        ask(
            &mut server,
            &format!("SET other:{cursor} x\nDEL other:0"),
            0,
        );
        if cursor == "0" {
            break;
        }
    }
    seen.sort();
    let all = seen.len();
    seen.dedup();
    assert_eq!((all, seen.len()), (3000, 3000));
}

#[test]
fn quitting_and_ends_of_streams() {
    let mut server = server(Limits::default());
    let mut client = Client::new(usize::MAX);
    client.arriving.extend(b"PING\r\nQUIT\r\nPING\r\n");
    assert_eq!(server.ready(0, &mut client, 0), Action::Close);
    assert_eq!(client.sent, b"+PONG\r\n+OK\r\n");
    assert!(server.accepted(0));
    let mut client = Client::new(usize::MAX);
    client.arriving.extend(b"SET a 1\r\nGET");
    client.ended = true;
    assert_eq!(server.ready(0, &mut client, 0), Action::Close);
    assert_eq!(client.sent, b"+OK\r\n");
    assert_eq!((server.open(), server.client_memory()), (0, 0));
}
