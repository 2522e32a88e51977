//! Virtual functions that are granted to the hostile and to the slow, and taken back from them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use segue_system_tests::changed::with_policy;
use segue_system_tests::grantees::{
    self, Behaviour, LIMIT, Mode, boot, expect_after, expect_mode, grantee, lines_after, order,
    peer, replace, switch,
};
use segue_system_tests::http::{Client, request};
use segue_system_tests::instructions::{Counter, Program};
use segue_system_tests::systems::{self, Place};
use segue_system_tests::{PeerHost, PeerStream, TestMachine, files};

/// MAC address of an application at [`Place::Own`]`(20)`.
const GRANTEE: [u8; 6] = [0x52, 0x54, 0, 0x5e, 0x61, 0x20];
/// MAC address of the other end of the cable.
const PEER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
/// A protocol for experiments (IEEE 802), which nobody answers.
const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];
/// MAC address of the default application.
const HTTP: [u8; 6] = [0x52, 0x54, 0, 0x5e, 0x61, 0x15];
/// The application besides the default one.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 30);
/// What the network is asked for.
const FILE: &str = "1m.bin";

fn download(client: &mut Client<PeerStream>) {
    let path = format!("/{FILE}");
    let answer = client.get(&path).expect("the connection goes on");
    assert!(answer.status == 200 && answer.body == files::contents(FILE));
}

/// Downloads over a connection of its own.
fn serves(peer: &PeerHost) {
    download(&mut Client::new(peer.connect(80).expect("a connection")));
}

/// Says that it is over when it goes, also when a test fails: nobody is to wait for ever then.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Frames for a grantee that takes none, and others' go on.
fn flood(machine: &TestMachine) {
    let frame = [&GRANTEE[..], &PEER, &EXPERIMENTAL, &[0; 46]].concat();
    for _ in 0..2_000 {
        peer(machine).inject(&frame).expect("the machine runs");
    }
    serves(&peer(machine));
}

/// Nothing has stopped but who is named.
fn assert_only_stopped(machine: &TestMachine, names: &[&str]) {
    let stopped: BTreeSet<String> = lines_after(machine, 0, " was stopped: ")
        .iter()
        .filter_map(|line| line.split_once(" was stopped: "))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert!(stopped.iter().eq(names), "{stopped:?}");
}

/// The function that was taken back works for the next one.
fn is_granted_again(machine: &mut TestMachine) {
    let line = switch(machine, "http", Mode::Direct);
    assert!(line.contains("virtual function 1"), "{line}");
    serves(&peer(machine));
    assert_eq!(mode_of(machine, "http"), "direct");
}

/// What the console's table of modes says of an application.
fn mode_of(machine: &mut TestMachine, name: &str) -> String {
    let position = machine.console().position();
    machine.type_in(b"vf\r").expect("the console takes input");
    let line = expect_after(machine, position, &format!("{name}  "));
    let mode = line.split_whitespace().nth(1);
    mode.unwrap_or_else(|| panic!("{line}")).to_owned()
}

/// The registers that `name` has found not zero at its `grant`-th grant.
fn registers(machine: &TestMachine, name: &str, grant: u32) -> BTreeMap<u32, u32> {
    let end = expect_after(machine, 0, &format!("{name}: grant {grant}: "));
    let hexadecimal = |text| u32::from_str_radix(text, 16).expect("a number");
    let found: BTreeMap<u32, u32> =
        lines_after(machine, 0, &format!("{name}: grant {grant} registers:"))
            .iter()
            .flat_map(|line| line.split_whitespace())
            .filter_map(|word| word.split_once('='))
            .map(|(offset, value)| (hexadecimal(offset), hexadecimal(value)))
            .collect();
    let total = format!(": {} registers of function 1 ", found.len());
    assert!(end.contains(&total), "{end}, but {found:x?}");
    found
}

/// The first number in a line.
fn number(line: &str) -> usize {
    let number = line.split(' ').find_map(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("no number in {line}"))
}

/// Registers in which a next holder may find what the last one has done (docs/hardware.md):
/// interrupt auto clear and auto mask, the mailbox's bits, counters of frames and bytes.
fn may_differ(offset: u32) -> bool {
    matches!(offset, 0x152c | 0x1530 | 0x0c40 | 0x0f00..=0x0fff)
}

/// Grants `name` the function, has it spoilt and takes it back; what was read before.
fn inspect(machine: &mut TestMachine, name: &str, grant: u32) -> BTreeMap<u32, u32> {
    switch(machine, name, Mode::Direct);
    switch(machine, name, Mode::Server);
    registers(machine, name, grant)
}

#[test]
fn a_function_shows_nothing_of_its_last_holder() {
    let more = [("left", 20), ("right", 21)]
        .map(|(name, number)| grantee(name, Behaviour::Inspector, number, "1"))
        .concat();
    let image = grantees::image("inspectors", "1", &more, |text| text);
    let mut machine = boot(&image);
    let first = inspect(&mut machine, "left", 1);
    println!("after the start: {first:x?}");
    let spoilt = number(&expect_after(&machine, 0, "left: after junk "));
    assert!(spoilt > first.len() + 10, "{spoilt} registers keep junk");
    let after_junk = inspect(&mut machine, "right", 1);
    is_granted_again(&mut machine);
    switch(&mut machine, "http", Mode::Server);
    let after_use = inspect(&mut machine, "left", 2);
    for (what, found) in [("junk", after_junk), ("use", after_use)] {
        let offsets: BTreeSet<u32> = first.keys().chain(found.keys()).copied().collect();
        let changed: Vec<_> = offsets
            .into_iter()
            .filter(|offset| first.get(offset) != found.get(offset))
            .map(|offset| (offset, first.get(&offset), found.get(&offset)))
            .collect();
        println!("after {what}: {changed:x?}");
        let unexpected = changed.iter().find(|(offset, ..)| !may_differ(*offset));
        assert_eq!(unexpected, None, "after {what}");
    }
    serves(&peer(&machine));
    assert_only_stopped(&machine, &[]);
}

/// Whether a frame has left the machine that is a grantee's.
fn is_of_grantee(frame: &[u8]) -> bool {
    frame.get(6..12) == Some(&GRANTEE)
}

/// All that has left the machine so far has been looked at when this returns; says whether
/// `wanted` was among it.
fn has_left(peer: &PeerHost, mut wanted: impl FnMut(&[u8]) -> bool) -> bool {
    // Frames keep their order on the cable.
    serves(peer);
    let mut found = false;
    while let Some(frame) = peer.recorded(Duration::ZERO, |_| true) {
        found |= wanted(&frame);
    }
    found
}

#[test]
fn who_does_not_let_go_loses_the_function_by_force() {
    let more = grantee("stubborn", Behaviour::Stubborn, 20, "1");
    let image = grantees::image("stubborn", "1", &more, |text| text);
    let mut machine = boot(&image);
    let peer = peer(&machine);
    peer.record(true);
    switch(&mut machine, "stubborn", Mode::Direct);
    let frame = peer.recorded(LIMIT, is_of_grantee);
    assert!(frame.is_some(), "it sends");
    // Its receive queue runs, without a buffer.
    flood(&machine);

    let position = order(&mut machine, "stubborn", Mode::Server);
    expect_after(
        &machine,
        position,
        "director: warning: stubborn loses its virtual function: stubborn did not answer in time",
    );
    expect_mode(&machine, position, "stubborn", Mode::Server);
    expect_after(&machine, position, "stubborn: is to stop, and goes on");
    has_left(&peer, is_of_grantee);
    // It lives on, and rings in vain.
    for _ in 0..3 {
        let position = machine.console().position();
        expect_after(&machine, position, "stubborn: still rings: round ");
        assert!(!has_left(&peer, is_of_grantee), "a frame has left");
    }
    is_granted_again(&mut machine);
    let position = machine.console().position();
    expect_after(&machine, position, "stubborn: still rings: round ");
    assert!(!has_left(&peer, is_of_grantee), "a frame has left");
    assert_only_stopped(&machine, &[]);
}

#[test]
fn who_resets_the_function_without_end_disturbs_nobody() {
    let more = grantee("restless", Behaviour::Restless, 20, "1");
    let image = grantees::image("restless", "1", &more, |text| text);
    let mut machine = boot(&image);
    switch(&mut machine, "restless", Mode::Direct);
    expect_after(&machine, 0, "restless: still resets: round ");
    // The owner of the physical function answers to resets all the time.
    expect_after(
        &machine,
        0,
        "igb-pf: virtual function 1 was reset by its user and is enabled again, many times",
    );
    for _ in 0..3 {
        serves(&peer(&machine));
    }
    let position = order(&mut machine, "restless", Mode::Server);
    expect_after(
        &machine,
        position,
        "director: warning: restless loses its virtual function: restless did not answer in time",
    );
    expect_mode(&machine, position, "restless", Mode::Server);
    expect_after(
        &machine,
        machine.console().position(),
        "restless: still resets: round ",
    );
    is_granted_again(&mut machine);
    assert_only_stopped(&machine, &[]);
}

/// One line of the IOMMU's trace: `vtd_dmar_fault sid 0x9a fault 6 addr 0x30000000 write 0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    requester: u64,
    page: u64,
    write: bool,
}

fn faults(machine: &TestMachine) -> Vec<Fault> {
    let lines = machine.trace().expect("the trace can be read");
    let fault = |line: &String| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |name: &str| {
            let place = words.iter().position(|word| *word == name)?;
            let word = words.get(place + 1)?.trim_start_matches("0x");
            u64::from_str_radix(word, 16).ok()
        };
        words.contains(&"vtd_dmar_fault").then_some(())?;
        Some(Fault {
            requester: after("sid")?,
            page: after("addr")? & !0xfff,
            write: after("write")? == 1,
        })
    };
    lines.iter().filter_map(fault).collect()
}

/// Requester id of virtual function 1: 00:13.2.
const REQUESTER: u64 = 0x9a;
/// What the thief reaches for; it has five ways to do so, each to a page of its own.
const TARGETS: [u64; 7] = [
    0x10_0000,
    0x100_0000,
    0x800_0000,
    0x1000_0000,
    0xb000_0000,
    0xe000_0000,
    0x70_0000_0000,
];
/// Whether the way is for writing, by its page.
const WAYS: [bool; 5] = [false, true, false, true, false];

#[test]
fn a_thief_reaches_nothing() {
    let more = grantee("thief", Behaviour::Thief, 20, "1");
    let image = grantees::image("thief", "1", &more, |text| text);
    let mut machine = grantees::start(image.machine().trace("vtd_dmar_fault"));
    let peer = peer(&machine);
    assert_eq!(faults(&machine), [], "before");
    peer.record(true);
    // Something for it to receive, all the time.
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _done = Done(&done);
        scope.spawn(|| {
            let frame = [&GRANTEE[..], &PEER, &EXPERIMENTAL, &[0; 46]].concat();
            while !done.load(Ordering::Relaxed) && peer.inject(&frame).is_ok() {
                thread::sleep(Duration::from_millis(2));
            }
        });
        steal(&mut machine, &peer);
    });
}

/// What the thief test does while frames come for the thief.
fn steal(machine: &mut TestMachine, peer: &PeerHost) {
    switch(machine, "thief", Mode::Direct);
    expect_after(
        machine,
        0,
        "thief: within its memory the function passes 1 frame",
    );
    // What QEMU's function could not read it sends as zeroes, since it does not look at the source.
    let is_foreign = |frame: &[u8]| {
        let broadcast = [&[0xff; 6], &GRANTEE[..], &EXPERIMENTAL].concat();
        let is_of_http = frame.get(6..12) == Some(&HTTP);
        !is_of_http && !frame.starts_with(&broadcast) && frame.iter().any(|byte| *byte != 0)
    };
    for round in [1, 2] {
        expect_after(
            machine,
            0,
            &format!("thief: has tried everything: round {round}"),
        );
        assert!(!has_left(peer, is_foreign), "memory has left the machine");
    }
    let found = faults(machine);
    assert!(found.iter().all(|fault| fault.requester == REQUESTER));
    let found: BTreeSet<Fault> = found.into_iter().collect();
    for target in TARGETS {
        for (way, write) in WAYS.into_iter().enumerate() {
            let page = target + 0x1000 * way as u64;
            let fault = Fault {
                requester: REQUESTER,
                page,
                write,
            };
            assert!(found.contains(&fault), "{fault:x?} is missing: {found:x?}");
        }
    }
    let position = order(machine, "thief", Mode::Server);
    expect_after(
        machine,
        position,
        "director: warning: thief loses its virtual function: ",
    );
    expect_mode(machine, position, "thief", Mode::Server);
    has_left(peer, is_of_grantee);
    let before = faults(machine).len();
    let position = machine.console().position();
    for _ in 0..2 {
        let position = machine.console().position();
        expect_after(
            machine,
            position,
            "thief: is to stop, and has tried everything: round ",
        );
    }
    assert!(!has_left(peer, is_of_grantee), "a frame has left");
    let after = faults(machine);
    assert_eq!(after[before..], [], "an access after the revocation");
    is_granted_again(machine);
    expect_after(
        machine,
        position,
        "thief: is to stop, and has tried everything: round ",
    );
    assert_eq!(
        faults(machine).len(),
        before,
        "an access of the next holder"
    );
    assert_only_stopped(machine, &[]);
}

#[test]
fn a_hoarder_keeps_nothing() {
    let more = grantee("hoarder", Behaviour::Hoarder, 20, "1");
    let image = grantees::image("hoarder", "1", &more, |text| text);
    let mut machine = boot(&image);
    switch(&mut machine, "hoarder", Mode::Direct);
    expect_after(&machine, 0, "hoarder: has hoarded");
    for line in lines_after(&machine, 0, "hoarder: ") {
        println!("{line}");
    }
    // What it may do with what is its own, and what it may not.
    for done in [
        "Copy of the untyped",
        "Copy of the IO space",
        "Copy of the handler",
        "Move of the other handler",
        "Retype of the copy into two untypeds",
        "Retype of one of these into frames",
        "Map of its copy elsewhere",
        "Map of an IO page table",
    ] {
        expect_after(&machine, 0, &format!("hoarder: {done}: done"));
    }
    for refused in ["Retype into", "Mint of"] {
        let lines = lines_after(&machine, 0, &format!("hoarder: {refused}"));
        assert!(!lines.is_empty());
        for line in lines {
            assert!(!line.ends_with(": done"), "{line}");
        }
    }
    expect_after(&machine, 0, "hoarder: 0 other CNodes took a capability");
    // Frames for it find no queue.
    flood(&machine);

    switch(&mut machine, "hoarder", Mode::Server);
    expect_after(&machine, 0, "hoarder: nothing is left");
    // The second place goes, and with it who reads there.
    expect_after(
        &machine,
        0,
        "hoarder: where the registers were there is 0x0;",
    );
    expect_after(&machine, 0, "hoarder was stopped: it read memory at 0x");
    is_granted_again(&mut machine);
    assert_only_stopped(&machine, &["hoarder"]);
}

/// The default application with pages that make it slow or fault.
fn fragile(text: &str) -> String {
    replace(
        text,
        r#"<program_image path="segue-http"/>"#,
        r#"<program_image path="segue-fragile"/>"#,
    )
}

#[test]
fn who_is_only_slow_loses_the_function_and_nothing_else() {
    let image = grantees::image("slow", "1", "", |text| fragile(&text));
    // Time is a matter of instructions, so that the host, which types meanwhile, may be slow too.
    let mut machine = grantees::start(image.machine().instruction_clock(3));
    let mut client = Client::new(peer(&machine).connect(80).expect("a connection"));
    switch(&mut machine, "http", Mode::Direct);
    download(&mut client);
    let question = request("GET", "/compute", "");
    client
        .send(question.as_bytes())
        .expect("the request goes out");
    expect_after(&machine, 0, "http: computes");
    let position = order(&mut machine, "http", Mode::Server);
    expect_after(
        &machine,
        position,
        "director: warning: http loses its virtual function: http did not answer in time",
    );
    expect_mode(&machine, position, "http", Mode::Server);
    let answer = client.response().expect("the connection goes on");
    assert!(answer.status == 200 && answer.body == b"computed\n");
    download(&mut client);
    assert_eq!(
        lines_after(&machine, position, "http: has computed").len(),
        1
    );
    // And it may have it again.
    switch(&mut machine, "http", Mode::Direct);
    download(&mut client);
    assert_only_stopped(&machine, &[]);
}

#[test]
fn the_function_of_who_crashes_goes_to_its_next_life() {
    let other = systems::http("other", 1, 80, Place::Own(30));
    let more = other + &grantees::direct_mode("other", "2");
    let image = grantees::image("crash", "1", &more, |text| {
        let policy = r#"restart="on_fault" restart_backoff_ms="0""#;
        with_policy(&fragile(&text), "http", policy)
    });
    let mut machine = boot(&image);
    let peer = peer(&machine);
    peer.keep_alive(true);
    let line = switch(&mut machine, "other", Mode::Direct);
    assert!(line.contains("virtual function 2"), "{line}");
    let (done, downloads) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let stream = peer
                .connect_to(SocketAddrV4::new(OTHER, 80))
                .expect("a connection");
            let mut client = Client::new(stream);
            while !done.load(Ordering::Relaxed) {
                download(&mut client);
                downloads.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _done = Done(&done);
        for life in 0..3 {
            let line = switch(&mut machine, "http", Mode::Direct);
            assert!(line.contains("virtual function 1"), "life {life}: {line}");
            serves(&peer);
            let position = machine.console().position();
            let mut client = Client::new(peer.connect(80).expect("a connection"));
            assert!(client.get("/fault/panic").is_err());
            expect_after(
                &machine,
                position,
                "director: warning: http is gone: virtual function 1 is taken back",
            );
            expect_after(&machine, position, "http was restarted, ");
            let before = downloads.load(Ordering::Relaxed);
            let deadline = Instant::now() + LIMIT;
            while downloads.load(Ordering::Relaxed) <= before + 1 {
                assert!(Instant::now() < deadline, "the other one has no frames");
                thread::sleep(Duration::from_millis(5));
            }
            machine.wait_until_it_answers();
        }
    });
    println!("{downloads:?} downloads");
    is_granted_again(&mut machine);
    assert_only_stopped(&machine, &["http"]);
    assert_eq!(lines_after(&machine, 0, "other loses its virtual").len(), 0);
}

/// What a grant and its revocation cost, in instructions: the machine's speed does not matter.
#[test]
fn a_revocation_takes_few_instructions_and_system_calls() {
    let image = grantees::image("cost", "1", "", |text| text);
    let (machine, mut counter) = Counter::add(image.machine().instruction_clock(0));
    let mut machine = grantees::start(machine);
    let pcie = Program::read("segue-pcie");
    let mut count = || {
        [
            counter.of_program(&pcie),
            counter.system_calls_of_program(&pcie),
        ]
    };
    for round in 1..=3 {
        for mode in [Mode::Direct, Mode::Server] {
            let before = count();
            // Ends with the time since the decision; a nanosecond is an instruction.
            let line = switch(&mut machine, "http", mode);
            let after = count();
            let [instructions, calls] = [0, 1].map(|what| after[what] - before[what]);
            println!(
                "{round}: to {mode} mode: pcie executes {instructions} instructions and {calls} \
                 system calls; {line}"
            );
            // The last two say that it is done, and wait.
            if mode == Mode::Server {
                assert!(calls <= 17, "{calls} system calls");
            }
        }
    }
}
