//! One client's byte stream.

use alloc::vec::Vec;

use crate::request::{self, RequestError};
use crate::response::{Body, Response};
use crate::site::{Dynamic, Site};

/// A client's byte stream, as the library OS or a test provides it.
pub trait Stream {
    /// Shows the bytes that have arrived, as far as they lie in one piece, and
    /// takes as many away as `f` says. Not called by the stream if there are
    /// none.
    fn receive_with(&mut self, f: &mut dyn FnMut(&[u8]) -> usize);
    /// Queues bytes for sending and says how many fitted.
    fn send(&mut self, bytes: &[u8]) -> usize;
    /// Whether the client has closed its side and everything was received.
    fn at_end(&self) -> bool;
}

/// What a client may use up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest request head, in bytes (431 above).
    pub head_bytes: usize,
    /// Largest request body that is read and thrown away, in bytes (413 above).
    pub body_bytes: u64,
    /// Time for a request to arrive once its first byte has, in microseconds
    /// (408 after).
    pub request_microseconds: u64,
    /// Time a connection may idle between requests, in microseconds.
    pub idle_microseconds: u64,
    /// Time without progress while a response is sent, in microseconds.
    pub send_microseconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 8 * 1024,
            body_bytes: 64 * 1024,
            request_microseconds: 10_000_000,
            idle_microseconds: 60_000_000,
            send_microseconds: 30_000_000,
        }
    }
}

/// What the caller does next with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Wait for the stream, at most until the deadline (microseconds).
    Wait {
        /// When [`Connection::serve`] wants to be called at the latest.
        deadline: u64,
    },
    /// Everything was queued: close the sending side, drop the connection.
    Close,
    /// The client broke off or made no progress: reset the stream.
    Abort,
}

/// Counts over all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests answered with a status below 400.
    pub answered: u64,
    /// Requests answered with a status of 400 or above.
    pub refused: u64,
    /// Body bytes queued.
    pub body_bytes: u64,
}

enum State<'a> {
    /// Waiting for, or collecting, a request head.
    Head,
    /// Throwing away a request body of so many bytes before the answer goes out.
    Discard(u64, Response<'a>),
    /// Sending; so many bytes of head, then body, are out.
    Send {
        body: Body<'a>,
        sent: usize,
        keep_alive: bool,
    },
    /// The last response is out and the stream must be closed.
    Done,
}

/// One client's connection.
pub struct Connection<'a> {
    state: State<'a>,
    /// The part of a request head that arrived so far, if it came in pieces.
    pending: Vec<u8>,
    /// The head of the response being sent.
    head: Vec<u8>,
    /// When the present state ends at the latest, in microseconds.
    deadline: u64,
}

impl<'a> Connection<'a> {
    /// A connection accepted at `now` microseconds.
    pub fn new(limits: &Limits, now: u64) -> Self {
        Self {
            state: State::Head,
            pending: Vec::new(),
            head: Vec::new(),
            deadline: now.saturating_add(limits.idle_microseconds),
        }
    }

    /// Takes what has arrived, answers it, and sends as much as fits. Answers
    /// pipelined requests in order.
    pub fn serve(
        &mut self,
        stream: &mut impl Stream,
        site: &Site<'a>,
        dynamic: &mut impl Dynamic,
        limits: &Limits,
        now: u64,
        counters: &mut Counters,
    ) -> Progress {
        loop {
            let late = now >= self.deadline;
            match &mut self.state {
                State::Head => match self.read_head(stream, site, dynamic, limits, now) {
                    Some((0, response)) => self.begin(response, limits, now, counters),
                    Some((body_length, response)) => {
                        self.deadline = now.saturating_add(limits.request_microseconds);
                        self.state = State::Discard(body_length, response);
                    }
                    None if stream.at_end() => {
                        return if self.pending.is_empty() {
                            Progress::Close
                        } else {
                            Progress::Abort
                        };
                    }
                    None if late && self.pending.is_empty() => return Progress::Close,
                    None if late => {
                        self.pending = Vec::new();
                        self.begin(Response::error(408, true, false), limits, now, counters);
                    }
                    None => {
                        return Progress::Wait {
                            deadline: self.deadline,
                        };
                    }
                },
                State::Discard(left, _) => {
                    let before = *left;
                    stream.receive_with(&mut |bytes| {
                        let taken = (bytes.len() as u64).min(*left);
                        *left -= taken;
                        taken as usize
                    });
                    if *left == 0 {
                        let State::Discard(_, response) =
                            core::mem::replace(&mut self.state, State::Done)
                        else {
                            return Progress::Abort;
                        };
                        self.begin(response, limits, now, counters);
                    } else if *left == before {
                        if stream.at_end() || late {
                            return Progress::Abort;
                        }
                        return Progress::Wait {
                            deadline: self.deadline,
                        };
                    }
                }
                State::Send {
                    body,
                    sent,
                    keep_alive,
                } => {
                    let before = *sent;
                    if *sent < self.head.len() {
                        *sent += stream.send(&self.head[*sent..]);
                    }
                    if *sent >= self.head.len() {
                        let offset = *sent - self.head.len();
                        let taken = stream.send(&body.bytes()[offset..]);
                        counters.body_bytes += taken as u64;
                        *sent += taken;
                    }
                    if *sent == self.head.len() + body.bytes().len() {
                        let keep_alive = *keep_alive;
                        self.head.clear();
                        if !keep_alive {
                            self.state = State::Done;
                            return Progress::Close;
                        }
                        self.state = State::Head;
                        self.deadline = now.saturating_add(limits.idle_microseconds);
                    } else {
                        if *sent != before {
                            self.deadline = now.saturating_add(limits.send_microseconds);
                        } else if late {
                            return Progress::Abort;
                        }
                        return Progress::Wait {
                            deadline: self.deadline,
                        };
                    }
                }
                State::Done => return Progress::Close,
            }
        }
    }

    /// Queues the head of a response and begins to send.
    fn begin(
        &mut self,
        response: Response<'a>,
        limits: &Limits,
        now: u64,
        counters: &mut Counters,
    ) {
        if response.status < 400 {
            counters.answered += 1;
        } else {
            counters.refused += 1;
        }
        self.head.clear();
        response.write_head(&mut self.head);
        self.deadline = now.saturating_add(limits.send_microseconds);
        self.state = State::Send {
            body: response.body,
            sent: 0,
            keep_alive: response.keep_alive,
        };
    }

    /// Reads on until a head is complete, then answers it: the bytes of body that
    /// follow, and the response. `None`: more bytes are needed.
    fn read_head(
        &mut self,
        stream: &mut impl Stream,
        site: &Site<'a>,
        dynamic: &mut impl Dynamic,
        limits: &Limits,
        now: u64,
    ) -> Option<(u64, Response<'a>)> {
        loop {
            let mut outcome = None;
            let mut took = false;
            let pending = &mut self.pending;
            stream.receive_with(&mut |bytes| {
                let (taken, parsed) = collect(pending, bytes, limits);
                took = taken > 0;
                outcome = parsed;
                taken
            });
            if let Some(outcome) = outcome {
                self.pending = Vec::new();
                return Some(answer(outcome, site, dynamic));
            }
            if !took {
                return None;
            }
            // From the first bytes of a request on, the shorter clock runs.
            let request_deadline = now.saturating_add(limits.request_microseconds);
            if !self.pending.is_empty() && self.deadline > request_deadline {
                self.deadline = request_deadline;
            }
        }
    }
}

type Parsed = Result<request::Request, RequestError>;

/// Takes bytes of a request head: how many, and the outcome once it is complete
/// or hopeless. `pending` holds what came earlier.
fn collect(pending: &mut Vec<u8>, bytes: &[u8], limits: &Limits) -> (usize, Option<Parsed>) {
    let before = pending.len();
    if before == 0 {
        // Empty lines before a request are skipped (RFC 9112, section 2.2).
        let blank = bytes
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'))
            .count();
        if blank > 0 {
            return (blank, None);
        }
        // The usual case: the whole head lies in the ring in one piece and is
        // parsed there.
        if let Some(end) = request::head_end(bytes, 0)
            && end <= limits.head_bytes
        {
            return (end, Some(request::parse(&bytes[..end], limits.body_bytes)));
        }
    }
    let piece = &bytes[..bytes.len().min(limits.head_bytes.saturating_sub(before))];
    // What a client that stops in the middle can hold is known: no more than this.
    pending.reserve_exact(limits.head_bytes.saturating_sub(before));
    pending.extend_from_slice(piece);
    if let Some(end) = request::head_end(pending, before) {
        return (
            end.saturating_sub(before),
            Some(request::parse(&pending[..end], limits.body_bytes)),
        );
    }
    if pending.len() >= limits.head_bytes {
        return (bytes.len(), Some(Err(RequestError::HeaderFieldsTooLarge)));
    }
    // What can never become a request need not be waited for.
    if before == 0 && !pending[0].is_ascii_uppercase() {
        return (bytes.len(), Some(Err(RequestError::Malformed)));
    }
    (piece.len(), None)
}

/// The bytes of body that follow a request and are thrown away, and its answer.
fn answer<'a>(parsed: Parsed, site: &Site<'a>, dynamic: &mut impl Dynamic) -> (u64, Response<'a>) {
    match parsed {
        Ok(request) => (request.body_length, site.answer(&request, dynamic)),
        Err(RequestError::MethodNotAllowed {
            body_length: Some(length),
            keep_alive,
        }) => (length, Response::error(405, true, keep_alive)),
        Err(error) => {
            let status = match error {
                RequestError::Malformed => 400,
                RequestError::MethodNotAllowed { .. } => 405,
                RequestError::ContentTooLarge => 413,
                RequestError::HeaderFieldsTooLarge => 431,
                RequestError::VersionNotSupported => 505,
            };
            (0, Response::error(status, true, false))
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use proptest::prelude::*;

    /// A stream whose bytes arrive and leave in pieces.
    #[derive(Default)]
    struct Pieces {
        input: Vec<u8>,
        /// Bytes before this offset have arrived.
        arrived: usize,
        read: usize,
        piece: usize,
        output: Vec<u8>,
        room: usize,
        closed: bool,
    }

    impl Stream for Pieces {
        fn receive_with(&mut self, f: &mut dyn FnMut(&[u8]) -> usize) {
            let end = self.arrived.min(self.read + self.piece);
            if end > self.read {
                let taken = f(&self.input[self.read..end]);
                assert!(taken <= end - self.read);
                self.read += taken;
            }
        }
        fn send(&mut self, bytes: &[u8]) -> usize {
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            self.output.extend_from_slice(&bytes[..taken]);
            taken
        }
        fn at_end(&self) -> bool {
            self.closed && self.read == self.input.len()
        }
    }

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in [("index.html", &b"<p>hello"[..]), ("big", &[7; 5000][..])] {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            builder.append_data(&mut header, name, bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// Feeds `input`, `piece` bytes at a time, taking `room` bytes of output a
    /// step; the output and the last progress.
    fn run(input: &[u8], piece: usize, room: usize) -> (Vec<u8>, Progress) {
        let archive = archive();
        let site = Site::new(&archive).unwrap();
        let limits = Limits::default();
        let mut counters = Counters::default();
        let mut stream = Pieces {
            input: input.to_vec(),
            piece,
            closed: true,
            ..Pieces::default()
        };
        let mut connection = Connection::new(&limits, 0);
        for _ in 0..1_000_000 {
            stream.arrived = (stream.arrived + piece).min(input.len());
            stream.room = room;
            let progress = connection.serve(
                &mut stream,
                &site,
                &mut crate::NothingDynamic,
                &limits,
                1,
                &mut counters,
            );
            if !matches!(progress, Progress::Wait { .. }) {
                return (stream.output, progress);
            }
        }
        panic!("no end");
    }

    #[test]
    fn pipelined_requests_are_answered_in_order_however_they_arrive() {
        let input = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\r\nHEAD /big HTTP/1.1\r\nHost: x\r\n\r\n\
            POST /y HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /none HTTP/1.1\r\nHost: x\r\n\r\n\
            GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let (whole, progress) = run(input, usize::MAX / 2, usize::MAX);
        assert_eq!(progress, Progress::Close);
        let text = String::from_utf8_lossy(&whole).into_owned();
        let statuses: Vec<&str> = text
            .match_indices("HTTP/1.1 ")
            .map(|(at, _)| &text[at + 9..at + 12])
            .collect();
        assert_eq!(statuses, ["200", "200", "405", "404", "200"]);
        assert!(whole.ends_with(&[7; 5000]));
        for (piece, room) in [(1, 1), (2, 7), (13, 100), (40, 5)] {
            assert_eq!(run(input, piece, room).0, whole, "{piece} {room}");
        }
    }

    #[test]
    fn refusals() {
        for (input, status) in [
            (String::from("hello\r\n\r\n"), "400"),
            (String::from("\u{16}\u{3}\u{1}"), "400"),
            (
                format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(9000)),
                "431",
            ),
            (
                format!(
                    "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
                    1 << 20
                ),
                "413",
            ),
            (String::from("GET / HTTP/3.0\r\nHost: x\r\n\r\n"), "505"),
        ] {
            for piece in [1, 100_000] {
                let (output, progress) = run(input.as_bytes(), piece, 100_000);
                let text = String::from_utf8_lossy(&output).into_owned();
                assert!(
                    text.starts_with(&format!("HTTP/1.1 {status} ")),
                    "{input:.40}: {text:.40}"
                );
                assert!(text.contains("Connection: close"));
                assert_eq!(progress, Progress::Close);
            }
        }
    }

    #[test]
    fn a_broken_off_request_is_not_answered() {
        assert_eq!(run(b"GET / HT", 100, 100), (Vec::new(), Progress::Abort));
        assert_eq!(run(b"", 100, 100), (Vec::new(), Progress::Close));
    }

    #[test]
    fn slow_clients_are_given_up() {
        let archive = archive();
        let site = Site::new(&archive).unwrap();
        let limits = Limits::default();
        let mut counters = Counters::default();
        // Idle.
        let mut idle = Connection::new(&limits, 0);
        let mut stream = Pieces {
            piece: 100,
            room: 9999,
            ..Pieces::default()
        };
        let wait = idle.serve(
            &mut stream,
            &site,
            &mut crate::NothingDynamic,
            &limits,
            5,
            &mut counters,
        );
        assert_eq!(
            wait,
            Progress::Wait {
                deadline: limits.idle_microseconds
            }
        );
        assert_eq!(
            idle.serve(
                &mut stream,
                &site,
                &mut crate::NothingDynamic,
                &limits,
                limits.idle_microseconds,
                &mut counters
            ),
            Progress::Close
        );
        // Half a request.
        let mut half = Connection::new(&limits, 0);
        let mut stream = Pieces {
            input: b"GET /".to_vec(),
            arrived: 5,
            piece: 100,
            room: 9999,
            ..Pieces::default()
        };
        let wait = half.serve(
            &mut stream,
            &site,
            &mut crate::NothingDynamic,
            &limits,
            5,
            &mut counters,
        );
        assert_eq!(
            wait,
            Progress::Wait {
                deadline: 5 + limits.request_microseconds
            }
        );
        assert_eq!(
            half.serve(
                &mut stream,
                &site,
                &mut crate::NothingDynamic,
                &limits,
                5 + limits.request_microseconds,
                &mut counters
            ),
            Progress::Close
        );
        assert!(stream.output.starts_with(b"HTTP/1.1 408 "));
        // A response that is never read.
        let mut unread = Connection::new(&limits, 0);
        let input = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
        let mut stream = Pieces {
            arrived: input.len(),
            input,
            piece: 100,
            ..Pieces::default()
        };
        let wait = unread.serve(
            &mut stream,
            &site,
            &mut crate::NothingDynamic,
            &limits,
            5,
            &mut counters,
        );
        assert_eq!(
            wait,
            Progress::Wait {
                deadline: 5 + limits.send_microseconds
            }
        );
        assert_eq!(
            unread.serve(
                &mut stream,
                &site,
                &mut crate::NothingDynamic,
                &limits,
                6 + limits.send_microseconds,
                &mut counters
            ),
            Progress::Abort
        );
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(
            input in proptest::collection::vec(any::<u8>(), 0..400), piece in 1_usize..50
        ) {
            run(&input, piece, 1000);
        }
    }
}
