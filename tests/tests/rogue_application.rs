//! Two applications share an address; one of them forges frames and then breaks
//! the protocol of its frame channel. Nothing forged leaves the machine, and the
//! other application goes on.

use std::time::Duration;

use segue_system_tests::{Cable, TestMachine, frames};
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

#[test]
fn a_rogue_application_harms_nobody() {
    let machine = TestMachine::boot(NAME, Cable::Peer(1));
    machine.expect_line("rogue-application: port 9 is mine");
    machine.assert_page_loads();

    let peer = machine.host().peer().expect("the cable leads to a peer");
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
