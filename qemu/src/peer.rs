//! The other end of the machine's cable: sees every frame and sends any bytes.
//!
//! QEMU's `stream` network: each frame is its length (4 bytes, big-endian), then the frame.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::thread;
use std::time::Duration;

/// Longer frames do not come from QEMU: 64 KiB and headers.
const MAXIMUM_FRAME: usize = 68 * 1024;

/// The other end of the machine's cable.
pub struct Peer {
    sender: FrameSender,
    receiver: FrameReceiver,
}

/// Sends frames to the machine.
pub struct FrameSender(UnixStream);

/// Receives the frames that the machine sends.
pub struct FrameReceiver(Receiver<Vec<u8>>);

impl Peer {
    /// `stream` is connected to QEMU's `stream` network.
    ///
    /// # Errors
    /// If the stream cannot be duplicated.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        let mut incoming = stream.try_clone()?;
        let (frames, receiver) = channel();
        // Always reading keeps QEMU from ever waiting for us. Ends when QEMU closes its end.
        thread::spawn(move || {
            while let Ok(Some(frame)) = read_frame(&mut incoming) {
                if frames.send(frame).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            sender: FrameSender(stream),
            receiver: FrameReceiver(receiver),
        })
    }

    /// Sends one frame, whatever its bytes are.
    ///
    /// # Errors
    /// If QEMU has closed its end.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.sender.send(frame)
    }

    /// The next frame from the machine, or `None` if none comes within `timeout`.
    ///
    /// # Errors
    /// If QEMU has closed its end.
    pub fn receive(&mut self, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
        self.receiver.receive(timeout)
    }

    /// The two directions, for two threads.
    pub fn split(self) -> (FrameSender, FrameReceiver) {
        (self.sender, self.receiver)
    }
}

impl FrameSender {
    /// Sends one frame, whatever its bytes are.
    ///
    /// # Errors
    /// If QEMU has closed its end.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let length = u32::try_from(frame.len())
            .ok()
            .filter(|&length| length as usize <= MAXIMUM_FRAME)
            .ok_or_else(|| io::Error::other("QEMU takes no frame of this length"))?;
        let mut message = Vec::with_capacity(4 + frame.len());
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(frame);
        self.0.write_all(&message)
    }
}

impl FrameReceiver {
    /// The next frame from the machine, or `None` if none comes within `timeout`.
    ///
    /// # Errors
    /// If QEMU has closed its end.
    pub fn receive(&mut self, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
        match self.0.recv_timeout(timeout) {
            Ok(frame) => Ok(Some(frame)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(closed()),
        }
    }

    /// The next frame if one has already come.
    ///
    /// # Errors
    /// If QEMU has closed its end.
    pub fn try_receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.0.try_recv() {
            Ok(frame) => Ok(Some(frame)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(closed()),
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "QEMU closed the network")
}

fn read_frame(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAXIMUM_FRAME {
        return Err(io::Error::other("frame too long"));
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame)?;
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_pass_both_ways_and_an_end_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut peer = Peer::new(ours).unwrap();
        let mut other = Peer::new(theirs).unwrap();
        let wait = Duration::from_secs(10);
        peer.send(&[1, 2, 3]).unwrap();
        peer.send(&[]).unwrap();
        assert_eq!(other.receive(wait).unwrap().unwrap(), [1, 2, 3]);
        assert_eq!(other.receive(wait).unwrap().unwrap(), [0; 0]);
        assert!(peer.receive(Duration::from_millis(10)).unwrap().is_none());
        assert!(peer.send(&vec![0; MAXIMUM_FRAME + 1]).is_err());
        // Both duplicates of the other end must close: its reader ends when ours is shut.
        peer.sender.0.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(other.receive(wait).is_err());
    }
}
