//! The frames of the client's interface.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Frames that wait to be sent; more are not made.
const WAITING: usize = 8;
/// Largest frame without check sequence.
const FRAME: usize = 1514;

/// One frame in, some frames out.
#[derive(Default)]
pub struct Queue {
    /// The frame that has come in.
    pub received: Option<Vec<u8>>,
    /// The frames that go out.
    pub transmitted: VecDeque<Vec<u8>>,
    /// Whether frames may go out.
    pub up: bool,
}

pub struct Received(Vec<u8>);

pub struct Transmit<'a>(&'a mut VecDeque<Vec<u8>>);

impl Device for Queue {
    type RxToken<'a> = Received;
    type TxToken<'a> = Transmit<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Transmit<'_>)> {
        if self.transmitted.len() >= WAITING {
            return None;
        }
        let frame = self.received.take()?;
        Some((Received(frame), Transmit(&mut self.transmitted)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Transmit<'_>> {
        (self.up && self.transmitted.len() < WAITING).then_some(Transmit(&mut self.transmitted))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }
}

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Transmit<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}
