//! What clients have a server do, and what becomes of it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::machines::{APPLICATIONS, Client, Counted, Service};

/// How long a message may stay away.
const STILL: Duration = Duration::from_secs(60);
/// Datagrams under way at once, and their payload in bytes.
const DATAGRAMS: usize = 32;
/// See [`DATAGRAMS`].
const DATAGRAM: usize = 64;
/// A datagram that has not come back by then is lost.
const LOST: Duration = Duration::from_millis(200);
/// Values of keys, in bytes.
const VALUE: usize = 128;
/// Before what a client has said that is not as expected.
const UNREADABLE: &str = "wrk says that requests have failed, or what cannot be read:\n";
/// Different keys.
const KEYS: usize = 1000;

/// Work of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// `wrk -t1` with so many connections asks for this file.
    Http {
        /// The file.
        file: &'static str,
        /// Connections at once.
        connections: usize,
    },
    /// One `wrk` for each of 16 applications, all at once, each with one connection, asks for this file.
    Many {
        /// The file.
        file: &'static str,
    },
    /// `redis-benchmark -c 20`, so many commands at once on each connection.
    Kv {
        /// `get` or `set`.
        command: &'static str,
        /// Commands in flight on each connection.
        pipeline: usize,
    },
    /// A message of so many bytes there and back, one after the other.
    PingPong {
        /// Its length.
        bytes: usize,
    },
    /// A stream of bytes to the server, which sends none back, in MiB.
    Upload,
    /// Datagrams of 64 bytes there and back, 32 under way at once.
    Datagrams,
}

/// What matters most: all runs measure it, and none of it may become dearer.
pub const HEADLINE: [Work; 5] = [
    Work::Http {
        file: "1k.bin",
        connections: 16,
    },
    Work::Http {
        file: "8k.bin",
        connections: 16,
    },
    Work::Http {
        file: "128k.bin",
        connections: 16,
    },
    Work::Kv {
        command: "set",
        pipeline: 1,
    },
    Work::Kv {
        command: "get",
        pipeline: 1,
    },
];

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Requests, messages or datagrams.
    pub units: u64,
    /// Of them in a second.
    pub rate: f64,
    /// Median and 99th percentile of the time for one, in microseconds, if the client tells.
    pub latency: Option<[f64; 2]>,
}

impl Work {
    /// Its name in results.
    pub fn name(self) -> String {
        match self {
            Self::Http { file, connections } => {
                format!("http_{}_c{connections}", file.trim_end_matches(".bin"))
            }
            Self::Many { file } => {
                format!(
                    "http_{}_{APPLICATIONS}_applications",
                    file.trim_end_matches(".bin")
                )
            }
            Self::Kv { command, pipeline } => format!("{command}_p{pipeline}"),
            Self::PingPong { bytes } => format!("ping_pong_{}", size(bytes)),
            Self::Upload => "upload".to_owned(),
            Self::Datagrams => format!("udp_{DATAGRAM}"),
        }
    }

    /// What one unit of it is.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Http { .. } | Self::Many { .. } | Self::Kv { .. } => "request",
            Self::PingPong { .. } => "round trip",
            Self::Upload => "MiB",
            Self::Datagrams => "datagram",
        }
    }

    /// Who does it.
    pub fn service(self) -> Service {
        match self {
            Self::Http { .. } | Self::Many { .. } => Service::Http,
            Self::Kv { .. } => Service::Kv,
            Self::PingPong { .. } | Self::Upload | Self::Datagrams => Service::Echo,
        }
    }

    /// Has a machine do what has to be done once before: keys that are asked for have values.
    ///
    /// # Errors
    /// A sentence if a client fails.
    pub fn prepare(self, machine: &Counted) -> Result<(), String> {
        match self {
            Self::Kv { .. } => kv(machine, "set", 1, Duration::from_secs(1)).map(drop),
            _ => Ok(()),
        }
    }

    /// Has a machine do it for about so long.
    ///
    /// # Errors
    /// A sentence if a client fails.
    pub fn run(self, machine: &Counted, time: Duration) -> Result<Done, String> {
        match self {
            Self::Http { file, connections } => http(machine, file, connections, time),
            Self::Many { file } => many(machine, file, time),
            Self::Kv { command, pipeline } => kv(machine, command, pipeline, time),
            Self::PingPong { bytes } => ping_pong(machine, bytes, time),
            Self::Upload => upload(machine, time),
            Self::Datagrams => datagrams(machine, time),
        }
    }
}

/// A size as people write it.
fn size(bytes: usize) -> String {
    match bytes {
        1024.. => format!("{}k", bytes / 1024),
        _ => bytes.to_string(),
    }
}

/// The sum over all applications; latencies are the worst application's.
fn many(machine: &Counted, file: &str, time: Duration) -> Result<Done, String> {
    let clients: Result<Vec<Client>, String> = (80..80 + APPLICATIONS)
        .map(|port| machine.start_client(&mut wrk(port, file, 1, time)))
        .collect();
    let mut all = Done::default();
    for client in clients? {
        let text = client.wait()?;
        let one = read_wrk(&text).ok_or(UNREADABLE.to_owned() + &text)?;
        all.units += one.units;
        all.rate += one.rate;
        let (worst, other) = (
            all.latency.unwrap_or_default(),
            one.latency.unwrap_or_default(),
        );
        all.latency = Some([worst[0].max(other[0]), worst[1].max(other[1])]);
    }
    Ok(all)
}

fn http(machine: &Counted, file: &str, connections: usize, time: Duration) -> Result<Done, String> {
    let text = machine
        .start_client(&mut wrk(80, file, connections, time))?
        .wait()?;
    read_wrk(&text).ok_or(UNREADABLE.to_owned() + &text)
}

fn wrk(port: u16, file: &str, connections: usize, time: Duration) -> Command {
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "--latency", "--timeout", "30s"])
        .arg(format!("-c{connections}"))
        .arg(format!("-d{}", time.as_secs().max(1)))
        .arg(format!("http://{}/{file}", Service::Http.at(port)));
    wrk
}

/// Reads what `wrk --latency` says. `None` if a request has failed.
fn read_wrk(text: &str) -> Option<Done> {
    let after = |text: &'_ str, name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
        line.map(|rest| rest.trim().to_owned())
    };
    if text.contains("Socket errors") || text.contains("Non-2xx") {
        return None;
    }
    let requests = text.lines().find(|line| line.contains(" requests in "))?;
    Some(Done {
        units: requests.split_whitespace().next()?.parse().ok()?,
        rate: after(text, "Requests/sec:")?.parse().ok()?,
        latency: Some([
            microseconds(&after(text, "50%")?)?,
            microseconds(&after(text, "99%")?)?,
        ]),
    })
}

/// A time as wrk writes it, such as `1.23ms`.
fn microseconds(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_alphabetic());
    let scale = match &text[digits.len()..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 6e7,
        _ => return None,
    };
    Some(digits.parse::<f64>().ok()? * scale)
}

/// Runs `redis-benchmark` with a number of requests that takes about so long: a short run says how
/// many these are.
fn kv(machine: &Counted, command: &str, pipeline: usize, time: Duration) -> Result<Done, String> {
    let mut requests = 20 * pipeline * 50;
    let run = |requests: usize| -> Result<Done, String> {
        let mut benchmark = Command::new("redis-benchmark");
        benchmark
            .args([
                "-c",
                "20",
                "--csv",
                "-h",
                &Service::Kv.address().to_string(),
            ])
            .args([
                "-t",
                command,
                "-P",
                &pipeline.to_string(),
                "-n",
                &requests.to_string(),
            ])
            .args(["-d", &VALUE.to_string(), "-r", &KEYS.to_string()]);
        let text = machine.start_client(&mut benchmark)?.wait()?;
        let done = read_redis(&text, requests as u64);
        done.ok_or(format!("redis-benchmark says what cannot be read:\n{text}"))
    };
    let estimate = run(requests)?;
    requests = (estimate.rate * time.as_secs_f64()) as usize;
    let done = run(requests.max(20 * pipeline))?;
    Ok(Done {
        units: estimate.units + done.units,
        ..done
    })
}

/// Reads what `redis-benchmark --csv` says.
fn read_redis(text: &str, requests: u64) -> Option<Done> {
    let line = text
        .lines()
        .find(|line| !line.contains("\"rps\"") && line.contains(','))?;
    let fields: Vec<f64> = line
        .split(',')
        .skip(1)
        .filter_map(|field| field.trim_matches('"').parse().ok())
        .collect();
    // rps, avg, min, p50, p95, p99, max; times in milliseconds
    Some(Done {
        units: requests,
        rate: *fields.first()?,
        latency: Some([*fields.get(3)? * 1e3, *fields.get(5)? * 1e3]),
    })
}

fn ping_pong(machine: &Counted, bytes: usize, time: Duration) -> Result<Done, String> {
    let address = SocketAddr::V4(Service::Echo.at(5002));
    let stream = machine
        .namespace()
        .run(|| TcpStream::connect_timeout(&address, STILL));
    let stream = stream.map_err(|error| error.to_string())?;
    let failed = |error: std::io::Error| format!("the echo server at {address}: {error}");
    let mut stream = stream.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    stream.set_read_timeout(Some(STILL)).map_err(failed)?;
    let mut message: Vec<u8> = (0..bytes).map(|index| index as u8).collect();
    message[..4].copy_from_slice(&(bytes as u32).to_be_bytes());
    let mut back = vec![0; bytes];
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < time {
        let sent = Instant::now();
        stream.write_all(&message).map_err(failed)?;
        stream.read_exact(&mut back).map_err(failed)?;
        times.push(sent.elapsed().as_secs_f64() * 1e6);
        if back != message {
            return Err(format!("a message of {bytes} bytes came back changed"));
        }
    }
    Ok(timed(times, began.elapsed()))
}

fn upload(machine: &Counted, time: Duration) -> Result<Done, String> {
    let address = SocketAddr::V4(Service::Echo.at(9));
    let failed = |error: std::io::Error| format!("the discard server at {address}: {error}");
    let stream = machine
        .namespace()
        .run(|| TcpStream::connect_timeout(&address, STILL));
    let mut stream = stream.map_err(|error| error.to_string())?.map_err(failed)?;
    stream.set_read_timeout(Some(STILL)).map_err(failed)?;
    stream.set_write_timeout(Some(STILL)).map_err(failed)?;
    let piece = [0x55; 1 << 16];
    let (began, mut pieces) = (Instant::now(), 0);
    while began.elapsed() < time || pieces % 16 != 0 {
        stream.write_all(&piece).map_err(failed)?;
        pieces += 1;
    }
    // The server closes when it has read all.
    stream.shutdown(Shutdown::Write).map_err(failed)?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).map_err(failed)?;
    let units = pieces / 16;
    Ok(Done {
        units,
        rate: units as f64 / began.elapsed().as_secs_f64(),
        latency: None,
    })
}

fn datagrams(machine: &Counted, time: Duration) -> Result<Done, String> {
    let address = SocketAddr::V4(Service::Echo.at(7));
    let socket = machine.namespace().run(|| UdpSocket::bind("0.0.0.0:0"));
    let failed = |error: std::io::Error| format!("datagrams to {address}: {error}");
    let socket = socket.map_err(|error| error.to_string())?.map_err(failed)?;
    socket.connect(address).map_err(failed)?;
    socket.set_read_timeout(Some(LOST)).map_err(failed)?;
    let mut under_way: Vec<Option<Instant>> = vec![None; DATAGRAMS];
    let mut times = Vec::new();
    let began = Instant::now();
    let mut datagram = [0; DATAGRAM];
    let send = |number: usize, datagram: &mut [u8; DATAGRAM]| {
        datagram[0] = number as u8;
        socket.send(&datagram[..]).map_err(failed)
    };
    while began.elapsed() < time {
        for (number, sent) in under_way.iter_mut().enumerate() {
            if sent.is_none_or(|sent| sent.elapsed() > LOST) {
                send(number, &mut datagram)?;
                *sent = Some(Instant::now());
            }
        }
        let mut back = [0; DATAGRAM];
        match socket.recv(&mut back) {
            Ok(DATAGRAM) => {
                let place = under_way.get_mut(usize::from(back[0]));
                if let Some(sent) = place.and_then(Option::take) {
                    times.push(sent.elapsed().as_secs_f64() * 1e6);
                }
            }
            Ok(other) => return Err(format!("a datagram of {other} bytes came back")),
            // All of them were lost; they are sent again.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(timed(times, began.elapsed()))
}

/// Of these times in microseconds, within `elapsed`.
fn timed(mut times: Vec<f64>, elapsed: Duration) -> Done {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (times.len() as f64 * share) as usize;
        times
            .get(index.min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0.0)
    };
    Done {
        units: times.len() as u64,
        rate: times.len() as f64 / elapsed.as_secs_f64(),
        latency: Some([at(0.5), at(0.99)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_read() {
        let text = "Running 2s test @ http://10.0.2.15/1k.bin\n  1 threads and 16 connections\n\
            \x20 Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency     5.10ms    1.20ms  20.1ms   70.00%\n\
            \x20 Latency Distribution\n     50%    4.98ms\n     75%    6.00ms\n     90%    7.00ms\n     99%    1.20s \n\
            \x20 6400 requests in 2.00s, 7.00MB read\nRequests/sec:   3200.50\nTransfer/sec:      3.50MB\n";
        let done = read_wrk(text).expect("it can be read");
        assert_eq!((done.units, done.rate), (6400, 3200.5));
        assert_eq!(done.latency, Some([4980.0, 1_200_000.0]));
        assert!(read_wrk(&format!("{text}  Socket errors: connect 0, read 1\n")).is_none());
    }

    #[test]
    fn what_redis_benchmark_says_is_read() {
        let text = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\
            \"p99_latency_ms\",\"max_latency_ms\"\n\"GET\",\"6000.5\",\"1.1\",\"0.2\",\"1.0\",\"2.0\",\"3.0\",\"9.5\"\n";
        let done = read_redis(text, 1000).expect("it can be read");
        assert_eq!(
            (done.units, done.rate, done.latency),
            (1000, 6000.5, Some([1000.0, 3000.0]))
        );
    }

    #[test]
    fn works_have_names_that_people_read() {
        let all = [
            Work::Http {
                file: "8k.bin",
                connections: 16,
            },
            Work::Kv {
                command: "get",
                pipeline: 16,
            },
            Work::PingPong { bytes: 64 },
            Work::PingPong { bytes: 65_536 },
            Work::Datagrams,
        ];
        let names = all.map(Work::name);
        assert_eq!(
            names,
            [
                "http_8k_c16",
                "get_p16",
                "ping_pong_64",
                "ping_pong_64k",
                "udp_64"
            ]
        );
    }
}
