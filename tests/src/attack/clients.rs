//! Clients that ask all applications for the same, without end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use segue_qemu::NetworkNamespace;

use crate::http::request;
use crate::systems::APPLICATIONS;

/// Connections to each application.
const CONNECTIONS: usize = 8;
/// Requests on each connection that are not answered yet: together more than an application can
/// answer in its time slice, so that all are always at work, whatever the clients' host is doing.
const OUTSTANDING: usize = 16;
/// What is asked for.
const FILE: &str = "/8k.bin";
/// A datagram goes to the rogue for each so many answers.
const ANSWERS_FOR_A_DATAGRAM: u64 = 32;

/// Clients of all applications, in one thread.
pub struct Clients {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Bytes received from each application.
    bytes: Vec<AtomicU64>,
    ended: AtomicBool,
    failed: AtomicBool,
}

/// A connection and what is to come on it.
struct Connection {
    stream: TcpStream,
    application: usize,
    /// Bytes of answers that were asked for and have not come.
    missing: usize,
    /// Bytes of a request that are not sent yet.
    unsent: usize,
}

impl Clients {
    /// Opens all connections and begins.
    pub fn start(namespace: &NetworkNamespace) -> Self {
        let mut connections = Vec::new();
        // In turn, so that the client has no favourites.
        for _ in 0..CONNECTIONS {
            for application in 0..APPLICATIONS {
                let port = 80 + application;
                let stream = namespace
                    .run(|| TcpStream::connect(("10.0.2.15", port)))
                    .expect("the namespace is there");
                connections.push(Connection {
                    stream: stream.unwrap_or_else(|error| panic!("port {port}: {error}")),
                    application: application.into(),
                    missing: 0,
                    unsent: 0,
                });
            }
        }
        let socket = namespace
            .run(|| UdpSocket::bind("10.0.2.2:0"))
            .expect("the namespace is there")
            .expect("a port is free");
        let shared = Arc::new(Shared {
            bytes: (0..APPLICATIONS).map(|_| AtomicU64::new(0)).collect(),
            ended: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            if let Err(error) = ask_without_end(&mut connections, &socket, &theirs) {
                println!("the clients have ended: {error}");
                theirs.failed.store(true, Ordering::Relaxed);
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Bytes received from each application so far.
    pub fn bytes(&self) -> Vec<u64> {
        assert!(
            !self.shared.failed.load(Ordering::Relaxed),
            "the clients have ended"
        );
        let bytes = self.shared.bytes.iter();
        bytes.map(|bytes| bytes.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic; there is nobody to tell if it did.
            let _ = thread.join();
        }
    }
}

fn ask_without_end(
    connections: &mut [Connection],
    socket: &UdpSocket,
    shared: &Shared,
) -> io::Result<()> {
    let request = request("GET", FILE, "");
    let length = length_of_answer(&mut connections[0].stream, &request)?;
    for connection in connections.iter() {
        connection.stream.set_nodelay(true)?;
        connection.stream.set_nonblocking(true)?;
    }
    let mut buffer = vec![0; 64 * 1024];
    let (mut bytes, mut datagrams) = (0, 0);
    while !shared.ended.load(Ordering::Relaxed) {
        let before = bytes;
        for connection in connections.iter_mut() {
            connection.ask(request.as_bytes(), length)?;
            let count = connection.listen(&mut buffer)?;
            shared.bytes[connection.application].fetch_add(count as u64, Ordering::Relaxed);
            bytes += count as u64;
        }
        while datagrams * ANSWERS_FOR_A_DATAGRAM * (length as u64) < bytes {
            datagrams += 1;
            // A datagram may get lost.
            let _ = socket.send_to(&[0; 32], ("10.0.2.15", segue_forgeries::OWN_PORT));
        }
        if bytes == before {
            thread::sleep(Duration::from_micros(200));
        }
    }
    Ok(())
}

impl Connection {
    /// Asks as long as too few answers are outstanding.
    fn ask(&mut self, request: &[u8], length: usize) -> io::Result<()> {
        while self.unsent > 0 || self.missing + length <= OUTSTANDING * length {
            if self.unsent == 0 {
                self.unsent = request.len();
                self.missing += length;
            }
            let rest = &request[request.len() - self.unsent..];
            match self.stream.write(rest) {
                Ok(count) => self.unsent -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what has come. Gives its length in bytes.
    fn listen(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.read(buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) if count > self.missing => Err(io::Error::other("more than was asked for")),
            Ok(count) => {
                self.missing -= count;
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// Bytes of the answer, head included: it is always the same.
fn length_of_answer(stream: &mut TcpStream, request: &str) -> io::Result<usize> {
    stream.write_all(request.as_bytes())?;
    // Nothing follows it, so that it ends where nothing comes any more.
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    let (mut length, mut buffer) = (0, vec![0; 64 * 1024]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => length += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(length),
            Err(error) => return Err(error),
        }
    }
}
