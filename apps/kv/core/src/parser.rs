//! Requests out of a stream of bytes: arrays of bulk strings, or lines of words.
//!
//! Bytes come in pieces of any size. What was looked at once is not looked at again, so a large
//! request in many pieces costs no more than in one.

use alloc::vec::Vec;
use core::fmt;

/// Longest line: a length, or an inline request.
const LINE: usize = 64 * 1024;
/// Buffers larger than this are given back when they are empty.
const KEPT: usize = 16 * 1024;

/// How large a request may be.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Arguments of a request, the command's name included.
    pub arguments: usize,
    /// Bytes of one argument.
    pub argument_bytes: usize,
    /// Bytes of a request as it is on the wire.
    pub request_bytes: usize,
}

/// What makes a stream of bytes no stream of requests. Nothing after it can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The number of arguments is none, or too large.
    MultibulkLength,
    /// The line with the number of arguments does not end.
    MultibulkLine,
    /// The length of an argument is none, or too large.
    BulkLength,
    /// The line with the length of an argument does not end.
    BulkLine,
    /// Another byte stands where an argument begins.
    ExpectedDollar(u8),
    /// An inline request does not end.
    InlineRequest,
    /// Quotes of an inline request are not closed.
    Quotes,
    /// The request as a whole is too large.
    Request,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        f.write_str(match self {
            Self::MultibulkLength => "invalid multibulk length",
            Self::MultibulkLine => "too big mbulk count string",
            Self::BulkLength => "invalid bulk length",
            Self::BulkLine => "too big bulk count string",
            Self::ExpectedDollar(byte) => {
                // A control character must not end the line of the error.
                let shown = if byte.is_ascii_graphic() { *byte } else { b' ' };
                return write!(f, "expected '$', got '{}'", char::from(shown));
            }
            Self::InlineRequest => "too big inline request",
            Self::Quotes => "unbalanced quotes in request",
            Self::Request => "too big request",
        })
    }
}

impl core::error::Error for ProtocolError {}

/// The arguments of one request, the command's name first; never none.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    bytes: &'a [u8],
    places: &'a [(u32, u32)],
}

impl<'a> Arguments<'a> {
    /// How many there are, with the command's name.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// Argument `index`; nothing if there is no such.
    pub fn get(&self, index: usize) -> &'a [u8] {
        let (from, to) = self.places.get(index).copied().unwrap_or((0, 0));
        self.bytes
            .get(from as usize..to as usize)
            .unwrap_or_default()
    }

    /// All from `index` on.
    pub fn from(&self, index: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (bytes, places) = (self.bytes, self.places.get(index..).unwrap_or_default());
        places
            .iter()
            .map(|&(from, to)| bytes.get(from as usize..to as usize).unwrap_or_default())
    }
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug)]
enum State {
    /// The beginning of a request.
    Start,
    /// The length of an argument; so many are to come, this one included.
    Length(usize),
    /// An argument of so many bytes and a line's end; so many are to come, this one included.
    Argument(usize, usize),
}

/// Takes a stream of bytes apart.
#[derive(Debug)]
pub struct Parser {
    limit: Limit,
    bytes: Vec<u8>,
    /// Where the request at hand begins.
    start: usize,
    /// Where what comes next in it begins: a line or an argument.
    position: usize,
    /// No line ends between `position` and here.
    scanned: usize,
    state: State,
    /// Where the arguments of the request at hand lie, relative to `start`.
    places: Vec<(u32, u32)>,
    /// Words of an inline request, without their quotes.
    words: Vec<u8>,
}

impl Parser {
    /// At the beginning of a stream. A request is less than 2 GiB whatever `limit` says.
    pub fn new(limit: Limit) -> Self {
        let request_bytes = limit.request_bytes.min(u32::MAX as usize / 2);
        Self {
            limit: Limit {
                request_bytes,
                ..limit
            },
            bytes: Vec::new(),
            start: 0,
            position: 0,
            scanned: 0,
            state: State::Start,
            places: Vec::new(),
            words: Vec::new(),
        }
    }

    /// Bytes of memory that it holds.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.places.capacity() * 8 + self.words.capacity()
    }

    /// Whether bytes have arrived that no request was made of yet.
    pub fn in_request(&self) -> bool {
        !matches!(self.state, State::Start) || self.position < self.bytes.len()
    }

    /// Appends what has arrived. False if there is no memory for it: nothing was taken then.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        if matches!(self.state, State::Start) {
            self.start = self.position;
        }
        if self.start > 0 {
            // At most once for each request, since then it begins the buffer.
            self.bytes.drain(..self.start);
            self.position -= self.start;
            self.scanned = self.scanned.saturating_sub(self.start);
            self.start = 0;
        }
        if self.bytes.try_reserve(bytes.len()).is_err() {
            return false;
        }
        self.bytes.extend_from_slice(bytes);
        true
    }

    /// Gives memory back that large requests have taken, if none is under way.
    pub fn shrink(&mut self) {
        if self.in_request() {
            return;
        }
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        if self.places.capacity() * 8 > KEPT {
            self.places = Vec::new();
        }
        if self.words.capacity() > KEPT {
            self.words = Vec::new();
        }
        self.bytes.clear();
        self.start = 0;
        self.position = 0;
        self.scanned = 0;
    }

    /// The next request, if all of it has arrived.
    ///
    /// # Errors
    /// What has arrived is no request. There is no way on then.
    pub fn next_request(&mut self) -> Result<Option<Arguments<'_>>, ProtocolError> {
        loop {
            match self.state {
                State::Start => {
                    self.start = self.position;
                    self.places.clear();
                    match self.bytes.get(self.start) {
                        None => return Ok(None),
                        Some(b'*') => {
                            if let Some(length) = self.whole() {
                                self.position = self.start + length;
                                return Ok(Some(Arguments {
                                    bytes: &self.bytes[self.start..],
                                    places: &self.places,
                                }));
                            }
                            self.places.clear();
                            let Some(count) = self.length(ProtocolError::MultibulkLine)? else {
                                return Ok(None);
                            };
                            let count = count
                                .filter(|&count| count <= self.limit.arguments as i64)
                                .ok_or(ProtocolError::MultibulkLength)?;
                            // As Redis: nothing is asked, so nothing is answered.
                            if count > 0 {
                                self.state = State::Length(count as usize);
                            }
                        }
                        Some(_) => {
                            let Some((from, to)) = self.line(ProtocolError::InlineRequest)? else {
                                return Ok(None);
                            };
                            split(&self.bytes[from..to], &mut self.words, &mut self.places)
                                .ok_or(ProtocolError::Quotes)?;
                            if self.places.len() > self.limit.arguments {
                                return Err(ProtocolError::InlineRequest);
                            }
                            if !self.places.is_empty() {
                                return Ok(Some(Arguments {
                                    bytes: &self.words,
                                    places: &self.places,
                                }));
                            }
                        }
                    }
                }
                State::Length(left) => {
                    match self.bytes.get(self.position) {
                        None => return Ok(None),
                        Some(b'$') => {}
                        Some(&other) => return Err(ProtocolError::ExpectedDollar(other)),
                    }
                    let Some(length) = self.length(ProtocolError::BulkLine)? else {
                        return Ok(None);
                    };
                    let length = length
                        .filter(|length| (0..=self.limit.argument_bytes as i64).contains(length))
                        .ok_or(ProtocolError::BulkLength)?
                        as usize;
                    if self.position - self.start + length + 2 > self.limit.request_bytes {
                        return Err(ProtocolError::Request);
                    }
                    self.state = State::Argument(length, left);
                }
                State::Argument(length, left) => {
                    if self.bytes.len() - self.position < length + 2 {
                        return Ok(None);
                    }
                    let from = self.position - self.start;
                    self.places.push((from as u32, (from + length) as u32));
                    // As with Redis, the two bytes at the end may be any.
                    self.position += length + 2;
                    if left > 1 {
                        self.state = State::Length(left - 1);
                        continue;
                    }
                    self.state = State::Start;
                    return Ok(Some(Arguments {
                        bytes: &self.bytes[self.start..],
                        places: &self.places,
                    }));
                }
            }
        }
    }

    /// A request of bulk strings at `start` that has arrived as a whole, in one go: nearly every one is such.
    /// Returns its length, and fills `places`. `None` says nothing: there is a step at a time for all else.
    fn whole(&mut self) -> Option<usize> {
        let bytes = self.bytes.get(self.start..)?;
        let (count, mut at) = element(bytes, b'*')?;
        if !(1..=self.limit.arguments).contains(&count) {
            return None;
        }
        for _ in 0..count {
            let (length, used) = element(bytes.get(at..)?, b'$')?;
            let from = at + used;
            let to = from + length;
            if length > self.limit.argument_bytes || to + 2 > bytes.len() {
                return None;
            }
            self.places.push((from as u32, to as u32));
            at = to + 2;
        }
        (at <= self.limit.request_bytes).then_some(at)
    }

    /// The number in the line at `position`, behind its first byte, if it is complete; `position` is behind it
    /// then. The inner `None`: it is no number.
    fn length(&mut self, too_long: ProtocolError) -> Result<Option<Option<i64>>, ProtocolError> {
        let rest = self.bytes.get(self.position + 1..).unwrap_or_default();
        if let Some((number, used)) = short_number(rest) {
            self.position += 1 + used;
            return Ok(Some(Some(number)));
        }
        let line = self.line(too_long)?;
        Ok(line.map(|(from, to)| number(&self.bytes[from + 1..to])))
    }

    /// The line at `position`, without its end, if it is complete; `position` is behind it then.
    fn line(&mut self, too_long: ProtocolError) -> Result<Option<(usize, usize)>, ProtocolError> {
        let begin = self.position;
        let scanned = self.scanned.clamp(begin, self.bytes.len());
        let found = self.bytes[scanned..].iter().position(|&byte| byte == b'\n');
        let end = found.map_or(self.bytes.len(), |length| scanned + length);
        if end - begin > LINE {
            return Err(too_long);
        }
        if found.is_none() {
            self.scanned = end;
            return Ok(None);
        }
        self.position = end + 1;
        let carriage_return = end > begin && self.bytes[end - 1] == b'\r';
        Ok(Some((begin, end - usize::from(carriage_return))))
    }
}

/// A number of a few digits and the line's end behind it, in one go: nearly every length is one. Returns how
/// many bytes both take. `None` says nothing.
#[inline]
fn short_number(bytes: &[u8]) -> Option<(i64, usize)> {
    const DIGITS: usize = 9;
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(DIGITS + 1) {
        match byte {
            b'0'..=b'9' => value = value * 10 + i64::from(byte - b'0'),
            // With a zero before it, it would be another number.
            b'\r' if index == 1 || index > 1 && bytes[0] != b'0' => {
                return (bytes.get(index + 1) == Some(&b'\n')).then_some((value, index + 2));
            }
            _ => return None,
        }
    }
    None
}

/// The number behind this mark, and how many bytes it takes with its mark and the line's end.
#[inline]
fn element(bytes: &[u8], mark: u8) -> Option<(usize, usize)> {
    let (first, rest) = bytes.split_first()?;
    if *first != mark {
        return None;
    }
    let (number, used) = short_number(rest)?;
    Some((number as usize, 1 + used))
}

/// A decimal number as Redis takes it: no plus, no leading zeroes, nothing around it.
pub fn number(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || (digits[0] == b'0' && (digits.len() > 1 || negative)) {
        return None;
    }
    digits.iter().try_fold(0i64, |number, &digit| {
        let digit = i64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
        let number = number.checked_mul(10)?;
        if negative {
            number.checked_sub(digit)
        } else {
            number.checked_add(digit)
        }
    })
}

/// Splits a line into words, with quotes and escapes as `redis-cli` has them. `None` if quotes are
/// not closed or something follows them at once.
fn split(line: &[u8], words: &mut Vec<u8>, places: &mut Vec<(u32, u32)>) -> Option<()> {
    words.clear();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let from = words.len() as u32;
        loop {
            match rest {
                [] => break,
                [byte, ..] if byte.is_ascii_whitespace() => break,
                [quote @ (b'"' | b'\''), after @ ..] => {
                    rest = quoted(*quote, after, words)?;
                    if rest.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                        return None;
                    }
                }
                [byte, after @ ..] => {
                    words.push(*byte);
                    rest = after;
                }
            }
        }
        places.push((from, words.len() as u32));
        rest = rest.trim_ascii_start();
    }
    Some(())
}

/// The text up to the closing quote. Returns what follows that.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], words: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return None,
            [byte, after @ ..] if *byte == quote => return Some(after),
            [b'\\', b'\'', after @ ..] if quote == b'\'' => {
                words.push(b'\'');
                after
            }
            [b'\\', b'x', high, low, after @ ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
                words.push(digit(*high) * 16 + digit(*low));
                after
            }
            [b'\\', escaped, after @ ..] if quote == b'"' => {
                words.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                after
            }
            [byte, after @ ..] => {
                words.push(*byte);
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;
    use proptest::prelude::*;

    const LIMIT: Limit = Limit {
        arguments: 8,
        argument_bytes: 100_000,
        request_bytes: 200_000,
    };

    type Requests = Vec<Vec<Vec<u8>>>;

    #[test]
    fn a_short_number_is_the_number_that_the_line_holds() {
        for text in [
            "0",
            "1",
            "7",
            "10",
            "42",
            "123456789",
            "00",
            "01",
            "-1",
            "",
            "1x",
            "x",
            "+1",
            "1234567890",
        ] {
            let line = alloc::format!("{text}\r\nrest");
            match short_number(line.as_bytes()) {
                Some((value, used)) => {
                    assert_eq!(
                        (Some(value), used),
                        (number(text.as_bytes()), text.len() + 2)
                    );
                }
                None => assert!(text.len() > 9 || !matches!(number(text.as_bytes()), Some(0..))),
            }
            // Before the whole line is there, nothing is said.
            for length in 0..text.len() + 2 {
                assert_eq!(
                    short_number(&line.as_bytes()[..length]),
                    None,
                    "{text:?}, {length}"
                );
            }
        }
    }

    /// All requests of `bytes` when they come in pieces of `piece` bytes.
    fn requests(bytes: &[u8], piece: usize) -> Result<Requests, ProtocolError> {
        let mut parser = Parser::new(LIMIT);
        let mut all = Vec::new();
        for piece in bytes.chunks(piece) {
            assert!(parser.feed(piece));
            while let Some(arguments) = parser.next_request()? {
                all.push(arguments.from(0).map(<[u8]>::to_vec).collect());
            }
            parser.shrink();
        }
        Ok(all)
    }

    #[test]
    fn pieces_of_any_size_make_the_same_requests() {
        let mut bytes =
            b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n\r\nPING\r\n*0\r\n*1\r\n$0\r\n\r\n".to_vec();
        bytes.extend(b"*-1\r\nset  'a b' \"\\x41\\n\\\"\"\n*2\r\n$1\r\nx\r\n$70000\r\n");
        bytes.extend([b'\n'; 70_000]);
        bytes.extend(b"\r\nquit\r\n");
        let whole = requests(&bytes, bytes.len()).unwrap();
        assert_eq!(whole.len(), 6);
        assert_eq!(whole[0], [b"GET".to_vec(), b"a\r\nb".to_vec()]);
        assert_eq!(whole[1], [b"PING".to_vec()]);
        assert_eq!(whole[2], [b"".to_vec()]);
        assert_eq!(
            whole[3],
            [b"set".to_vec(), b"a b".to_vec(), b"A\n\"".to_vec()]
        );
        assert_eq!(whole[4][1].len(), 70_000);
        for piece in [1, 2, 3, 7, 64, 1000] {
            assert_eq!(requests(&bytes, piece).unwrap(), whole, "pieces of {piece}");
        }
    }

    proptest! {
        /// What is taken in one go is what is taken step by step, errors included.
        #[test]
        fn a_whole_request_is_what_its_bytes_one_by_one_are(
            parts in proptest::collection::vec(
                prop_oneof![
                    4 => (0_usize..4, 0_usize..3).prop_map(|(count, length)| {
                        let argument = format!("${length}\r\n{}\r\n", "ab".get(..length).unwrap_or_default());
                        format!("*{count}\r\n{}", argument.repeat(count))
                    }),
                    1 => "[*$0-9\r\na-z ]{0,6}",
                    1 => prop_oneof![Just("*1\r\n$100001\r\n"), Just("*02\r\n"), Just("*1\n$1\na\n")]
                        .prop_map(Into::into),
                ],
                0..8,
            ),
        ) {
            let bytes = parts.concat().into_bytes();
            let told = |piece: usize| {
                let mut parser = Parser::new(LIMIT);
                let mut all: Requests = Vec::new();
                for piece in bytes.chunks(piece) {
                    assert!(parser.feed(piece));
                    loop {
                        match parser.next_request() {
                            Ok(Some(arguments)) => all.push(arguments.from(0).map(<[u8]>::to_vec).collect()),
                            Ok(None) => break,
                            Err(error) => return (all, Some(error)),
                        }
                    }
                }
                (all, None)
            };
            prop_assert_eq!(told(usize::MAX), told(1));
        }
    }

    #[test]
    fn what_is_no_request_is_said_so() {
        let cases: [(&[u8], ProtocolError); 12] = [
            (b"*9\r\n", ProtocolError::MultibulkLength),
            (b"*x\r\n", ProtocolError::MultibulkLength),
            (b"*99999999999999999999\r\n", ProtocolError::MultibulkLength),
            (b"*1\r\n:1\r\n", ProtocolError::ExpectedDollar(b':')),
            (b"*1\r\n$-1\r\n", ProtocolError::BulkLength),
            (b"*1\r\n$\r\n", ProtocolError::BulkLength),
            (b"*1\r\n$100001\r\n", ProtocolError::BulkLength),
            (b"*1\r\n$1x\r\n", ProtocolError::BulkLength),
            (b"get 'a\r\n", ProtocolError::Quotes),
            (b"get \"a\"b\r\n", ProtocolError::Quotes),
            (b"a b c d e f g h i\r\n", ProtocolError::InlineRequest),
            (b"*1\r\n\r\n", ProtocolError::ExpectedDollar(b'\r')),
        ];
        for (bytes, error) in cases {
            for piece in [1, 1000] {
                assert_eq!(
                    requests(bytes, piece),
                    Err(error),
                    "{}",
                    bytes.escape_ascii()
                );
            }
        }
        let long = [b'a'; LINE + 1];
        assert_eq!(requests(&long, 999), Err(ProtocolError::InlineRequest));
        let long = [&b"*"[..], &[b'1'; LINE]].concat();
        assert_eq!(requests(&long, 999), Err(ProtocolError::MultibulkLine));
        let long = [&b"*1\r\n$"[..], &[b'1'; LINE]].concat();
        assert_eq!(requests(&long, 999), Err(ProtocolError::BulkLine));
        let mut long = b"*3\r\n".to_vec();
        for _ in 0..3 {
            long.extend(b"$100000\r\n");
            long.extend([b'a'; 100_000]);
            long.extend(b"\r\n");
        }
        assert_eq!(requests(&long, 999), Err(ProtocolError::Request));
        let text = ProtocolError::ExpectedDollar(b'\r').to_string();
        assert_eq!(text, "Protocol error: expected '$', got ' '");
    }

    #[test]
    fn numbers_are_taken_as_redis_takes_them() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(number(b"9223372036854775807"), Some(i64::MAX));
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            " 1",
            "1 ",
            "1.0",
            "9223372036854775808",
        ] {
            assert_eq!(number(text.as_bytes()), None, "{text:?}");
        }
    }
}
