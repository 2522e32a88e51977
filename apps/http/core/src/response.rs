//! Building of response heads.

use alloc::vec::Vec;

/// The body of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// No body; the length a GET would have had is announced for HEAD.
    Empty,
    /// Part of a file in the image.
    File(&'a [u8]),
    /// Made for this request.
    Made(Vec<u8>),
}

impl Body<'_> {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Body::Empty => &[],
            Body::File(bytes) => bytes,
            Body::Made(bytes) => bytes,
        }
    }
}

/// What is sent for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// Status code.
    pub status: u16,
    /// Media type.
    pub content_type: &'static str,
    /// The body that is sent.
    pub body: Body<'a>,
    /// The length announced: that of the body, or for HEAD what it would be.
    pub content_length: u64,
    /// First and last byte and length of the whole, for 206; whole only for 416.
    pub content_range: Option<(Option<(u64, u64)>, u64)>,
    /// Whether the answer may be reused by a cache.
    pub cacheable: bool,
    /// Whether the connection stays open.
    pub keep_alive: bool,
}

/// The reason phrase of a status code that Segue's servers send.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    }
}

impl<'a> Response<'a> {
    /// An answer that says what was wrong, in one line of text.
    pub fn error(status: u16, with_body: bool, keep_alive: bool) -> Self {
        let mut text = Vec::new();
        push_decimal(&mut text, u64::from(status));
        text.push(b' ');
        text.extend_from_slice(reason(status).as_bytes());
        text.push(b'\n');
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            content_length: text.len() as u64,
            body: if with_body {
                Body::Made(text)
            } else {
                Body::Empty
            },
            content_range: None,
            cacheable: false,
            keep_alive,
        }
    }

    /// Writes the head, ending in the empty line.
    pub fn write_head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        push_decimal(out, u64::from(self.status));
        out.push(b' ');
        out.extend_from_slice(reason(self.status).as_bytes());
        out.extend_from_slice(b"\r\nServer: Segue\r\nContent-Type: ");
        out.extend_from_slice(self.content_type.as_bytes());
        out.extend_from_slice(b"\r\nContent-Length: ");
        push_decimal(out, self.content_length);
        out.extend_from_slice(b"\r\n");
        if let Some((part, whole)) = self.content_range {
            out.extend_from_slice(b"Content-Range: bytes ");
            match part {
                Some((first, last)) => {
                    push_decimal(out, first);
                    out.push(b'-');
                    push_decimal(out, last);
                }
                None => out.push(b'*'),
            }
            out.push(b'/');
            push_decimal(out, whole);
            out.extend_from_slice(b"\r\n");
        }
        if self.cacheable {
            out.extend_from_slice(b"Accept-Ranges: bytes\r\n");
        } else {
            out.extend_from_slice(b"Cache-Control: no-store\r\n");
        }
        if self.status == 405 {
            out.extend_from_slice(b"Allow: GET, HEAD\r\n");
        }
        out.extend_from_slice(if self.keep_alive {
            b"Connection: keep-alive\r\n\r\n"
        } else {
            b"Connection: close\r\n\r\n"
        });
    }
}

fn push_decimal(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}
