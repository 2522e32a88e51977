//! Who hangs: has work, and makes no progress.
//!
//! Each protection domain shows in a page of its own whether it is at work and counts what it
//! has finished ([`sel4_microkit_abi::watch`]). `init` looks at these words by its own clock, which
//! needs nobody else. Whoever is at work without progress is to blame, unless somebody more important
//! is at work too: then it may only have had no turn, or waits for an answer of that one.

use core::sync::atomic::Ordering::Relaxed;

use segue_shared_memory::Region;
use segue_system_image::Payload;
use segue_system_image::format::limits;
use sel4_microkit_abi::watch;

use crate::builder::Builder;
use crate::failure::Failure;

/// How often the words are looked at in the shortest heartbeat.
const LOOKS: u32 = 4;
/// At most so often, in microseconds.
const SHORTEST_PERIOD: u64 = 5_000;

/// What was seen of a protection domain.
#[derive(Clone, Copy)]
struct Seen {
    page: Option<Region>,
    activity: u64,
    /// When `activity` was first seen, in microseconds.
    since: u64,
    /// How often it has been seen again, at work, with nobody more important at work.
    again: u32,
}

/// Looks at everybody's work.
pub(crate) struct Heartbeats {
    payload: Payload<'static>,
    seen: [Seen; limits::PROTECTION_DOMAINS],
    /// The pages of their first images, and of others.
    first_pages: [Option<Region>; limits::PROTECTION_DOMAINS],
    image_pages: [Option<Region>; limits::IMAGES],
    /// Microseconds between two looks; `None` if nobody is watched.
    period: Option<u64>,
    /// When the next one is due, in microseconds.
    next: u64,
}

impl Heartbeats {
    /// Takes all pages into view.
    pub(crate) fn new(builder: &mut Builder<'_>) -> Result<Self, Failure> {
        let payload = builder.payload;
        let nothing = Seen {
            page: None,
            activity: 0,
            since: 0,
            again: 0,
        };
        let mut seen = [nothing; limits::PROTECTION_DOMAINS];
        let mut first_pages = [None; limits::PROTECTION_DOMAINS];
        for (index, domain) in payload.protection_domains.iter().enumerate() {
            let frame = builder.buffer(domain.runs)?;
            first_pages[index] = Some(builder.window.keep(builder.allocator, frame, 1)?);
            seen[index].page = first_pages[index];
        }
        let mut image_pages = [None; limits::IMAGES];
        for (index, image) in payload.images.iter().enumerate() {
            let frame = builder.buffer(image.runs)?;
            image_pages[index] = Some(builder.window.keep(builder.allocator, frame, 1)?);
        }
        let heartbeats = payload.protection_domains.iter();
        let shortest = heartbeats
            .map(|domain| domain.heartbeat)
            .filter(|heartbeat| *heartbeat > 0)
            .min();
        let period = shortest
            .map(|shortest| (u64::from(shortest) * 1000 / u64::from(LOOKS)).max(SHORTEST_PERIOD));
        Ok(Self {
            payload,
            seen,
            first_pages,
            image_pages,
            period,
            next: 0,
        })
    }

    /// A protection domain runs another image from now on.
    pub(crate) fn change_image(&mut self, index: usize, image: Option<usize>) {
        self.seen[index].page = match image {
            Some(image) => self.image_pages[image],
            None => self.first_pages[index],
        };
        self.forget(index);
    }

    /// Whether a protection domain says that it is able to do what it is for.
    pub(crate) fn is_ready(&self, index: usize) -> bool {
        let page = self.seen[index].page;
        page.is_some_and(|page| page.load64(watch::READY, Relaxed) != 0)
    }

    /// What a protection domain has written of its work.
    pub(crate) fn copy(&self, index: usize, to: &mut [u8; watch::LENGTH]) {
        match self.seen[index].page {
            Some(page) => page.read(watch::START, to),
            None => to.fill(0),
        }
    }

    /// When somebody is to be looked at, in microseconds.
    pub(crate) fn due(&self) -> Option<u64> {
        self.period.map(|_| self.next)
    }

    /// Its life is over: it is not at work.
    pub(crate) fn end(&mut self, index: usize) {
        if let Some(page) = self.seen[index].page {
            page.store64(watch::ACTIVITY, 0, Relaxed);
        }
        self.forget(index);
    }

    /// A new life, or none: what was seen counts no more.
    pub(crate) fn forget(&mut self, index: usize) {
        self.seen[index].activity = 0;
        self.seen[index].again = 0;
    }

    /// Looks at everybody, if it is time. Yields one that hangs, and for how many microseconds it
    /// is known to have made no progress.
    pub(crate) fn look(&mut self, now: u64) -> Option<(usize, u64)> {
        let period = self.period.filter(|_| now >= self.next)?;
        self.next = now + period;
        let domains = self.payload.protection_domains;
        let mut busiest = None;
        for (seen, domain) in self.seen.iter_mut().zip(domains) {
            let Some(page) = seen.page else { continue };
            let activity = page.load64(watch::ACTIVITY, Relaxed);
            if activity & 1 != 0 {
                busiest = busiest.max(Some(domain.priority));
            }
            if activity != seen.activity {
                seen.activity = activity;
                seen.since = now;
                seen.again = 0;
            }
        }
        for (index, (seen, domain)) in self.seen.iter_mut().zip(domains).enumerate() {
            // Those who are only more important than nobody at work may be to blame.
            let is_at_work = seen.activity & 1 != 0 && seen.since != now;
            if !is_at_work || domain.heartbeat == 0 || busiest > Some(domain.priority) {
                continue;
            }
            seen.again += 1;
            // Looks, not time: a machine that its host stops for a while has made none.
            if u64::from(seen.again) * period >= u64::from(domain.heartbeat) * 1000 - period {
                return Some((index, now.saturating_sub(seen.since)));
            }
        }
        None
    }
}
