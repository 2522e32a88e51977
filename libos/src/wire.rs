//! Headers: their numbers and checksums, and the few segments that the stack
//! writes itself.

use crate::address::{Address, FlowKey};

/// Length of an Ethernet header without VLAN tag.
pub const ETHERNET_HEADER: usize = 14;
/// Length of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Length of an IPv6 header without extension headers.
pub const IPV6_HEADER: usize = 40;
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

/// Ethernet's type of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// Ethernet's type of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// IP's protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// IP's protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// IP's protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// IP's protocol number of ICMPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;

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

/// The big-endian half word at `at`.
#[inline]
pub fn half(bytes: &[u8], at: usize) -> u16 {
    let half = bytes[at..at + 2].first_chunk();
    u16::from_be_bytes(half.copied().unwrap_or_default())
}

/// The big-endian word at `at`.
#[inline]
pub fn word(bytes: &[u8], at: usize) -> u32 {
    // As a whole: one check of the bounds, and one access.
    let word = bytes[at..at + 4].first_chunk();
    u32::from_be_bytes(word.copied().unwrap_or_default())
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

/// The sum of the pseudo header of TCP, UDP (RFC 9293, 3.1) or ICMPv6 (RFC 8200, 8.1).
pub fn pseudo_header(source: Address, destination: Address, protocol: u8, length: usize) -> u64 {
    let halves = |address: Address| {
        let [high, low] = address.halves();
        let low_word = low & 0xffff_ffff;
        if address.is_ipv4() {
            return low_word;
        }
        (high >> 32) + (high & 0xffff_ffff) + (low >> 32) + low_word
    };
    halves(source) + halves(destination) + u64::from(protocol) + length as u64
}

/// Where the TCP header starts in a frame that we have made: without IP options
/// or extension headers.
#[inline]
pub fn tcp_start(frame: &[u8]) -> usize {
    ETHERNET_HEADER
        + if frame[ETHERNET_HEADER] >> 4 == 4 {
            IPV4_HEADER
        } else {
            IPV6_HEADER
        }
}

/// Computes the TCP checksum of a frame that we have made.
pub fn fill_tcp_checksum(frame: &mut [u8]) {
    let at = tcp_start(frame);
    // The addresses stand at the end of either header.
    let addresses = if at == ETHERNET_HEADER + IPV4_HEADER {
        at - 8
    } else {
        at - 32
    };
    let length = frame.len() - at;
    let start = sum(
        u64::from(PROTOCOL_TCP) + length as u64,
        &frame[addresses..at],
    );
    let tcp = &mut frame[at..];
    tcp[16..18].fill(0);
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
pub const CONTROL_ROOM: usize = IPV6_HEADER + TCP_HEADER + 12;

impl Control {
    /// Length of the packet, from the IP header on.
    pub fn length(&self) -> usize {
        self.key.headers()
            + self.options.map_or(0, |options| {
                4 + if options.window_scale.is_some() { 4 } else { 0 }
                    + if options.selective { 4 } else { 0 }
            })
    }

    /// Writes the packet, from the IP header on, with its checksums, into
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
        let header = self.key.headers() - TCP_HEADER;
        let [source_halves, destination_halves] =
            [source, destination].map(|address| address.halves());
        if header == IPV4_HEADER {
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            packet[6] = 0x40; // do not fragment
            packet[8] = 64;
            packet[9] = PROTOCOL_TCP;
            packet[12..16].copy_from_slice(&(source_halves[1] as u32).to_be_bytes());
            packet[16..20].copy_from_slice(&(destination_halves[1] as u32).to_be_bytes());
            let checksum = !fold(sum(0, &packet[..IPV4_HEADER]));
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            packet[0] = 0x60;
            packet[4..6].copy_from_slice(&((length - IPV6_HEADER) as u16).to_be_bytes());
            packet[6] = PROTOCOL_TCP;
            packet[7] = 64;
            let halves = [source_halves, destination_halves];
            for (bytes, half) in packet[8..40].chunks_exact_mut(8).zip(halves.as_flattened()) {
                bytes.copy_from_slice(&half.to_be_bytes());
            }
        }
        let tcp = &mut packet[header..];
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
    use crate::Statistics;
    use crate::address::Local;
    use crate::classify::Class;
    use crate::config::{Addresses, Network};
    use proptest::prelude::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 15];
    const TOLD: [(&str, &str); 2] = [("192.0.2.1", "10.0.2.15"), ("2001:db8::1", "fd00::15")];

    fn local() -> Local {
        let addresses = Addresses {
            ipv4: Some(Network {
                address: "10.0.2.15".parse().unwrap(),
                prefix_length: 24,
                gateway: None,
            }),
            ipv6: Some(Network {
                address: "fd00::15".parse().unwrap(),
                prefix_length: 64,
                gateway: None,
            }),
        };
        Local::new(MAC, &addresses)
    }

    fn classify(frame: &[u8], verified: bool, statistics: &mut Statistics) -> Class {
        crate::classify::classify(frame, verified, &local(), statistics)
    }

    fn control((remote, local): (&str, &str)) -> Control {
        let address = |text: &str| text.parse::<core::net::IpAddr>().unwrap().into();
        Control {
            key: FlowKey {
                remote: address(remote),
                local: address(local),
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
        let kind = if control.key.is_ipv4() {
            ETHERTYPE_IPV4
        } else {
            ETHERTYPE_IPV6
        };
        frame[12..14].copy_from_slice(&kind.to_be_bytes());
        control.emit(&mut frame[ETHERNET_HEADER..], true);
        frame
    }

    #[test]
    fn what_is_written_is_read() {
        for told in TOLD {
            let control = control(told);
            let mut frame = frame(&control);
            let mut statistics = Statistics::default();
            let Class::Tcp(segment) = classify(&frame, false, &mut statistics) else {
                panic!("{statistics:?}");
            };
            assert_eq!(segment.key, control.key);
            assert_eq!((segment.sequence, segment.flags), (control.sequence, SYN));
            assert_eq!(segment.window, 4711);
            assert_eq!(segment.length(), 1);
            let options = PeerOptions::parse(&frame[segment.tcp + TCP_HEADER..segment.payload]);
            assert_eq!(Some(options), control.options);
            // The checksum can be computed from the frame alone.
            let before = frame.clone();
            frame[segment.tcp + 16..segment.tcp + 18].fill(0);
            fill_tcp_checksum(&mut frame);
            assert_eq!(frame, before);
        }
    }

    #[test]
    fn a_tiny_segment_size_is_not_taken_at_its_word() {
        let size = |size: u8| PeerOptions::parse(&[2, 4, 0, size]).maximum_segment;
        assert_eq!((size(0), size(1), size(63)), (536, 64, 64));
        assert_eq!((size(64), size(200)), (64, 200));
    }

    #[test]
    fn each_changed_bit_is_noticed() {
        for told in TOLD {
            let control = control(told);
            let whole = frame(&control);
            for bit in ETHERNET_HEADER * 8..whole.len() * 8 {
                // No checksum is over IPv6's traffic class, flow label and hop limit.
                let at = bit - ETHERNET_HEADER * 8;
                if !control.key.is_ipv4() && ((4..32).contains(&at) || (56..64).contains(&at)) {
                    continue;
                }
                let mut frame = whole.clone();
                frame[bit / 8] ^= 1 << (7 - bit % 8);
                let mut statistics = Statistics::default();
                let class = classify(&frame, false, &mut statistics);
                assert!(!matches!(class, Class::Tcp(_)), "bit {bit} of {frame:?}");
            }
        }
    }

    #[test]
    fn a_frame_that_the_device_has_verified_is_not_summed() {
        for told in TOLD {
            let mut frame = frame(&control(told));
            *frame.last_mut().unwrap() ^= 0xff;
            let mut statistics = Statistics::default();
            let class = classify(&frame, true, &mut statistics);
            assert!(matches!(class, Class::Tcp(_)));
            assert_eq!(statistics.software_checksums, 0);
        }
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
            if let Class::Tcp(segment) = classify(&bytes, verified, &mut statistics) {
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
