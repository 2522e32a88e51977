//! Frames that must not leave the machine. Each carries the word FORGED.

use segue_frame_channel::config::ClientConfig;

/// Length of all of them.
const LENGTH: usize = 80;
const MARK: &[u8] = b"FORGED";
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What is forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The Ethernet source address.
    SourceMac,
    /// The IPv4 source address.
    SourceAddress,
    /// A UDP source port that is free.
    FreePort,
    /// The TCP source port of the HTTP application, to reset its connections.
    AnothersPort,
    /// An ARP reply that speaks for the gateway.
    Arp,
    /// A fragment that does not reach to the ports.
    Fragment,
    /// A protocol that has no ports.
    Protocol,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::SourceMac,
        Self::SourceAddress,
        Self::FreePort,
        Self::AnothersPort,
        Self::Arp,
        Self::Fragment,
        Self::Protocol,
    ];
}

/// A forged frame, to whom `request` came from.
pub fn forge(kind: Kind, config: &ClientConfig, request: &[u8]) -> [u8; LENGTH] {
    let mut frame = datagram(config, request, MARK);
    match kind {
        Kind::SourceMac => frame[11] ^= 1,
        Kind::SourceAddress => frame[29] ^= 1,
        Kind::FreePort => frame[35] += 1,
        Kind::AnothersPort => {
            frame[23] = TCP;
            frame[34..36].copy_from_slice(&super::HTTP.to_be_bytes());
            // 20 bytes of header, a reset.
            frame[46] = 0x50;
            frame[47] = 4;
        }
        Kind::Arp => {
            frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
            frame[22..28].copy_from_slice(&config.addresses.mac);
            frame[28..32].copy_from_slice(&config.addresses.gateway);
            frame[32..38].copy_from_slice(&request[6..12]);
            frame[38..42].copy_from_slice(&request[26..30]);
        }
        Kind::Fragment => frame[21] = 1,
        Kind::Protocol => frame[23] = 132,
    }
    frame
}

/// An honest answer to `request`.
pub fn honest(config: &ClientConfig, request: &[u8]) -> [u8; LENGTH] {
    datagram(config, request, b"honest")
}

/// A UDP datagram back to where `request` came from, with this at its end.
fn datagram(config: &ClientConfig, request: &[u8], text: &[u8]) -> [u8; LENGTH] {
    let mut frame = [0; LENGTH];
    frame[..6].copy_from_slice(&request[6..12]);
    frame[6..12].copy_from_slice(&config.addresses.mac);
    frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    frame[16..18].copy_from_slice(&((LENGTH - 14) as u16).to_be_bytes());
    frame[22..24].copy_from_slice(&[64, UDP]);
    frame[26..30].copy_from_slice(&config.addresses.ipv4);
    frame[30..34].copy_from_slice(&request[26..30]);
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame[34..36].copy_from_slice(&super::PORT.to_be_bytes());
    frame[36..38].copy_from_slice(&request[34..36]);
    frame[38..40].copy_from_slice(&((LENGTH - 34) as u16).to_be_bytes());
    frame[LENGTH - text.len()..].copy_from_slice(text);
    frame
}

fn checksum(header: &[u8]) -> u16 {
    let words = header.as_chunks::<2>().0.iter();
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) as u16 + (sum >> 16) as u16)
}
