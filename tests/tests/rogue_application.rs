//! Two applications share an address; one of them forges frames and then breaks
//! the protocol of its frame channel. Nothing forged leaves the machine, and the
//! other application goes on.

use std::time::Duration;

use segue_system_tests::{Cable, TestMachine, files, frames};
use smoltcp::wire::IpProtocol;

const ANSWER: Duration = Duration::from_secs(30);
/// Kinds of forgery, and how often each is tried.
const FORGERIES: u64 = 7 * 100;
const NAME: &str = "rogue-application";

/// A datagram to the rogue's port.
fn command(text: &str) -> Vec<u8> {
    let mut datagram = Vec::new();
    for number in [4711, 9, 8 + text.len() as u16, 0] {
        datagram.extend(u16::to_be_bytes(number));
    }
    datagram.extend(text.as_bytes());
    frames::ipv4(IpProtocol::Udp, &datagram)
}

/// A number of the rogue's frame channel, as the page shows it.
fn number(machine: &TestMachine, name: &str) -> u64 {
    let status = machine.status();
    let channels = status["frame_channels"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let rogue = channels
        .iter()
        .find(|channel| channel["application"] == NAME);
    let number = rogue.and_then(|rogue| rogue[name].as_u64());
    number.unwrap_or_else(|| panic!("no {name} of {NAME} in {status}"))
}

/// Whether a frame that has left the machine is for the machine.
fn is_between_applications(frame: &[u8]) -> bool {
    frame.starts_with(frames::APPLICATION_MAC.as_bytes())
}

#[test]
fn a_rogue_application_harms_nobody() {
    let machine = TestMachine::boot(NAME, Cable::Peer(1));
    machine.expect_line("rogue-application: port 9 is mine");
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

    peer.record(true);
    peer.inject(&command("forge")).unwrap();
    let (mut forged, mut honest) = (0, 0);
    peer.recorded(ANSWER, |frame| {
        forged += u64::from(frame.ends_with(b"FORGED"));
        honest += u64::from(frame.ends_with(b"honest"));
        honest > 0
    });
    peer.record(false);
    assert_eq!(
        (forged, honest),
        (0, 1),
        "forged and honest frames on the wire"
    );
    machine.expect_line("rogue-application: port 80: address in use");
    machine.expect_line(&format!(
        "{FORGERIES} forged frames were handed in, 0 are not confirmed"
    ));
    machine.expect_line("netserver: warning: a frame of rogue-application was dropped: ");
    machine.assert_page_loads();
    assert_eq!(number(&machine, "dropped_frames"), FORGERIES);
    assert_eq!(number(&machine, "transmitted_frames"), 1);

    peer.inject(&command("break")).unwrap();
    machine.expect_line(
        "netserver: error: rogue-application has broken the protocol of its frame channel and is cut off: \
         its producer index is 2147483647",
    );
    machine.expect_line("rogue-application: the channel is down");
    machine.expect_line("portmap: rogue-application is gone: 2 ports were taken back");
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
    machine.expect_line("rogue-application: port 9 is mine");
    let peer = machine.host().peer().expect("the cable leads to a peer");
    peer.inject(&command("fault")).unwrap();
    machine.expect_line("portmap: rogue-application is gone: 2 ports were taken back");
    machine.assert_page_loads();
    // Now the port is nobody's: who asks is told.
    peer.record(true);
    peer.inject(&command("forge")).unwrap();
    let unreachable = peer.recorded(ANSWER, |frame| frame.get(34..36) == Some(&[3, 3]));
    assert!(unreachable.is_some());
}
