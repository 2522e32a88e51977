//! A host at the other end of the machine's cable, with a TCP of its own.

mod datagrams;
mod device;
mod stack;

use std::io::{self, Read, Write};
use std::net::SocketAddrV4;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use segue_qemu::{FrameReceiver, Peer};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;

use crate::host::{APPLICATION, STILL};
use crate::{Counts, Impairment};
pub use datagrams::PeerDatagrams;
use stack::Stack;
pub(crate) use stack::{ADDRESS, MAC};

/// How long the stack may go unattended; it is looked at on every frame anyway.
const ATTEND: Duration = Duration::from_millis(5);

/// A host at 10.0.2.2, at the other end of the machine's cable. Cloning gives another handle.
#[derive(Clone)]
pub struct PeerHost {
    shared: Arc<Shared>,
}

struct Shared {
    stack: Mutex<Stack>,
    changed: Condvar,
}

impl Shared {
    fn stack(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PeerHost {
    /// Brings a host up on `peer`. It ends when the machine ends.
    pub fn new(peer: Peer, seed: u64) -> Self {
        let (sender, receiver) = peer.split();
        let shared = Arc::new(Shared {
            stack: Mutex::new(Stack::new(sender, seed)),
            changed: Condvar::new(),
        });
        let attended = Arc::clone(&shared);
        thread::spawn(move || attend(&attended, receiver));
        Self { shared }
    }

    /// Whether new connections acknowledge at once what comes, rather than wait for company.
    pub fn acknowledge_at_once(&self, on: bool) {
        self.shared.stack().acknowledge_at_once(on);
    }

    /// Whether new connections ask now and then whether the other side is still there, so that they
    /// notice if it has lost its memory.
    pub fn keep_alive(&self, on: bool) {
        self.shared.stack().keep_alive(on);
    }

    /// From now on the cable loses, doubles and reorders frames: (to the machine, from it).
    pub fn impair(&self, to_machine: Impairment, from_machine: Impairment) {
        self.shared.stack().impair(to_machine, from_machine);
    }

    /// What the cable has done so far: (to the machine, from it).
    pub fn counts(&self) -> (Counts, Counts) {
        self.shared.stack().counts()
    }

    /// Sends a raw frame to the machine, past the impairments.
    ///
    /// # Errors
    /// If the machine has ended.
    pub fn inject(&self, frame: &[u8]) -> io::Result<()> {
        self.shared.stack().inject(frame)
    }

    /// Begins or ends keeping a copy of every frame that the machine sends.
    pub fn record(&self, on: bool) {
        self.shared.stack().record(on);
    }

    /// Waits for a recorded frame that `wanted` accepts; frames before it are forgotten.
    pub fn recorded(
        &self,
        timeout: Duration,
        mut wanted: impl FnMut(&[u8]) -> bool,
    ) -> Option<Vec<u8>> {
        let deadline = Instant::now() + timeout;
        let mut stack = self.shared.stack();
        loop {
            while let Some(frame) = stack.next_recorded() {
                if wanted(&frame) {
                    return Some(frame);
                }
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            stack = self.wait(stack, left);
        }
    }

    /// Connects to `port` of the application, from a port not used before.
    ///
    /// # Errors
    /// If it refuses or does not answer.
    pub fn connect(&self, port: u16) -> io::Result<PeerStream> {
        self.connect_to(SocketAddrV4::new(APPLICATION, port))
    }

    /// Connects to any address, from a port not used before.
    ///
    /// # Errors
    /// If it refuses or does not answer.
    pub fn connect_to(&self, to: SocketAddrV4) -> io::Result<PeerStream> {
        let local = self.shared.stack().next_port();
        self.open(local, to)
    }

    /// Connects to `port` of the application from the chosen `local` port.
    ///
    /// # Errors
    /// If it refuses or does not answer, or the port is in use by a live connection of ours.
    pub fn connect_from(&self, local: u16, port: u16) -> io::Result<PeerStream> {
        self.open(local, SocketAddrV4::new(APPLICATION, port))
    }

    fn open(&self, local: u16, to: SocketAddrV4) -> io::Result<PeerStream> {
        let mut stack = self.shared.stack();
        let handle = stack.connect(local, to)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match stack.socket(handle).state() {
                tcp::State::SynSent | tcp::State::SynReceived => {}
                tcp::State::Closed => {
                    stack.leave(handle);
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                _ => break,
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || stack.ended() {
                stack.socket(handle).abort();
                stack.leave(handle);
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "no answer to our SYN in 30 s",
                ));
            }
            stack = self.wait(stack, left);
        }
        drop(stack);
        Ok(PeerStream {
            host: self.clone(),
            handle,
            forgotten: false,
        })
    }

    fn wait<'a>(&self, stack: MutexGuard<'a, Stack>, time: Duration) -> MutexGuard<'a, Stack> {
        self.shared
            .changed
            .wait_timeout(stack, time)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

fn attend(shared: &Shared, mut receiver: FrameReceiver) {
    loop {
        let first = receiver.receive(ATTEND);
        let mut stack = shared.stack();
        let quiet = matches!(first, Ok(None));
        let mut next = first;
        while let Ok(Some(frame)) = next {
            stack.arrived(frame);
            next = receiver.try_receive();
        }
        if next.is_err() {
            stack.end();
            shared.changed.notify_all();
            return;
        }
        if quiet {
            stack.release();
        }
        stack.poll();
        stack.sweep();
        drop(stack);
        shared.changed.notify_all();
    }
}

/// A connection of a [`PeerHost`]. Dropping it closes it.
pub struct PeerStream {
    host: PeerHost,
    handle: SocketHandle,
    forgotten: bool,
}

impl PeerStream {
    /// Ends our direction.
    pub fn close(&mut self) {
        let mut stack = self.host.shared.stack();
        stack.socket(self.handle).close();
        stack.poll();
    }

    /// Breaks the connection off with a reset.
    pub fn abort(self) {
        let mut stack = self.host.shared.stack();
        stack.socket(self.handle).abort();
        stack.poll();
    }

    /// Leaves the connection as it is for the machine, without a trace on this side: it costs this
    /// host nothing any more, and whatever the machine sends on it is answered with a reset.
    pub fn forget(mut self) {
        let mut stack = self.host.shared.stack();
        stack.remove(self.handle);
        drop(stack);
        self.forgotten = true;
    }

    /// Closes, and waits until the machine has closed too; its last bytes are thrown away.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`].
    pub fn finish(mut self) -> io::Result<()> {
        self.close();
        let mut rest = [0; 4096];
        while self.read(&mut rest)? > 0 {}
        self.until(|socket| {
            matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait).then_some(Ok(()))
        })
    }

    /// Waits until `condition` gives something.
    fn until<T>(
        &self,
        mut condition: impl FnMut(&mut tcp::Socket<'static>) -> Option<io::Result<T>>,
    ) -> io::Result<T> {
        let deadline = Instant::now() + STILL;
        let mut stack = self.host.shared.stack();
        loop {
            if let Some(result) = condition(stack.socket(self.handle)) {
                // What was written goes out, what was read opens the window.
                stack.poll();
                return result;
            }
            if stack.ended() {
                return Err(io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    "the machine has ended",
                ));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("nothing happened for {} s", STILL.as_secs()),
                ));
            }
            stack = self.host.wait(stack, left);
        }
    }
}

impl Read for PeerStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.until(|socket| {
            if socket.can_recv() {
                Some(socket.recv_slice(buffer).map_err(io::Error::other))
            } else if socket.may_recv() {
                None
            } else {
                match socket.state() {
                    // A FIN has come.
                    tcp::State::CloseWait
                    | tcp::State::Closing
                    | tcp::State::LastAck
                    | tcp::State::TimeWait => Some(Ok(0)),
                    tcp::State::Closed => match socket.recv_slice(buffer) {
                        Err(tcp::RecvError::Finished) => Some(Ok(0)),
                        _ => Some(Err(io::ErrorKind::ConnectionReset.into())),
                    },
                    _ => None,
                }
            }
        })
    }
}

impl Write for PeerStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.until(|socket| {
            if socket.can_send() {
                Some(socket.send_slice(buffer).map_err(io::Error::other))
            } else if socket.may_send() {
                None
            } else {
                Some(Err(io::ErrorKind::BrokenPipe.into()))
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for PeerStream {
    fn drop(&mut self) {
        if self.forgotten {
            return;
        }
        let mut stack = self.host.shared.stack();
        stack.socket(self.handle).close();
        stack.leave(self.handle);
        stack.poll();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use smoltcp::iface::SocketSet;
    use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Address};
    use std::os::unix::net::UnixStream;

    const LENGTH: usize = 2 << 20;

    fn expected() -> Vec<u8> {
        let mut bytes = vec![0; LENGTH];
        Random::new(1).fill(&mut bytes);
        bytes
    }

    /// A machine that sends [`expected`] to whoever connects to port 80, then closes.
    fn serve(stream: UnixStream) {
        let (mut sender, mut receiver) = Peer::new(stream).unwrap().split();
        let mut queues = device::Queues::default();
        let hardware = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, 15]));
        let config = smoltcp::iface::Config::new(hardware);
        let zero = smoltcp::time::Instant::ZERO;
        let mut interface = smoltcp::iface::Interface::new(config, &mut queues, zero);
        interface.update_ip_addrs(|addresses| {
            let address = Ipv4Address::new(10, 0, 2, 15);
            addresses.push(IpCidr::new(address.into(), 24)).unwrap();
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; 128 * 1024]);
        let mut sockets = SocketSet::new(Vec::new());
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_congestion_control(tcp::CongestionControl::Reno);
        socket.listen(80).unwrap();
        let handle = sockets.add(socket);
        let (body, mut sent) = (expected(), 0);
        let started = Instant::now();
        while let Ok(frame) = receiver.receive(Duration::from_millis(1)) {
            queues.received.extend(frame);
            let socket = sockets.get_mut::<tcp::Socket>(handle);
            if socket.can_send() {
                sent += socket.send_slice(&body[sent..]).unwrap();
                if sent == LENGTH {
                    socket.close();
                }
            }
            let now = started.elapsed().as_micros() as i64;
            let now = smoltcp::time::Instant::from_micros(now);
            interface.poll(now, &mut queues, &mut sockets);
            for frame in queues.transmitted.drain(..) {
                if sender.send(&frame).is_err() {
                    return;
                }
            }
        }
    }

    #[test]
    fn a_stream_survives_a_lossy_cable() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || serve(theirs));
        let host = PeerHost::new(Peer::new(ours).unwrap(), 3);
        host.impair(Impairment::new(4, 10), Impairment::new(5, 10));
        let mut stream = host.connect(80).unwrap();
        let mut body = Vec::new();
        stream.read_to_end(&mut body).unwrap();
        assert!(body == expected(), "{} bytes came", body.len());
        let (to, from) = host.counts();
        assert!(from.dropped > 0 && from.reordered > 0, "{from:?}");
        assert!(to.frames > 100, "{to:?}");
        // The server listens no more: a refusal is an error, not a wait.
        let refused = host.connect(81).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
