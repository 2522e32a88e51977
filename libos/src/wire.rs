//! What the demultiplexer reads from a frame, and the few segments it writes itself.
//!
//! Lengths are checked here, once; a [`Segment`] that exists lies inside its
//! frame. Everything else is left to smoltcp's own parser.

use crate::Statistics;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Length of an Ethernet header without VLAN tag.
pub const ETHERNET_HEADER: usize = 14;
/// Length of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Length of a TCP header without options.
pub const TCP_HEADER: usize = 20;

/// Smallest segment size that is taken from a peer: tiny ones are a way to make
/// us work, and the network server cuts none for an application.
const SMALLEST_SEGMENT: u16 = 64;

/// TCP's FIN flag (RFC 9293, 3.1).
pub const FIN: u8 = 1;
/// TCP's SYN flag.
pub const SYN: u8 = 2;
/// TCP's RST flag.
pub const RST: u8 = 4;
/// TCP's ACK flag.
pub const ACK: u8 = 16;

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

/// What names a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// The peer's address.
    pub remote: Ipv4Addr,
    /// The address of ours that the peer talks to.
    pub local: Ipv4Addr,
    /// The peer's port.
    pub remote_port: u16,
    /// Our port.
    pub local_port: u16,
}

impl FlowKey {
    /// The connection between these; `None` if no packet can go between them.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Option<Self> {
        match (local.ip(), remote.ip()) {
            (IpAddr::V4(here), IpAddr::V4(there)) => Some(Self {
                remote: there,
                local: here,
                remote_port: remote.port(),
                local_port: local.port(),
            }),
            _ => None,
        }
    }

    /// Our address.
    pub fn local(&self) -> IpAddr {
        self.local.into()
    }

    /// Length of the headers of a segment without options.
    pub fn headers(&self) -> usize {
        IPV4_HEADER + TCP_HEADER
    }
}

/// A TCP segment that somebody quotes to us in an error message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// The connection it belongs to.
    pub key: FlowKey,
    /// Its sequence number.
    pub sequence: u32,
}

/// The segment that an ICMP message in `frame`, which [`classify`] has let through,
/// says to be undeliverable (RFC 792).
pub fn undeliverable(frame: &[u8]) -> Option<Quoted> {
    if frame.get(12..14)? != [0x08, 0x00] {
        return None;
    }
    let (header, icmp) = ipv4_parts(&frame[ETHERNET_HEADER..])?;
    // A packet that is too big for the path says nothing against the peer.
    if header[9] != PROTOCOL_ICMP || icmp.len() < 8 || icmp[0] != 3 || icmp[1] == 4 {
        return None;
    }
    // Quotations end early, so the total length means nothing.
    let quoted = &icmp[8..];
    let length = usize::from(quoted.first()? & 15) * 4;
    let quoted_header = quoted.get(..length)?;
    if length < IPV4_HEADER || quoted[0] >> 4 != 4 || quoted_header[9] != PROTOCOL_TCP {
        return None;
    }
    let tcp = quoted.get(length..length + 8)?;
    Some(Quoted {
        key: FlowKey {
            remote: Ipv4Addr::from_bits(word(quoted_header, 16)),
            local: Ipv4Addr::from_bits(word(quoted_header, 12)),
            remote_port: half(tcp, 2),
            local_port: half(tcp, 0),
        },
        sequence: word(tcp, 4),
    })
}

/// Header and payload of an IPv4 packet.
fn ipv4_parts(ip: &[u8]) -> Option<(&[u8], &[u8])> {
    let header = usize::from(ip.first()? & 15) * 4;
    let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
    if header < IPV4_HEADER || ip[0] >> 4 != 4 {
        return None;
    }
    ip.get(..total)?.split_at_checked(header)
}

/// A TCP segment inside a frame, checked for its lengths.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// The connection it belongs to.
    pub key: FlowKey,
    /// Sequence number of the first byte (or of the SYN).
    pub sequence: u32,
    /// Acknowledgement number; valid if `ACK` is set.
    pub acknowledgement: u32,
    /// The flags of the header's 14th byte.
    pub flags: u8,
    /// The window field, as it stands.
    pub window: u16,
    /// Where the TCP header starts in the frame.
    pub tcp: usize,
    /// Where the payload starts in the frame.
    pub payload: usize,
    /// Where the payload ends in the frame.
    pub end: usize,
}

impl Segment {
    /// Sequence numbers the segment covers.
    pub fn length(&self) -> u32 {
        let flags = u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0);
        (self.end - self.payload) as u32 + flags
    }
}

/// Where a frame goes.
#[derive(Clone, Copy, Debug)]
pub enum Class {
    /// A TCP segment for us.
    Tcp(Segment),
    /// A UDP datagram for us (a whole one), with its destination port.
    Udp(u16),
    /// Anything that smoltcp's interface answers by itself: ARP, ICMP, fragments.
    Other,
    /// Dropped and counted.
    Drop,
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The big-endian word at `at`.
pub fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Sorts a received frame. `verified` says that the NIC has checked the IPv4
/// header checksum and the TCP or UDP checksum; if not, they are checked here.
pub fn classify(
    frame: &[u8],
    verified: bool,
    hardware: &[u8; 6],
    local: Ipv4Addr,
    statistics: &mut Statistics,
) -> Class {
    if frame.len() < ETHERNET_HEADER {
        statistics.malformed += 1;
        return Class::Drop;
    }
    if half(frame, 12) != 0x0800 {
        return Class::Other;
    }
    let ip = &frame[ETHERNET_HEADER..];
    if ip.len() < IPV4_HEADER || ip[0] >> 4 != 4 {
        statistics.malformed += 1;
        return Class::Drop;
    }
    let header = usize::from(ip[0] & 15) * 4;
    let total = usize::from(half(ip, 2));
    if header < IPV4_HEADER || total < header || total > ip.len() {
        statistics.malformed += 1;
        return Class::Drop;
    }
    let ip = &ip[..total];
    let protocol = ip[9];
    let fragment = half(ip, 6) & 0x3fff != 0;
    if fragment {
        // A TCP segment would miss its connection after reassembly, and be
        // answered with a RST. Nobody sends these: path MTU discovery is universal.
        if protocol == PROTOCOL_TCP {
            statistics.tcp_fragments += 1;
            return Class::Drop;
        }
        return Class::Other;
    }
    if protocol == PROTOCOL_ICMP {
        // No device verifies these.
        if fold(sum(0, &ip[header..])) != 0xffff {
            statistics.bad_checksum += 1;
            return Class::Drop;
        }
        return Class::Other;
    }
    if protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP {
        return Class::Other;
    }
    let destination = Ipv4Addr::from_bits(word(ip, 16));
    let source = Ipv4Addr::from_bits(word(ip, 12));
    if protocol == PROTOCOL_UDP {
        if total < header + 8 {
            statistics.malformed += 1;
            return Class::Drop;
        }
        let udp = &ip[header..];
        let length = usize::from(half(udp, 4));
        if length < 8 || length > udp.len() {
            statistics.malformed += 1;
            return Class::Drop;
        }
        // A checksum of 0 says that there is none (RFC 768).
        if !verified && half(udp, 6) != 0 {
            statistics.software_checksums += 1;
            let start = pseudo_header(source, destination, PROTOCOL_UDP, length);
            if fold(sum(0, &ip[..header])) != 0xffff || fold(sum(start, &udp[..length])) != 0xffff {
                statistics.bad_checksum += 1;
                return Class::Drop;
            }
        }
        return Class::Udp(half(udp, 2));
    }
    if destination != local || frame[..6] != *hardware {
        statistics.not_for_us += 1;
        return Class::Drop;
    }
    if total < header + TCP_HEADER
        || source.is_unspecified()
        || source.is_multicast()
        || source.is_broadcast()
        || source.is_loopback()
    {
        statistics.malformed += 1;
        return Class::Drop;
    }
    let tcp = &ip[header..];
    let options_end = usize::from(tcp[12] >> 4) * 4;
    let (remote_port, local_port) = (half(tcp, 0), half(tcp, 2));
    // Another application may share our address; nobody else has our port there.
    let from_ourselves = source == local && remote_port == local_port;
    if options_end < TCP_HEADER
        || options_end > tcp.len()
        || remote_port == 0
        || local_port == 0
        || from_ourselves
    {
        statistics.malformed += 1;
        return Class::Drop;
    }
    if !verified {
        statistics.software_checksums += 1;
        if fold(sum(0, &ip[..header])) != 0xffff
            || fold(sum(
                pseudo_header(source, destination, PROTOCOL_TCP, tcp.len()),
                tcp,
            )) != 0xffff
        {
            statistics.bad_checksum += 1;
            return Class::Drop;
        }
    }
    let start = ETHERNET_HEADER + header;
    Class::Tcp(Segment {
        key: FlowKey {
            remote: source,
            local: destination,
            remote_port,
            local_port,
        },
        sequence: word(tcp, 4),
        acknowledgement: word(tcp, 8),
        flags: tcp[13],
        window: half(tcp, 14),
        tcp: start,
        payload: start + options_end,
        end: start + tcp.len(),
    })
}

/// Adds `bytes` to a ones' complement sum (RFC 1071).
pub fn sum(start: u64, bytes: &[u8]) -> u64 {
    let mut sum = start;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        sum += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    }
    let rest = words.remainder();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_be_bytes(last))
}

/// Folds a sum to 16 bits.
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum of TCP's or UDP's IPv4 pseudo header (RFC 9293, 3.1).
pub fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: usize) -> u64 {
    u64::from(source.to_bits())
        + u64::from(destination.to_bits())
        + u64::from(protocol)
        + length as u64
}

/// Computes the TCP checksum of a frame with an IPv4 header without options.
pub fn fill_tcp_checksum(frame: &mut [u8]) {
    let (source, destination) = (word(frame, 26), word(frame, 30));
    let tcp = &mut frame[ETHERNET_HEADER + IPV4_HEADER..];
    tcp[16..18].fill(0);
    let start = pseudo_header(
        Ipv4Addr::from_bits(source),
        Ipv4Addr::from_bits(destination),
        PROTOCOL_TCP,
        tcp.len(),
    );
    let checksum = !fold(sum(start, tcp));
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
}

/// What the peer offered in its SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerOptions {
    /// Largest segment it takes, in bytes; 536 if it did not say, at least 64.
    pub maximum_segment: u16,
    /// Its window scale, if it offered one (RFC 7323).
    pub window_scale: Option<u8>,
    /// Whether it understands selective acknowledgements (RFC 2018).
    pub selective: bool,
}

impl PeerOptions {
    /// Reads the options of a SYN. What is malformed is left out.
    pub fn parse(mut options: &[u8]) -> Self {
        let mut found = Self {
            maximum_segment: 536,
            window_scale: None,
            selective: false,
        };
        while let Some(&kind) = options.first() {
            match kind {
                0 => break,
                1 => {
                    options = &options[1..];
                    continue;
                }
                _ => {}
            }
            let Some(&length) = options.get(1) else { break };
            let length = usize::from(length);
            if length < 2 || length > options.len() {
                break;
            }
            match (kind, length) {
                (2, 4) => {
                    let size = half(options, 2);
                    if size != 0 {
                        found.maximum_segment = size.max(SMALLEST_SEGMENT);
                    }
                }
                // RFC 7323, 2.3: a larger shift counts as 14.
                (3, 3) => found.window_scale = Some(options[2].min(14)),
                (4, 2) => found.selective = true,
                _ => {}
            }
            options = &options[length..];
        }
        found
    }
}

/// A segment of the stack's own, without payload.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// The connection; `local` sends.
    pub key: FlowKey,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Flags.
    pub flags: u8,
    /// Window field.
    pub window: u16,
    /// Options of a SYN.
    pub options: Option<PeerOptions>,
}

/// Room for any [`Control`] packet.
pub const CONTROL_ROOM: usize = IPV4_HEADER + TCP_HEADER + 12;

impl Control {
    /// Length of the packet, from the IPv4 header on.
    pub fn length(&self) -> usize {
        IPV4_HEADER
            + TCP_HEADER
            + self.options.map_or(0, |options| {
                4 + if options.window_scale.is_some() { 4 } else { 0 }
                    + if options.selective { 4 } else { 0 }
            })
    }

    /// Writes the packet, from the IPv4 header on, with its checksums, into
    /// `packet`, [`Control::length`] bytes long. `reverse` writes it as if the
    /// peer had sent it.
    pub fn emit(&self, packet: &mut [u8], reverse: bool) {
        let length = self.length();
        let (mut source, mut destination) = (self.key.local, self.key.remote);
        let (mut source_port, mut destination_port) = (self.key.local_port, self.key.remote_port);
        if reverse {
            core::mem::swap(&mut source, &mut destination);
            core::mem::swap(&mut source_port, &mut destination_port);
        }
        packet.fill(0);
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        packet[6] = 0x40; // do not fragment
        packet[8] = 64;
        packet[9] = PROTOCOL_TCP;
        packet[12..16].copy_from_slice(&source.octets());
        packet[16..20].copy_from_slice(&destination.octets());
        let checksum = !fold(sum(0, &packet[..IPV4_HEADER]));
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        let tcp = &mut packet[IPV4_HEADER..];
        tcp[0..2].copy_from_slice(&source_port.to_be_bytes());
        tcp[2..4].copy_from_slice(&destination_port.to_be_bytes());
        tcp[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        tcp[8..12].copy_from_slice(&self.acknowledgement.to_be_bytes());
        tcp[12] = ((tcp.len() / 4) << 4) as u8;
        tcp[13] = self.flags;
        tcp[14..16].copy_from_slice(&self.window.to_be_bytes());
        if let Some(options) = self.options {
            let [high, low] = options.maximum_segment.to_be_bytes();
            tcp[20..24].copy_from_slice(&[2, 4, high, low]);
            let mut at = 24;
            if let Some(scale) = options.window_scale {
                tcp[at..at + 4].copy_from_slice(&[1, 3, 3, scale]);
                at += 4;
            }
            if options.selective {
                tcp[at..at + 4].copy_from_slice(&[1, 1, 4, 2]);
            }
        }
        let start = pseudo_header(source, destination, PROTOCOL_TCP, tcp.len());
        let checksum = !fold(sum(start, tcp));
        tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Whether `a` comes before `b` in sequence space.
pub fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    const US: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 15];

    fn control() -> Control {
        Control {
            key: FlowKey {
                remote: Ipv4Addr::new(192, 0, 2, 1),
                local: US,
                remote_port: 40_000,
                local_port: 80,
            },
            sequence: 0xdead_beef,
            acknowledgement: 0x1234_5678,
            flags: SYN,
            window: 4711,
            options: Some(PeerOptions {
                maximum_segment: 1460,
                window_scale: Some(7),
                selective: true,
            }),
        }
    }

    fn frame(control: &Control) -> std::vec::Vec<u8> {
        let mut frame = std::vec![0; ETHERNET_HEADER + control.length()];
        frame[..6].copy_from_slice(&MAC);
        frame[12] = 8;
        control.emit(&mut frame[ETHERNET_HEADER..], true);
        frame
    }

    #[test]
    fn what_is_written_is_read() {
        let control = control();
        let frame = frame(&control);
        let mut statistics = Statistics::default();
        let Class::Tcp(segment) = classify(&frame, false, &MAC, US, &mut statistics) else {
            panic!("{statistics:?}");
        };
        assert_eq!(segment.key, control.key);
        assert_eq!((segment.sequence, segment.flags), (control.sequence, SYN));
        assert_eq!(segment.window, 4711);
        assert_eq!(segment.length(), 1);
        let options = PeerOptions::parse(&frame[segment.tcp + TCP_HEADER..segment.payload]);
        assert_eq!(Some(options), control.options);
    }

    #[test]
    fn a_tiny_segment_size_is_not_taken_at_its_word() {
        let size = |size: u8| PeerOptions::parse(&[2, 4, 0, size]).maximum_segment;
        assert_eq!((size(0), size(1), size(63)), (536, 64, 64));
        assert_eq!((size(64), size(200)), (64, 200));
    }

    #[test]
    fn each_changed_bit_is_noticed() {
        let whole = frame(&control());
        for bit in ETHERNET_HEADER * 8..whole.len() * 8 {
            let mut frame = whole.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            let mut statistics = Statistics::default();
            let class = classify(&frame, false, &MAC, US, &mut statistics);
            assert!(!matches!(class, Class::Tcp(_)), "bit {bit} of {frame:?}");
        }
    }

    #[test]
    fn a_frame_that_the_device_has_verified_is_not_summed() {
        let mut frame = frame(&control());
        frame[50] ^= 0xff;
        let mut statistics = Statistics::default();
        let class = classify(&frame, true, &MAC, US, &mut statistics);
        assert!(matches!(class, Class::Tcp(_)));
        assert_eq!(statistics.software_checksums, 0);
    }

    #[test]
    fn options_may_be_cut_off_or_wrong() {
        let plain = PeerOptions {
            maximum_segment: 536,
            window_scale: None,
            selective: false,
        };
        for options in [
            &[][..],
            &[2],
            &[2, 4],
            &[2, 4, 5],
            &[2, 0, 5, 180],
            &[3, 2],
            &[0, 2, 4, 5, 180],
            &[2, 4, 0, 0],
        ] {
            assert_eq!(PeerOptions::parse(options), plain, "{options:?}");
        }
        let large = PeerOptions::parse(&[1, 3, 3, 200, 99, 3, 0, 4, 2]);
        assert_eq!(large.window_scale, Some(14));
        assert!(large.selective);
    }

    #[test]
    fn the_order_of_sequence_numbers_wraps() {
        assert!(before(u32::MAX, 0));
        assert!(before(5, 6));
        assert!(!before(6, 6));
        assert!(!before(0, u32::MAX));
    }

    proptest! {
        #[test]
        fn any_bytes_are_sorted(
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
            verified in any::<bool>(),
        ) {
            let mut statistics = Statistics::default();
            if let Class::Tcp(segment) = classify(&bytes, verified, &MAC, US, &mut statistics) {
                prop_assert!(segment.tcp + TCP_HEADER <= segment.payload);
                prop_assert!(segment.payload <= segment.end && segment.end <= bytes.len());
            }
        }

        #[test]
        fn any_options_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let options = PeerOptions::parse(&bytes);
            prop_assert!(options.maximum_segment > 0);
            prop_assert!(options.window_scale.is_none_or(|scale| scale <= 14));
        }

        #[test]
        fn a_checksum_does_not_depend_on_how_it_is_summed(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let slow = bytes.chunks(2).fold(0u64, |sum, pair| {
                sum + (u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)))
            });
            prop_assert_eq!(fold(sum(0, &bytes)), fold(slow));
        }
    }
}
