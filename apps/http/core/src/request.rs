//! Parsing of one request head.

use alloc::string::String;

/// How many header fields a request may have.
const HEADER_FIELDS: usize = 64;

/// A method that the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD: as GET, without the body.
    Head,
}

/// A byte range as the client asked for it (RFC 9110, section 14.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeRequest {
    /// From the first position to the last one, inclusive, or to the end.
    From(u64, Option<u64>),
    /// The last so many bytes.
    Suffix(u64),
}

/// A request head that the server can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path, percent-decoded, without the query; starts with `/`.
    pub path: String,
    /// The range asked for, if it is a single one of bytes.
    pub range: Option<RangeRequest>,
    /// Whether the client wants the connection kept open.
    pub keep_alive: bool,
    /// Bytes of body that follow and are skipped.
    pub body_length: u64,
}

/// Why a request head is refused. Each has a status code; the connection is
/// closed after the answer unless [`RequestError::body_length`] says where the
/// next request starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// 400: not HTTP, or two ways to tell the length of the body.
    Malformed,
    /// 405: a method other than GET and HEAD; the body length if it can be
    /// skipped, and whether to keep the connection.
    MethodNotAllowed {
        /// Bytes of body that follow, or `None` if the end cannot be found.
        body_length: Option<u64>,
        /// Whether the client wants the connection kept open.
        keep_alive: bool,
    },
    /// 413: a body larger than the server skips.
    ContentTooLarge,
    /// 431: more header fields than the server reads.
    HeaderFieldsTooLarge,
    /// 505: not HTTP/1.0 or HTTP/1.1.
    VersionNotSupported,
}

/// Where the head ends, if it does: the offset after the empty line. Looks from
/// `from` on only, so that a head that arrives byte by byte is not searched
/// again each time.
pub fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from.saturating_sub(3);
    while let Some(found) = bytes.get(at..)?.iter().position(|&byte| byte == b'\n') {
        at += found + 1;
        match bytes.get(at..) {
            Some([b'\n', ..]) => return Some(at + 1),
            Some([b'\r', b'\n', ..]) => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// What a request head says, whatever its method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The method, as it was sent.
    pub method: &'a str,
    /// What is asked for, as it was sent.
    pub target: &'a str,
    /// The range asked for, if it is a single one of bytes.
    pub range: Option<RangeRequest>,
    /// Whether the client wants the connection kept open.
    pub keep_alive: bool,
    /// Bytes of body that follow, if the head says so.
    pub content_length: Option<u64>,
    /// Whether a body follows whose end only its reader finds.
    pub is_chunked: bool,
    /// Whether the client waits for a word before it sends the body (RFC 9110, section 10.1.1).
    pub expects_continue: bool,
}

impl<'a> Head<'a> {
    /// Parses a head that is complete as [`head_end`] found it.
    ///
    /// # Errors
    ///
    /// [`RequestError::Malformed`], [`RequestError::HeaderFieldsTooLarge`] or
    /// [`RequestError::VersionNotSupported`].
    pub fn parse(head: &'a [u8]) -> Result<Self, RequestError> {
        let mut fields = [httparse::EMPTY_HEADER; HEADER_FIELDS];
        let mut parsed = httparse::Request::new(&mut fields);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(RequestError::Malformed),
            Err(httparse::Error::TooManyHeaders) => return Err(RequestError::HeaderFieldsTooLarge),
            Err(httparse::Error::Version) => return Err(version_error(head)),
            Err(_) => return Err(RequestError::Malformed),
        }
        let minor = parsed.version.ok_or(RequestError::Malformed)?;
        let method = parsed.method.ok_or(RequestError::Malformed)?;
        let target = parsed.path.ok_or(RequestError::Malformed)?;

        let mut keep_alive = minor == 1;
        let mut close = false;
        let mut hosts = 0;
        let mut content_length: Option<u64> = None;
        let mut is_chunked = false;
        let mut range = None;
        let mut conditional = false;
        let mut expects_continue = false;
        for field in parsed.headers.iter() {
            let name = field.name;
            if name.eq_ignore_ascii_case("host") {
                hosts += 1;
            } else if name.eq_ignore_ascii_case("connection") {
                for token in tokens(field.value) {
                    if token.eq_ignore_ascii_case(b"close") {
                        close = true;
                    } else if token.eq_ignore_ascii_case(b"keep-alive") {
                        keep_alive = true;
                    }
                }
            } else if name.eq_ignore_ascii_case("content-length") {
                let value = decimal(field.value.trim_ascii()).ok_or(RequestError::Malformed)?;
                if content_length.is_some_and(|earlier| earlier != value) {
                    return Err(RequestError::Malformed);
                }
                content_length = Some(value);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                is_chunked = true;
            } else if name.eq_ignore_ascii_case("range") {
                range = parse_range(field.value);
            } else if name.eq_ignore_ascii_case("if-range") {
                conditional = true;
            } else if name.eq_ignore_ascii_case("expect") {
                let value = field.value.trim_ascii();
                expects_continue = minor == 1 && value.eq_ignore_ascii_case(b"100-continue");
            }
        }
        // RFC 9112, section 3.2: exactly one Host field in HTTP/1.1.
        if hosts > 1 || (minor == 1 && hosts == 0) {
            return Err(RequestError::Malformed);
        }
        // RFC 9112, section 6.1: both together is how requests are smuggled.
        if is_chunked && content_length.is_some() {
            return Err(RequestError::Malformed);
        }
        Ok(Self {
            method,
            target,
            range: range.filter(|_| !conditional),
            keep_alive: keep_alive && !close,
            content_length,
            is_chunked,
            expects_continue,
        })
    }

    /// The path, percent-decoded, without the query; starts with `/`.
    ///
    /// # Errors
    ///
    /// [`RequestError::Malformed`]: there is none.
    pub fn path(&self) -> Result<String, RequestError> {
        decode_path(self.target)
    }
}

/// Parses a head that is complete as [`head_end`] found it. `largest_body` is in
/// bytes.
pub fn parse(head: &[u8], largest_body: u64) -> Result<Request, RequestError> {
    let head = Head::parse(head)?;
    let body_length = head.content_length.unwrap_or(0);
    if body_length > largest_body {
        return Err(RequestError::ContentTooLarge);
    }
    let method = match head.method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        _ => {
            return Err(RequestError::MethodNotAllowed {
                body_length: (!head.is_chunked).then_some(body_length),
                keep_alive: head.keep_alive,
            });
        }
    };
    if head.is_chunked {
        // The end of a chunked body could only be found by reading it.
        return Err(RequestError::ContentTooLarge);
    }
    Ok(Request {
        method,
        path: head.path()?,
        range: head.range,
        keep_alive: head.keep_alive,
        body_length,
    })
}

/// Tells an unknown HTTP version from something that is not HTTP.
fn version_error(head: &[u8]) -> RequestError {
    let line = head
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or(head)
        .trim_ascii_end();
    let version = line.rsplit(|&byte| byte == b' ').next().unwrap_or(line);
    match version {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            RequestError::VersionNotSupported
        }
        _ => RequestError::Malformed,
    }
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// A decimal number without sign; `None` if empty, not digits, or above u64.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// A single range of bytes; anything else is as if the field were absent (RFC
/// 9110, section 14.2, allows a server to ignore it).
fn parse_range(value: &[u8]) -> Option<RangeRequest> {
    let value = value.trim_ascii();
    let set = value
        .get(..6)
        .filter(|unit| unit.eq_ignore_ascii_case(b"bytes="))
        .map(|_| &value[6..])?;
    let dash = set.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (set[..dash].trim_ascii(), set[dash + 1..].trim_ascii());
    if first.is_empty() {
        return Some(RangeRequest::Suffix(decimal(last)?));
    }
    let first = decimal(first)?;
    if last.is_empty() {
        return Some(RangeRequest::From(first, None));
    }
    let last = decimal(last)?;
    (first <= last).then_some(RangeRequest::From(first, Some(last)))
}

/// The path of a request target in origin or absolute form, percent-decoded.
fn decode_path(target: &str) -> Result<String, RequestError> {
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    if !path.starts_with('/') {
        return Err(RequestError::Malformed);
    }
    let path = path.split(['?', '#']).next().unwrap_or(path).as_bytes();
    let mut decoded = alloc::vec::Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        if byte == b'%' {
            let digits = path.get(at + 1..at + 3).ok_or(RequestError::Malformed)?;
            let high = hexadecimal(digits[0]).ok_or(RequestError::Malformed)?;
            let low = hexadecimal(digits[1]).ok_or(RequestError::Malformed)?;
            decoded.push(high << 4 | low);
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    if decoded.contains(&0) {
        return Err(RequestError::Malformed);
    }
    String::from_utf8(decoded).map_err(|_| RequestError::Malformed)
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    fn get(head: &str) -> Result<Request, RequestError> {
        parse(head.as_bytes(), 1000)
    }

    #[test]
    fn plain_request() {
        let request = get("GET /a%20b/c?x=1 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(request.path, "/a b/c");
        assert_eq!(request.method, Method::Get);
        assert!(request.keep_alive);
        assert_eq!(request.range, None);
    }

    #[test]
    fn keep_alive_follows_version_and_field() {
        assert!(!get("GET / HTTP/1.0\r\n\r\n").unwrap().keep_alive);
        assert!(
            get("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
                .unwrap()
                .keep_alive
        );
        assert!(
            !get("GET / HTTP/1.1\r\nHost: x\r\nConnection: x, close\r\n\r\n")
                .unwrap()
                .keep_alive
        );
        // RFC 9112, section 9.3: "close" counts, whatever else is there.
        for fields in [
            "Connection: close, keep-alive",
            "Connection: close\r\nConnection: keep-alive",
            "Connection: keep-alive\r\nConnection: close",
        ] {
            let request = get(&format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n"));
            assert!(!request.unwrap().keep_alive, "{fields}");
        }
    }

    #[test]
    fn a_head_says_what_follows() {
        let head = |fields: &str, version: &str| {
            let text = format!("PUT /a%20b HTTP/{version}\r\nHost: x\r\n{fields}\r\n");
            let head = Head::parse(text.as_bytes());
            head.map(|head| (head.content_length, head.is_chunked, head.expects_continue))
        };
        assert_eq!(head("", "1.1"), Ok((None, false, false)));
        let fields = "Content-Length: 7\r\nExpect: 100-Continue\r\n";
        assert_eq!(head(fields, "1.1"), Ok((Some(7), false, true)));
        assert_eq!(head(fields, "1.0"), Ok((Some(7), false, false)));
        let chunked = "Transfer-Encoding: chunked\r\n";
        assert_eq!(head(chunked, "1.1"), Ok((None, true, false)));
        let both = format!("{fields}{chunked}");
        assert_eq!(head(&both, "1.1"), Err(RequestError::Malformed));
        let head = Head::parse(b"PUT /a%20b?c HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(
            (head.method, head.path().unwrap().as_str()),
            ("PUT", "/a b")
        );
    }

    #[test]
    fn ranges() {
        let range = |text: &str| {
            get(&format!(
                "GET / HTTP/1.1\r\nHost: x\r\nRange: {text}\r\n\r\n"
            ))
            .unwrap()
            .range
        };
        assert_eq!(range("bytes=0-9"), Some(RangeRequest::From(0, Some(9))));
        assert_eq!(range("bytes=5-"), Some(RangeRequest::From(5, None)));
        assert_eq!(range("bytes=-7"), Some(RangeRequest::Suffix(7)));
        for ignored in [
            "bytes=9-0",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
        ] {
            assert_eq!(range(ignored), None, "{ignored}");
        }
        // What a client has part of was not had from here: no answer of this server
        // names its version (RFC 9110, section 13.1.5).
        for fields in [
            "Range: bytes=0-9\r\nIf-Range: \"v1\"",
            "If-Range: \"v1\"\r\nRange: bytes=0-9",
        ] {
            let request = get(&format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n"));
            assert_eq!(request.unwrap().range, None, "{fields}");
        }
    }

    #[test]
    fn refused() {
        use RequestError::*;
        for (head, error) in [
            ("\x16\x03\x01 \r\n\r\n", Malformed),
            ("GET / HTTP/1.1\r\n\r\n", Malformed),
            ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", Malformed),
            ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", VersionNotSupported),
            ("GET x HTTP/1.1\r\nHost: x\r\n\r\n", Malformed),
            ("GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", Malformed),
            ("GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", Malformed),
            ("GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n", Malformed),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n",
                ContentTooLarge,
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
                Malformed,
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
                Malformed,
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                Malformed,
            ),
            (
                "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Malformed,
            ),
            (
                "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n",
                MethodNotAllowed {
                    body_length: Some(3),
                    keep_alive: true,
                },
            ),
            (
                "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
                MethodNotAllowed {
                    body_length: None,
                    keep_alive: true,
                },
            ),
        ] {
            assert_eq!(get(head), Err(error), "{head:?}");
        }
        let many: String = (0..65).map(|i| format!("X{i}: y\r\n")).collect();
        assert_eq!(
            get(&format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n")),
            Err(HeaderFieldsTooLarge)
        );
    }

    #[test]
    fn head_end_is_found_however_the_bytes_arrive() {
        let head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET";
        let end = head.len() - 3;
        for split in 0..head.len() {
            assert_eq!(head_end(&head[..split], 0), (split >= end).then_some(end));
        }
        // What was searched before, without an end, need not be searched again.
        for searched in 0..end {
            assert_eq!(head_end(head, searched), Some(end), "from {searched}");
        }
        assert_eq!(head_end(b"GET /\n\n", 0), Some(7));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes, 100);
            let _ = head_end(&bytes, bytes.len() / 2);
        }

        #[test]
        fn near_misses_never_panic(
            path in "[ -~]{0,40}", name in "[A-Za-z-]{1,20}", value in "[ -~]{0,40}"
        ) {
            let _ = get(&format!("GET /{path} HTTP/1.1\r\nHost: x\r\n{name}: {value}\r\nRange: bytes={value}\r\n\r\n"));
        }
    }
}
