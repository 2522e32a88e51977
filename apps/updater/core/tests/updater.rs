//! Clients that send packages, good and bad, in pieces and slowly, to an updater whose init is simulated.

use proptest::prelude::*;
use segue_http_core::{Action, Stream};
use segue_status::orders::{Operation, Outcome};
use segue_updater_core::config::{Target, UpgradeTable};
use segue_updater_core::{Limits, Machine, Server};
use segue_upgrade_package::write::{self, Contents, PageContents};
use segue_upgrade_package::{BASE, PAGE_SIZE, largest_package};
use sha2::{Digest, Sha256};

const PRIVATE: [u8; 32] = [7; 32];
const PLACE: u64 = 16 * PAGE_SIZE as u64;
const BUILT_FOR: [u8; 32] = [9; 32];
/// Serial numbers up to this one are refused.
const SERIAL: u64 = 10;

fn target(name: &str, index: u32, built_for: [u8; 32]) -> Target {
    let mut target = Target {
        built_for,
        place: PLACE,
        index,
        images: [2, 3],
        ..Target::EMPTY
    };
    target.name[..name.len()].copy_from_slice(name.as_bytes());
    target
}

fn table() -> &'static UpgradeTable {
    let mut table = UpgradeTable {
        count: 2,
        serial: SERIAL,
        public_key: write::public_key(&PRIVATE),
        ..UpgradeTable::EMPTY
    };
    table.targets[0] = target("netserver", 5, BUILT_FOR);
    table.targets[1] = target("kv", 7, [8; 32]);
    Box::leak(Box::new(table))
}

fn unsigned(domain: &str, built_for: [u8; 32], serial: u64) -> Vec<u8> {
    let page = |number: u64, fill| PageContents {
        address: BASE + number * PAGE_SIZE as u64,
        is_writable: number > 0,
        bytes: [fill; PAGE_SIZE],
    };
    let pages = [page(0, 3), page(1, 4), page(2, 0)];
    let contents = Contents {
        domain,
        label: "nightly",
        entry: BASE + 8,
        built_for,
        serial,
        pages: &pages,
    };
    write::package(&contents, PLACE).expect("a package")
}

fn package(domain: &str, built_for: [u8; 32], serial: u64) -> Vec<u8> {
    let mut bytes = unsigned(domain, built_for, serial);
    write::sign(&mut bytes, &PRIVATE);
    bytes
}

fn good() -> Vec<u8> {
    package("netserver", BUILT_FOR, 11)
}

/// A machine whose init answers with what the test says.
struct Simulated {
    staging: Vec<u8>,
    orders: Vec<(Operation, u32, u32)>,
    /// Answers to the next orders.
    outcomes: Vec<Outcome>,
    outcome: Option<Outcome>,
    serials: [u64; 2],
}

impl Simulated {
    fn new(outcomes: &[Outcome]) -> Self {
        Self {
            staging: vec![0; largest_package(PLACE) as usize],
            orders: Vec::new(),
            outcomes: outcomes.iter().rev().copied().collect(),
            outcome: Some(Outcome::Done),
            serials: [0; 2],
        }
    }
}

impl Machine for Simulated {
    fn staging(&mut self) -> &mut [u8] {
        &mut self.staging
    }
    fn order(&mut self, operation: Operation, domain: u32, image: u32) {
        assert!(self.outcome.is_some(), "the order before is not answered");
        if let Operation::Install { length, hash } = operation {
            let expected: [u8; 32] = Sha256::digest(&self.staging[..length as usize]).into();
            assert_eq!(hash, expected);
        }
        self.orders.push((operation, domain, image));
        self.outcome = None;
    }
    fn outcome(&mut self) -> Option<Outcome> {
        if self.outcome.is_none() {
            self.outcome = self.outcomes.pop();
        }
        self.outcome
    }
    fn serial(&self, target: usize) -> u64 {
        self.serials[target]
    }
    fn set_serial(&mut self, target: usize, serial: u64) {
        self.serials[target] = serial;
    }
}

/// A stream whose bytes arrive and leave in pieces.
#[derive(Default)]
struct Client {
    input: Vec<u8>,
    /// Bytes before this offset have arrived.
    arrived: usize,
    read: usize,
    output: Vec<u8>,
    room: usize,
    has_ended: bool,
}

impl Stream for Client {
    fn receive_with(&mut self, f: &mut dyn FnMut(&[u8]) -> usize) {
        if self.arrived > self.read {
            let taken = f(&self.input[self.read..self.arrived]);
            assert!(taken <= self.arrived - self.read);
            self.read += taken;
        }
    }
    fn send(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        self.output.extend_from_slice(&bytes[..taken]);
        taken
    }
    fn at_end(&self) -> bool {
        self.has_ended && self.read == self.input.len()
    }
}

fn put(path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n{fields}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn send_good(body: &[u8]) -> Vec<u8> {
    put("/upgrade/netserver", "", body)
}

/// One client alone: everything arrives, in pieces of `piece` bytes, one each millisecond; `room` bytes of the
/// answer leave each time. The answer as text, and how the stream ended.
fn run(machine: &mut Simulated, input: Vec<u8>, piece: usize, room: usize) -> (String, Action) {
    let mut server = Server::new(table(), Limits::default(), machine);
    run_on(&mut server, machine, input, piece, room)
}

fn run_on(
    server: &mut Server,
    machine: &mut Simulated,
    input: Vec<u8>,
    piece: usize,
    room: usize,
) -> (String, Action) {
    let mut client = Client {
        input,
        ..Client::default()
    };
    server.accepted(3, 0);
    for turn in 1..200_000 {
        let now = turn * 1000;
        client.arrived = (client.arrived + piece).min(client.input.len());
        client.room = room;
        let asked = server.look(machine);
        assert!(asked.is_none_or(|index| index == 3));
        let action = server.ready(3, &mut client, machine, now);
        if action != Action::None {
            let text = String::from_utf8(client.output).expect("text");
            return (text, action);
        }
    }
    panic!("no end");
}

/// The status code and the sentence that a client got who sent this; and that the stream was closed.
fn answer(machine: &mut Simulated, input: Vec<u8>) -> (u16, String) {
    let (text, action) = run(machine, input, 5000, 5000);
    assert_eq!(action, Action::Close, "{text}");
    status(&text)
}

fn status(text: &str) -> (u16, String) {
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    let status = head[9..12].parse().expect("a status code");
    let length = format!("Content-Length: {}\r\n", body.len());
    assert!(
        head.contains(&length) && head.ends_with("Connection: close"),
        "{head}"
    );
    (status, body.trim_end().into())
}

#[test]
fn a_signed_package_is_installed_and_run() {
    let mut machine = Simulated::new(&[Outcome::Done, Outcome::Done]);
    let body = good();
    let expected = "netserver was upgraded to nightly (serial number 11).";
    assert_eq!(
        answer(&mut machine, send_good(&body)),
        (200, expected.into())
    );
    let hash = Sha256::digest(&body[..body.len() - 64]).into();
    let length = body.len() as u64 - 64;
    let install = Operation::Install { length, hash };
    let orders = [(install, 5, 2), (Operation::Upgrade, 5, 2)];
    assert_eq!(machine.orders, orders);
    assert_eq!(machine.staging[..body.len()], body);
    assert_eq!(machine.serials, [11, 0]);
}

#[test]
fn what_becomes_of_a_package_is_said_on_the_console() {
    let mut machine = Simulated::new(&[Outcome::Done, Outcome::Hung]);
    let mut server = Server::new(table(), Limits::default(), &mut machine);
    let (text, _) = run_on(&mut server, &mut machine, send_good(&good()), 5000, 5000);
    assert_eq!(server.remark(), Some(status(&text).1));
    run_on(&mut server, &mut machine, send_good(b"x"), 5000, 5000);
    let expected = "a package for netserver was refused: the package is not signed with the key of this machine";
    assert_eq!(server.remark().as_deref(), Some(expected));
    assert_eq!(server.remark(), None);
}

#[test]
fn a_program_that_runs_is_not_written_over() {
    let answers = [Outcome::InUse, Outcome::Done, Outcome::Done];
    let mut machine = Simulated::new(&answers);
    assert_eq!(answer(&mut machine, send_good(&good())).0, 200);
    let images: Vec<u32> = machine.orders.iter().map(|(_, _, image)| *image).collect();
    assert_eq!(images, [2, 3, 3]);
    assert_eq!(machine.orders[2].0, Operation::Upgrade);
    // Not both can be in use.
    let mut machine = Simulated::new(&[Outcome::InUse, Outcome::InUse]);
    let found = answer(&mut machine, send_good(&good()));
    assert!(found.0 == 500 && machine.orders.len() == 2, "{found:?}");
}

#[test]
fn pieces_make_no_difference() {
    for (piece, room) in [(1, 1), (7, 3), (100, 1000), (1 << 20, 1 << 20)] {
        let mut machine = Simulated::new(&[Outcome::Done, Outcome::Done]);
        let (text, action) = run(&mut machine, send_good(&good()), piece, room);
        assert_eq!((status(&text).0, action), (200, Action::Close));
        assert_eq!(machine.orders.len(), 2);
    }
}

#[test]
fn who_waits_for_a_word_gets_it() {
    let mut machine = Simulated::new(&[Outcome::Done, Outcome::Done]);
    let mut server = Server::new(table(), Limits::default(), &mut machine);
    let expect = "Expect: 100-continue\r\n";
    let body = good();
    let input = put("/upgrade/netserver", expect, &body);
    let mut client = Client {
        arrived: input.len() - body.len(),
        input,
        room: 10_000,
        ..Client::default()
    };
    server.accepted(0, 0);
    assert_eq!(server.ready(0, &mut client, &mut machine, 1), Action::None);
    assert_eq!(client.output, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.output.clear();
    client.arrived = client.input.len();
    assert_eq!(server.ready(0, &mut client, &mut machine, 2), Action::None);
    assert_eq!(server.look(&mut machine), None);
    assert_eq!(server.look(&mut machine), Some(0));
    assert_eq!(server.ready(0, &mut client, &mut machine, 3), Action::Close);
    assert!(client.output.starts_with(b"HTTP/1.1 200 OK\r\n"));
    // One whose package is not wanted gets the answer instead, and need not send it.
    let mut input = put("/upgrade/nobody", expect, &body);
    input.truncate(input.len() - body.len());
    assert_eq!(answer(&mut machine, input).0, 404);
}

/// Nothing may have been ordered, and the sentence ends in `text`.
fn is_refused(input: Vec<u8>, status: u16, text: &str) {
    let mut machine = Simulated::new(&[]);
    let found = answer(&mut machine, input);
    assert_eq!(found.0, status, "{found:?}");
    assert!(found.1.contains(text), "{found:?}");
    assert_eq!(
        (machine.orders.len(), machine.serials),
        (0, [0; 2]),
        "{found:?}"
    );
}

#[test]
fn without_a_valid_signature_nothing_is_ordered() {
    let text = "The package is not signed with the key of this machine: nothing was done.";
    let body = good();
    for bit in [
        0,
        8 * 30,
        8 * 5000 + 3,
        8 * (body.len() - 64),
        8 * body.len() - 1,
    ] {
        let mut changed = body.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        is_refused(send_good(&changed), 403, text);
    }
    let mut other = unsigned("netserver", BUILT_FOR, 11);
    write::sign(&mut other, &[8; 32]);
    is_refused(send_good(&other), 403, text);
    is_refused(send_good(&unsigned("netserver", BUILT_FOR, 11)), 403, text);
    is_refused(send_good(&body[..body.len() - 1]), 403, text);
    is_refused(send_good(&body[..5]), 403, text);
    is_refused(send_good(&[&body[..], b"x"].concat()), 403, text);
    is_refused(send_good(&[]), 403, "There is no package");
}

#[test]
fn what_is_signed_must_also_fit() {
    is_refused(
        send_good(&package("kv", [8; 32], 11)),
        422,
        "The package is for \"kv\"",
    );
    let other = package("netserver", [8; 32], 11);
    is_refused(send_good(&other), 422, "built for another system");
    is_refused(
        put("/upgrade/kv", "", &good()),
        422,
        "The package is for \"netserver\"",
    );
    let mut torn = unsigned("netserver", BUILT_FOR, 11);
    torn.truncate(torn.len() - 4096);
    write::sign(&mut torn, &PRIVATE);
    is_refused(send_good(&torn), 422, "bytes long");
    let mut nothing = b"hello".to_vec();
    write::sign(&mut nothing, &PRIVATE);
    is_refused(
        send_good(&nothing),
        422,
        "This is not a package: nothing was done.",
    );
}

#[test]
fn a_serial_number_counts_once() {
    let text = "higher one than 10 is needed";
    is_refused(
        send_good(&package("netserver", BUILT_FOR, SERIAL)),
        409,
        text,
    );
    is_refused(send_good(&package("netserver", BUILT_FOR, 0)), 409, text);
    // Even of a package that was rolled back.
    for last in [Outcome::Done, Outcome::Faulted] {
        let mut machine = Simulated::new(&[Outcome::Done, last]);
        answer(&mut machine, send_good(&good()));
        assert_eq!(machine.orders.len(), 2);
        let found = answer(&mut machine, send_good(&good()));
        assert_eq!(found.0, 409);
        assert!(
            found.1.contains("higher one than 11 is needed"),
            "{found:?}"
        );
        assert_eq!(machine.orders.len(), 2);
        machine.outcomes = vec![Outcome::Done, Outcome::Done];
        let newer = package("netserver", BUILT_FOR, 12);
        assert_eq!(answer(&mut machine, send_good(&newer)).0, 200);
    }
}

#[test]
fn what_init_says_is_told() {
    for (outcomes, status, text) in [
        (
            vec![Outcome::Done, Outcome::Faulted],
            409,
            "rolled back to what it ran before: the new image faulted.",
        ),
        (vec![Outcome::Done, Outcome::Hung], 409, "made no progress"),
        (
            vec![Outcome::Done, Outcome::NotReady],
            409,
            "not ready in time",
        ),
        (
            vec![Outcome::Busy],
            503,
            "Another upgrade is under way: nothing was done.",
        ),
        (vec![Outcome::Done, Outcome::Busy], 503, "under way"),
        (
            vec![Outcome::Malformed],
            422,
            "The image is malformed: nothing",
        ),
        (vec![Outcome::TooLarge], 422, "does not fit"),
        (vec![Outcome::Damaged], 500, "does not have the hash"),
        (vec![Outcome::Unknown], 500, "no such"),
        (vec![Outcome::Refused], 500, "kernel refused"),
        (
            vec![Outcome::Done, Outcome::Stopped],
            409,
            "stopped for good",
        ),
    ] {
        let mut machine = Simulated::new(&outcomes);
        let found = answer(&mut machine, send_good(&good()));
        assert_eq!(found.0, status);
        let found = found.1.to_lowercase();
        assert!(found.contains(&text.to_lowercase()), "{found}");
        assert_eq!(machine.orders.len(), outcomes.len());
    }
}

#[test]
fn other_requests_are_answered() {
    let head = |line: &str, fields: &str| {
        format!("{line} HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes()
    };
    is_refused(
        head("GET /upgrade", ""),
        200,
        "netserver: packages with a serial number above 10",
    );
    is_refused(head("GET /", ""), 404, "GET /upgrade");
    is_refused(
        head("DELETE /upgrade/kv", ""),
        405,
        "Send a package with PUT",
    );
    is_refused(
        put("/upgrade/", "", b"x"),
        404,
        "what can be upgraded is netserver, kv.",
    );
    is_refused(
        put("/upgrade/pcie", "", b"x"),
        404,
        "no such protection domain",
    );
    is_refused(
        put("/netserver", "", b"x"),
        404,
        "no such protection domain",
    );
    is_refused(head("PUT /upgrade/kv", ""), 411, "Content-Length");
    is_refused(
        head("PUT /upgrade/kv", "Transfer-Encoding: chunked\r\n"),
        411,
        "Content-Length",
    );
    is_refused(b"hello\r\n\r\n".to_vec(), 400, "not a request");
    is_refused(
        b"GET / HTTP/3.0\r\nHost: x\r\n\r\n".to_vec(),
        505,
        "HTTP/1.1",
    );
    is_refused(
        head("GET /", &"X-Long: y\r\n".repeat(600)),
        431,
        "too large",
    );
    let (text, _) = run(
        &mut Simulated::new(&[]),
        head("HEAD /upgrade", ""),
        1000,
        1000,
    );
    assert!(text.starts_with("HTTP/1.1 200 OK") && text.ends_with("\r\n\r\n"));
    let room = largest_package(PLACE);
    let large = vec![0; room as usize + 1];
    is_refused(send_good(&large), 413, &format!("there is room for {room}"));
}

#[test]
fn slow_clients_are_given_up() {
    let limits = Limits::default();
    let body = good();
    let input = send_good(&body);
    let mut machine = Simulated::new(&[]);
    let mut server = Server::new(table(), limits, &mut machine);
    // Nothing; half a head; half a package.
    let arrived = [0, 10, input.len() - 100];
    let mut clients = arrived.map(|arrived| Client {
        input: input.clone(),
        arrived,
        room: 10_000,
        ..Client::default()
    });
    for (index, client) in clients.iter_mut().enumerate() {
        server.accepted(index, 0);
        assert_eq!(server.ready(index, client, &mut machine, 1), Action::None);
    }
    assert_eq!(server.next_deadline(), Some(1 + limits.stall_microseconds));
    let now = 1 + limits.stall_microseconds;
    assert_eq!(server.overdue(now), [2]);
    assert_eq!(
        server.ready(2, &mut clients[2], &mut machine, now),
        Action::None
    );
    let text = "The package did not arrive in time: nothing was done.";
    let answer = String::from_utf8(clients[2].output.clone()).unwrap();
    assert_eq!(status(&answer), (408, text.into()));
    let now = limits.head_microseconds;
    assert_eq!(server.overdue(now), [0, 1]);
    assert_eq!(
        server.ready(0, &mut clients[0], &mut machine, now),
        Action::Close
    );
    assert!(clients[0].output.is_empty());
    assert_eq!(
        server.ready(1, &mut clients[1], &mut machine, now),
        Action::None
    );
    assert!(clients[1].output.starts_with(b"HTTP/1.1 408 "));
    let now = 2 * now + limits.send_microseconds;
    for (index, client) in clients.iter_mut().enumerate().skip(1) {
        assert_eq!(
            server.ready(index, client, &mut machine, now),
            Action::Close
        );
    }
    // A trickle ends, too.
    let limits = Limits {
        package_microseconds: 1_000_000,
        ..limits
    };
    let mut server = Server::new(table(), limits, &mut machine);
    let (text, action) = run_on(&mut server, &mut machine, input, 1, 1000);
    assert_eq!((status(&text).0, action), (408, Action::Close));
    assert!(machine.orders.is_empty());
}

#[test]
fn there_is_one_upgrade_at_a_time() {
    let mut machine = Simulated::new(&[]);
    let mut server = Server::new(table(), Limits::default(), &mut machine);
    let body = good();
    let input = send_good(&body);
    let mut first = Client {
        arrived: input.len() - 1,
        input: input.clone(),
        room: 10_000,
        ..Client::default()
    };
    server.accepted(0, 0);
    assert_eq!(server.ready(0, &mut first, &mut machine, 1), Action::None);
    let busy = |server: &mut Server, machine: &mut Simulated| {
        let (text, _) = run_on(server, machine, input.clone(), 1000, 1000);
        assert_eq!(status(&text).0, 503);
    };
    busy(&mut server, &mut machine);
    // Not disturbed.
    first.arrived = first.input.len();
    assert_eq!(server.ready(0, &mut first, &mut machine, 2), Action::None);
    assert_eq!(machine.orders.len(), 1);
    busy(&mut server, &mut machine);
    // Who asked goes; the upgrade goes on.
    server.closed(0);
    busy(&mut server, &mut machine);
    machine.outcomes.push(Outcome::Done);
    assert_eq!(server.look(&mut machine), None);
    assert_eq!(machine.orders.len(), 2);
    busy(&mut server, &mut machine);
    machine.outcomes.push(Outcome::Done);
    assert_eq!(server.look(&mut machine), None);
    machine.outcomes = vec![Outcome::Done, Outcome::Done];
    let newer = send_good(&package("netserver", BUILT_FOR, 12));
    let (text, _) = run_on(&mut server, &mut machine, newer, 1000, 1000);
    assert_eq!(status(&text).0, 200);
}

#[test]
fn a_client_that_goes_leaves_nothing_behind() {
    let input = send_good(&good());
    for has_ended in [false, true] {
        let mut machine = Simulated::new(&[]);
        let mut server = Server::new(table(), Limits::default(), &mut machine);
        let mut client = Client {
            arrived: input.len() - 5,
            input: input[..input.len() - 5].to_vec(),
            room: 10_000,
            has_ended,
            ..Client::default()
        };
        server.accepted(0, 0);
        let action = server.ready(0, &mut client, &mut machine, 1);
        match has_ended {
            true => assert_eq!(action, Action::Abort),
            false => server.closed(0),
        }
        assert_eq!(server.next_deadline(), None);
        machine.outcomes = vec![Outcome::Done, Outcome::Done];
        let (text, _) = run_on(&mut server, &mut machine, input.clone(), 1000, 1000);
        assert_eq!(status(&text).0, 200);
    }
}

#[test]
fn an_order_of_a_predecessor_goes_first() {
    let mut machine = Simulated::new(&[]);
    machine.outcome = None;
    let mut server = Server::new(table(), Limits::default(), &mut machine);
    let input = send_good(&good());
    let (text, _) = run_on(&mut server, &mut machine, input.clone(), 1000, 1000);
    assert_eq!(status(&text).0, 503);
    machine.outcomes = vec![Outcome::Done, Outcome::Done, Outcome::Faulted];
    assert_eq!(server.look(&mut machine), None);
    assert!(machine.orders.is_empty());
    let (text, _) = run_on(&mut server, &mut machine, input, 1000, 1000);
    assert_eq!(status(&text).0, 200);
}

#[test]
fn init_that_does_not_answer_is_not_waited_for() {
    let mut machine = Simulated::new(&[]);
    let mut server = Server::new(table(), Limits::default(), &mut machine);
    let input = send_good(&good());
    let (text, _) = run_on(&mut server, &mut machine, input.clone(), 1000, 1000);
    assert_eq!(status(&text).0, 504);
    let (text, _) = run_on(&mut server, &mut machine, input, 1000, 1000);
    assert_eq!(status(&text).0, 503);
}

proptest! {
    #[test]
    fn any_bytes_come_to_an_end(
        bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1_usize..50
    ) {
        let mut machine = Simulated::new(&[]);
        run(&mut machine, bytes, piece, 1000);
        prop_assert!(machine.orders.is_empty());
    }

    #[test]
    fn damaged_packages_are_never_ordered(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
        piece in 1..10_000_usize,
    ) {
        let mut body = good();
        let honest = body.clone();
        for (at, change) in changes {
            let at = at.index(body.len());
            body[at] ^= change;
        }
        prop_assume!(body != honest);
        let mut machine = Simulated::new(&[]);
        let (text, _) = run(&mut machine, send_good(&body), piece, 1000);
        prop_assert_eq!(status(&text).0, 403);
        prop_assert!(machine.orders.is_empty());
    }
}
