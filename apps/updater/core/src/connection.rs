//! One client's byte stream.

use alloc::string::String;
use alloc::vec::Vec;

use segue_http_core::{Head, RequestError, Stream, head_end, reason};

/// What a client may use up. Times are in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest request head, in bytes.
    pub head_bytes: usize,
    /// Time for a request head to arrive.
    pub head_microseconds: u64,
    /// Time for a package to arrive.
    pub package_microseconds: u64,
    /// Time without a byte while a package arrives.
    pub stall_microseconds: u64,
    /// Time for init to answer an order.
    pub answer_microseconds: u64,
    /// Time for the client to take the answer.
    pub send_microseconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 4096,
            head_microseconds: 10_000_000,
            package_microseconds: 30_000_000,
            stall_microseconds: 5_000_000,
            answer_microseconds: 10_000_000,
            send_microseconds: 10_000_000,
        }
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Collecting a request head.
    Head,
    /// Receiving a package: so many bytes more; the deadline for all of it.
    Package { left: usize, until: u64 },
    /// Waiting for what becomes of its package.
    Waiting,
    /// Sending the answer; so many bytes of the request's body are thrown away.
    Answer { discard: u64 },
}

/// One client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) state: State,
    /// When the present state ends at the latest.
    pub(crate) deadline: u64,
    /// The part of a request head that has arrived.
    head: Vec<u8>,
    /// What is to be sent.
    output: Vec<u8>,
    /// Bytes of it that were sent.
    sent: usize,
}

/// A request, as far as the updater cares.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Bytes of body that follow, if it is known.
    pub(crate) length: Option<u64>,
    /// Whether a body follows of which that is not known.
    pub(crate) is_chunked: bool,
    pub(crate) expects_continue: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Put,
    Other,
}

impl Request {
    /// Bytes of body that are thrown away when the request is answered without them.
    pub(crate) fn body(&self) -> u64 {
        match self.is_chunked {
            true => u64::MAX,
            false => self.length.unwrap_or(0),
        }
    }

    fn parse(head: &[u8]) -> Result<Self, RequestError> {
        let head = Head::parse(head)?;
        Ok(Self {
            method: match head.method {
                "GET" => Method::Get,
                "HEAD" => Method::Head,
                "PUT" => Method::Put,
                _ => Method::Other,
            },
            path: head.path()?,
            length: head.content_length,
            is_chunked: head.is_chunked,
            expects_continue: head.expects_continue,
        })
    }
}

impl Connection {
    pub(crate) fn new(limits: &Limits, now: u64) -> Self {
        Self {
            state: State::Head,
            deadline: now.saturating_add(limits.head_microseconds),
            head: Vec::new(),
            output: Vec::new(),
            sent: 0,
        }
    }

    /// Whether not a byte of a request has come.
    pub(crate) fn is_silent(&self) -> bool {
        self.state == State::Head && self.head.is_empty()
    }

    /// Takes what has arrived of a request head; the request once it is complete, or the status code
    /// and the sentence that refuse it.
    pub(crate) fn read_head(
        &mut self,
        stream: &mut impl Stream,
        limits: &Limits,
    ) -> Option<Result<Request, (u16, &'static str)>> {
        loop {
            let before = self.head.len();
            let mut end = None;
            let mut taken = 0;
            let head = &mut self.head;
            stream.receive_with(&mut |bytes| {
                let piece = bytes.get(..limits.head_bytes.saturating_sub(before));
                let piece = piece.unwrap_or(bytes);
                head.extend_from_slice(piece);
                end = head_end(head, before);
                taken = end.map_or(piece.len(), |end| end.saturating_sub(before));
                taken
            });
            if let Some(end) = end {
                let parsed = Request::parse(self.head.get(..end).unwrap_or_default());
                self.head = Vec::new();
                return Some(parsed.map_err(refused));
            }
            if self.head.len() >= limits.head_bytes {
                return Some(Err(refused(RequestError::HeaderFieldsTooLarge)));
            }
            if taken == 0 {
                return None;
            }
        }
    }

    /// Begins to send an answer: a sentence, or with `is_head` only its length.
    pub(crate) fn answer(&mut self, answer: &Answer, discard: u64, limits: &Limits, now: u64) {
        self.output.extend_from_slice(&answer.bytes());
        self.state = State::Answer { discard };
        self.deadline = now.saturating_add(limits.send_microseconds);
    }

    /// Tells the client to send the body.
    pub(crate) fn go_on(&mut self) {
        self.output
            .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    /// Sends what fits; whether everything is out.
    pub(crate) fn send(&mut self, stream: &mut impl Stream) -> bool {
        let rest = self.output.get(self.sent..).unwrap_or_default();
        if !rest.is_empty() {
            self.sent += stream.send(rest);
        }
        self.sent >= self.output.len()
    }
}

/// The status code and the sentence for a request that is none.
fn refused(error: RequestError) -> (u16, &'static str) {
    match error {
        RequestError::HeaderFieldsTooLarge => (431, "The head of the request is too large."),
        RequestError::VersionNotSupported => (505, "This server speaks HTTP/1.1."),
        _ => (400, "This is not a request of HTTP/1.1."),
    }
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Lines of text, the last one without its end.
    pub(crate) text: String,
    /// Whether the text is left out, as HEAD wants it.
    pub(crate) is_head: bool,
}

impl Answer {
    pub(crate) fn new(status: u16, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
            is_head: false,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let allow = match self.status {
            405 => "Allow: GET, HEAD, PUT\r\n",
            _ => "",
        };
        let mut bytes = alloc::format!(
            "HTTP/1.1 {} {}\r\nServer: Segue\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\nCache-Control: no-store\r\n{allow}Connection: close\r\n\r\n",
            self.status,
            reason(self.status),
            self.text.len() + 1,
        )
        .into_bytes();
        if !self.is_head {
            bytes.extend_from_slice(self.text.as_bytes());
            bytes.push(b'\n');
        }
        bytes
    }
}
