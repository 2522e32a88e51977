//! Fragments that have come before the first one of their datagram.
//!
//! Only the first fragment names ports, so nobody knows yet whose they are. They
//! wait here for a while, for a bounded number of bytes.

use crate::fragments::Datagram;
use alloc::vec::Vec;
use segue_frame_channel::ReceivedFrame;

/// Frames that wait at once.
pub const FRAMES: usize = 32;
/// Frames of one datagram: without its first fragment, one of 9,216 bytes has six.
pub const FRAMES_OF_DATAGRAM: usize = 8;
/// Frames from one address.
pub const FRAMES_OF_PEER: usize = 16;
/// Longest frame that is kept, in bytes.
pub const MAXIMUM_LENGTH: usize = 1514;
/// How long a frame waits, in microseconds. What a network reorders comes within
/// milliseconds.
pub const LIFETIME_MICROSECONDS: u64 = 1_000_000;

/// A frame that waits.
#[derive(Debug)]
struct Waiting {
    datagram: Datagram,
    description: ReceivedFrame,
    at: u64,
    slot: usize,
}

/// All frames that wait. The default has no room for any.
#[derive(Debug, Default)]
pub struct EarlyFragments {
    /// In the order in which they came.
    waiting: Vec<Waiting>,
    /// Slots without a frame.
    free: Vec<usize>,
    /// [`FRAMES`] slots of [`MAXIMUM_LENGTH`] bytes.
    bytes: Vec<u8>,
}

impl EarlyFragments {
    /// Room for [`FRAMES`] frames, on the heap.
    pub fn new() -> Self {
        Self {
            waiting: Vec::with_capacity(FRAMES),
            free: (0..FRAMES).collect(),
            bytes: alloc::vec![0; FRAMES * MAXIMUM_LENGTH],
        }
    }

    /// Keeps a frame, which `read` reads from its start on. Returns how many
    /// frames were dropped: this one, or others for it.
    ///
    /// If there is no room, whoever has most frames here loses the oldest of them:
    /// a sender, or one who forges many senders' addresses, pushes out others' only
    /// until it has as many as they have.
    #[must_use = "dropped frames are counted"]
    pub fn keep(
        &mut self,
        datagram: Datagram,
        description: ReceivedFrame,
        now: u64,
        read: impl FnOnce(&mut [u8]),
    ) -> usize {
        let expired = self.expire(now);
        let of_datagram = self.count(|waiting| waiting.datagram == datagram);
        let of_peer = self.count(|waiting| waiting.datagram.peer == datagram.peer);
        if description.length > MAXIMUM_LENGTH
            || of_datagram >= FRAMES_OF_DATAGRAM
            || of_peer >= FRAMES_OF_PEER
        {
            return expired + 1;
        }
        let mut dropped = expired;
        if self.free.is_empty() {
            dropped += 1;
            if !self.make_room(of_peer) {
                return dropped;
            }
        }
        let Some(slot) = self.free.pop() else {
            return dropped + 1;
        };
        read(&mut self.bytes[slot * MAXIMUM_LENGTH..][..description.length]);
        self.waiting.push(Waiting {
            datagram,
            description,
            at: now,
            slot,
        });
        dropped
    }

    /// Gives the frames of a datagram whose first fragment has come to `deliver`,
    /// in the order in which they came. Returns how many frames were dropped since
    /// they have waited for too long.
    #[must_use = "dropped frames are counted"]
    pub fn take(
        &mut self,
        datagram: &Datagram,
        now: u64,
        mut deliver: impl FnMut(ReceivedFrame, &[u8]),
    ) -> usize {
        if self.waiting.is_empty() {
            return 0;
        }
        let expired = self.expire(now);
        let (bytes, free) = (&self.bytes, &mut self.free);
        self.waiting.retain(|waiting| {
            if waiting.datagram != *datagram {
                return true;
            }
            let frame = &bytes[waiting.slot * MAXIMUM_LENGTH..][..waiting.description.length];
            deliver(waiting.description, frame);
            free.push(waiting.slot);
            false
        });
        expired
    }

    /// Whether no frame waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn count(&self, is_meant: impl Fn(&Waiting) -> bool) -> usize {
        self.waiting.iter().filter(|frame| is_meant(frame)).count()
    }

    fn expire(&mut self, now: u64) -> usize {
        let before = self.waiting.len();
        let free = &mut self.free;
        self.waiting.retain(|waiting| {
            let lives = now.saturating_sub(waiting.at) <= LIFETIME_MICROSECONDS;
            if !lives {
                free.push(waiting.slot);
            }
            lives
        });
        before - self.waiting.len()
    }

    /// Drops the oldest frame of the peer that has most, if that is more than one
    /// who has `of_newcomer` would have with another one.
    fn make_room(&mut self, of_newcomer: usize) -> bool {
        let most = self
            .waiting
            .iter()
            .enumerate()
            .map(|(place, frame)| {
                let peer = frame.datagram.peer;
                let frames = self.count(|other| other.datagram.peer == peer);
                (frames, FRAMES - place, place)
            })
            .max();
        let Some((frames, _, place)) = most else {
            return false;
        };
        if frames <= of_newcomer + 1 {
            return false;
        }
        let lost = self.waiting.remove(place);
        self.free.push(lost.slot);
        true
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use segue_portmap_core::Protocol;
    use smoltcp::wire::Ipv4Address;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    fn datagram(peer: u8, identification: u16) -> Datagram {
        Datagram {
            ours: Ipv4Address::new(10, 0, 2, 15),
            peer: Ipv4Address::new(10, 0, 2, peer),
            protocol: Protocol::Udp,
            identification,
        }
    }

    fn keep(early: &mut EarlyFragments, datagram: Datagram, now: u64, content: &[u8]) -> usize {
        let description = ReceivedFrame {
            length: content.len(),
            checksums_verified: false,
        };
        early.keep(datagram, description, now, |to| to.copy_from_slice(content))
    }

    fn take(early: &mut EarlyFragments, datagram: &Datagram, now: u64) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let _ = early.take(datagram, now, |description, bytes| {
            assert_eq!(description.length, bytes.len());
            frames.push(bytes.to_vec());
        });
        frames
    }

    #[test]
    fn they_wait_for_the_first_one_and_not_for_ever() {
        let mut early = EarlyFragments::new();
        let (one, two) = (datagram(2, 1), datagram(2, 2));
        assert_eq!(keep(&mut early, one, 0, &[1; 100]), 0);
        assert_eq!(keep(&mut early, two, 0, &[2; 100]), 0);
        assert_eq!(keep(&mut early, one, 5, &[3; 1514]), 0);
        assert_eq!(take(&mut early, &one, 6), [vec_of(1, 100), vec_of(3, 1514)]);
        assert_eq!(take(&mut early, &one, 6), Vec::<Vec<u8>>::new());
        let late = LIFETIME_MICROSECONDS + 1;
        assert_eq!(early.take(&two, late, |_, _| panic!("too late")), 1);
        assert!(early.is_empty());
        assert_eq!(keep(&mut early, one, late, &[0; 1515]), 1, "too long");
    }

    fn vec_of(byte: u8, length: usize) -> Vec<u8> {
        std::vec![byte; length]
    }

    #[test]
    fn nobody_pushes_out_what_is_within_anothers_share() {
        let mut early = EarlyFragments::new();
        let victim = datagram(2, 7);
        for number in 0..6 {
            assert_eq!(keep(&mut early, victim, 0, &[number; 60]), 0);
        }
        // One sender alone has its limit.
        let dropped: usize = (0..100)
            .map(|number| keep(&mut early, datagram(3, number), 0, &[9; 60]))
            .sum();
        assert_eq!(dropped, 100 - FRAMES_OF_PEER);
        // Two together fill the rest, and take from each other alone.
        for number in 0..100 {
            let _ = keep(&mut early, datagram(4, number), 0, &[9; 60]);
            let _ = keep(&mut early, datagram(3, number), 0, &[9; 60]);
        }
        assert_eq!(take(&mut early, &victim, 0).len(), 6);
    }

    /// When a frame came, and its bytes.
    type Waiting = (u64, Vec<u8>);

    proptest! {
        /// Against a model without limits: what comes out went in, unchanged, in
        /// its order, to its datagram, in time; and every frame is accounted for.
        #[test]
        fn what_comes_out_went_in(
            steps in prop::collection::vec(
                (2u8..6, 0u16..4, any::<bool>(), 0u64..200_000, 60usize..1600),
                1..300,
            ),
        ) {
            let mut early = EarlyFragments::new();
            let mut model: BTreeMap<(u8, u16), Vec<Waiting>> = BTreeMap::new();
            let (mut now, mut kept, mut dropped, mut taken) = (0, 0, 0, 0);
            for (number, (peer, identification, first, wait, length)) in
                steps.into_iter().enumerate()
            {
                now += wait;
                let datagram = datagram(peer, identification);
                let entry = model.entry((peer, identification)).or_default();
                if first {
                    let mut frames = Vec::new();
                    dropped += early.take(&datagram, now, |_, bytes| frames.push(bytes.to_vec()));
                    taken += frames.len();
                    prop_assert!(frames.len() <= FRAMES_OF_DATAGRAM);
                    let mut possible = entry.iter();
                    for frame in frames {
                        let found = possible.find(|(_, content)| *content == frame);
                        let (at, _) = found.expect("it went in, and not before the one before it");
                        prop_assert!(now - at <= LIFETIME_MICROSECONDS);
                    }
                    entry.clear();
                } else {
                    let content = std::vec![number as u8; length];
                    dropped += keep(&mut early, datagram, now, &content);
                    kept += 1;
                    entry.push((now, content));
                }
                prop_assert!(early.waiting.len() + early.free.len() == FRAMES);
                for peer in 2..6 {
                    let peer = Ipv4Address::new(10, 0, 2, peer);
                    let frames = early.count(|frame| frame.datagram.peer == peer);
                    prop_assert!(frames <= FRAMES_OF_PEER);
                }
            }
            prop_assert_eq!(kept, dropped + taken + early.waiting.len());
        }
    }
}
