//! Whether TCP segments pass in order.

use super::tcp_at;
use std::collections::HashMap;

/// Where each TCP stream is, by direction and ports.
#[derive(Default)]
pub struct Order {
    ends: HashMap<(bool, [u8; 4]), u32>,
    /// Segments with data that the one before already held, or reached into.
    pub early: u64,
    /// Segments with data before which some is missing.
    pub late: u64,
}

impl Order {
    pub fn look(&mut self, server: bool, frame: &[u8]) {
        let tcp = tcp_at(frame);
        let (protocol, end) = match (&frame[12..14], tcp) {
            ([8, 0], 34) => (
                frame[23],
                14 + usize::from(u16::from_be_bytes([frame[16], frame[17]])),
            ),
            ([0x86, 0xdd], 54) => (
                frame[20],
                54 + usize::from(u16::from_be_bytes([frame[18], frame[19]])),
            ),
            _ => return,
        };
        if protocol != 6 {
            return;
        }
        let payload = end - tcp - usize::from(frame[tcp + 12] >> 4) * 4;
        let ports = frame[tcp..tcp + 4].try_into().unwrap();
        let sequence = u32::from_be_bytes(frame[tcp + 4..tcp + 8].try_into().unwrap());
        let next = sequence.wrapping_add(payload as u32);
        if payload == 0 {
            return;
        }
        let before = self.ends.insert((server, ports), next);
        match before.map_or(0, |before| sequence.wrapping_sub(before) as i32) {
            0 => {}
            1.. => self.late += 1,
            _ => self.early += 1,
        }
    }
}
