//! IPv4 datagrams that come in fragments, put together in any order.
//!
//! Bounded in memory: a few datagrams at once, none longer than 9,216 bytes. The
//! oldest makes room for a new one. A fragment that overlaps another one with
//! other bytes condemns the whole datagram (RFC 5722, in its spirit also for
//! IPv4); one that merely repeats what is there is a copy that the network made.

use crate::wire::{ETHERNET_HEADER, IPV4_HEADER, fold, sum, word};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use smoltcp::time::{Duration, Instant};

/// Datagrams under way at once.
pub const MOST_DATAGRAMS: usize = 8;
/// Longest payload of a datagram, IPv4 header not included.
pub const LARGEST_PAYLOAD: usize = 9216;
/// How long a datagram may take from its first fragment to its last (RFC 791, 3.2,
/// proposes 15 seconds).
pub const TIMEOUT: Duration = Duration::from_secs(15);

/// Fragments begin and, but for the last one, end at multiples of this.
const BLOCK: usize = 8;
const BLOCKS: usize = LARGEST_PAYLOAD / BLOCK;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// What the fragments of a datagram have in common (RFC 791, 3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    addresses: [u8; 8],
    identification: [u8; 2],
    protocol: u8,
}

/// What became of a fragment.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It was kept, or is one that was there already.
    Kept,
    /// It belongs to nothing that could become a datagram.
    Dropped,
    /// It completes this frame, with an IPv4 header without options.
    Complete(&'a [u8]),
}

struct Datagram {
    name: Name,
    begun: Instant,
    /// Where its payload is.
    slot: usize,
    /// One bit for each block that is there.
    present: [u64; BLOCKS.div_ceil(64)],
    /// Bytes that are there.
    bytes: usize,
    /// Its length, once the last fragment is there.
    length: Option<usize>,
    /// After the last byte that is there.
    end: usize,
    /// Fragments contradict each other: nothing will come of it.
    condemned: bool,
}

/// Datagrams under way.
#[derive(Default)]
pub struct Reassembly {
    /// In the order they began.
    datagrams: Vec<Datagram>,
    /// Frames of the longest kind; made when they are needed first.
    slots: Vec<Box<[u8]>>,
    free: Vec<usize>,
}

const HEADERS: usize = ETHERNET_HEADER + IPV4_HEADER;

impl Datagram {
    fn has(&self, block: usize) -> bool {
        self.present[block / 64] >> (block % 64) & 1 != 0
    }

    /// Adds a fragment's payload. Returns false if it contradicts what is there.
    fn add(&mut self, frame: &mut [u8], offset: usize, payload: &[u8], last: bool) -> bool {
        let end = offset + payload.len();
        if self
            .length
            .is_some_and(|length| end > length || (last && end != length))
            || (last && self.end > end)
        {
            return false;
        }
        let blocks = offset / BLOCK..end.div_ceil(BLOCK);
        let there = blocks.clone().filter(|&block| self.has(block)).count();
        let place = &mut frame[HEADERS + offset..HEADERS + end];
        if there != 0 {
            // Blocks of which the last fragment fills a part are there as a whole: its
            // end is known, so nothing else can end in them.
            let copy = there == blocks.len() && place == payload;
            if copy && last {
                self.length = Some(end);
            }
            return copy;
        }
        place.copy_from_slice(payload);
        for block in blocks {
            self.present[block / 64] |= 1 << (block % 64);
        }
        self.bytes += payload.len();
        self.end = self.end.max(end);
        if last {
            self.length = Some(end);
        }
        true
    }
}

impl Reassembly {
    /// Takes in a frame with a fragment, whose lengths and addresses were checked.
    pub fn receive(&mut self, frame: &[u8], now: Instant) -> Outcome<'_> {
        self.expire(now);
        let Some((header, payload)) = parts(frame) else {
            return Outcome::Dropped;
        };
        let field = u16::from_be_bytes([header[6], header[7]]);
        let offset = usize::from(field & OFFSET) * BLOCK;
        let last = field & MORE_FRAGMENTS == 0;
        if payload.is_empty()
            || offset + payload.len() > LARGEST_PAYLOAD
            || (!last && payload.len() % BLOCK != 0)
        {
            return Outcome::Dropped;
        }
        let mut name = Name {
            addresses: [0; 8],
            identification: [header[4], header[5]],
            protocol: header[9],
        };
        name.addresses.copy_from_slice(&header[12..20]);
        let at = match self.datagrams.iter().position(|known| known.name == name) {
            Some(at) => at,
            None => self.begin(name, now),
        };
        let datagram = &mut self.datagrams[at];
        if datagram.condemned {
            return Outcome::Dropped;
        }
        let slot = &mut self.slots[datagram.slot];
        if !datagram.add(slot, offset, payload, last) {
            // It stays, so that what is still to come is dropped, too.
            datagram.condemned = true;
            return Outcome::Dropped;
        }
        if offset == 0 {
            slot[..ETHERNET_HEADER].copy_from_slice(&frame[..ETHERNET_HEADER]);
            slot[ETHERNET_HEADER..HEADERS].copy_from_slice(&header[..IPV4_HEADER]);
        }
        if datagram.length != Some(datagram.bytes) {
            return Outcome::Kept;
        }
        let datagram = self.datagrams.remove(at);
        self.free.push(datagram.slot);
        let length = HEADERS + datagram.bytes;
        let frame = &mut self.slots[datagram.slot][..length];
        let ip = &mut frame[ETHERNET_HEADER..];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&((length - ETHERNET_HEADER) as u16).to_be_bytes());
        ip[6..8].fill(0);
        ip[10..12].fill(0);
        let checksum = !fold(sum(0, &ip[..IPV4_HEADER]));
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        Outcome::Complete(frame)
    }

    /// A place for a new datagram.
    fn begin(&mut self, name: Name, now: Instant) -> usize {
        if self.datagrams.len() >= MOST_DATAGRAMS {
            // What is condemned goes first, else the oldest.
            let at = self
                .datagrams
                .iter()
                .position(|datagram| datagram.condemned)
                .unwrap_or(0);
            self.free.push(self.datagrams.remove(at).slot);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots
                .push(vec![0; HEADERS + LARGEST_PAYLOAD].into_boxed_slice());
            self.slots.len() - 1
        });
        self.datagrams.push(Datagram {
            name,
            begun: now,
            slot,
            present: [0; BLOCKS.div_ceil(64)],
            bytes: 0,
            length: None,
            end: 0,
            condemned: false,
        });
        self.datagrams.len() - 1
    }

    /// Forgets what has taken too long. No timer is needed: what is too old takes up a
    /// bounded place until the next fragment comes.
    fn expire(&mut self, now: Instant) {
        while let Some(first) = self.datagrams.first() {
            if first.begun + TIMEOUT > now {
                break;
            }
            self.free.push(first.slot);
            self.datagrams.remove(0);
        }
    }
}

/// The IPv4 header and the payload of a frame, if the header's sum is right.
fn parts(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let ip = frame.get(ETHERNET_HEADER..)?;
    let length = usize::from(ip.first()? & 15) * 4;
    let total = (word(ip.get(..4)?, 0) & 0xffff) as usize;
    if length < IPV4_HEADER || fold(sum(0, ip.get(..length)?)) != 0xffff {
        return None;
    }
    ip.get(..total)?.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn frame(
        source: u8,
        identification: u16,
        offset: usize,
        payload: &[u8],
        more: bool,
    ) -> Vec<u8> {
        let mut frame = vec![0; HEADERS];
        frame[12] = 8;
        let ip = &mut frame[ETHERNET_HEADER..];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&((IPV4_HEADER + payload.len()) as u16).to_be_bytes());
        ip[4..6].copy_from_slice(&identification.to_be_bytes());
        let field = (offset / BLOCK) as u16 | if more { MORE_FRAGMENTS } else { 0 };
        ip[6..8].copy_from_slice(&field.to_be_bytes());
        ip[8] = 64;
        ip[9] = 17;
        ip[12..20].copy_from_slice(&[10, 0, 2, source, 10, 0, 2, 15]);
        let checksum = !fold(sum(0, ip));
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    fn bytes(length: usize, salt: u8) -> Vec<u8> {
        (0..length)
            .map(|at| (at * 7 + at / 251) as u8 ^ salt)
            .collect()
    }

    fn complete(outcome: Outcome<'_>) -> Option<Vec<u8>> {
        match outcome {
            Outcome::Complete(frame) => {
                let (header, payload) = parts(frame).expect("a wrong frame");
                assert_eq!(header[6..8], [0, 0]);
                Some(payload.to_vec())
            }
            _ => None,
        }
    }

    #[test]
    fn what_is_impossible_is_dropped() {
        let mut reassembly = Reassembly::default();
        let now = Instant::from_secs(1);
        for wrong in [
            frame(2, 1, 0, &[], true),
            frame(2, 1, 0, &[1; 9], true),
            frame(2, 1, LARGEST_PAYLOAD, &[1], false),
            frame(2, 1, 65_528, &[1; 100], false),
            frame(2, 1, LARGEST_PAYLOAD - 8, &[1; 9], false),
        ] {
            assert_eq!(reassembly.receive(&wrong, now), Outcome::Dropped);
        }
        let mut summed_wrongly = frame(2, 1, 0, &[1; 8], true);
        summed_wrongly[24] ^= 1;
        assert_eq!(reassembly.receive(&summed_wrongly, now), Outcome::Dropped);
        let whole = frame(2, 1, 0, &[1; 8], true);
        for length in 0..whole.len() {
            assert_eq!(reassembly.receive(&whole[..length], now), Outcome::Dropped);
        }
        assert!(reassembly.datagrams.is_empty() && reassembly.slots.is_empty());
    }

    #[test]
    fn contradictions_condemn_a_datagram() {
        let payload = bytes(3000, 0);
        let first = frame(2, 1, 0, &payload[..1480], true);
        let last = frame(2, 1, 1480, &payload[1480..], false);
        let now = Instant::from_secs(1);
        for wrong in [
            // Over a part of the first, before it, inside it, with other bytes.
            frame(2, 1, 1472, &[9; 16], true),
            frame(2, 1, 8, &payload[8..16], false),
            frame(2, 1, 0, &bytes(1480, 1), true),
            // An end before what is there.
            frame(2, 1, 0, &payload[..8], false),
        ] {
            let mut reassembly = Reassembly::default();
            assert_eq!(reassembly.receive(&first, now), Outcome::Kept);
            assert_eq!(reassembly.receive(&wrong, now), Outcome::Dropped);
            // Nothing comes of it any more, whatever follows.
            assert_eq!(reassembly.receive(&first, now), Outcome::Dropped);
            assert_eq!(reassembly.receive(&last, now), Outcome::Dropped);
            // After its time the name is free again.
            let later = now + TIMEOUT;
            assert_eq!(reassembly.receive(&last, later), Outcome::Kept);
            let whole = complete(reassembly.receive(&first, later));
            assert!(whole.as_ref() == Some(&payload));
        }
        let mut reassembly = Reassembly::default();
        reassembly.receive(&last, now);
        // Two ends, and something after the end.
        assert_eq!(
            reassembly.receive(&frame(2, 1, 0, &payload[..1480], false), now),
            Outcome::Dropped
        );
        assert_eq!(
            reassembly.receive(&frame(2, 1, 3000, &[0; 8], true), now),
            Outcome::Dropped
        );
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes() {
        let mut reassembly = Reassembly::default();
        let now = Instant::from_secs(1);
        for identification in 0..1000 {
            let outcome = reassembly.receive(&frame(2, identification, 0, &[1; 8], true), now);
            assert_eq!(outcome, Outcome::Kept);
        }
        assert_eq!(reassembly.slots.len(), MOST_DATAGRAMS);
        assert_eq!(reassembly.datagrams.len(), MOST_DATAGRAMS);
        let last = |identification| frame(2, identification, 8, &[2; 3], false);
        assert!(complete(reassembly.receive(&last(999), now)).is_some());
        assert!(complete(reassembly.receive(&last(990), now)).is_none());
    }

    proptest! {
        /// Several datagrams at once, cut anywhere, in any order, some fragments twice,
        /// some missing: what has all its fragments arrives once, byte for byte, and
        /// nothing else does.
        #[test]
        fn datagrams_arrive_whole_in_any_order(
            datagrams in proptest::collection::vec(
                (1usize..=LARGEST_PAYLOAD, proptest::collection::vec(1usize..400, 0..8), any::<bool>()),
                1..=MOST_DATAGRAMS,
            ),
            order in any::<u64>(),
            repeated in any::<u64>(),
        ) {
            let mut frames = vec![];
            let mut expected = BTreeMap::new();
            for (index, (length, cuts, missing)) in datagrams.iter().enumerate() {
                let payload = bytes(*length, index as u8);
                let mut cuts: Vec<_> = cuts
                    .iter()
                    .scan(0, |at, cut| {
                        *at += cut * BLOCK;
                        Some(*at)
                    })
                    .take_while(|at| at < length)
                    .collect();
                cuts.insert(0, 0);
                cuts.push(*length);
                let pieces = cuts.len() - 1;
                let left_out = missing.then_some(order as usize % pieces);
                for piece in (0..pieces).filter(|&piece| Some(piece) != left_out) {
                    let (from, to) = (cuts[piece], cuts[piece + 1]);
                    // Half of them differ in their sender only.
                    let identification = (index / 2) as u16;
                    frames.push(frame(
                        (index % 2) as u8,
                        identification,
                        from,
                        &payload[from..to],
                        to < *length,
                    ));
                }
                if left_out.is_none() {
                    expected.insert(index as u8, payload);
                }
            }
            let mut numbers = order | 1;
            let mut next = |below: usize| {
                numbers = numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (numbers >> 33) as usize % below
            };
            // Repetitions of fragments of datagrams that are not complete yet.
            let mut copies = vec![];
            for at in (1..frames.len()).rev() {
                frames.swap(at, next(at + 1));
            }
            let mut reassembly = Reassembly::default();
            let now = Instant::from_secs(1);
            let mut arrived: Vec<Vec<u8>> = vec![];
            for (at, frame) in frames.iter().enumerate() {
                match reassembly.receive(frame, now) {
                    Outcome::Complete(whole) => {
                        let whole = parts(whole).unwrap().1.to_vec();
                        copies.retain(|copy: &Vec<u8>| copy[18..20] != frame[18..20] || copy[26..30] != frame[26..30]);
                        arrived.push(whole);
                    }
                    outcome => {
                        prop_assert_eq!(outcome, Outcome::Kept);
                        copies.push(frame.clone());
                    }
                }
                if repeated >> (at % 64) & 1 != 0 && !copies.is_empty() {
                    let copy = &copies[next(copies.len())];
                    prop_assert_eq!(reassembly.receive(copy, now), Outcome::Kept);
                }
            }
            arrived.sort();
            let mut expected: Vec<_> = expected.into_values().collect();
            expected.sort();
            prop_assert!(arrived == expected);
        }

        /// Against a map of bytes: whatever fragments come, a datagram is complete when
        /// the map is, with the map's bytes, and never after a contradiction.
        #[test]
        fn any_fragments(
            pieces in proptest::collection::vec((0usize..8, 1usize..40, any::<bool>(), 0u8..3), 1..40),
        ) {
            let mut reassembly = Reassembly::default();
            let now = Instant::from_secs(1);
            let mut known: BTreeMap<usize, u8> = BTreeMap::new();
            let mut length = None;
            let mut condemned = false;
            for (block, size, more, salt) in pieces {
                let size = if more { size.div_ceil(8) * 8 } else { size };
                let offset = block * 8;
                let mut payload = bytes(offset + size, 0)[offset..].to_vec();
                if salt == 0 && size > 3 {
                    payload[3] ^= 1;
                }
                let end = offset + size;
                let there = (offset..end).filter(|at| known.contains_key(at)).count();
                // A block that the end fills in part is taken as a whole.
                let touches = (offset / 8 * 8..end.div_ceil(8) * 8).any(|at| known.contains_key(&at));
                let same = there == size
                    && (offset..end).all(|at| known[&at] == payload[at - offset]);
                let highest = known.keys().next_back().map_or(0, |at| at + 1);
                let contradicts = length.is_some_and(|length| end > length || (!more && end != length))
                    || (!more && highest > end)
                    || (touches && !same);
                let outcome = reassembly.receive(&frame(2, 1, offset, &payload, more), now);
                if condemned || contradicts {
                    condemned = true;
                    prop_assert_eq!(outcome, Outcome::Dropped);
                    continue;
                }
                known.extend((offset..end).zip(payload));
                if !more {
                    length = Some(end);
                }
                if length == Some(known.len()) {
                    let whole: Vec<u8> = core::mem::take(&mut known).into_values().collect();
                    length = None;
                    prop_assert!(complete(outcome) == Some(whole));
                } else {
                    prop_assert_eq!(outcome, Outcome::Kept);
                }
            }
        }
    }
}
