//! An HTTP/1.1 client that looks at every byte.

use std::io::{self, Read, Write};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, values as they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of the header field `name` (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// A client on one connection, which it keeps.
pub struct Client<S> {
    stream: S,
    /// Bytes that came and were not used yet.
    pending: Vec<u8>,
}

impl<S: Read + Write> Client<S> {
    /// Speaks on `stream`.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            pending: Vec::new(),
        }
    }

    /// The connection.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Gives the connection back.
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Asks for `path` and reads the whole answer.
    ///
    /// # Errors
    /// If the connection ends early or the answer is not HTTP.
    pub fn get(&mut self, path: &str) -> io::Result<Response> {
        self.send(request("GET", path, "").as_bytes())?;
        self.response()
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn response(&mut self) -> io::Result<Response> {
        let mut response = self.head()?;
        let length = length(&response)?;
        response.body = self.body(length)?;
        Ok(response)
    }

    /// Reads an answer that has no body whatever its length field says (to HEAD).
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn head(&mut self) -> io::Result<Response> {
        let mut searched = 0;
        let end = loop {
            let from = usize::saturating_sub(searched, 3);
            if let Some(at) = find(&self.pending[from..], b"\r\n\r\n") {
                break from + at;
            }
            searched = self.pending.len();
            if searched > 64 * 1024 {
                return Err(malformed("the head has no end"));
            }
            self.more()?;
        };
        let text = String::from_utf8(self.pending[..end].to_vec())
            .map_err(|_| malformed("the head is not text"))?;
        self.pending.drain(..end + 4);
        parse_head(&text)
    }

    /// Whether the other side has closed and sent nothing more.
    ///
    /// # Errors
    /// If the connection broke.
    pub fn at_end(&mut self) -> io::Result<bool> {
        Ok(self.pending.is_empty() && self.stream.read(&mut [0])? == 0)
    }

    fn body(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut body = vec![0; length];
        let ready = length.min(self.pending.len());
        body[..ready].copy_from_slice(&self.pending[..ready]);
        self.pending.drain(..ready);
        self.stream.read_exact(&mut body[ready..])?;
        Ok(body)
    }

    fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "closed before the answer was complete",
            ));
        }
        self.pending.extend_from_slice(&buffer[..count]);
        Ok(())
    }
}

/// The text of a request; `fields` are complete lines.
pub fn request(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: segue\r\n{fields}\r\n")
}

fn parse_head(text: &str) -> io::Result<Response> {
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|line| line.get(..3)?.parse().ok())
        .ok_or_else(|| malformed(&format!("not a status line: {text}")))?;
    let headers = lines
        .map(|line| {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| malformed(&format!("not a header field: {line}")))?;
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect::<io::Result<_>>()?;
    Ok(Response {
        status,
        headers,
        body: Vec::new(),
    })
}

fn length(response: &Response) -> io::Result<usize> {
    match response.header("content-length") {
        Some(text) => text.parse().map_err(|_| malformed("Content-Length")),
        None if matches!(response.status, 100..=199 | 204 | 304) => Ok(0),
        None => Err(malformed("no Content-Length")),
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("bad answer: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn answers_are_read_one_by_one() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = Client::new(ours);
        theirs
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: y\r\n\r\nabcHTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
        let first = client.response().unwrap();
        assert_eq!((first.status, first.body.as_slice()), (200, &b"abc"[..]));
        assert_eq!(first.header("x"), Some("y"));
        assert_eq!(client.response().unwrap().status, 404);
        drop(theirs);
        assert!(client.at_end().unwrap());
        assert!(client.response().is_err());
    }

    #[test]
    fn a_short_body_is_an_error() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab")
            .unwrap();
        drop(theirs);
        assert!(Client::new(ours).response().is_err());
    }
}
