//! The DHCP client and whatever comes over the network.
//!
//! Each step is a frame: a whole one of the input's bytes, or an answer to the client's last
//! question with some bytes changed. Nothing is believed but a lease that makes sense.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segue_dhcp_core::{Client, Event, LONGEST_LEASE};
use segue_portmap_core::ipv4::{is_host, is_router};

const HARDWARE: [u8; 6] = [0x52, 0x54, 0, 0x5e, 0x60, 0];
/// Where the DHCP message begins in a frame, and its magic number and options.
const MESSAGE: usize = 42;
const MAGIC: usize = 236;
const OPTIONS: usize = 240;

/// An answer: a message of this kind with these options, about this address.
fn answer(question: &[u8], kind: u8, address: [u8; 4], options: &[u8]) -> Vec<u8> {
    let mut message = vec![0; OPTIONS];
    message[..4].copy_from_slice(&[2, 1, 6, 0]);
    message[4..8].copy_from_slice(&question[MESSAGE + 4..MESSAGE + 8]);
    message[16..20].copy_from_slice(&address);
    message[28..34].copy_from_slice(&HARDWARE);
    message[MAGIC..].copy_from_slice(&[99, 130, 83, 99]);
    message.extend([53, 1, kind]);
    message.extend(options);
    message.push(255);
    let mut frame = Vec::new();
    frame.extend(HARDWARE);
    frame.extend([2, 0, 0, 0, 0, 2, 8, 0]);
    let mut header = [0; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(28 + message.len() as u16).to_be_bytes());
    header[8..10].copy_from_slice(&[64, 17]);
    header[12..20].copy_from_slice(&[10, 0, 2, 2, 255, 255, 255, 255]);
    let words = header.as_chunks::<2>().0.iter();
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let sum = !((sum & 0xffff) as u16 + (sum >> 16) as u16);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(header);
    // Without a checksum, as IPv4 allows.
    frame.extend([0, 67, 0, 68]);
    frame.extend((8 + message.len() as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(message);
    frame
}

fuzz_target!(|data: &[u8]| {
    let mut client = Client::new(HARDWARE, 7, 0);
    client.set_up(true);
    let mut now = 0;
    let mut question = vec![0; 600];
    let mut rest = data;
    while let [what, length, more @ ..] = rest {
        let (bytes, after) = more.split_at(usize::from(*length).min(more.len()));
        rest = after;
        let good = [
            54, 4, 10, 0, 2, 2, 1, 4, 255, 255, 255, 0, 51, 4, 0, 0, 0, 60,
        ];
        let frame = match what % 8 {
            0 => bytes.to_vec(),
            kind @ 1..=3 => {
                let kind = [2, 5, 6][usize::from(kind) - 1];
                let mut frame = answer(&question, kind, [10, 0, 2, 40], &good);
                for change in bytes.as_chunks::<3>().0 {
                    let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
                    let at = at % frame.len();
                    frame[at] = change[2];
                }
                frame
            }
            kind @ 4..=6 => {
                let kind = [2, 5, 6][usize::from(kind) - 4];
                let address = std::array::from_fn(|at| bytes.get(at).copied().unwrap_or(9));
                answer(&question, kind, address, bytes.get(4..).unwrap_or_default())
            }
            _ => {
                now += u64::from(*length) * 250_000;
                Vec::new()
            }
        };
        client.receive(&frame, now);
        client.poll(now);
        while let Some(frame) = client.next_frame() {
            if frame.len() > MESSAGE + OPTIONS {
                question = frame;
            }
        }
        while let Some(event) = client.next_event() {
            if let Event::Leased(lease) = event {
                assert!(is_host(lease.address, lease.prefix_length), "{lease:?}");
                assert!((10..=LONGEST_LEASE).contains(&lease.seconds), "{lease:?}");
                let router = lease.router.unwrap_or([10, 0, 2, 2]);
                assert!(
                    lease.router.is_none() || is_router(router, lease.address, lease.prefix_length),
                    "{lease:?}"
                );
            }
        }
    }
});
