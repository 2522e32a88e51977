//! Segments that no client would send, or that come from nobody.

use super::{CLIENT_MAC, SERVE, SERVER, SERVER_MAC, World, fill_checksums};

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
        let mut frame = vec![0; 54];
        frame[..6].copy_from_slice(&SERVER_MAC);
        frame[6..12].copy_from_slice(&CLIENT_MAC);
        frame[12] = 8;
        frame[14] = 0x45;
        frame[22] = 64;
        frame[23] = 6;
        // Nobody answers at this address.
        frame[26..30].copy_from_slice(&[10, 0, 2, 99]);
        frame[30..34].copy_from_slice(&SERVER.octets());
        frame[34..36].copy_from_slice(&self.from_port.to_be_bytes());
        frame[36..38].copy_from_slice(&self.to_port.to_be_bytes());
        frame[38..42].copy_from_slice(&self.sequence.to_be_bytes());
        frame[42..46].copy_from_slice(&self.acknowledgement.to_be_bytes());
        frame[46] = (((20 + self.options.len()) / 4) << 4) as u8;
        frame[47] = self.flags;
        frame[48..50].copy_from_slice(&8192u16.to_be_bytes());
        frame.extend_from_slice(&self.options);
        frame.extend_from_slice(&self.payload);
        let total = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
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
        .filter(|frame| frame.len() >= 54 && frame[23] == 6)
        .map(|frame| {
            let port = u16::from_be_bytes([frame[36], frame[37]]);
            (
                frame[47],
                number(&frame[38..42]),
                number(&frame[42..46]),
                port,
            )
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
