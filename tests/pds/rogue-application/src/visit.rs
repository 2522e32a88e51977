//! A connection to the other application at the same address: just enough of TCP
//! to ask for a page on a line that loses nothing.

use alloc::vec::Vec;

use segue_frame_channel::config::ClientConfig;

/// TCP's number in an IPv4 header.
pub const TCP: u8 = 6;

const HEADERS: usize = 54;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PUSH: u8 = 8;
const ACKNOWLEDGE: u8 = 16;
const REQUEST: &[u8] = b"GET /1k.bin HTTP/1.1\r\nHost: neighbour\r\nConnection: close\r\n\r\n";

/// How far it has come.
#[derive(Debug, Default)]
pub struct Visit {
    /// The next number of ours, and of theirs.
    next: (u32, u32),
    /// Bytes of the answer so far.
    received: usize,
}

impl Visit {
    /// The segment that opens the connection.
    pub fn begin(&mut self, config: &ClientConfig) -> Vec<u8> {
        self.next = (1000, 0);
        self.segment(config, SYN, &[])
    }

    /// What is said to a segment.
    pub fn receive(&mut self, config: &ClientConfig, frame: &[u8]) -> Option<Vec<u8>> {
        if frame.len() < HEADERS || frame[34..36] != super::HTTP.to_be_bytes() {
            return None;
        }
        let flags = frame[47];
        let number = u32::from_be_bytes([frame[38], frame[39], frame[40], frame[41]]);
        if flags & RST != 0 {
            log::error!("the neighbour has reset the connection");
            return None;
        }
        if flags & SYN != 0 {
            self.next = (1001, number.wrapping_add(1));
            let request = self.segment(config, PUSH, REQUEST);
            self.next.0 += REQUEST.len() as u32;
            return Some(request);
        }
        let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        let start = 34 + usize::from(frame[46] >> 4) * 4;
        let payload = frame.get(start..14 + total).unwrap_or_default();
        if number != self.next.1 || payload.is_empty() && flags & FIN == 0 {
            return None;
        }
        self.received += payload.len();
        let length = payload.len() as u32 + u32::from(flags & FIN != 0);
        self.next.1 = self.next.1.wrapping_add(length);
        if flags & FIN == 0 {
            return Some(self.segment(config, 0, &[]));
        }
        log::info!("the neighbour has sent {} bytes", self.received);
        let last = self.segment(config, FIN, &[]);
        self.next.0 += 1;
        Some(last)
    }

    /// A segment to the other application. Its checksums are the server's work.
    fn segment(&self, config: &ClientConfig, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = alloc::vec![0; HEADERS];
        frame[..6].copy_from_slice(&config.addresses.mac);
        frame[6..12].copy_from_slice(&config.addresses.mac);
        frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
        let total = (HEADERS - 14 + payload.len()) as u16;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        frame[22..24].copy_from_slice(&[64, TCP]);
        frame[26..30].copy_from_slice(&config.addresses.ipv4);
        frame[30..34].copy_from_slice(&config.addresses.ipv4);
        frame[34..36].copy_from_slice(&super::PORT.to_be_bytes());
        frame[36..38].copy_from_slice(&super::HTTP.to_be_bytes());
        frame[38..42].copy_from_slice(&self.next.0.to_be_bytes());
        frame[42..46].copy_from_slice(&self.next.1.to_be_bytes());
        let acknowledge = if flags & SYN == 0 { ACKNOWLEDGE } else { 0 };
        frame[46..50].copy_from_slice(&[0x50, flags | acknowledge, 0x20, 0]);
        frame.extend_from_slice(payload);
        frame
    }
}
