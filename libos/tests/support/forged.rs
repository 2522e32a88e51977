//! Segments that no client would send, or that come from nobody.

use super::{SERVE, World, fill_checksums, headers, ipv6, neighbour, tcp_at};

/// A TCP frame as a stranger would write it.
pub struct Forged {
    pub from_port: u16,
    pub to_port: u16,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

impl Forged {
    pub fn new(from_port: u16, to_port: u16, flags: u8) -> Self {
        Self {
            from_port,
            to_port,
            sequence: 1000,
            acknowledgement: 0,
            flags,
            options: vec![],
            payload: vec![],
        }
    }

    pub fn frame(&self) -> Vec<u8> {
        let length = 20 + self.options.len() + self.payload.len();
        // Nobody answers at this address.
        let mut frame = headers(ipv6(), neighbour(ipv6(), 99), length);
        frame.extend_from_slice(&self.from_port.to_be_bytes());
        frame.extend_from_slice(&self.to_port.to_be_bytes());
        frame.extend_from_slice(&self.sequence.to_be_bytes());
        frame.extend_from_slice(&self.acknowledgement.to_be_bytes());
        frame.push((((20 + self.options.len()) / 4) << 4) as u8);
        frame.push(self.flags);
        frame.extend_from_slice(&8192u16.to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(&self.options);
        frame.extend_from_slice(&self.payload);
        fill_checksums(&mut frame);
        frame
    }
}

/// What the server has sent since the last call, as (flags, sequence, acknowledgement, port).
pub fn answers(world: &mut World) -> Vec<(u8, u32, u32, u16)> {
    let sniffed = world
        .network
        .borrow_mut()
        .sniff
        .replace(vec![])
        .unwrap_or_default();
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    sniffed
        .iter()
        .filter(|frame| match frame[12..14] {
            [8, 0] => frame[23] == 6,
            [0x86, 0xdd] => frame[20] == 6,
            _ => false,
        })
        .map(|frame| {
            let tcp = &frame[tcp_at(frame)..];
            let port = u16::from_be_bytes([tcp[2], tcp[3]]);
            (tcp[13], number(&tcp[4..8]), number(&tcp[8..12]), port)
        })
        .collect()
}

pub fn inject(world: &mut World, frame: Vec<u8>) -> Vec<(u8, u32, u32, u16)> {
    answers(world);
    world.network.borrow_mut().inject(frame);
    world.serve();
    answers(world)
}

/// A connection that no client socket knows of: (ours, theirs) are the next
/// sequence numbers of the forger and of the server.
pub fn forge_connection(world: &mut World, port: u16) -> (u32, u32) {
    let mut forged = Forged::new(port, SERVE, SYN);
    forged.options = vec![2, 4, 5, 180];
    let answer = inject(world, forged.frame());
    assert_eq!(answer.len(), 1);
    let (flags, sequence, acknowledgement, _) = answer[0];
    assert_eq!((flags, acknowledgement), (SYN | ACK, 1001));
    let mut forged = Forged::new(port, SERVE, ACK);
    forged.sequence = 1001;
    forged.acknowledgement = sequence + 1;
    inject(world, forged.frame());
    (1001, sequence + 1)
}
