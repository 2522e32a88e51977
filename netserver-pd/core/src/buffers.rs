//! Memory of the server that the network card reads: copies of headers, and the
//! server's own answers.

use crate::answer::MAXIMUM_ANSWER;
use segue_frame_channel::layout::MAXIMUM_HEADER_LENGTH;
use segue_shared_memory::PrivateRegion;

/// Answers that the card may hold at once.
const ANSWERS: usize = 16;
/// Bytes of an answer's buffer.
const ANSWER_SIZE: usize = 2048;

const _: () = assert!(MAXIMUM_ANSWER <= ANSWER_SIZE);

/// Two rings of buffers, each used in turn: the network card completes frames
/// in order. The answers lie behind the headers.
#[derive(Debug)]
pub struct Buffers {
    region: PrivateRegion,
    headers: Ring,
    answers: Ring,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ring {
    count: usize,
    next: usize,
    used: usize,
}

impl Ring {
    fn is_full(&self) -> bool {
        self.used == self.count
    }

    fn take(&mut self) {
        self.next += 1;
        if self.next == self.count {
            self.next = 0;
        }
        self.used += 1;
    }

    fn release(&mut self) {
        self.used = self.used.saturating_sub(1);
    }
}

impl Buffers {
    /// Buffers in this memory; `None` if it is too small.
    pub fn new(region: PrivateRegion) -> Option<Self> {
        let for_headers = region.length().checked_sub(ANSWERS * ANSWER_SIZE)?;
        let ring = |count| Ring {
            count,
            ..Ring::default()
        };
        let headers = ring(for_headers / MAXIMUM_HEADER_LENGTH);
        (headers.count > 0).then_some(Self {
            region,
            headers,
            answers: ring(ANSWERS),
        })
    }

    /// Whether there is no buffer for headers.
    pub fn is_full(&self) -> bool {
        self.headers.is_full()
    }

    /// The buffer that [`Self::take`] would take, cut to `length`, and its
    /// device address.
    pub fn header(&mut self, length: usize) -> (&mut [u8], u64) {
        let offset = self.headers.next * MAXIMUM_HEADER_LENGTH;
        self.slice(offset, length.min(MAXIMUM_HEADER_LENGTH))
    }

    /// The buffer that [`Self::take_answer`] would take, and its device
    /// address; `None` if there is none.
    pub fn answer(&mut self) -> Option<(&mut [u8], u64)> {
        if self.answers.is_full() {
            return None;
        }
        let offset = self.headers.count * MAXIMUM_HEADER_LENGTH + self.answers.next * ANSWER_SIZE;
        Some(self.slice(offset, MAXIMUM_ANSWER))
    }

    fn slice(&mut self, offset: usize, length: usize) -> (&mut [u8], u64) {
        let address = self.region.device_address() + offset as u64;
        let bytes = self.region.slice_mut(offset, length).unwrap_or_default();
        (bytes, address)
    }

    /// The card has been given the buffer for headers.
    pub fn take(&mut self) {
        self.headers.take();
    }

    /// The card is done with the oldest headers.
    pub fn release(&mut self) {
        self.headers.release();
    }

    /// The card has been given the answer.
    pub fn take_answer(&mut self) {
        self.answers.take();
    }

    /// The card is done with the oldest answer.
    pub fn release_answer(&mut self) {
        self.answers.release();
    }
}
