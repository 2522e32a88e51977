//! What the server says for those who share an address: ARP and echo replies,
//! neighbour advertisements, and what a closed port says.

mod ipv6;

use crate::directory::Directory;
use crate::ingress::{Answer, LONG_HEADER};
use alloc::vec::Vec;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, IpAddress, IpProtocol,
    Ipv4Address, Ipv4Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

/// Longest answer: an echo reply of a whole frame.
pub const MAXIMUM_ANSWER: usize = 1514;

const ETHERNET: usize = 14;
const ARP: usize = 28;
const IPV4: usize = 20;
const TCP: usize = 20;
const ICMP: usize = 8;
/// Bytes of a packet's payload that an ICMP error quotes (RFC 792).
const QUOTED: usize = 8;
const HOP_LIMIT: u8 = 64;

/// Writes the answer to a frame of `frame_length` bytes to the start of `buffer`,
/// which holds [`MAXIMUM_ANSWER`] bytes; `read` reads the frame from its start on.
/// Returns the answer's length; `None` if the frame cannot be answered.
pub fn compose(
    directory: &Directory,
    answer: Answer,
    frame_length: usize,
    buffer: &mut [u8],
    read: impl Fn(&mut [u8]),
) -> Option<usize> {
    if matches!(answer, Answer::Echo | Answer::Neighbor) {
        let whole = buffer.get_mut(..frame_length)?;
        read(whole);
        return match answer {
            Answer::Neighbor => ipv6::advertisement(directory, buffer, frame_length),
            _ if ipv6::is_ipv6(whole) => ipv6::echo(whole),
            _ => echo(directory, whole),
        };
    }
    let mut header = [0; LONG_HEADER];
    let header = &mut header[..frame_length.min(LONG_HEADER)];
    read(header);
    match (answer, ipv6::is_ipv6(header)) {
        (Answer::Arp, _) => arp(directory, header, buffer),
        (Answer::Reset, false) => reset(directory, header, buffer),
        (Answer::Reset, true) => ipv6::reset(header, buffer),
        (_, false) => unreachable(directory, header, buffer),
        (_, true) => ipv6::unreachable(frame_length, buffer, read),
    }
}

/// The answer to the ARP request in `frame`, for which the demultiplexer has
/// decided that the server answers, at the start of `answer`. Returns its length.
pub fn arp(directory: &Directory, frame: &[u8], answer: &mut [u8]) -> Option<usize> {
    let request = ArpPacket::new_checked(frame.get(ETHERNET..)?).ok()?;
    let Ok(ArpRepr::EthernetIpv4 {
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    }) = ArpRepr::parse(&request)
    else {
        return None;
    };
    let identity = directory.with_address(target_protocol_addr)?;
    let ethernet = EthernetRepr {
        src_addr: identity.mac,
        dst_addr: source_hardware_addr,
        ethertype: EthernetProtocol::Arp,
    };
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: identity.mac,
        source_protocol_addr: identity.ipv4,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    let answer = answer.get_mut(..ETHERNET + ARP)?;
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut *answer));
    arp.emit(&mut ArpPacket::new_unchecked(&mut answer[ETHERNET..]));
    Some(answer.len())
}

/// Turns the echo request in `frame`, which is all of it, into the reply. Returns
/// the reply's length; `None` if the request is damaged, or has IPv4 options.
pub fn echo(directory: &Directory, frame: &mut [u8]) -> Option<usize> {
    let (us, them) = ends(directory, frame)?;
    let packet = Ipv4Packet::new_checked(&frame[ETHERNET..]).ok()?;
    let total = usize::from(packet.total_len());
    if usize::from(packet.header_len()) != IPV4 || total < IPV4 + ICMP {
        return None;
    }
    let message = Icmpv4Packet::new_checked(&frame[ETHERNET + IPV4..ETHERNET + total]).ok()?;
    if !message.verify_checksum() {
        return None;
    }
    let mut message = Icmpv4Packet::new_unchecked(&mut frame[ETHERNET + IPV4..ETHERNET + total]);
    message.set_msg_type(Icmpv4Message::EchoReply);
    message.fill_checksum();
    headers(frame, us, them, IpProtocol::Icmp, total - IPV4)
}

/// The reset for the TCP segment whose headers `frame` starts with, at the start
/// of `answer` (RFC 9293, section 3.10.7.1). Returns its length; `None` if the
/// segment is a reset itself or cannot be answered.
pub fn reset(directory: &Directory, frame: &[u8], answer: &mut [u8]) -> Option<usize> {
    let (us, them) = ends(directory, frame)?;
    let packet = frame.get(ETHERNET..)?;
    let ipv4 = Ipv4Packet::new_unchecked(packet.get(..IPV4).and(Some(packet))?);
    let header = usize::from(ipv4.header_len());
    let length = usize::from(ipv4.total_len()).checked_sub(header)?;
    let repr = reset_of(packet.get(header..)?, length)?;
    let answer = answer.get_mut(..ETHERNET + IPV4 + TCP)?;
    repr.emit(
        &mut TcpPacket::new_unchecked(&mut answer[ETHERNET + IPV4..]),
        &IpAddress::Ipv4(us.1),
        &IpAddress::Ipv4(them.1),
        &Default::default(),
    );
    headers(answer, us, them, IpProtocol::Tcp, TCP)
}

/// The reset for the segment of `length` bytes that `segment` starts with; `None` if
/// it is a reset itself or cannot be answered.
fn reset_of(segment: &[u8], length: usize) -> Option<TcpRepr<'static>> {
    if segment.len() < TCP {
        return None;
    }
    let tcp = TcpPacket::new_unchecked(segment);
    let header = usize::from(tcp.header_len());
    let payload = length.checked_sub(header).filter(|_| header >= TCP)?;
    if tcp.rst() || tcp.src_port() == 0 {
        return None;
    }
    let length = payload + usize::from(tcp.syn()) + usize::from(tcp.fin());
    let (seq_number, ack_number) = if tcp.ack() {
        (tcp.ack_number(), None)
    } else {
        (TcpSeqNumber(0), Some(tcp.seq_number() + length))
    };
    Some(TcpRepr {
        src_port: tcp.dst_port(),
        dst_port: tcp.src_port(),
        control: TcpControl::Rst,
        seq_number,
        ack_number,
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    })
}

/// "Port unreachable" about the UDP datagram whose headers `frame` starts with, at
/// the start of `answer` (RFC 1122, section 4.1.3.1). Returns its length; `None` if
/// it cannot be answered.
pub fn unreachable(directory: &Directory, frame: &[u8], answer: &mut [u8]) -> Option<usize> {
    let (us, them) = ends(directory, frame)?;
    let packet = frame.get(ETHERNET..)?;
    let header = 4 * usize::from(packet.first()? & 0xf);
    let quoted = packet.get(..header + QUOTED)?;
    let message_length = ICMP + quoted.len();
    let answer = answer.get_mut(..ETHERNET + IPV4 + message_length)?;
    let (start, quote) = answer[ETHERNET + IPV4..].split_at_mut(ICMP);
    start.fill(0);
    quote.copy_from_slice(quoted);
    let mut message = Icmpv4Packet::new_unchecked(&mut answer[ETHERNET + IPV4..]);
    message.set_msg_type(Icmpv4Message::DstUnreachable);
    message.set_msg_code(Icmpv4DstUnreachable::PortUnreachable.into());
    message.fill_checksum();
    headers(answer, us, them, IpProtocol::Icmp, message_length)
}

/// Whether the UDP datagram whose headers `frame` starts with has no checksum
/// (RFC 768), which over IPv6 it must have.
pub fn is_unsummed(frame: &[u8]) -> bool {
    if ipv6::is_ipv6(frame) {
        return false;
    }
    let header = frame
        .get(ETHERNET)
        .map_or(0, |byte| 4 * usize::from(byte & 0xf));
    frame.get(ETHERNET + header + 6..ETHERNET + header + 8) == Some(&[0, 0])
}

type End = (EthernetAddress, Ipv4Address);

/// Who was addressed and who asked; `None` if the asker is not a single host.
fn ends(directory: &Directory, frame: &[u8]) -> Option<(End, End)> {
    let packet = frame.get(ETHERNET..).filter(|p| p.len() >= IPV4)?;
    let (ethernet, ipv4) = (
        EthernetFrame::new_unchecked(frame),
        Ipv4Packet::new_unchecked(packet),
    );
    let us = (ethernet.dst_addr(), ipv4.dst_addr());
    let them = (ethernet.src_addr(), ipv4.src_addr());
    let is_host = them.0.is_unicast()
        && !(them.1.is_unspecified()
            || them.1.is_multicast()
            || them.1.is_loopback()
            || directory.is_broadcast(them.1));
    is_host.then_some((us, them))
}

/// Writes Ethernet and IPv4 header of an answer with `payload` bytes behind them.
/// Returns the frame's length.
fn headers(
    frame: &mut [u8],
    us: End,
    them: End,
    protocol: IpProtocol,
    payload: usize,
) -> Option<usize> {
    let ethernet = EthernetRepr {
        src_addr: us.0,
        dst_addr: them.0,
        ethertype: EthernetProtocol::Ipv4,
    };
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut *frame));
    let packet = frame.get_mut(ETHERNET..ETHERNET + IPV4 + payload)?;
    packet[..IPV4].fill(0);
    let mut ipv4 = Ipv4Packet::new_unchecked(packet);
    ipv4.set_version(4);
    ipv4.set_header_len(IPV4 as u8);
    ipv4.set_total_len((IPV4 + payload) as u16);
    ipv4.set_dont_frag(true);
    ipv4.set_hop_limit(HOP_LIMIT);
    ipv4.set_next_header(protocol);
    ipv4.set_src_addr(us.1);
    ipv4.set_dst_addr(them.1);
    ipv4.fill_checksum();
    Some(ETHERNET + IPV4 + payload)
}

/// Answers of closed ports to one asker in a row, and for each second after that.
pub const BURST: u64 = 100;

const MICROSECONDS_PER_ANSWER: u64 = 1_000_000 / BURST;

/// How many answers of closed ports may be given: to each application, and to
/// the network as a whole.
#[derive(Debug)]
pub struct Limit {
    /// When each account, drawn on at this rate, will be full.
    full_at: Vec<u64>,
}

impl Limit {
    /// Full accounts of so many applications, and of the network.
    pub fn new(applications: usize) -> Self {
        Self {
            full_at: alloc::vec![0; applications + 1],
        }
    }

    /// Whether one more may be given now; `application` asks, or the network.
    pub fn admit(&mut self, application: Option<usize>, now_microseconds: u64) -> bool {
        let account = application.map_or(0, |index| index + 1);
        let Some(full_at) = self.full_at.get_mut(account) else {
            return false;
        };
        let next = (*full_at).max(now_microseconds) + MICROSECONDS_PER_ANSWER;
        if next > now_microseconds + BURST * MICROSECONDS_PER_ANSWER {
            return false;
        }
        *full_at = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_a_row_and_so_many_a_second() {
        let mut limit = Limit::new(64);
        let mut given = |who, from: u64, to: u64| {
            (from..to)
                .step_by(100)
                .filter(|now| limit.admit(who, *now))
                .count() as u64
        };
        assert_eq!(given(None, 0, 10_000), BURST);
        assert_eq!(given(Some(0), 0, 10_000), BURST, "others have their own");
        assert_eq!(given(None, 10_000, 10_010_000), 10 * BURST);
        assert!(limit.admit(Some(63), 0));
        assert!(!limit.admit(Some(64), 0));
    }
}
