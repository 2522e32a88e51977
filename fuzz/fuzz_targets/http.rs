//! Clients that send any bytes in any pieces, at any pace.
//!
//! The stream is cut where the byte 0x00 stands; after 0x01 time passes; 0x02 closes room to send.
#![no_main]

use std::collections::VecDeque;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use segue_http_core::{Action, Limits, NothingDynamic, Server, Site, Stream};

fn archive() -> &'static [u8] {
    static ARCHIVE: OnceLock<Vec<u8>> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let mut builder = tar::Builder::new(Vec::new());
        let files: [(&str, &[u8]); 3] = [
            ("index.html", b"<p>Segue</p>"),
            ("a.bin", &[7; 300]),
            ("empty", b""),
        ];
        for (name, bytes) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder
                .append_data(&mut header, name, bytes)
                .expect("writing to memory does not fail");
        }
        builder
            .into_inner()
            .expect("writing to memory does not fail")
    })
}

struct Client {
    arriving: VecDeque<u8>,
    room: usize,
    sent: Vec<u8>,
    ended: bool,
}

impl Stream for Client {
    fn receive_with(&mut self, take: &mut dyn FnMut(&[u8]) -> usize) {
        if !self.arriving.is_empty() {
            // As a ring buffer: what lies across its wrap comes in two pieces.
            let piece = self.arriving.as_slices().0;
            let taken = take(piece);
            assert!(taken <= piece.len(), "took more than there was");
            self.arriving.drain(..taken);
        }
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room);
        self.room -= count;
        self.sent.extend_from_slice(&bytes[..count]);
        count
    }

    fn at_end(&self) -> bool {
        self.ended && self.arriving.is_empty()
    }
}

fuzz_target!(|data: &[u8]| {
    let site = Site::new(archive()).expect("the archive is one");
    let limits = Limits {
        head_bytes: 512,
        body_bytes: 256,
        ..Limits::default()
    };
    let mut server = Server::new(site, limits);
    let mut now = 0;
    server.accepted(0, now);
    let mut client = Client {
        arriving: VecDeque::new(),
        room: 4096,
        sent: Vec::new(),
        ended: false,
    };
    let mut rest = data;
    loop {
        let cut = rest.iter().position(|byte| *byte < 3);
        client.ended = cut.is_none();
        let (piece, next) = rest.split_at(cut.unwrap_or(rest.len()));
        // What the server did not take yet is still there, as in a receive buffer.
        client.arriving.extend(piece);
        client.room = 4096;
        match next.first() {
            Some(1) => now += 7_000_000,
            Some(2) => client.room = 1,
            _ => {}
        }
        let action = server.ready(0, &mut client, &mut NothingDynamic, now);
        assert!(
            client.sent.is_empty()
                || client.sent.starts_with(b"HTTP/1.1 ")
                || client.sent.len() < 9
        );
        if action != Action::None || next.is_empty() {
            return;
        }
        rest = &next[1..];
    }
});
