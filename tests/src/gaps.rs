//! What a capture says about interruptions: of numbered datagrams and of TCP downloads.
//!
//! All times are microseconds of the machine's virtual time, from power-on, as in the capture: they
//! are those of the machine, not of the host on which it runs.

mod download;

use std::net::SocketAddr;
use std::ops::Range;

use segue_metronome_core::{Numbered, REQUEST_PORT, Report, Request, Tally};

use crate::pcap::Frame;

pub use download::{Download, downloads};

/// A numbered datagram on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When it passed.
    pub at: u64,
    /// Its number.
    pub number: u64,
}

/// What may happen to a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    New,
    /// New, but a higher one has come before.
    Late,
    Doubled,
    /// Too high to be counted.
    Outside,
}

/// The numbered datagrams of one sender, in the order of the wire.
#[derive(Clone, Debug)]
pub struct Stream {
    arrivals: Vec<(Arrival, Kind)>,
    tally: Tally,
}

/// What happened in a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Datagrams, those that are doubled included.
    pub datagrams: u64,
    /// The longest time between two new numbers.
    pub longest_gap: u64,
    /// When it began.
    pub gap_began: u64,
    /// Numbers that did not come at all.
    pub missing: u64,
    /// Datagrams whose number had come before.
    pub doubled: u64,
    /// Datagrams that came for the first time after one with a higher number.
    pub reordered: u64,
}

impl Stream {
    /// Of the datagrams in a capture that `source` has sent, its reports left out.
    pub fn of(frames: &[Frame], source: SocketAddr) -> Self {
        let arrivals = frames.iter().filter_map(|frame| {
            let datagram = frame.datagram().filter(|found| found.source == source)?;
            if is_report(datagram.payload) {
                return None;
            }
            let Numbered { number, .. } = Numbered::from_bytes(datagram.payload)?;
            Some(Arrival {
                at: frame.at,
                number,
            })
        });
        Self::new(arrivals)
    }

    /// Of these.
    pub fn new(arrivals: impl IntoIterator<Item = Arrival>) -> Self {
        let arrivals: Vec<Arrival> = arrivals.into_iter().collect();
        let highest = arrivals.iter().map(|arrival| arrival.number).max();
        // A number that is out of all reason is not worth a bit for each one below it.
        let numbers = highest.map_or(0, |highest| highest.saturating_add(1));
        let mut tally = Tally::new(numbers.min(segue_metronome_core::MAXIMUM_NUMBERS));
        let judged = arrivals.into_iter().map(|arrival| {
            let before = (tally.doubled(), tally.reordered(), tally.outside());
            tally.record(arrival.number, arrival.at);
            let kind = match (tally.doubled(), tally.reordered(), tally.outside()) {
                after if after == before => Kind::New,
                (doubled, ..) if doubled > before.0 => Kind::Doubled,
                (_, reordered, _) if reordered > before.1 => Kind::Late,
                _ => Kind::Outside,
            };
            (arrival, kind)
        });
        Self {
            arrivals: judged.collect(),
            tally,
        }
    }

    /// The times between new numbers, in the order of the wire.
    pub fn gaps(&self) -> Vec<u64> {
        let times: Vec<u64> = self.new_ones().map(|arrival| arrival.at).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Of the whole stream, which should have had the numbers below `count`.
    pub fn summary(&self, count: u64) -> Summary {
        Summary {
            datagrams: self.arrivals.len() as u64,
            longest_gap: self.tally.longest_gap(),
            gap_began: self.tally.gap_began(),
            missing: self.tally.missing_of(count),
            doubled: self.tally.doubled(),
            reordered: self.tally.reordered(),
        }
    }

    /// Of a window of time. A gap counts that is in it with any part; so do numbers that never came
    /// and lie between the last one before the window and the first one behind it.
    pub fn window(&self, window: Range<u64>) -> Summary {
        let mut summary = Summary::default();
        for (arrival, kind) in &self.arrivals {
            if window.contains(&arrival.at) {
                summary.datagrams += 1;
                summary.doubled += u64::from(*kind == Kind::Doubled);
                summary.reordered += u64::from(*kind == Kind::Late);
            }
        }
        let new: Vec<Arrival> = self.new_ones().copied().collect();
        let near: Vec<&[Arrival]> = new
            .windows(2)
            .filter(|pair| pair[0].at < window.end && pair[1].at >= window.start)
            .collect();
        for pair in &near {
            let gap = pair[1].at - pair[0].at;
            if gap > summary.longest_gap {
                (summary.longest_gap, summary.gap_began) = (gap, pair[0].at);
            }
        }
        let numbers = near.iter().copied().flatten().map(|arrival| arrival.number);
        if let (Some(least), Some(most)) = (numbers.clone().min(), numbers.max()) {
            summary.missing = self.tally.missing_of(most) - self.tally.missing_of(least);
        }
        summary
    }

    /// When the first new number came at this instant or later.
    pub fn next_after(&self, instant: u64) -> Option<u64> {
        let mut times = self.new_ones().map(|arrival| arrival.at);
        times.find(|at| *at >= instant)
    }

    /// Of windows that begin `before` these instants and end `after` them (microseconds).
    pub fn around(&self, instants: &[u64], before: u64, after: u64) -> Vec<Summary> {
        let window = |instant: &u64| {
            self.window(instant.saturating_sub(before)..instant.saturating_add(after))
        };
        instants.iter().map(window).collect()
    }

    fn new_ones(&self) -> impl Iterator<Item = &Arrival> {
        let new = self.arrivals.iter();
        new.filter(|(_, kind)| matches!(kind, Kind::New | Kind::Late))
            .map(|(arrival, _)| arrival)
    }
}

fn is_report(payload: &[u8]) -> bool {
    std::str::from_utf8(payload).is_ok_and(|text| text.parse::<Report>().is_ok())
}

/// The marks in a capture (`mark 7`, see [`crate::metronome::Metronome::mark`]) and when they came
/// to the machine.
pub fn marks(frames: &[Frame]) -> Vec<(u64, u64)> {
    let marks = frames.iter().filter_map(|frame| {
        let datagram = frame.datagram()?;
        match Request::parse(datagram.payload)? {
            Request::Mark(number) if datagram.destination.port() == REQUEST_PORT => {
                Some((number, frame.at))
            }
            _ => None,
        }
    });
    marks.collect()
}

/// What passed between two marks; `None` if one of them is not in the capture.
pub fn between(frames: &[Frame], first: u64, last: u64) -> Option<&[Frame]> {
    let place = |wanted: u64| {
        let is_it = |frame: &Frame| {
            marks(std::slice::from_ref(frame))
                .iter()
                .any(|mark| mark.0 == wanted)
        };
        frames.iter().position(is_it)
    };
    frames.get(place(first)?..place(last)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames;
    use smoltcp::wire::IpProtocol;

    fn stream(arrivals: &[(u64, u64)]) -> Stream {
        let arrivals = arrivals.iter();
        Stream::new(arrivals.map(|&(at, number)| Arrival { at, number }))
    }

    /// A datagram to the application, as a frame.
    fn datagram(at: u64, ports: [u16; 2], payload: &[u8]) -> Frame {
        let mut udp: Vec<u8> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
        udp.extend((8 + payload.len() as u16).to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(payload);
        let bytes = frames::ipv4(IpProtocol::Udp, &udp);
        Frame { at, bytes }
    }

    #[test]
    fn a_capture_is_summed_up() {
        let numbered = |number| Numbered { number, sent_at: 0 }.to_bytes();
        let frames = [
            datagram(100, [4000, 5000], &numbered(0)),
            datagram(150, [4001, 5000], &numbered(9)),
            datagram(200, [4000, 5000], &numbered(1)),
            datagram(210, [9, REQUEST_PORT], b"mark 3"),
            datagram(220, [9, 5000], b"mark 4"),
            datagram(450, [4000, 5000], &numbered(3)),
            datagram(460, [4000, 5000], b"neither"),
            datagram(470, [4000, 5000], Report::default().to_string().as_bytes()),
        ];
        let found = Stream::of(&frames, "10.0.2.2:4000".parse().unwrap());
        assert_eq!(found.gaps(), [100, 250]);
        let expected = Summary {
            datagrams: 3,
            longest_gap: 250,
            gap_began: 200,
            missing: 1,
            ..Summary::default()
        };
        assert_eq!(found.summary(4), expected);
        assert_eq!(found.summary(10).missing, 7);
        assert_eq!(marks(&frames), [(3, 210)]);
        let more = [&frames[..], &[datagram(500, [9, REQUEST_PORT], b"mark 5")]].concat();
        assert_eq!(between(&more, 3, 5), Some(&frames[3..]));
        assert_eq!(between(&more, 3, 6), None);
        assert_eq!(between(&more, 5, 3), None);
    }

    #[test]
    fn windows_see_what_touches_them() {
        let found = stream(&[
            (100, 0),
            (200, 1),
            (300, 2),
            (310, 2),
            (900, 5),
            (950, 4),
            (1000, 6),
            (1100, 7),
        ]);
        // Amid the gap: the gap, and the number that was lost in it.
        let amid = found.window(500..600);
        let expected = Summary {
            longest_gap: 600,
            gap_began: 300,
            missing: 1,
            ..Summary::default()
        };
        assert_eq!(amid, expected);
        let before = found.window(150..250);
        assert_eq!((before.longest_gap, before.missing), (100, 0));
        assert_eq!((before.datagrams, before.doubled), (1, 0));
        let behind = found.window(940..1_000_000);
        assert_eq!((behind.longest_gap, behind.reordered), (100, 1));
        assert_eq!(found.window(305..320).doubled, 1);
        assert_eq!(
            found.next_after(301),
            Some(900),
            "what comes twice is not new"
        );
        assert_eq!(found.next_after(900), Some(900));
        assert_eq!(found.next_after(1101), None);
        let both = found.around(&[500, 1050], 250, 20);
        assert_eq!(both[0].longest_gap, 600);
        assert_eq!(both[1].gap_began, 300, "it ends in the window");
        assert_eq!(found.window(5000..6000), Summary::default());
        assert_eq!(found.summary(8).missing, 1);
    }

    #[test]
    fn nothing_is_no_gap() {
        let none = stream(&[]);
        assert_eq!(none.summary(0), Summary::default());
        assert_eq!(none.summary(5).missing, 5);
        assert!(none.gaps().is_empty());
        assert_eq!(none.window(0..9), Summary::default());
        // Numbers that nobody has sent do no harm.
        assert_eq!(stream(&[(1, u64::MAX), (2, 0)]).summary(1).missing, 0);
    }
}
