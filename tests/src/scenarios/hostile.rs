//! An application that does what it must not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use segue_forgeries::{HONEST, HONESTLY, forgeries as all_forgeries};
use serde_json::Value;

use crate::wire::{Judge, holds};
use crate::{Cable, PeerHost, TestMachine, rogue};

/// The time for one kind of frame, which is far more than it takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// Each kind of forgery, so many times: none may be on the wire, all must be counted by cause. Then
/// each kind of honest frame, all of which must be on the wire.
pub fn forgeries(count: u64) {
    let machine = TestMachine::boot(rogue::NAME, Cable::Peer(1));
    machine.expect_line(rogue::READY);
    machine.assert_page_loads();
    let peer = machine.host().peer().expect("the cable leads to a peer");

    peer.record(true);
    let before = machine.status();
    let (lines, started) = (reports(&machine), Instant::now());
    rogue::tell(peer, &format!("forge {count}")).expect("the machine runs");
    let honest = look_at_wire(peer, 1);
    let kinds = all_forgeries().count() as u64;
    machine.expect_line(&format!(
        "rogue-application: {} forged frames were handed in, 0 are not confirmed",
        kinds * count
    ));
    let seconds = started.elapsed().as_secs_f64();
    let lines = reports(&machine) - lines;
    assert_eq!(honest, [1], "the honest datagram at the end");
    machine.expect_line("rogue-application: port 80: address in use");

    let mut expected = BTreeMap::<_, u64>::new();
    for forgery in all_forgeries() {
        *expected.entry(forgery.cause.text()).or_default() += count;
    }
    let after = machine.status();
    for (cause, more) in differences(&before, &after) {
        assert_eq!(
            more,
            expected.remove(cause.as_str()).unwrap_or(0),
            "dropped frames: {cause}"
        );
    }
    assert!(expected.is_empty(), "not among the causes: {expected:?}");
    // One each second begun, and what an earlier second has left.
    assert!(lines > 0, "no word about forged frames on the console");
    assert!(
        lines as f64 <= seconds + 2.0,
        "{lines} lines about the rogue in {seconds:.1} s"
    );
    println!("{kinds} kinds of forgery, {count} times each, in {seconds:.1} s: none on the wire");

    // The control: what the rogue may send is seen, each frame of it.
    let times = count.min(100);
    rogue::tell(peer, &format!("honest {times}")).expect("the machine runs");
    let seen = look_at_wire(peer, times);
    for (honest, seen) in HONEST.iter().zip(&seen) {
        assert_eq!(*seen, times, "{} on the wire", honest.name);
    }
    println!(
        "{} kinds of honest frames, {times} times each: all on the wire",
        HONEST.len()
    );

    // Headers that change while the server reads them; interrupts come at any time.
    let before = machine.status();
    rogue::tell(peer, &format!("rewrite {times}")).expect("the machine runs");
    let mut noise = 0;
    let deadline = Instant::now() + PATIENCE;
    let mut judge = judge();
    while !machine.console().text().contains("handed in and rewritten") {
        rogue::tell(peer, "nothing").expect("the machine runs");
        noise += 1;
        peer.recorded(Duration::from_millis(1), |frame| judged(&mut judge, frame));
        assert!(
            Instant::now() < deadline,
            "the rogue does not come to an end"
        );
    }
    peer.recorded(Duration::from_millis(100), |frame| {
        judged(&mut judge, frame)
    });
    let after = machine.status();
    let dropped: u64 = differences(&before, &after).values().sum();
    println!(
        "headers replaced on their way: {dropped} dropped, none on the wire; {noise} interruptions"
    );
    machine.assert_page_loads();
}

/// Judges a frame of the wire; always false, so that the next one is looked at.
fn judged(judge: &mut Judge, frame: &[u8]) -> bool {
    if let Err(what) = judge.verify(frame) {
        panic!("on the wire: {what}: {frame:02x?}");
    }
    false
}

fn judge() -> Judge {
    Judge::new(
        vec![segue_forgeries::ANOTHERS_PORT, segue_forgeries::OWN_PORT],
        vec![segue_forgeries::OWN_PORT],
    )
}

/// Judges all frames until each kind of honest frame that comes has come so often, and nothing
/// more comes. Returns how often each did.
fn look_at_wire(peer: &PeerHost, times: u64) -> Vec<u64> {
    let mut judge = judge();
    let mut seen = Vec::new();
    let mut look = |frame: &[u8]| {
        judged(&mut judge, frame);
        if holds(frame, HONESTLY) {
            let at = frame
                .windows(HONESTLY.len())
                .position(|window| window == HONESTLY);
            let index = at.and_then(|at| frame.get(at + HONESTLY.len()));
            let index = usize::from(*index.expect("an index follows the mark"));
            if seen.len() <= index {
                seen.resize(index + 1, 0);
            }
            seen[index] += 1;
        }
        let done = seen.last() == Some(&times);
        done && (times == 1 || seen.len() == HONEST.len())
    };
    peer.recorded(PATIENCE, &mut look);
    // What comes too much comes soon.
    peer.recorded(Duration::from_millis(200), |frame| {
        look(frame);
        false
    });
    seen
}

/// How many more frames of the rogue were dropped, by cause.
fn differences(before: &Value, after: &Value) -> BTreeMap<String, u64> {
    let [before, after] = [before, after].map(|status| {
        let channel = rogue::channel(status, rogue::NAME);
        let causes = channel["dropped"].as_object().cloned();
        causes.unwrap_or_else(|| panic!("no causes in {channel}"))
    });
    let number = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or(0);
    after
        .iter()
        .map(|(cause, value)| {
            let more = number(Some(value)) - number(before.get(cause));
            (cause.clone(), more)
        })
        .collect()
}

/// Console lines of the server's about the rogue.
fn reports(machine: &TestMachine) -> usize {
    let text = machine.console().text();
    text.lines()
        .filter(|line| line.contains("netserver: warning: a frame of rogue-application"))
        .count()
}
