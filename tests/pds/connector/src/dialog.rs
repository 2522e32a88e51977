//! What is said on one connection.

use alloc::vec::Vec;
use core::fmt::Write;
use core::net::SocketAddr;
use segue_libos::{ConnectionId, Stack};

/// Bytes for an echo: some segments, and not a whole number of them.
const ECHO_LENGTH: u64 = 10_007;
/// Longest head of an answer.
const HEAD: usize = 4096;
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// What the other side does.
#[derive(Clone, Copy)]
pub enum Service {
    /// Answers a request for a file with so many bytes with this checksum (FNV-1a), and
    /// closes.
    Http { length: u64, checksum: u64 },
    /// Sends back what it gets, and closes after us.
    Echo,
}

/// One connection's talk.
pub struct Dialog {
    service: Service,
    /// Makes its bytes differ from those of others.
    salt: u64,
    sent: u64,
    received: u64,
    checksum: u64,
    head: Vec<u8>,
    in_body: bool,
    closed: bool,
}

fn pattern(salt: u64, at: u64) -> u8 {
    (at.wrapping_mul(31) ^ at >> 8 ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

impl Dialog {
    pub fn new(service: Service, salt: u64) -> Self {
        Self {
            service,
            salt,
            sent: 0,
            received: 0,
            checksum: FNV_OFFSET,
            head: Vec::new(),
            in_body: false,
            closed: false,
        }
    }

    /// Whether all was said, and right.
    pub fn is_complete(&self) -> bool {
        match self.service {
            Service::Http { length, checksum } => {
                self.received == length && self.checksum == checksum
            }
            Service::Echo => self.received == ECHO_LENGTH,
        }
    }

    /// Bytes that came, heads not counted.
    pub fn bytes(&self) -> u64 {
        self.received
    }

    /// Sends and receives what can be. An error says what is wrong.
    pub fn go_on(
        &mut self,
        stack: &mut Stack,
        id: ConnectionId,
        remote: &SocketAddr,
    ) -> Result<(), &'static str> {
        match self.service {
            Service::Http { .. } => self.ask(stack, id, remote),
            Service::Echo => self.send(stack, id),
        }
        let mut buffer = [0; 2048];
        loop {
            let count = stack.receive(id, &mut buffer);
            if count == 0 {
                break;
            }
            match self.service {
                Service::Http { .. } => self.take_answer(&buffer[..count])?,
                Service::Echo => self.take_echo(&buffer[..count])?,
            }
        }
        let over = match self.service {
            Service::Http { .. } => stack.peer_closed(id) && stack.receive_queue(id) == 0,
            Service::Echo => self.received == ECHO_LENGTH,
        };
        if over && !self.closed {
            self.closed = true;
            stack.close(id);
        }
        Ok(())
    }

    fn ask(&mut self, stack: &mut Stack, id: ConnectionId, remote: &SocketAddr) {
        if self.sent > 0 {
            return;
        }
        let mut request = alloc::string::String::new();
        // A string takes everything.
        let _ = write!(
            request,
            "GET /8k.bin HTTP/1.1\r\nHost: {remote}\r\nConnection: close\r\n\r\n"
        );
        self.sent = stack.send(id, request.as_bytes()) as u64;
    }

    fn send(&mut self, stack: &mut Stack, id: ConnectionId) {
        while self.sent < ECHO_LENGTH {
            let (from, salt) = (self.sent, self.salt);
            let taken = stack.send_with(id, |space| {
                let count = space.len().min((ECHO_LENGTH - from) as usize);
                for (byte, at) in space[..count].iter_mut().zip(from..) {
                    *byte = pattern(salt, at);
                }
                count
            });
            if taken == 0 {
                return;
            }
            self.sent += taken as u64;
        }
    }

    fn take_echo(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        for &byte in bytes {
            if self.received >= self.sent || byte != pattern(self.salt, self.received) {
                return Err("another byte came back than was sent");
            }
            self.received += 1;
        }
        Ok(())
    }

    fn take_answer(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        for &byte in bytes {
            if self.in_body {
                self.received += 1;
                self.checksum = (self.checksum ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
                continue;
            }
            self.head.push(byte);
            if self.head.ends_with(b"\r\n\r\n") {
                if !self.head.starts_with(b"HTTP/1.1 200 ") {
                    return Err("the answer is not 200");
                }
                self.in_body = true;
            } else if self.head.len() > HEAD {
                return Err("the answer has no end of its head");
            }
        }
        Ok(())
    }
}
