//! Hardware addresses of those that are to be connected to: questions by ARP
//! (RFC 826) and neighbour discovery (RFC 4861), and what was answered.
//!
//! Only what was asked for is learnt, and only from answers to this interface.
//! Connections themselves do not look here: their frames go to where the last
//! frame came from.

use crate::wire::{ETHERNET_HEADER, fold, sum, word};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use smoltcp::time::{Duration, Instant};

/// Time between two questions for the same address (RFC 1122, 2.3.2.1: at most one
/// a second).
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Questions without an answer before an address is said to have nobody.
const MOST_QUESTIONS: u8 = 3;
/// How long an answer is believed.
const VALID: Duration = Duration::from_secs(60);
/// Addresses remembered; the one asked for longest ago makes room.
const MOST_NEIGHBOURS: usize = 64;

const ARP_LENGTH: usize = ETHERNET_HEADER + 28;
const IPV6_HEADER: usize = 40;
const PROTOCOL_ICMPV6: u8 = 58;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// An advertisement's flag that says to believe it rather than earlier ones.
const OVERRIDE: u8 = 0x20;
/// ICMPv6 header, target, and the option with a link-layer address.
const SOLICITATION_LENGTH: usize = 4 + 4 + 16 + 8;

/// A hardware address.
pub type Hardware = [u8; 6];

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its hardware address.
    Known(Hardware),
    /// It was asked for; there is more to know at this time at the latest.
    Asked(Instant),
    /// It does not answer.
    Silent,
}

enum State {
    Known { hardware: Hardware, until: Instant },
    Asked { questions: u8, again: Instant },
}

struct Neighbour {
    address: IpAddr,
    state: State,
    /// Who waits for it.
    waiting: Vec<u32>,
}

/// The neighbours that were asked for.
#[derive(Default)]
pub struct Neighbours {
    /// In the order in which they were asked for.
    entries: Vec<Neighbour>,
}

/// A question, or an answer, on its way out.
pub struct Question {
    bytes: [u8; ETHERNET_HEADER + IPV6_HEADER + SOLICITATION_LENGTH],
    length: usize,
}

impl Question {
    /// The frame.
    pub fn frame(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Neighbours {
    /// Looks for the neighbour at `address` on behalf of `who`, who is given by
    /// [`Neighbours::learn`] when the answer comes. `ask` sends a question.
    pub fn find(&mut self, address: IpAddr, who: u32, now: Instant, ask: impl FnOnce()) -> Found {
        let at = match self
            .entries
            .iter()
            .position(|entry| entry.address == address)
        {
            Some(at) => at,
            None => {
                if self.entries.len() >= MOST_NEIGHBOURS {
                    // Who waits for it asks again.
                    self.entries.remove(0);
                }
                self.entries.push(Neighbour {
                    address,
                    state: State::Asked {
                        questions: 0,
                        again: now,
                    },
                    waiting: Vec::new(),
                });
                self.entries.len() - 1
            }
        };
        let entry = &mut self.entries[at];
        match &mut entry.state {
            State::Known { hardware, until } if *until > now => return Found::Known(*hardware),
            state @ State::Known { .. } => {
                *state = State::Asked {
                    questions: 0,
                    again: now,
                };
            }
            State::Asked { .. } => {}
        }
        let State::Asked { questions, again } = &mut entry.state else {
            return Found::Silent;
        };
        if *again <= now {
            if *questions >= MOST_QUESTIONS {
                // The next one who wants it asks anew.
                self.entries.remove(at);
                return Found::Silent;
            }
            *questions += 1;
            *again = now + ASK_AGAIN;
            ask();
        }
        if !entry.waiting.contains(&who) {
            entry.waiting.push(who);
        }
        Found::Asked(*again)
    }

    /// Forgets an address that does not lead anywhere any more.
    pub fn forget(&mut self, address: IpAddr) {
        self.entries.retain(|entry| {
            entry.address != address || !matches!(entry.state, State::Known { .. })
        });
    }

    /// Learns from a received frame. Returns who waited for it.
    pub fn learn(
        &mut self,
        frame: &[u8],
        ours: &Hardware,
        local: impl Fn(IpAddr) -> bool,
        now: Instant,
    ) -> Vec<u32> {
        if self.entries.is_empty() {
            return Vec::new();
        }
        let Some((address, hardware)) = answer(frame, ours, local) else {
            return Vec::new();
        };
        let entry = self
            .entries
            .iter_mut()
            .find(|entry| entry.address == address);
        match entry {
            Some(entry) if matches!(entry.state, State::Asked { .. }) => {
                entry.state = State::Known {
                    hardware,
                    until: now + VALID,
                };
                core::mem::take(&mut entry.waiting)
            }
            _ => Vec::new(),
        }
    }
}

/// Asks who has `target`, for the interface with these addresses. `None` if the
/// addresses are of different families.
pub fn question(hardware: &Hardware, local: IpAddr, target: IpAddr) -> Option<Question> {
    let mut question = Question {
        bytes: [0; ETHERNET_HEADER + IPV6_HEADER + SOLICITATION_LENGTH],
        length: 0,
    };
    question.length = match (local, target) {
        (IpAddr::V4(local), IpAddr::V4(target)) => {
            emit_arp(&mut question.bytes, hardware, local, target);
            ARP_LENGTH
        }
        (IpAddr::V6(local), IpAddr::V6(target)) => {
            emit_solicitation(&mut question.bytes, hardware, local, target);
            question.bytes.len()
        }
        _ => return None,
    };
    Some(question)
}

fn emit_arp(frame: &mut [u8], hardware: &Hardware, local: Ipv4Addr, target: Ipv4Addr) {
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(hardware);
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    // Ethernet, IPv4, their lengths, a request.
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(hardware);
    frame[28..32].copy_from_slice(&local.octets());
    frame[38..42].copy_from_slice(&target.octets());
}

fn emit_solicitation(frame: &mut [u8], hardware: &Hardware, local: Ipv6Addr, target: Ipv6Addr) {
    let last = target.octets();
    // RFC 4291, 2.7.1: the solicited-node address.
    let group = [
        0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, last[13], last[14], last[15],
    ];
    frame[..6].copy_from_slice(&[0x33, 0x33, 0xff, last[13], last[14], last[15]]);
    frame[6..12].copy_from_slice(hardware);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    let ip = &mut frame[ETHERNET_HEADER..];
    ip[0] = 0x60;
    ip[4..6].copy_from_slice(&(SOLICITATION_LENGTH as u16).to_be_bytes());
    ip[6] = PROTOCOL_ICMPV6;
    ip[7] = 255;
    ip[8..24].copy_from_slice(&local.octets());
    ip[24..40].copy_from_slice(&group);
    let icmp = &mut ip[IPV6_HEADER..];
    icmp[0] = NEIGHBOR_SOLICITATION;
    icmp[8..24].copy_from_slice(&last);
    // Source link-layer address, one unit of 8 bytes (RFC 4861, 4.6.1).
    icmp[24..26].copy_from_slice(&[1, 1]);
    icmp[26..32].copy_from_slice(hardware);
    let checksum = !fold(icmpv6_sum(ip));
    ip[IPV6_HEADER + 2..IPV6_HEADER + 4].copy_from_slice(&checksum.to_be_bytes());
}

/// Tells all that this interface has `target`, which somebody wants to take (RFC 4861,
/// 7.2.4).
pub fn advertise(hardware: &Hardware, target: Ipv6Addr) -> Question {
    let mut question = Question {
        bytes: [0; ETHERNET_HEADER + IPV6_HEADER + SOLICITATION_LENGTH],
        length: ETHERNET_HEADER + IPV6_HEADER + SOLICITATION_LENGTH,
    };
    let frame = &mut question.bytes;
    emit_solicitation(frame, hardware, target, target);
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    let ip = &mut frame[ETHERNET_HEADER..];
    ip[24..40].copy_from_slice(&Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets());
    let icmp = &mut ip[IPV6_HEADER..];
    icmp[0] = NEIGHBOR_ADVERTISEMENT;
    icmp[2..4].fill(0);
    icmp[4] = OVERRIDE;
    // Target link-layer address.
    icmp[24] = 2;
    let checksum = !fold(icmpv6_sum(ip));
    ip[IPV6_HEADER + 2..IPV6_HEADER + 4].copy_from_slice(&checksum.to_be_bytes());
    question
}

/// The sum of an ICMPv6 message and its pseudo header (RFC 8200, 8.1).
fn icmpv6_sum(ip: &[u8]) -> u64 {
    let length = (ip.len() - IPV6_HEADER) as u64;
    sum(length + u64::from(PROTOCOL_ICMPV6), &ip[8..])
}

/// Whose hardware address an answer to us tells.
fn answer(
    frame: &[u8],
    ours: &Hardware,
    local: impl Fn(IpAddr) -> bool,
) -> Option<(IpAddr, Hardware)> {
    if frame.get(..6)? != ours {
        return None;
    }
    let (address, hardware) = match frame.get(12..14)? {
        [0x08, 0x06] => arp_answer(frame, ours, local)?,
        [0x86, 0xdd] => advertisement(frame, local)?,
        _ => return None,
    };
    // A group is nobody's address; all zeroes is none.
    (hardware[0] & 1 == 0 && hardware != [0; 6]).then_some((address, hardware))
}

fn arp_answer(
    frame: &[u8],
    ours: &Hardware,
    local: impl Fn(IpAddr) -> bool,
) -> Option<(IpAddr, Hardware)> {
    let arp = frame.get(ETHERNET_HEADER..ARP_LENGTH)?;
    let to = IpAddr::V4(Ipv4Addr::from_bits(word(arp, 24)));
    if arp[..8] != [0, 1, 8, 0, 6, 4, 0, 2] || arp[18..24] != *ours || !local(to) {
        return None;
    }
    let mut hardware = [0; 6];
    hardware.copy_from_slice(&arp[8..14]);
    Some((IpAddr::V4(Ipv4Addr::from_bits(word(arp, 14))), hardware))
}

fn advertisement(frame: &[u8], local: impl Fn(IpAddr) -> bool) -> Option<(IpAddr, Hardware)> {
    let ip = frame.get(ETHERNET_HEADER..)?;
    let header = ip.get(..IPV6_HEADER)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let ip = ip.get(..IPV6_HEADER + length)?;
    // RFC 4861, 7.1.2: what makes an advertisement valid.
    if header[0] >> 4 != 6 || header[6] != PROTOCOL_ICMPV6 || header[7] != 255 || length < 24 {
        return None;
    }
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[24..40]);
    if !local(IpAddr::V6(octets.into())) || fold(icmpv6_sum(ip)) != 0xffff {
        return None;
    }
    let icmp = &ip[IPV6_HEADER..];
    if icmp[..2] != [NEIGHBOR_ADVERTISEMENT, 0] {
        return None;
    }
    octets.copy_from_slice(&icmp[8..24]);
    let mut hardware = [0; 6];
    // An answer to a question to one address may leave the option out.
    hardware.copy_from_slice(&frame[6..12]);
    let mut options = &icmp[24..];
    while let [kind, units, ..] = *options {
        let option = options.get(..usize::from(units) * 8)?;
        if option.is_empty() {
            return None;
        }
        if kind == 2 {
            hardware.copy_from_slice(&option[2..8]);
        }
        options = &options[option.len()..];
    }
    Some((IpAddr::V6(octets.into()), hardware))
}

/// Whose hardware address an ARP packet (RFC 5227, 2.4) or a neighbour advertisement
/// claims to be that of an address.
pub fn claim(frame: &[u8]) -> Option<(IpAddr, Hardware)> {
    match frame.get(12..14)? {
        [0x08, 0x06] => {
            let arp = frame.get(ETHERNET_HEADER..ARP_LENGTH)?;
            // Ethernet, IPv4, their lengths; a request or a reply.
            if arp[..7] != [0, 1, 8, 0, 6, 4, 0] {
                return None;
            }
            let mut hardware = [0; 6];
            hardware.copy_from_slice(&arp[8..14]);
            Some((IpAddr::V4(Ipv4Addr::from_bits(word(arp, 14))), hardware))
        }
        [0x86, 0xdd] => advertisement(frame, |_| true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use smoltcp::wire::{ArpPacket, ArpRepr, Icmpv6Packet, Icmpv6Repr, Ipv6Packet, NdiscRepr};

    const MAC: Hardware = [2, 0, 0, 0, 0, 15];
    const PEER: Hardware = [2, 0, 0, 0, 0, 99];
    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 15));
    const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2));
    const LOCAL6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x5e60, 0, 0, 0, 0, 0, 0x15));
    const REMOTE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x5e60, 0, 0, 0, 0, 0, 2));

    fn reply() -> [u8; ARP_LENGTH] {
        let mut frame = [0; ARP_LENGTH];
        frame.copy_from_slice(question(&PEER, REMOTE, LOCAL).unwrap().frame());
        frame[..6].copy_from_slice(&MAC);
        frame[21] = 2;
        frame[32..38].copy_from_slice(&MAC);
        frame
    }

    fn ours(address: IpAddr) -> bool {
        address == LOCAL || address == LOCAL6
    }

    #[test]
    fn questions_are_what_others_understand() {
        let arp = question(&MAC, LOCAL, REMOTE).unwrap();
        let packet = ArpPacket::new_checked(&arp.frame()[14..]).unwrap();
        let ArpRepr::EthernetIpv4 {
            target_protocol_addr,
            ..
        } = ArpRepr::parse(&packet).unwrap()
        else {
            panic!("not ARP for IPv4")
        };
        assert_eq!(IpAddr::V4(target_protocol_addr), REMOTE);
        let solicitation = question(&MAC, LOCAL6, REMOTE6).unwrap();
        let ip = Ipv6Packet::new_checked(&solicitation.frame()[14..]).unwrap();
        let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
        let repr = Icmpv6Repr::parse(
            &ip.src_addr(),
            &ip.dst_addr(),
            &icmp,
            &smoltcp::phy::ChecksumCapabilities::default(),
        );
        let Ok(Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
            target_addr,
            lladdr: Some(_),
        })) = repr
        else {
            panic!("{repr:?}")
        };
        assert_eq!(IpAddr::V6(target_addr), REMOTE6);
        assert!(question(&MAC, LOCAL, REMOTE6).is_none());
    }

    #[test]
    fn only_answers_to_questions_are_learnt() {
        let mut neighbours = Neighbours::default();
        let now = Instant::from_secs(1);
        assert!(neighbours.learn(&reply(), &MAC, ours, now).is_empty());
        let mut asked = 0;
        assert_eq!(
            neighbours.find(REMOTE, 7, now, || asked += 1),
            Found::Asked(now + ASK_AGAIN)
        );
        neighbours.find(REMOTE, 8, now, || asked += 1);
        assert_eq!(asked, 1);
        // To somebody else, for another address, a group's, a request.
        for (at, value) in [
            (5, 16),
            (37, 16),
            (41, 16),
            (22, 3),
            (21, 1),
            (31, 3),
            (15, 2),
        ] {
            let mut wrong = reply();
            wrong[at] = value;
            assert!(neighbours.learn(&wrong, &MAC, ours, now).is_empty(), "{at}");
        }
        for length in 0..ARP_LENGTH {
            assert!(
                neighbours
                    .learn(&reply()[..length], &MAC, ours, now)
                    .is_empty()
            );
        }
        assert_eq!(neighbours.learn(&reply(), &MAC, ours, now), [7, 8]);
        let found = |neighbours: &mut Neighbours, now| neighbours.find(REMOTE, 7, now, || ());
        assert_eq!(found(&mut neighbours, now), Found::Known(PEER));
        // It does not change its address by itself.
        let mut other = reply();
        other[27] = 98;
        assert!(neighbours.learn(&other, &MAC, ours, now).is_empty());
        assert_eq!(found(&mut neighbours, now), Found::Known(PEER));
        assert!(matches!(
            found(&mut neighbours, now + VALID),
            Found::Asked(_)
        ));
    }

    #[test]
    fn advertisements_are_learnt() {
        let now = Instant::from_secs(1);
        let mut bytes = [0; ETHERNET_HEADER + IPV6_HEADER + SOLICITATION_LENGTH];
        bytes.copy_from_slice(question(&PEER, REMOTE6, LOCAL6).unwrap().frame());
        bytes[..6].copy_from_slice(&MAC);
        let (IpAddr::V6(local), IpAddr::V6(remote)) = (LOCAL6, REMOTE6) else {
            unreachable!()
        };
        bytes[38..54].copy_from_slice(&local.octets());
        bytes[54] = NEIGHBOR_ADVERTISEMENT;
        bytes[62..78].copy_from_slice(&remote.octets());
        bytes[78] = 2;
        let sum = |bytes: &mut [u8]| {
            bytes[56..58].fill(0);
            let checksum = !fold(icmpv6_sum(&bytes[14..]));
            bytes[56..58].copy_from_slice(&checksum.to_be_bytes());
        };
        sum(&mut bytes);
        let mut neighbours = Neighbours::default();
        neighbours.find(REMOTE6, 3, now, || ());
        // Forwarded by a router, with a wrong sum, with an empty option.
        for (at, value, right) in [
            (21, 254, true),
            (80, 1, false),
            (79, 0, true),
            (55, 1, true),
        ] {
            let mut wrong = bytes;
            wrong[at] = value;
            if right {
                sum(&mut wrong);
            }
            assert!(neighbours.learn(&wrong, &MAC, ours, now).is_empty(), "{at}");
        }
        assert_eq!(neighbours.learn(&bytes, &MAC, ours, now), [3]);
        assert_eq!(neighbours.find(REMOTE6, 3, now, || ()), Found::Known(PEER));
    }

    #[test]
    fn who_does_not_answer_is_asked_three_times() {
        let mut neighbours = Neighbours::default();
        let mut now = Instant::from_secs(1);
        let mut asked = 0;
        loop {
            match neighbours.find(REMOTE, 1, now, || asked += 1) {
                Found::Asked(again) => now = again,
                found => break assert_eq!(found, Found::Silent),
            }
        }
        assert_eq!((asked, now), (3, Instant::from_secs(4)));
        for last in 0..=255 {
            let address = IpAddr::V4(Ipv4Addr::new(10, 0, 2, last));
            neighbours.find(address, 1, now, || ());
        }
        assert!(neighbours.entries.len() <= MOST_NEIGHBOURS);
    }
}
