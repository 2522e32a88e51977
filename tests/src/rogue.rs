//! The rogue application of the test systems, seen from outside.

use std::io;

use serde_json::Value;
use smoltcp::wire::IpProtocol;

use crate::{PeerHost, TestMachine, frames};

/// Its name.
pub const NAME: &str = "rogue-application";
/// What it says once it listens to commands.
pub const READY: &str = "rogue-application: port 9 is mine";

/// A datagram that tells it what to do.
pub fn command(text: &str) -> Vec<u8> {
    let mut datagram = Vec::new();
    for number in [4711, segue_forgeries::OWN_PORT, 8 + text.len() as u16, 0] {
        datagram.extend(u16::to_be_bytes(number));
    }
    datagram.extend(text.as_bytes());
    frames::ipv4(IpProtocol::Udp, &datagram)
}

/// Tells it what to do.
///
/// # Errors
/// If the machine has ended.
pub fn tell(peer: &PeerHost, text: &str) -> io::Result<()> {
    peer.inject(&command(text))
}

/// What the page says of the frame channel of `application`.
pub fn channel(status: &Value, application: &str) -> Value {
    let channels = status["frame_channels"].as_array();
    let found = channels
        .into_iter()
        .flatten()
        .find(|channel| channel["application"] == application);
    found
        .cloned()
        .unwrap_or_else(|| panic!("no {application} in {status}"))
}

/// A number of the rogue's frame channel, as the page shows it.
pub fn number(machine: &TestMachine, name: &str) -> u64 {
    let channel = channel(&machine.status(), NAME);
    let number = channel[name].as_u64();
    number.unwrap_or_else(|| panic!("no {name} in {channel}"))
}
