//! What the simulated function does to packets: checksums and segmentation.

use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

/// A transmit context (datasheet 7.2.2.2).
#[derive(Clone, Debug)]
pub(super) struct Context {
    ethernet: usize,
    ip: usize,
    transport: usize,
    is_ipv4: bool,
    is_tcp: bool,
    segment_size: usize,
}

impl Context {
    pub(super) fn from_words(words: [u32; 4]) -> Self {
        Self {
            ip: (words[0] & 0x1ff) as usize,
            ethernet: (words[0] >> 9 & 0x7f) as usize,
            is_ipv4: words[2] & 1 << 10 != 0,
            is_tcp: words[2] >> 11 & 3 == 1,
            transport: (words[3] >> 8 & 0xff) as usize,
            segment_size: (words[3] >> 16) as usize,
        }
    }
}

const INSERT_IP: u32 = 1 << 8;
const INSERT_TRANSPORT: u32 = 1 << 9;
const SEGMENT: u32 = 1 << 31;

/// Turns a packet as the driver gave it into the frames on the wire.
pub(super) fn process(
    mut packet: Vec<u8>,
    first: (u32, u32),
    context: Option<Context>,
) -> Result<Vec<Vec<u8>>, String> {
    let (command, options) = first;
    let stated = (options >> 14) as usize;
    if options & (INSERT_IP | INSERT_TRANSPORT) == 0 && command & SEGMENT == 0 {
        check(
            stated == packet.len(),
            "the stated length is not the packet's",
        )?;
        return Ok(vec![packet]);
    }
    let context = context.ok_or("an offload without context")?;
    let headers =
        context.ethernet + context.ip + if context.is_tcp { context.transport } else { 8 };
    if command & SEGMENT == 0 {
        check(
            stated == packet.len(),
            "the stated length is not the packet's",
        )?;
        finish(&mut packet, options, &context);
        return Ok(vec![packet]);
    }
    check(
        context.is_tcp && context.segment_size > 0,
        "segmentation without segment size",
    )?;
    check(
        options & INSERT_TRANSPORT != 0,
        "segmentation without TCP checksum",
    )?;
    check(
        context.is_ipv4 == (options & INSERT_IP != 0),
        "segmentation of IPv4 without IP checksum",
    )?;
    check(packet.len() > headers, "nothing to segment")?;
    check(
        stated == packet.len() - headers,
        "the stated length is not the payload's",
    )?;
    let (header, payload) = packet.split_at(headers);
    let count = payload.len().div_ceil(context.segment_size);
    let frames = payload
        .chunks(context.segment_size)
        .enumerate()
        .map(|(index, piece)| segment(header, piece, index, index + 1 == count, &context));
    Ok(frames.collect())
}

fn check(condition: bool, complaint: &str) -> Result<(), String> {
    if condition {
        Ok(())
    } else {
        Err(format!("{complaint} is wrong or missing"))
    }
}

fn read16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn write16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// One segment (datasheet 7.2.4.7): lengths, identification, sequence number and
/// flags are updated, the pseudo header's sum gains the segment's length.
fn segment(header: &[u8], piece: &[u8], index: usize, last: bool, context: &Context) -> Vec<u8> {
    let mut frame = [header, piece].concat();
    let ip = context.ethernet;
    let tcp = ip + context.ip;
    let behind_ip = frame.len() - tcp;
    if context.is_ipv4 {
        write16(&mut frame, ip + 2, (context.ip + behind_ip) as u16);
        let identification = read16(&frame, ip + 4).wrapping_add(index as u16);
        write16(&mut frame, ip + 4, identification);
    } else {
        write16(&mut frame, ip + 4, (context.ip - 40 + behind_ip) as u16);
    }
    let sequence = u32::from_be_bytes(frame[tcp + 4..tcp + 8].try_into().unwrap())
        .wrapping_add((index * context.segment_size) as u32);
    frame[tcp + 4..tcp + 8].copy_from_slice(&sequence.to_be_bytes());
    if !last {
        frame[tcp + 13] &= !0x09;
    }
    let partial = u32::from(read16(&frame, tcp + 16)) + behind_ip as u32;
    write16(&mut frame, tcp + 16, carry(partial));
    finish(&mut frame, INSERT_IP | INSERT_TRANSPORT, context);
    frame
}

/// Fills in the checksums.
fn finish(frame: &mut [u8], options: u32, context: &Context) {
    let ip = context.ethernet;
    let transport = ip + context.ip;
    if options & INSERT_IP != 0 && context.is_ipv4 {
        let sum = !carry(add(&frame[ip..transport]));
        write16(frame, ip + 10, sum);
    }
    if options & INSERT_TRANSPORT != 0 {
        let field = transport + if context.is_tcp { 16 } else { 6 };
        let mut sum = !carry(add(&frame[transport..]));
        if sum == 0 && !context.is_tcp {
            sum = 0xffff;
        }
        write16(frame, field, sum);
    }
}

fn add(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum()
}

fn carry(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The sum over pseudo header and transport part of a whole frame, 0xffff if its
/// checksum is right. `None` if it is neither TCP nor UDP.
pub(crate) fn transport_sum(frame: &[u8]) -> Option<u16> {
    let (transport, protocol, addresses) = match read16(frame, 12) {
        0x0800 if frame.len() >= 34 => {
            let length = usize::from(frame[14] & 15) * 4;
            (14 + length, frame[23], &frame[26..34])
        }
        0x86dd if frame.len() >= 54 => (54, frame[20], &frame[22..54]),
        _ => return None,
    };
    if protocol != 6 && protocol != 17 {
        return None;
    }
    // The frame may be padded: the IP header says where the packet ends.
    let end = match read16(frame, 12) {
        0x0800 => 14 + usize::from(read16(frame, 16)),
        _ => 54 + usize::from(read16(frame, 18)),
    };
    let data = frame.get(transport..end)?;
    Some(carry(
        add(addresses) + u32::from(protocol) + data.len() as u32 + u32::from(carry(add(data))),
    ))
}

/// The checksum bits of a received frame's status (datasheet 7.1.5.2).
pub(super) fn receive_status(frame: &[u8]) -> u32 {
    let mut status = 0;
    if frame.len() >= 34 && read16(frame, 12) == 0x0800 {
        let length = usize::from(frame[14] & 15) * 4;
        let right = frame
            .get(14..14 + length)
            .is_some_and(|header| carry(add(header)) == 0xffff);
        status |= 1 << 6 | if right { 0 } else { 1 << 30 };
    }
    if frame.len() >= 14
        && let Some(sum) = transport_sum(frame)
    {
        status |= 1 << 5 | if sum == 0xffff { 0 } else { 1 << 29 };
    }
    status
}
