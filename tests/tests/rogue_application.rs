//! Two applications share an address; one of them forges frames and then breaks
//! the protocol of its frame channel. Nothing forged leaves the machine, and the
//! other application goes on.

use std::time::Duration;

use segue_system_tests::rogue::{NAME, READY, command, number};
use segue_system_tests::{Cable, TestMachine, files, frames, scenarios};

const ANSWER: Duration = Duration::from_secs(30);

/// Whether a frame that has left the machine is for the machine.
fn is_between_applications(frame: &[u8]) -> bool {
    frame.starts_with(frames::APPLICATION_MAC.as_bytes())
}

#[test]
fn no_forged_frame_leaves_the_machine() {
    scenarios::forgeries(1_000);
}

#[test]
fn who_breaks_the_protocol_is_cut_off() {
    let machine = TestMachine::boot(NAME, Cable::Peer(1));
    machine.expect_line(READY);
    machine.assert_page_loads();

    // Honest at first, it visits the other application: nobody outside sees that.
    let peer = machine.host().peer().expect("the cable leads to a peer");
    peer.record(true);
    peer.inject(&command("visit")).unwrap();
    let line = machine.expect_line("rogue-application: the neighbour has sent ");
    let sent = line
        .split(' ')
        .find_map(|word| word.parse::<usize>().ok())
        .unwrap_or_else(|| panic!("no number in {line}"));
    let body = files::contents("1k.bin").len();
    assert!((body + 20..body + 1000).contains(&sent), "{line}");
    peer.inject(&frames::arp_request("10.0.2.15".parse().unwrap()))
        .unwrap();
    peer.recorded(ANSWER, |frame| {
        assert!(!is_between_applications(frame), "a frame on the wire");
        frames::arp_reply(frame, "10.0.2.15".parse().unwrap()).is_some()
    });
    assert!(number(&machine, "inside_frames") >= 3);

    // It writes nonsense into its channel.
    peer.inject(&command("break")).unwrap();
    machine.expect_line(
        "netserver: error: rogue-application has broken the protocol of its frame channel and is cut off: \
         its producer index is 2147483647",
    );
    machine.expect_line("rogue-application: the channel is down");
    machine.expect_line("portmap: rogue-application is gone: 4 ports were taken back");
    machine.assert_page_loads();
    let before = number(&machine, "received_frames");
    peer.inject(&command("forge")).unwrap();
    machine.assert_page_loads();
    assert_eq!(
        number(&machine, "received_frames"),
        before,
        "it gets no more frames"
    );
}

#[test]
fn who_faults_loses_its_ports() {
    let machine = TestMachine::boot(NAME, Cable::Peer(1));
    machine.expect_line(READY);
    let peer = machine.host().peer().expect("the cable leads to a peer");
    peer.inject(&command("fault")).unwrap();
    machine.expect_line("portmap: rogue-application is gone: 4 ports were taken back");
    machine.assert_page_loads();
    // Now the port is nobody's: who asks is told.
    peer.record(true);
    peer.inject(&command("forge")).unwrap();
    let unreachable = peer.recorded(ANSWER, |frame| frame.get(34..36) == Some(&[3, 3]));
    assert!(unreachable.is_some());
}
