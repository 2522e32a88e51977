//! Clients of the key-value server that send any bytes in any pieces, at any pace.
//!
//! The stream is cut where the byte 0x00 stands; after 0x01 time passes; 0x02 closes room to send;
//! after 0x03 the other one of two clients goes on.
#![no_main]

use std::collections::VecDeque;

use libfuzzer_sys::fuzz_target;
use segue_kv_core::{Action, Limit, Limits, Server, Stream};

const LIMITS: Limits = Limits {
    store_bytes: 8 * 1024,
    client_bytes: 32 * 1024,
    clients: 2,
    request: Limit {
        arguments: 16,
        argument_bytes: 2048,
        request_bytes: 4096,
    },
    answer_bytes: 4096,
};

#[derive(Default)]
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

/// The end of the first answer, if all of it is there. Panics if it is none.
fn answer(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let text = std::str::from_utf8(&bytes[1..end]).expect("lines are text");
    let number = || text.parse::<i64>().expect("a number");
    let mut at = end + 2;
    match bytes[0] {
        b'+' | b'-' => assert!(!text.contains(['\r', '\n'])),
        b':' => {
            number();
        }
        b'$' => {
            if let Ok(length) = usize::try_from(number()) {
                let rest = bytes.get(at..at + length + 2)?;
                assert!(rest.ends_with(b"\r\n"));
                at += length + 2;
            }
        }
        b'*' => {
            for _ in 0..number().max(0) {
                at += answer(bytes.get(at..)?)?;
            }
        }
        other => panic!("an answer begins with {other}"),
    }
    Some(at)
}

fuzz_target!(|data: &[u8]| {
    let mut server = Server::new(LIMITS, [5, 6], 6379, 600, 0);
    let mut clients = [Client::default(), Client::default()];
    let (mut now, mut current) = (0, 0);
    assert!(server.accepted(0) && server.accepted(1) && !server.accepted(2));
    let mut rest = data;
    loop {
        let cut = rest.iter().position(|byte| *byte < 4);
        let (piece, next) = rest.split_at(cut.unwrap_or(rest.len()));
        let client = &mut clients[current];
        client.ended = cut.is_none();
        // What the server did not take yet is still there, as in a receive buffer.
        client.arriving.extend(piece);
        client.room = match next.first() {
            Some(2) => 1,
            _ => 1 << 20,
        };
        let action = server.ready(current, client, now);
        let mut at = 0;
        while at < client.sent.len() {
            match answer(&client.sent[at..]) {
                Some(length) => at += length,
                None => break,
            }
        }
        client.sent.drain(..at);
        let cut_short = client.room == 0 || action == Action::Abort;
        assert!(client.sent.is_empty() || cut_short, "half an answer");
        assert!(server.store().memory() <= LIMITS.store_bytes);
        assert!(server.client_memory() <= LIMITS.client_bytes);
        let mut gone = action != Action::None;
        while let Some(index) = server.next_evicted() {
            gone |= index == current;
        }
        if gone || next.is_empty() {
            return;
        }
        match next[0] {
            1 => {
                now += 700_000;
                server.tick(now);
            }
            3 => current = 1 - current,
            _ => {}
        }
        rest = &next[1..];
    }
});
