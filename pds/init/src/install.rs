//! Taking over a program that was sent to the machine.
//!
//! Who has received it has written it to the staging region, and can still change it at any time. So each
//! page is copied first; what is hashed, checked and kept is the copy. It is done a page at a time, when
//! nobody more important has work.

use segue_status::orders::Outcome;
use segue_system_image::format::{SENT_IMAGE_START, limits};
use segue_upgrade_package::{HEADER_SIZE, Header, Pages, RECORD_SIZE};
use sel4::cap::Page;
use sel4::{CapRights, VmAttributes};
use sha2::{Digest, Sha256};

use crate::builder::Builder;
use crate::failure::{Doing, Failure};

const PAGE: usize = 4096;
/// Most pages of a program that is sent.
pub(crate) const MOST_PAGES: usize =
    (segue_system_image::format::LARGEST_SENT_IMAGE >> 12) as usize;

const _: () = assert!(SENT_IMAGE_START == segue_upgrade_package::BASE);
const _: () = assert!(HEADER_SIZE.is_multiple_of(RECORD_SIZE) && PAGE.is_multiple_of(RECORD_SIZE));

/// What becomes of a page of a place for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The program does not have it.
    None,
    /// It may read it.
    Read,
    /// It may write it; it starts as it was sent.
    Written,
    /// It may write it; it starts with zeroes.
    Zero,
}

/// A program that was sent, and what is kept of it.
#[derive(Clone, Copy)]
pub(crate) struct Sent {
    /// Its place among the images.
    pub(crate) image: usize,
    /// First instruction; 0 if there is no program.
    pub(crate) entry: u64,
    /// What each page from the start of the place on is used for.
    pub(crate) pages: [Use; MOST_PAGES],
}

/// Nothing was sent.
pub(crate) const NOTHING_SENT: Sent = Sent {
    image: usize::MAX,
    entry: 0,
    pages: [Use::None; MOST_PAGES],
};

/// A package that is being taken over.
pub(crate) struct Install {
    image: usize,
    /// Bytes of the package without its signature, and how many of them are done.
    length: u64,
    done: u64,
    expected: [u8; 32],
    hasher: Sha256,
    header: Option<(Header, Pages)>,
    /// Page records that are still to come.
    records: u32,
    /// Place of each stored page, in the order of the package.
    stored: [u16; MOST_PAGES],
    stored_count: usize,
}

impl Install {
    /// Begins to take over a package of `length` bytes with this hash, in place of what was sent before.
    pub(crate) fn new(
        builder: &mut Builder<'_>,
        image: usize,
        length: u64,
        expected: &[u8; 32],
    ) -> Result<Self, Outcome> {
        let staging = builder.staging.ok_or(Outcome::Unknown)?;
        let room = builder.payload.regions[staging].size;
        if length > room {
            return Err(Outcome::TooLarge);
        }
        if length < PAGE as u64 {
            return Err(Outcome::Malformed);
        }
        let sent = builder.sent(image).ok_or(Outcome::Unknown)?;
        sent.entry = 0;
        Ok(Self {
            image,
            length,
            done: 0,
            expected: *expected,
            hasher: Sha256::new(),
            header: None,
            records: 0,
            stored: [0; MOST_PAGES],
            stored_count: 0,
        })
    }

    /// Takes the next page; says whether that was the last.
    pub(crate) fn step(&mut self, builder: &mut Builder<'_>) -> Result<bool, Outcome> {
        let mut bytes = [0; PAGE];
        let staging = builder.staging.ok_or(Outcome::Unknown)?;
        let frame = u64::from(builder.slots.regions[staging]) + (self.done >> 12);
        let length = (self.length - self.done).min(PAGE as u64) as usize;
        builder
            .window
            .look(frame, 12, CapRights::READ, |memory| {
                memory.read(0, &mut bytes[..length]);
            })
            .map_err(refused)?;
        self.hasher.update(&bytes[..length]);
        if self.done == 0 {
            self.begin(builder, &bytes)?;
        }
        self.take(builder, &bytes[..length])?;
        self.done += length as u64;
        if self.done < self.length {
            return Ok(false);
        }
        self.finish(builder)?;
        Ok(true)
    }

    fn begin(&mut self, builder: &mut Builder<'_>, bytes: &[u8; PAGE]) -> Result<(), Outcome> {
        let head = bytes.first_chunk().ok_or(Outcome::Malformed)?;
        let header = Header::read(head).map_err(|_| Outcome::Malformed)?;
        let image = &builder.payload.images[self.image];
        if header.domain() != builder.name_of(image.protection_domain as usize) {
            return Err(Outcome::Malformed);
        }
        let size = image.sent_size;
        if u64::from(header.pages) > size >> 12 {
            return Err(Outcome::TooLarge);
        }
        // Nothing of an earlier program stays in sight.
        let slots = builder.slots.images[self.image];
        for page in 0..size >> 12 {
            // Fails for those that are not mapped.
            let _ = Page(slots.kept + page).unmap();
            let _ = Page(slots.own + page).unmap();
        }
        if let Some(sent) = builder.sent(self.image) {
            sent.pages = [Use::None; MOST_PAGES];
        }
        self.records = header.pages;
        self.header = Some((header, Pages::new(&header, size)));
        Ok(())
    }

    /// Takes page records and pages out of the page of the package that comes next.
    fn take(&mut self, builder: &mut Builder<'_>, bytes: &[u8]) -> Result<(), Outcome> {
        let Some((header, mut pages)) = self.header else {
            return Err(Outcome::Malformed);
        };
        let offset = header.pages_offset();
        if self.done >= offset {
            let stored = ((self.done - offset) >> 12) as usize;
            let place = *self.stored[..self.stored_count]
                .get(stored)
                .ok_or(Outcome::Malformed)?;
            let kept = builder.slots.images[self.image].kept + u64::from(place);
            let whole: &[u8; PAGE] = bytes.try_into().map_err(|_| Outcome::Malformed)?;
            return builder
                .window
                .look(kept, 12, CapRights::READ_WRITE, |memory| {
                    memory.write(0, whole);
                })
                .map_err(refused);
        }
        let start = if self.done == 0 { HEADER_SIZE } else { 0 };
        let records = bytes.get(start..).unwrap_or(&[]);
        for record in records.chunks_exact(RECORD_SIZE) {
            let Ok(record) = <&[u8; RECORD_SIZE]>::try_from(record) else {
                return Err(Outcome::Malformed);
            };
            if self.records == 0 {
                // Zeroes up to the pages.
                if *record != [0; RECORD_SIZE] {
                    return Err(Outcome::Malformed);
                }
                continue;
            }
            self.records -= 1;
            let page = pages.page(record).map_err(|_| Outcome::Malformed)?;
            let place = ((page.address - SENT_IMAGE_START) >> 12) as usize;
            let sent = builder.sent(self.image).ok_or(Outcome::Unknown)?;
            let used = sent.pages.get_mut(place).ok_or(Outcome::TooLarge)?;
            *used = match (page.is_writable, page.stored) {
                (false, _) => Use::Read,
                (true, Some(_)) => Use::Written,
                (true, None) => Use::Zero,
            };
            if page.stored.is_some() {
                let next = self.stored.get_mut(self.stored_count);
                *next.ok_or(Outcome::TooLarge)? = place as u16;
                self.stored_count += 1;
            } else {
                let kept = builder.slots.images[self.image].kept + place as u64;
                builder
                    .window
                    .look(kept, 12, CapRights::READ_WRITE, |memory| {
                        memory.clear(0, PAGE);
                    })
                    .map_err(refused)?;
            }
        }
        self.header = Some((header, pages));
        Ok(())
    }

    /// Compares the hash, and gives the program its pages.
    fn finish(&mut self, builder: &mut Builder<'_>) -> Result<(), Outcome> {
        let hash: [u8; 32] = self.hasher.finalize_reset().into();
        if hash != self.expected {
            return Err(Outcome::Damaged);
        }
        let (header, pages) = self.header.ok_or(Outcome::Malformed)?;
        let stored = pages.stored().map_err(|_| Outcome::Malformed)?;
        if self.records != 0 || header.length(stored) != self.length {
            return Err(Outcome::Malformed);
        }
        let slots = builder.slots.images[self.image];
        let sent = builder.sent(self.image).ok_or(Outcome::Unknown)?;
        sent.entry = header.entry;
        let sent = *sent;
        for (place, used) in sent.pages.iter().enumerate() {
            let (frame, rights) = match used {
                Use::None => continue,
                Use::Read => (slots.kept, CapRights::READ),
                Use::Written | Use::Zero => (slots.own, CapRights::READ_WRITE),
            };
            let address = SENT_IMAGE_START + ((place as u64) << 12);
            Page(frame + place as u64)
                .map(slots.vspace, address, rights, VmAttributes::WRITE_BACK)
                .doing("a page could not be mapped", "a program that was sent")
                .map_err(|failure| {
                    if let Some(sent) = builder.sent(self.image) {
                        sent.entry = 0;
                    }
                    refused(failure)
                })?;
        }
        Ok(())
    }
}

fn refused(failure: Failure) -> Outcome {
    crate::serial_line!("A program that was sent cannot be taken over: {failure}.");
    Outcome::Refused
}

impl Builder<'_> {
    /// What was sent for an image; `None` if nothing ever can be.
    pub(crate) fn sent(&mut self, image: usize) -> Option<&mut Sent> {
        self.sent.iter_mut().find(|sent| sent.image == image)
    }

    /// First instruction of what was sent for an image; 0 if nothing was.
    pub(crate) fn sent_entry(&self, image: usize) -> u64 {
        let mut sent = self.sent.iter();
        let found = sent.find(|sent| sent.image == image);
        found.map_or(0, |sent| sent.entry)
    }

    /// Puts a page of a program that was sent back as it was sent.
    pub(crate) fn refill_sent(&self, image: usize, place: usize) -> Result<(), Failure> {
        let slots = self.slots.images[image];
        let mut sent = self.sent.iter();
        let found = sent.find(|sent| sent.image == image);
        let used = found.and_then(|sent| sent.pages.get(place)).copied();
        let own = slots.own + place as u64;
        match used {
            Some(Use::Written) => {
                let mut bytes = [0; PAGE];
                let kept = slots.kept + place as u64;
                self.window.look(kept, 12, CapRights::READ, |memory| {
                    memory.read(0, &mut bytes)
                })?;
                self.window.look(own, 12, CapRights::READ_WRITE, |memory| {
                    memory.write(0, &bytes)
                })
            }
            Some(Use::Zero) => self.window.look(own, 12, CapRights::READ_WRITE, |memory| {
                memory.clear(0, PAGE)
            }),
            _ => Ok(()),
        }
    }
}

const _: () = assert!(MOST_PAGES <= u16::MAX as usize && limits::SENT_IMAGES <= 8);
