//! What the echo application does with streams and datagrams, without I/O.
//!
//! A stream is echoed in one of three [`Mode`]s: as it comes, message by message, or not at all. A client that
//! does not take what is sent back to it is not read from.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use core::net::SocketAddr;

/// Bytes taken from a stream at once.
const PIECE: usize = 16 * 1024;
/// Length of a message's length.
const HEADER: usize = 4;
/// Ports below this are those of services. One that answers datagrams, as this one does, would
/// never stop answering ours.
const FIRST_PORT: u16 = 1024;

/// A client's byte stream, as the library OS or a test provides it.
pub trait Stream {
    /// Copies bytes that have arrived to `to` and removes them. Returns how many.
    fn receive(&mut self, to: &mut [u8]) -> usize;
    /// Queues bytes for sending and says how many fitted. If not all did, the stream is served
    /// again when there is room.
    fn send(&mut self, bytes: &[u8]) -> usize;
    /// Whether the client has closed its side and everything was received.
    fn at_end(&self) -> bool;
}

/// When bytes are sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As they come (RFC 862).
    Bytes,
    /// When a message is complete. Its first four bytes are its length, these four included,
    /// most significant byte first; at most so many bytes.
    Messages(usize),
    /// Never (RFC 863): whoever wants to know how fast bytes arrive sends them here.
    Discard,
}

/// What the caller does next with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until something arrives or there is room.
    None,
    /// Close it: all is sent back.
    Close,
    /// Reset it: a message has an impossible length or no end, or there is no memory for it.
    Abort,
}

/// One client's stream.
#[derive(Debug)]
pub struct Echo {
    mode: Mode,
    /// What came and is not sent back yet.
    bytes: Vec<u8>,
    /// Bytes of it that are sent.
    sent: usize,
}

impl Echo {
    /// A stream with nothing in it.
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            bytes: Vec::new(),
            sent: 0,
        }
    }

    /// Bytes of memory that it holds.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Sends back what has arrived, as far as it is time and there is room. Takes at most `limit`
    /// bytes of memory.
    pub fn serve(&mut self, stream: &mut impl Stream, limit: usize) -> Action {
        let mut piece = [0; PIECE];
        loop {
            let (due, wanted) = match self.due() {
                Some(counts) => counts,
                None => return Action::Abort,
            };
            if due > self.sent {
                self.sent += stream.send(&self.bytes[self.sent..due]);
                if self.sent < due {
                    return Action::None;
                }
            }
            if due > 0 {
                // A message is read to its end and no further: there is nothing behind it.
                self.bytes.clear();
                self.sent = 0;
                if self.bytes.capacity() > PIECE {
                    self.bytes = Vec::new();
                }
                continue;
            }
            let count = stream.receive(&mut piece[..wanted.min(PIECE)]);
            if count == 0 {
                return match (stream.at_end(), self.bytes.is_empty()) {
                    (false, _) => Action::None,
                    (true, true) => Action::Close,
                    (true, false) => Action::Abort,
                };
            }
            let arrived = &piece[..count];
            // In the simple mode most of it goes back at once, without being kept.
            let at_once = match self.mode {
                Mode::Bytes => stream.send(arrived),
                Mode::Discard => count,
                Mode::Messages(_) => 0,
            };
            let rest = &arrived[at_once.min(count)..];
            if self.bytes.len() + rest.len() > limit || self.bytes.try_reserve(rest.len()).is_err()
            {
                return Action::Abort;
            }
            self.bytes.extend_from_slice(rest);
        }
    }

    /// Bytes that are to be sent back now (0 or all), and else how many may be read until that
    /// changes. `None` if a message has an impossible length.
    fn due(&self) -> Option<(usize, usize)> {
        let there = self.bytes.len();
        match self.mode {
            Mode::Bytes | Mode::Discard => Some((there, PIECE)),
            Mode::Messages(longest) => {
                let Some(header) = self.bytes.first_chunk::<HEADER>() else {
                    return Some((0, HEADER - there));
                };
                let length = u32::from_be_bytes(*header) as usize;
                if !(HEADER..=longest).contains(&length) {
                    return None;
                }
                Some(match length - there {
                    0 => (there, 0),
                    left => (0, left),
                })
            }
        }
    }
}

/// Whether a datagram from there is sent back.
pub fn answers(from: SocketAddr) -> bool {
    from.port() >= FIRST_PORT
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;
    use alloc::vec;
    use core::net::IpAddr;

    #[derive(Default)]
    struct Client {
        arriving: VecDeque<u8>,
        room: usize,
        sent: Vec<u8>,
        ended: bool,
    }

    impl Stream for Client {
        fn receive(&mut self, to: &mut [u8]) -> usize {
            let count = to.len().min(self.arriving.len());
            for (to, byte) in to.iter_mut().zip(self.arriving.drain(..count)) {
                *to = byte;
            }
            count
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

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at % 251) as u8).collect()
    }

    fn message(length: u32) -> Vec<u8> {
        let mut message = bytes(length as usize);
        message[..HEADER].copy_from_slice(&length.to_be_bytes());
        message
    }

    #[test]
    fn a_stream_comes_back_whatever_the_room() {
        let all = bytes(100_000);
        for (piece, room) in [(1, 1), (1000, 7), (100_000, 33_333), (5000, 100_000)] {
            let (mut echo, mut client) = (Echo::new(Mode::Bytes), Client::default());
            let mut rest = all.chunks(piece);
            while client.sent.len() < all.len() {
                client.arriving.extend(rest.next().unwrap_or_default());
                client.room = room;
                assert_eq!(echo.serve(&mut client, PIECE), Action::None);
                assert!(echo.memory() <= 2 * PIECE);
            }
            assert_eq!(client.sent, all);
            client.ended = true;
            assert_eq!(echo.serve(&mut client, PIECE), Action::Close);
        }
    }

    #[test]
    fn who_takes_nothing_is_not_read_from() {
        let (mut echo, mut client) = (Echo::new(Mode::Bytes), Client::default());
        client.arriving.extend(bytes(100_000));
        assert_eq!(echo.serve(&mut client, PIECE), Action::None);
        assert_eq!(client.arriving.len(), 100_000 - PIECE);
    }

    #[test]
    fn what_is_to_be_discarded_is_read_to_its_end() {
        let (mut echo, mut client) = (Echo::new(Mode::Discard), Client::default());
        client.room = usize::MAX;
        client.arriving.extend([7; 3 * PIECE + 5]);
        assert_eq!(echo.serve(&mut client, 0), Action::None);
        assert!(client.arriving.is_empty() && client.sent.is_empty());
        assert_eq!(echo.memory(), 0);
        client.ended = true;
        assert_eq!(echo.serve(&mut client, 0), Action::Close);
    }

    #[test]
    fn messages_come_back_when_they_are_complete() {
        let lengths = [4, 5, 1000, 70_000];
        let all: Vec<u8> = lengths.iter().flat_map(|&length| message(length)).collect();
        let (mut echo, mut client) = (Echo::new(Mode::Messages(70_000)), Client::default());
        client.room = usize::MAX;
        let mut complete = 0;
        for (at, &byte) in all.iter().enumerate() {
            client.arriving.push_back(byte);
            assert_eq!(echo.serve(&mut client, 70_000), Action::None);
            let ends = [4, 9, 1009, 71_009];
            if ends.contains(&(at + 1)) {
                complete = at + 1;
            }
            assert_eq!(client.sent.len(), complete);
        }
        assert_eq!(client.sent, all);
        assert_eq!(echo.memory(), 0, "nothing is kept of a large message");
        // Several at once, and the end.
        client.sent.clear();
        client.arriving.extend(&all);
        client.ended = true;
        assert_eq!(echo.serve(&mut client, 70_000), Action::Close);
        assert_eq!(client.sent, all);
    }

    #[test]
    fn impossible_messages_end_the_stream() {
        for (start, ended) in [
            (vec![0, 0, 0, 3], false),
            (vec![0, 0, 0, 101], false),
            (vec![255; 4], false),
            (vec![0, 0, 0, 5], true),
            (vec![0], true),
        ] {
            let (mut echo, mut client) = (Echo::new(Mode::Messages(100)), Client::default());
            client.arriving.extend(start);
            client.ended = ended;
            assert_eq!(echo.serve(&mut client, 100), Action::Abort);
            assert!(client.sent.is_empty());
        }
        let (mut echo, mut client) = (Echo::new(Mode::Messages(100)), Client::default());
        client.arriving.extend(message(90));
        assert_eq!(echo.serve(&mut client, 50), Action::Abort, "no memory");
    }

    #[test]
    fn services_are_not_answered() {
        for address in ["10.0.2.2", "fd00:5e60::2"] {
            let address: IpAddr = address.parse().unwrap();
            let from = |port| SocketAddr::new(address, port);
            assert!(answers(from(1024)) && answers(from(65_535)));
            assert!(!answers(from(7)) && !answers(from(0)) && !answers(from(1023)));
        }
    }
}
