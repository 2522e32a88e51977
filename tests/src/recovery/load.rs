//! Who is at work in the system `recovery` while something faults.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use segue_qemu::NetworkNamespace;

use crate::background::{Benchmarks, Downloaded, Downloads, RedisLoad};
use crate::metronome::ECHO;
use crate::systems::{DIRECT_ADDRESS, KV_ADDRESS};
use crate::udp_stream::{Echoes, UdpStream};
use crate::{Host, TestMachine};

const HTTP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 15), 80);
const DIRECT: SocketAddrV4 = SocketAddrV4::new(DIRECT_ADDRESS, 80);
const KV: SocketAddrV4 = SocketAddrV4::new(KV_ADDRESS, 6379);

/// Downloads at once from `http`, and from the application in direct mode.
const DOWNLOADS: usize = 64;
const DIRECT_DOWNLOADS: usize = 2;
/// Connections of `redis-benchmark`.
const CLIENTS: u32 = 20;
/// Requests of each command in one of its rounds: fewer than a minute's.
const REQUESTS: u32 = 20_000;
/// Time between two datagrams of the stream there and back.
const ECHO_INTERVAL: Duration = Duration::from_millis(2);

/// Clients at work.
pub struct Load {
    http: Downloads,
    direct: Downloads,
    redis: Option<RedisLoad>,
    echoes: UdpStream,
}

/// How far they have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files downloaded from `http`.
    pub http: u64,
    /// Files downloaded from the application in direct mode.
    pub direct: u64,
    /// Datagrams that came back.
    pub echoes: u64,
}

/// How long each of them took to come further, by the host's clock: good to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    http: Option<Duration>,
    direct: Option<Duration>,
    echoes: Option<Duration>,
}

impl Times {
    fn is_complete(&self) -> bool {
        self.http.is_some() && self.direct.is_some() && self.echoes.is_some()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |time: Option<Duration>| time.unwrap_or_default().as_millis();
        write!(
            formatter,
            "http {}, direct {}, echoes {} ms",
            milliseconds(self.http),
            milliseconds(self.direct),
            milliseconds(self.echoes)
        )
    }
}

/// What became of their work.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Downloads from `http`.
    pub http: Downloaded,
    /// Downloads from the application in direct mode.
    pub direct: Downloaded,
    /// Of `redis-benchmark`.
    pub redis: Benchmarks,
    /// Of the stream there and back.
    pub echoes: Echoes,
}

impl Load {
    /// Has all of them begin: 64 downloads, `redis-benchmark`, a stream of datagrams there and back,
    /// and two downloads from the application that is in direct mode. The machine is on a tap.
    ///
    /// Who downloads from `http` opens another connection if one is lost.
    ///
    /// # Errors
    /// If one of the applications does not answer.
    pub fn start(machine: &TestMachine) -> io::Result<Self> {
        let mut load = Self::start_without_redis(machine)?;
        let Host::Namespace(namespace) = machine.host() else {
            return Err(io::Error::other("the load needs a tap"));
        };
        let namespace: Arc<NetworkNamespace> = namespace.clone();
        load.redis = Some(RedisLoad::start(namespace, KV, CLIENTS, REQUESTS));
        Ok(load)
    }

    /// The same but for `redis-benchmark`, which does not go on when it has lost a connection.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_without_redis(machine: &TestMachine) -> io::Result<Self> {
        let host = machine.host();
        Ok(Self {
            http: Downloads::start_lasting(host, HTTP, "128k.bin", DOWNLOADS)?,
            direct: Downloads::start(host, DIRECT, "128k.bin", DIRECT_DOWNLOADS)?,
            redis: None,
            echoes: UdpStream::start(host.datagrams()?, ECHO, ECHO_INTERVAL),
        })
    }

    /// How far they have come.
    pub fn progress(&self) -> Progress {
        Progress {
            http: self.http.completed(),
            direct: self.direct.completed(),
            echoes: self.echoes.returned(),
        }
    }

    /// Whether each of them has come further than `before` by so much.
    pub fn is_beyond(&self, before: Progress, further: u64) -> bool {
        self.progress().is_beyond(before, further)
    }

    /// Waits until each of them has come further than `before` by so much, and says how long each took;
    /// `None` if one takes longer than `limit`.
    pub fn wait_for(&self, before: Progress, further: u64, limit: Duration) -> Option<Times> {
        let began = Instant::now();
        let mut times = Times::default();
        loop {
            let now = self.progress();
            for (time, now, before) in [
                (&mut times.http, now.http, before.http),
                (&mut times.direct, now.direct, before.direct),
                (&mut times.echoes, now.echoes, before.echoes),
            ] {
                if time.is_none() && now >= before + further {
                    *time = Some(began.elapsed());
                }
            }
            if times.is_complete() {
                return Some(times);
            }
            if began.elapsed() >= limit {
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for what is under way, begins nothing more, and says what became of all.
    ///
    /// # Errors
    /// If no more datagrams could be sent or received.
    pub fn stop(self) -> io::Result<Served> {
        Ok(Served {
            http: self.http.stop(),
            direct: self.direct.stop(),
            redis: self.redis.map(RedisLoad::stop).unwrap_or_default(),
            echoes: self.echoes.stop()?,
        })
    }
}

impl Progress {
    fn is_beyond(self, before: Self, further: u64) -> bool {
        self.http >= before.http + further
            && self.direct >= before.direct + further
            && self.echoes >= before.echoes + further
    }
}

impl Served {
    /// Connections that were reset or ended before their time: each of them somebody has noticed.
    pub fn connections_lost(&self) -> u64 {
        let lost = |of: &Downloaded| of.resets + of.broken;
        lost(&self.http) + lost(&self.direct) + u64::from(self.redis.failure.is_some())
    }

    /// Answers that were not what had been asked for.
    pub fn wrong(&self) -> u64 {
        self.http.wrong + self.direct.wrong
    }

    /// Panics if somebody has noticed a fault. Datagrams may be lost, and those that a server that has
    /// died may have sent or not come twice.
    pub fn judge(&self) {
        self.judge_http();
        self.judge_others();
    }

    /// As [`Self::judge`], of the downloads from `http` alone.
    pub fn judge_http(&self) {
        assert_sound("http", &self.http);
    }

    /// As [`Self::judge`], of those from the application in direct mode alone.
    pub fn judge_direct(&self) {
        assert_sound("the application in direct mode", &self.direct);
    }

    /// As [`Self::judge`], of all but the downloads from `http`.
    pub fn judge_others(&self) {
        self.judge_direct();
        assert_eq!(self.redis.failure, None);
        assert!(!self.redis.rounds.is_empty(), "no round of redis-benchmark");
        assert!(self.echoes.returned > 0, "{:?}", self.echoes);
    }

    /// Adds what became of other clients.
    pub fn add(&mut self, other: Self) {
        self.http.add(other.http);
        self.direct.add(other.direct);
        self.redis.rounds.extend(other.redis.rounds);
        self.redis.failure = self.redis.failure.take().or(other.redis.failure);
        let (echoes, more) = (&mut self.echoes, other.echoes);
        echoes.sent += more.sent;
        echoes.returned += more.returned;
        echoes.lost += more.lost;
        echoes.doubled += more.doubled;
        echoes.reordered += more.reordered;
        echoes.longest_gap = echoes.longest_gap.max(more.longest_gap);
    }
}

fn assert_sound(server: &str, downloaded: &Downloaded) {
    assert!(downloaded.completed > 0, "{server}: {downloaded:?}");
    let harm = (downloaded.resets, downloaded.wrong, downloaded.broken);
    assert_eq!(harm, (0, 0, 0), "{server}: {downloaded:?}");
}

impl fmt::Display for Served {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (server, downloads) in [("http", &self.http), ("direct mode", &self.direct)] {
            writeln!(
                formatter,
                "  {server}: {} downloads of 128 KiB, {} resets, {} broken, {} wrong, longest stall {} ms of the host",
                downloads.completed,
                downloads.resets,
                downloads.broken,
                downloads.wrong,
                downloads.longest_stall.as_millis()
            )?;
        }
        let failure = self.redis.failure.as_deref().unwrap_or("no error");
        writeln!(
            formatter,
            "  redis-benchmark: {} rounds, {failure}",
            self.redis.rounds.len()
        )?;
        let echoes = &self.echoes;
        writeln!(
            formatter,
            "  echoes: {} sent, {} lost, {} doubled, {} late, longest gap {} ms of the host",
            echoes.sent,
            echoes.lost,
            echoes.doubled,
            echoes.reordered,
            echoes.longest_gap / 1000
        )
    }
}
