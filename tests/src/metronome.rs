//! The application `metronome` of the system of that name (`tests/pds/metronome`), from outside.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use segue_metronome_core::{ECHO_PORT, Numbered, REQUEST_PORT, Report, Request, Tally};

use crate::{Datagrams, Host};

/// Its address, nobody else's.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 40);
/// Where it takes requests, and sends numbered datagrams from.
pub const REQUESTS: SocketAddrV4 = SocketAddrV4::new(ADDRESS, REQUEST_PORT);
/// Where it sends numbered datagrams back.
pub const ECHO: SocketAddrV4 = SocketAddrV4::new(ADDRESS, ECHO_PORT);

/// How long it may be silent. It is for less; this long only if it has ended.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait before a request is repeated, which may have been lost.
const REPEAT: Duration = Duration::from_secs(2);
/// Silence after which what has not come of a stream is lost.
const SILENCE: Duration = Duration::from_secs(10);

/// Somebody who asks the metronome.
pub struct Metronome {
    socket: Datagrams,
}

impl Metronome {
    /// From this host.
    ///
    /// # Errors
    /// As [`Host::datagrams`].
    pub fn new(host: &Host) -> io::Result<Self> {
        let socket = host.datagrams()?;
        Ok(Self { socket })
    }

    /// Has it send us `count` numbered datagrams, and waits until all have come, or nothing for a
    /// while. The times of the tally are those at which they were sent, by the metronome's clock.
    ///
    /// # Errors
    /// If none comes at all.
    pub fn stream(&self, count: u64) -> io::Result<Tally> {
        let mut tally = Tally::new(count);
        let first = self.ask(Request::Start(count), numbered)?;
        tally.record(first.number, first.sent_at);
        while tally.distinct() < count {
            let Some((bytes, from)) = self.socket.receive(SILENCE)? else {
                break;
            };
            if let Some(next) = numbered(&bytes).filter(|_| from == SocketAddr::V4(REQUESTS)) {
                tally.record(next.number, next.sent_at);
            }
        }
        Ok(tally)
    }

    /// Has it begin to send us `count` numbered datagrams. They are for whoever reads the capture: here
    /// nobody waits for them.
    ///
    /// # Errors
    /// If none comes at all.
    pub fn begin(&self, count: u64) -> io::Result<()> {
        self.ask(Request::Start(count), numbered).map(|_| ())
    }

    /// What it says of the numbered datagrams that it got, and those that it sent.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn report(&self) -> io::Result<Report> {
        let parse = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse().ok();
        self.ask(Request::Report, parse)
    }

    /// Has it forget the numbered datagrams that it got.
    ///
    /// # Errors
    /// If it does not.
    pub fn clear(&self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.send(Request::Clear)?;
            if self.report()?.distinct == 0 {
                return Ok(());
            }
        }
        Err(io::Error::new(
            ErrorKind::TimedOut,
            "it still counts what was to be forgotten",
        ))
    }

    /// Sends a mark, for whoever reads the capture (see [`crate::gaps::marks`]): the machine has come
    /// as far as this.
    ///
    /// # Errors
    /// If the machine has ended.
    pub fn mark(&self, number: u64) -> io::Result<()> {
        self.send(Request::Mark(number))
    }

    fn send(&self, request: Request) -> io::Result<()> {
        self.socket
            .send_to(request.to_string().as_bytes(), REQUESTS)
    }

    /// Asks until an answer comes that `read` understands.
    fn ask<T>(&self, request: Request, read: impl Fn(&[u8]) -> Option<T>) -> io::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.send(request)?;
            let repeat = Instant::now() + REPEAT;
            while let Some(left) = repeat.checked_duration_since(Instant::now()) {
                let Some((bytes, from)) = self.socket.receive(left)? else {
                    break;
                };
                if let Some(answer) = read(&bytes).filter(|_| from == SocketAddr::V4(REQUESTS)) {
                    return Ok(answer);
                }
            }
        }
        Err(io::Error::new(
            ErrorKind::TimedOut,
            format!("the metronome does not answer \"{request}\""),
        ))
    }
}

fn numbered(bytes: &[u8]) -> Option<Numbered> {
    Numbered::from_bytes(bytes)
}
