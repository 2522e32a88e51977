//! Downloads over HTTP.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::http::Client;
use crate::{Connection, Host, files};

/// How long who found nobody waits before the next try.
const AGAIN: Duration = Duration::from_millis(50);

/// Connections on each of which a file is downloaded again and again.
pub struct Downloads {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Downloaded>>,
}

struct Shared {
    ended: AtomicBool,
    completed: AtomicU64,
}

/// What became of the downloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Downloaded {
    /// Whole files that were right, by their SHA-256.
    pub completed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Connections that were reset.
    pub resets: u64,
    /// Answers with another status or other bytes.
    pub wrong: u64,
    /// Connections that ended in another way before their time: refused, closed, or still for too
    /// long.
    pub broken: u64,
    /// A sentence for each connection that was reset or broke, and each wrong answer.
    pub failures: Vec<String>,
    /// The longest time that a client waited for more bytes, by the host's clock: good to look at,
    /// but it depends on how busy the host is. A capture knows better ([`crate::gaps::downloads`]).
    pub longest_stall: Duration,
}

impl Downloads {
    /// Opens `connections` connections to `server` and begins to download the test file `name`, which
    /// must be among those that it serves.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn start(
        host: &Host,
        server: SocketAddrV4,
        name: &'static str,
        connections: usize,
    ) -> io::Result<Self> {
        Self::begin(host, server, name, connections, false)
    }

    /// As [`Self::start`], but who loses a connection opens another one and goes on, as soon as the
    /// server is there again.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_lasting(
        host: &Host,
        server: SocketAddrV4,
        name: &'static str,
        connections: usize,
    ) -> io::Result<Self> {
        Self::begin(host, server, name, connections, true)
    }

    fn begin(
        host: &Host,
        server: SocketAddrV4,
        name: &'static str,
        connections: usize,
        goes_on: bool,
    ) -> io::Result<Self> {
        let digest = files::digest(&files::contents(name));
        let shared = Arc::new(Shared {
            ended: AtomicBool::new(false),
            completed: AtomicU64::new(0),
        });
        let open = move |host: &Host| -> io::Result<Connection> {
            let connection = host.connect_to(server)?;
            // Who waits for an answer would not notice that nobody is there any more.
            if goes_on {
                connection.keep_alive()?;
            }
            Ok(connection)
        };
        let opened: io::Result<Vec<Connection>> = (0..connections).map(|_| open(host)).collect();
        let threads = opened?.into_iter().map(|connection| {
            let (shared, digest) = (Arc::clone(&shared), digest.clone());
            let (path, host) = (format!("/{name}"), host.clone());
            thread::spawn(move || {
                let mut all = download(connection, &path, &digest, &shared);
                while goes_on && !shared.ended.load(Ordering::Relaxed) {
                    match open(&host) {
                        Ok(connection) => all.add(download(connection, &path, &digest, &shared)),
                        Err(_) => thread::sleep(AGAIN),
                    }
                }
                all
            })
        });
        Ok(Self {
            threads: threads.collect(),
            shared,
        })
    }

    /// Files downloaded so far.
    pub fn completed(&self) -> u64 {
        self.shared.completed.load(Ordering::Relaxed)
    }

    /// Waits until so many files were downloaded. False if all clients have ended before.
    pub fn wait_for(&self, count: u64) -> bool {
        while self.completed() < count {
            if self.threads.iter().all(JoinHandle::is_finished) {
                return self.completed() >= count;
            }
            thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// Waits for the downloads under way, begins no more, and says what became of all.
    pub fn stop(mut self) -> Downloaded {
        self.shared.ended.store(true, Ordering::Relaxed);
        let mut all = Downloaded::default();
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(one) => all.add(one),
                Err(_) => all.broken(ErrorKind::Other, "a client panicked".into()),
            }
        }
        all
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }
}

impl Downloaded {
    pub(crate) fn add(&mut self, other: Self) {
        self.completed += other.completed;
        self.bytes += other.bytes;
        self.resets += other.resets;
        self.wrong += other.wrong;
        self.broken += other.broken;
        self.failures.extend(other.failures);
        self.longest_stall = self.longest_stall.max(other.longest_stall);
    }

    fn broken(&mut self, kind: ErrorKind, failure: String) {
        if matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) {
            self.resets += 1;
        } else {
            self.broken += 1;
        }
        self.failures.push(failure);
    }
}

/// A stream that knows how long its reader had to wait at most.
struct Timed<S> {
    stream: S,
    longest: Duration,
}

impl<S: Read> Read for Timed<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let began = Instant::now();
        let result = self.stream.read(buffer);
        self.longest = self.longest.max(began.elapsed());
        result
    }
}

impl<S: Write> Write for Timed<S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Downloads until it is ended or the connection is no more.
fn download(stream: impl Read + Write, path: &str, digest: &str, shared: &Shared) -> Downloaded {
    let mut client = Client::new(Timed {
        stream,
        longest: Duration::ZERO,
    });
    let mut result = Downloaded::default();
    let mut number = 0u64;
    while !shared.ended.load(Ordering::Relaxed) {
        match client.get(path) {
            Ok(answer) if answer.status == 200 && files::digest(&answer.body) == digest => {
                result.completed += 1;
                result.bytes += answer.body.len() as u64;
                shared.completed.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => {
                result.wrong += 1;
                result.failures.push(format!(
                    "download {number} of {path}: status {}, {} bytes, which are not those of the \
                     file",
                    answer.status,
                    answer.body.len()
                ));
            }
            Err(error) => {
                result.broken(
                    error.kind(),
                    format!("download {number} of {path}: {error}"),
                );
                break;
            }
        }
        number += 1;
    }
    result.longest_stall = client.stream().longest;
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    /// A server that gives these answers, then closes.
    fn run(answers: &'static [&'static [u8]]) -> Downloaded {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let serving = thread::spawn(move || {
            let mut request = [0; 256];
            for body in answers {
                assert!(theirs.read(&mut request).unwrap() > 0);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                theirs.write_all(head.as_bytes()).unwrap();
                theirs.write_all(body).unwrap();
            }
        });
        let shared = Shared {
            ended: AtomicBool::new(false),
            completed: AtomicU64::new(0),
        };
        let result = download(ours, "/x", &files::digest(b"right"), &shared);
        serving.join().unwrap();
        assert_eq!(shared.completed.load(Ordering::Relaxed), result.completed);
        result
    }

    #[test]
    fn what_goes_wrong_is_told_apart() {
        let result = run(&[b"right", b"wrong", b"right"]);
        assert_eq!((result.completed, result.bytes, result.wrong), (2, 10, 1));
        assert_eq!(result.resets + result.broken, 1, "{result:?}");
        assert_eq!(result.failures.len(), 2);
        assert!(result.failures[0].starts_with("download 1 of /x: status 200, 5 bytes"));
        let mut all = Downloaded::default();
        all.add(result.clone());
        all.add(result);
        assert_eq!((all.completed, all.failures.len()), (4, 4));
        all.broken(ErrorKind::ConnectionReset, "reset".into());
        assert!(all.resets >= 1);
    }
}
