//! Interruptions of TCP downloads.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::pcap::{Frame, Segment};

/// What a client got from a server on one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Download {
    /// Payload bytes, each counted once.
    pub bytes: u64,
    /// Payload bytes that had been on the wire before.
    pub repeated: u64,
    /// The longest time without new payload bytes while some were awaited, in microseconds: from
    /// one to the next, or from the request to the first.
    pub longest_stall: u64,
    /// When it began.
    pub stall_began: u64,
    /// Resets, from either side.
    pub resets: u64,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Direction {
    /// The sequence number behind all that was seen.
    next: Option<u32>,
}

impl Direction {
    /// How many bytes of a segment's payload are new.
    fn new_bytes(&mut self, segment: &Segment<'_>) -> u64 {
        if segment.is_syn {
            self.next = Some(segment.sequence.wrapping_add(1));
            return 0;
        }
        let length = segment.payload.len() as u32;
        let end = segment.sequence.wrapping_add(length);
        let next = *self.next.get_or_insert(segment.sequence);
        let ahead = end.wrapping_sub(next) as i32;
        if ahead <= 0 {
            return 0;
        }
        self.next = Some(end);
        u64::from(length).min(ahead as u64)
    }
}

#[derive(Default)]
struct Connection {
    to_client: Direction,
    to_server: Direction,
    /// When there were new bytes last, or were asked for.
    last: Option<u64>,
    download: Download,
}

/// The downloads in a capture from `server`, by the client's address. Each client asks on a
/// connection for one thing at a time: with a request, nothing more of the one before is awaited. A
/// download that never goes on has no stall here that ends: who downloads has to notice.
pub fn downloads(frames: &[Frame], server: SocketAddr) -> HashMap<SocketAddr, Download> {
    let mut connections: HashMap<SocketAddr, Connection> = HashMap::new();
    for frame in frames {
        let Some(segment) = frame.segment() else {
            continue;
        };
        let from_server = segment.source == server;
        let client = match (from_server, segment.destination == server) {
            (true, false) => segment.destination,
            (false, true) => segment.source,
            _ => continue,
        };
        let connection = connections.entry(client).or_default();
        let download = &mut connection.download;
        download.resets += u64::from(segment.is_reset);
        if !from_server {
            if connection.to_server.new_bytes(&segment) > 0 {
                connection.last = Some(frame.at);
            }
            continue;
        }
        let new = connection.to_client.new_bytes(&segment);
        download.bytes += new;
        download.repeated += segment.payload.len() as u64 - new;
        if new == 0 {
            continue;
        }
        if let Some(last) = connection.last.replace(frame.at) {
            let stall = frame.at.saturating_sub(last);
            if stall > download.longest_stall {
                (download.longest_stall, download.stall_began) = (stall, last);
            }
        }
    }
    let downloads = connections.into_iter();
    downloads
        .map(|(client, connection)| (client, connection.download))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames;
    use smoltcp::wire::IpProtocol;

    const SYN: u8 = 2;
    const RST: u8 = 4;

    /// From the peer's port 80 (the server) to the application's port 1000, or the reverse.
    fn segment(at: u64, from_server: bool, sequence: u32, flags: u8, length: usize) -> Frame {
        let mut tcp = vec![0; 20 + length];
        let ports = [80u16, 1000].map(u16::to_be_bytes).concat();
        tcp[..4].copy_from_slice(&ports);
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        tcp[12] = 0x50;
        tcp[13] = flags;
        let mut bytes = frames::ipv4(IpProtocol::Tcp, &tcp);
        if !from_server {
            bytes[34..38].rotate_left(2);
            bytes[26..34].rotate_left(4);
        }
        Frame { at, bytes }
    }

    #[test]
    fn stalls_are_between_new_bytes() {
        let server = "10.0.2.2:80".parse().unwrap();
        let start = u32::MAX - 50;
        let frames = [
            segment(0, false, 7, SYN, 0),
            segment(10, true, start, SYN, 0),
            // The connection is idle, which is nobody's stall.
            segment(5_000, false, 8, 0, 30),
            segment(5_100, true, start.wrapping_add(1), 0, 100),
            segment(5_200, true, start.wrapping_add(101), 0, 100),
            // A repetition is no progress; half of the next one is.
            segment(5_300, true, start.wrapping_add(101), 0, 100),
            segment(5_700, true, start.wrapping_add(151), 0, 100),
            segment(5_750, true, start.wrapping_add(251), 0, 0),
            // Idle again; a repeated request asks for nothing.
            segment(8_000, false, 8, 0, 30),
            segment(9_000, false, 38, 0, 30),
            segment(9_050, true, start.wrapping_add(251), RST, 10),
        ];
        let found = downloads(&frames, server);
        let client = "10.0.2.15:1000".parse().unwrap();
        let expected = Download {
            bytes: 260,
            repeated: 150,
            longest_stall: 500,
            stall_began: 5_200,
            resets: 1,
        };
        assert_eq!(found.get(&client), Some(&expected));
        assert_eq!(found.len(), 1);
        assert!(downloads(&frames, "10.0.2.2:81".parse().unwrap()).is_empty());
    }
}
