//! Datagrams and what they mean.

use core::fmt;
use core::str::FromStr;

/// Bytes of a numbered datagram that mean something; others may follow.
pub const NUMBERED_LENGTH: usize = 16;
/// Bytes of those that the metronome sends: the network server takes large frames for work that was
/// asked for, and lets small ones that answer nothing wait while others are active.
pub const STREAM_LENGTH: usize = 512;

/// A datagram that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Its number, the first one being 0.
    pub number: u64,
    /// The sender's clock when it was sent, in microseconds.
    pub sent_at: u64,
}

impl Numbered {
    /// As bytes: both numbers, most significant byte first.
    pub fn to_bytes(self) -> [u8; NUMBERED_LENGTH] {
        let mut bytes = [0; NUMBERED_LENGTH];
        let (number, time) = bytes.split_at_mut(8);
        number.copy_from_slice(&self.number.to_be_bytes());
        time.copy_from_slice(&self.sent_at.to_be_bytes());
        bytes
    }

    /// The same, as the metronome sends it.
    pub fn to_long_bytes(self) -> [u8; STREAM_LENGTH] {
        let mut bytes = [0; STREAM_LENGTH];
        bytes[..NUMBERED_LENGTH].copy_from_slice(&self.to_bytes());
        bytes
    }

    /// The reverse; `None` for a datagram that is shorter.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let both = u128::from_be_bytes(*bytes.first_chunk()?);
        Some(Self {
            number: (both >> 64) as u64,
            sent_at: both as u64,
        })
    }
}

/// What the metronome is asked for. All but `report` is done without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// So many numbered datagrams are to be sent to who asks. While they are under way, another
    /// request of this kind does nothing: it may be a copy of the first.
    Start(u64),
    /// No more of them.
    Stop,
    /// A [`Report`] is to be sent to who asks.
    Report,
    /// What has come is to be forgotten.
    Clear,
    /// Nothing: it is seen by whoever watches the wire.
    Mark(u64),
}

impl Request {
    /// Reads a datagram; `None` if it is no request.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(datagram).ok()?;
        let mut words = text.split_ascii_whitespace();
        let (verb, number) = (words.next()?, words.next());
        if words.next().is_some() {
            return None;
        }
        match (verb, number) {
            ("start", Some(number)) => number.parse().ok().map(Self::Start),
            ("mark", Some(number)) => number.parse().ok().map(Self::Mark),
            ("stop", None) => Some(Self::Stop),
            ("report", None) => Some(Self::Report),
            ("clear", None) => Some(Self::Clear),
            _ => None,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(count) => write!(formatter, "start {count}"),
            Self::Stop => formatter.write_str("stop"),
            Self::Report => formatter.write_str("report"),
            Self::Clear => formatter.write_str("clear"),
            Self::Mark(number) => write!(formatter, "mark {number}"),
        }
    }
}

/// What has come to the metronome, and what it has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Different numbers that have come to the echo port.
    pub distinct: u64,
    /// Datagrams whose number had come before.
    pub doubled: u64,
    /// Datagrams that came for the first time after one with a higher number.
    pub reordered: u64,
    /// Datagrams with numbers too high to be counted, or that were not numbered.
    pub outside: u64,
    /// The longest time between two new numbers, in microseconds of the metronome's clock.
    pub longest_gap: u64,
    /// Datagrams of the stream under way, or the last one, that were sent.
    pub sent: u64,
    /// Times that one had to wait since the stack had no room.
    pub delayed: u64,
}

const NAMES: [&str; 7] = [
    "distinct",
    "doubled",
    "reordered",
    "outside",
    "longest_gap",
    "sent",
    "delayed",
];

impl Report {
    fn values(&self) -> [u64; 7] {
        [
            self.distinct,
            self.doubled,
            self.reordered,
            self.outside,
            self.longest_gap,
            self.sent,
            self.delayed,
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separators = core::iter::once("").chain(core::iter::repeat(" "));
        for ((name, value), separator) in NAMES.iter().zip(self.values()).zip(separators) {
            write!(formatter, "{separator}{name} {value}")?;
        }
        Ok(())
    }
}

impl FromStr for Report {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split_ascii_whitespace();
        let mut value = |name: &str| {
            let named = words.next() == Some(name);
            let value = words.next().and_then(|word| word.parse().ok());
            value.filter(|_| named).ok_or("it is no report")
        };
        let [
            distinct,
            doubled,
            reordered,
            outside,
            longest_gap,
            sent,
            delayed,
        ] = NAMES;
        Ok(Self {
            distinct: value(distinct)?,
            doubled: value(doubled)?,
            reordered: value(reordered)?,
            outside: value(outside)?,
            longest_gap: value(longest_gap)?,
            sent: value(sent)?,
            delayed: value(delayed)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_request_is_none() {
        for wrong in [
            "",
            "start",
            "start x",
            "start -1",
            "start 1 2",
            "stop 1",
            "go",
        ] {
            assert_eq!(Request::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(Request::parse(&[0xff, 0xfe]), None);
        assert_eq!(Request::parse(b"start 7\n"), Some(Request::Start(7)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number: u64, sent_at: u64, values: [u64; 7]) {
            let numbered = Numbered { number, sent_at };
            prop_assert_eq!(Numbered::from_bytes(&numbered.to_bytes()), Some(numbered));
            prop_assert_eq!(Numbered::from_bytes(&numbered.to_long_bytes()), Some(numbered));
            prop_assert!(numbered.to_bytes().starts_with(&number.to_be_bytes()));
            for request in [
                Request::Start(number),
                Request::Mark(number),
                Request::Stop,
                Request::Report,
                Request::Clear,
            ] {
                let text = request.to_string();
                prop_assert_eq!(Request::parse(text.as_bytes()), Some(request));
            }
            let [distinct, doubled, reordered, outside, longest_gap, sent, delayed] = values;
            let report = Report {
                distinct, doubled, reordered, outside, longest_gap, sent, delayed,
            };
            prop_assert_eq!(report.to_string().parse(), Ok(report));
        }

        #[test]
        fn any_bytes_can_come(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            Request::parse(&bytes);
            let numbered = Numbered::from_bytes(&bytes);
            prop_assert_eq!(numbered.is_some(), bytes.len() >= NUMBERED_LENGTH);
            let _ = alloc::string::String::from_utf8_lossy(&bytes).parse::<Report>();
        }
    }
}
