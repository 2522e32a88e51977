//! Numbered datagrams to a port that sends them back, while something else happens.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use segue_metronome_core::{MAXIMUM_NUMBERS, Numbered, Tally};

use crate::Datagrams;

/// Silence after which what has not come back is lost.
const SILENCE: Duration = Duration::from_secs(3);
/// How long the second datagram waits for the first to come back: with it, the way is known. What
/// waits for an answer to an ARP request would go out in a burst, and be lost for that alone.
const FIRST: Duration = Duration::from_secs(3);
/// Most that are under way at once. A busy host can stop the machine for half a second or more: what
/// is sent to it meanwhile fills its queues, and would be lost for that alone.
const WINDOW: u64 = 32;
/// Silence after which one more is sent nevertheless: some may be lost.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long to rest when there is nothing to do.
const REST: Duration = Duration::from_micros(200);

/// Datagrams on their way there and back, from a thread of its own.
pub struct UdpStream {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<Echoes>>>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    returned: AtomicU64,
}

/// What came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Echoes {
    /// Datagrams sent.
    pub sent: u64,
    /// Numbers that came back.
    pub returned: u64,
    /// Numbers that did not.
    pub lost: u64,
    /// Datagrams that came back once more.
    pub doubled: u64,
    /// Datagrams that came back after one with a higher number.
    pub reordered: u64,
    /// The longest time between two that came back, in microseconds of the host's clock: good to
    /// look at, but it depends on how busy the host is.
    pub longest_gap: u64,
}

impl UdpStream {
    /// Begins to send one every `interval` to `target`, for instance [`crate::metronome::ECHO`].
    pub fn start(socket: Datagrams, target: SocketAddrV4, interval: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || stream(&socket, target, interval, &theirs));
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Numbers that have come back so far.
    pub fn returned(&self) -> u64 {
        self.shared.returned.load(Ordering::Relaxed)
    }

    /// Sends no more, waits for what is under way and says what came back.
    ///
    /// # Errors
    /// If nothing could be sent or received any more.
    pub fn stop(mut self) -> io::Result<Echoes> {
        self.shared.ended.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is stopped once");
        let result = thread.join();
        result.unwrap_or_else(|_| Err(io::Error::other("the sender of datagrams panicked")))
    }
}

impl Drop for UdpStream {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }
}

fn stream(
    socket: &Datagrams,
    target: SocketAddrV4,
    interval: Duration,
    shared: &Shared,
) -> io::Result<Echoes> {
    let began = Instant::now();
    let microseconds = || began.elapsed().as_micros() as u64;
    let mut tally = Tally::new(MAXIMUM_NUMBERS);
    let (mut sent, mut due, mut heard) = (0, Duration::ZERO, Duration::ZERO);
    // What is below a number that has come back is not under way any more, but back or lost.
    let mut settled = 0;
    loop {
        let now = began.elapsed();
        let is_over = shared.ended.load(Ordering::Relaxed) || sent == MAXIMUM_NUMBERS;
        let is_way_known = sent == 0 || tally.distinct() > 0 || now >= FIRST;
        let has_room = sent - settled < WINDOW || now >= heard + PATIENCE;
        if !is_over && now >= due && is_way_known && has_room {
            let datagram = Numbered {
                number: sent,
                sent_at: microseconds(),
            };
            match socket.send_to(&datagram.to_bytes(), target) {
                Ok(()) => sent += 1,
                // It is sent when there is room.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            // Who was kept from sending makes up for nothing: a burst could be lost for that alone.
            due = (due + interval).max(now);
            heard = now;
        }
        let mut is_quiet = true;
        while let Some((bytes, from)) = socket.try_receive()? {
            if let Some(echo) =
                Numbered::from_bytes(&bytes).filter(|_| from == SocketAddr::V4(target))
            {
                tally.record(echo.number, microseconds());
                if echo.number < sent {
                    settled = settled.max(echo.number + 1);
                }
                let returned = tally.distinct();
                shared.returned.store(returned, Ordering::Relaxed);
                (is_quiet, heard) = (false, began.elapsed());
            }
        }
        if is_over && (tally.distinct() >= sent || began.elapsed() >= heard + SILENCE) {
            break;
        }
        if is_quiet && (is_over || !is_way_known || !has_room || began.elapsed() < due) {
            thread::sleep(REST);
        }
    }
    Ok(Echoes {
        sent,
        returned: tally.distinct(),
        lost: tally.missing_of(sent),
        doubled: tally.doubled(),
        reordered: tally.reordered(),
        longest_gap: tally.longest_gap(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn losses_doubles_and_disorder_are_counted() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(target) = server.local_addr().unwrap() else {
            panic!("an IPv4 address was asked for");
        };
        let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
        ours.set_nonblocking(true).unwrap();
        // Of ten, the third comes not back, the fifth twice, the eighth before the seventh.
        let answering = thread::spawn(move || {
            let mut bytes = [0; 64];
            let mut held = None;
            for turn in 0..10 {
                let (length, from) = server.recv_from(&mut bytes).unwrap();
                let copies = [1, 1, 0, 1, 2, 1, 0, 1, 1, 1][turn];
                for _ in 0..copies {
                    server.send_to(&bytes[..length], from).unwrap();
                }
                match turn {
                    6 => held = Some(bytes),
                    7 => drop(server.send_to(&held.unwrap()[..length], from)),
                    _ => {}
                }
            }
        });
        let stream = UdpStream::start(Datagrams::System(ours), target, Duration::from_millis(1));
        answering.join().unwrap();
        let echoes = stream.stop().unwrap();
        // It may have sent some more by then.
        assert!(echoes.sent >= 10, "{echoes:?}");
        let others = echoes.sent - 10;
        assert_eq!(
            (echoes.returned, echoes.lost),
            (9, 1 + others),
            "{echoes:?}"
        );
        assert_eq!((echoes.doubled, echoes.reordered), (1, 1), "{echoes:?}");
    }
}
