//! Frames to be sent without end. They go to an address of nobody, so that nobody answers.

use crate::frame::TRANSPORT;
use crate::offload::longest_segment;
use crate::{FREE_PORT, Frame, Parties};

fn to_nobody(parties: &Parties, frame: &mut Frame) {
    let [a, b, c, _] = parties.peer_ipv4;
    frame.set(30, &[a, b, c, 250]);
    frame.fix_checksum();
}

/// A long TCP segment to be cut.
pub fn large(parties: &Parties, frame: &mut Frame) {
    longest_segment(frame, parties);
    to_nobody(parties, frame);
}

/// A short datagram.
pub fn small(parties: &Parties, frame: &mut Frame) {
    frame.udp(parties);
    to_nobody(parties, frame);
}

/// A short datagram from another's port.
pub fn forged(parties: &Parties, frame: &mut Frame) {
    small(parties, frame);
    frame.set16(TRANSPORT, FREE_PORT);
}

/// A short datagram to everybody.
pub fn broadcast(parties: &Parties, frame: &mut Frame) {
    frame.udp(parties);
    frame.set(0, &[0xff; 6]);
    frame.set(30, &[0xff; 4]);
    frame.fix_checksum();
}

/// A SYN to a port of the own address.
pub fn connect(parties: &Parties, frame: &mut Frame, port: u16) {
    frame.ipv4(parties, 6, 20);
    frame.set(0, &parties.mac);
    frame.set(30, &parties.ipv4);
    frame.fix_checksum();
    frame.set16(TRANSPORT, crate::OWN_PORT);
    frame.set16(TRANSPORT + 2, port);
    frame.set(TRANSPORT + 12, &[0x50, 2, 0x20, 0]);
    frame.offload.ipv4_checksum = true;
    frame.offload.transport_checksum = true;
}
