//! What the server says over IPv6.

use super::{ETHERNET, HOP_LIMIT, TCP, reset_of};
use crate::directory::Directory;
use crate::ipv6::{
    ALL_NODES, ICMPV6, IPV6, LINK_LAYER_OPTION, NEIGHBOR, NEIGHBOR_HOP_LIMIT, multicast_mac, target,
};
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6DstUnreachable,
    Icmpv6Message, Icmpv6Packet, Icmpv6Repr, IpAddress, IpProtocol, Ipv6Address, Ipv6Packet,
    Ipv6Repr, NdiscNeighborFlags, NdiscRepr, TcpPacket,
};

/// Longest packet that an error quotes, with what is before it: no answer is longer
/// than each link can carry (RFC 4443, section 2.4).
const LONGEST_ERROR: usize = 1280;
/// Where the quoted packet's frame starts in the error's: its Ethernet header gives
/// way to that of ICMPv6.
const QUOTED_FRAME: usize = IPV6 + ICMPV6;

type End = (EthernetAddress, Ipv6Address);

/// Whether this frame, or the start of one, is IPv6.
pub(super) fn is_ipv6(frame: &[u8]) -> bool {
    frame.get(12..ETHERNET) == Some(&[0x86, 0xdd])
}

/// The advertisement for which the solicitation in the first `length` bytes of
/// `buffer` asks, in its place (RFC 4861, section 7.2.4). Returns its length; `None`
/// if the solicitation is damaged.
pub(super) fn advertisement(
    directory: &Directory,
    buffer: &mut [u8],
    length: usize,
) -> Option<usize> {
    let frame = buffer.get(..length)?;
    let (us, them) = addressed(frame)?;
    let message = payload(frame).filter(|message| message.len() >= NEIGHBOR)?;
    if !Icmpv6Packet::new_unchecked(message).verify_checksum(&them.1, &us.1) {
        return None;
    }
    let target = target(message);
    let us = (directory.with_ipv6(target)?.mac, target);
    // Who looks whether the address is free has none to be answered at.
    let (them, flags) = if them.1.is_unspecified() {
        let all = (multicast_mac(ALL_NODES), ALL_NODES);
        (all, NdiscNeighborFlags::OVERRIDE)
    } else {
        let flags = NdiscNeighborFlags::OVERRIDE | NdiscNeighborFlags::SOLICITED;
        (them, flags)
    };
    let advertisement = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags,
        target_addr: us.1,
        lladdr: Some(us.0.into()),
    });
    let length = NEIGHBOR + LINK_LAYER_OPTION;
    let frame = buffer.get_mut(..ETHERNET + IPV6 + length)?;
    // Reserved fields are not written.
    frame.fill(0);
    advertisement.emit(
        &us.1,
        &them.1,
        &mut Icmpv6Packet::new_unchecked(&mut frame[ETHERNET + IPV6..]),
        &Default::default(),
    );
    headers(
        frame,
        us,
        them,
        IpProtocol::Icmpv6,
        length,
        NEIGHBOR_HOP_LIMIT,
    )
}

/// Turns the echo request in `frame`, which is all of it, into the reply. Returns
/// the reply's length; `None` if the request is damaged.
pub(super) fn echo(frame: &mut [u8]) -> Option<usize> {
    let (us, them) = ends(frame)?;
    let length = payload(frame)?.len();
    let message = frame.get_mut(ETHERNET + IPV6..ETHERNET + IPV6 + length)?;
    if length < ICMPV6 || !Icmpv6Packet::new_unchecked(&*message).verify_checksum(&them.1, &us.1) {
        return None;
    }
    let mut message = Icmpv6Packet::new_unchecked(message);
    message.set_msg_type(Icmpv6Message::EchoReply);
    message.fill_checksum(&us.1, &them.1);
    headers(frame, us, them, IpProtocol::Icmpv6, length, HOP_LIMIT)
}

/// The reset for the TCP segment whose headers `frame` starts with, at the start of
/// `answer`. Returns its length; `None` if it cannot be answered.
pub(super) fn reset(frame: &[u8], answer: &mut [u8]) -> Option<usize> {
    let (us, them) = ends(frame)?;
    let packet = Ipv6Packet::new_unchecked(frame.get(ETHERNET..)?);
    let segment = frame.get(ETHERNET + IPV6..)?;
    let repr = reset_of(segment, packet.payload_len().into())?;
    let answer = answer.get_mut(..ETHERNET + IPV6 + TCP)?;
    repr.emit(
        &mut TcpPacket::new_unchecked(&mut answer[ETHERNET + IPV6..]),
        &IpAddress::Ipv6(us.1),
        &IpAddress::Ipv6(them.1),
        &Default::default(),
    );
    headers(answer, us, them, IpProtocol::Tcp, TCP, HOP_LIMIT)
}

/// "Port unreachable" about the UDP datagram in a frame of `frame_length` bytes, at
/// the start of `answer` (RFC 4443, section 3.1); `read` reads the frame from its
/// start on. Returns its length; `None` if it cannot be answered.
pub(super) fn unreachable(
    frame_length: usize,
    answer: &mut [u8],
    read: impl Fn(&mut [u8]),
) -> Option<usize> {
    let quoted = frame_length.min(LONGEST_ERROR - QUOTED_FRAME + ETHERNET);
    let frame = answer.get_mut(QUOTED_FRAME..QUOTED_FRAME + quoted)?;
    read(frame);
    let (us, them) = ends(frame)?;
    let packet = Ipv6Packet::new_unchecked(frame.get(ETHERNET..)?);
    let length = ICMPV6 + packet.total_len().min(frame.len() - ETHERNET);
    let message = answer.get_mut(ETHERNET + IPV6..ETHERNET + IPV6 + length)?;
    message[..ICMPV6].fill(0);
    let mut message = Icmpv6Packet::new_unchecked(message);
    message.set_msg_type(Icmpv6Message::DstUnreachable);
    message.set_msg_code(Icmpv6DstUnreachable::PortUnreachable.into());
    message.fill_checksum(&us.1, &them.1);
    headers(answer, us, them, IpProtocol::Icmpv6, length, HOP_LIMIT)
}

/// Who was addressed and who asked; `None` if the asker is not a single host.
fn ends(frame: &[u8]) -> Option<(End, End)> {
    let (us, them) = addressed(frame)?;
    let is_host = them.0.is_unicast()
        && !(them.1.is_unspecified() || them.1.is_multicast() || them.1.is_loopback());
    is_host.then_some((us, them))
}

/// Destination and source of a frame.
fn addressed(frame: &[u8]) -> Option<(End, End)> {
    let packet = frame.get(ETHERNET..).filter(|p| p.len() >= IPV6)?;
    let (ethernet, ipv6) = (
        EthernetFrame::new_unchecked(frame),
        Ipv6Packet::new_unchecked(packet),
    );
    let us = (ethernet.dst_addr(), ipv6.dst_addr());
    let them = (ethernet.src_addr(), ipv6.src_addr());
    Some((us, them))
}

/// The payload of the packet that is all of `frame`.
fn payload(frame: &[u8]) -> Option<&[u8]> {
    let packet = frame.get(ETHERNET..).filter(|p| p.len() >= IPV6)?;
    let length = usize::from(Ipv6Packet::new_unchecked(packet).payload_len());
    packet.get(IPV6..IPV6 + length)
}

/// Writes Ethernet and IPv6 header of an answer with `payload` bytes behind them.
/// Returns the frame's length.
fn headers(
    frame: &mut [u8],
    us: End,
    them: End,
    next_header: IpProtocol,
    payload: usize,
    hop_limit: u8,
) -> Option<usize> {
    let packet = frame.get_mut(ETHERNET..ETHERNET + IPV6 + payload)?;
    let ipv6 = Ipv6Repr {
        src_addr: us.1,
        dst_addr: them.1,
        next_header,
        payload_len: payload,
        hop_limit,
    };
    ipv6.emit(&mut Ipv6Packet::new_unchecked(packet));
    let ethernet = EthernetRepr {
        src_addr: us.0,
        dst_addr: them.0,
        ethertype: EthernetProtocol::Ipv6,
    };
    ethernet.emit(&mut EthernetFrame::new_unchecked(frame));
    Some(ETHERNET + IPV6 + payload)
}
