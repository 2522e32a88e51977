//! Giving a protection domain its pages back as they are in the boot image.
//!
//! Nothing is made and nothing taken away: a program can change the contents of its own
//! writable pages and its registers, and nothing else of what is its own. So a restart is
//! stopping the thread, filling these pages, and starting it at the entry; address space,
//! CSpace, thread, endpoint and notification stay, and nothing can leak.

use segue_system_image::format::{Run, run_kind};
use sel4::CapRights;
use sel4::cap::Tcb;

use crate::builder::{Builder, name};
use crate::failure::{Doing, Failure};

/// Most bytes that one step fills, since nothing else happens meanwhile.
const STEP: u64 = 64 << 10;

/// How far a refill has come: all runs of the protection domain before this one, and this
/// many bytes of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Position {
    run: usize,
    offset: u64,
}

impl Builder<'_> {
    /// Fills some of the pages of an image of a protection domain, which does not run; says whether
    /// that was all.
    pub(crate) fn refill(
        &self,
        index: usize,
        image: Option<usize>,
        position: &mut Position,
    ) -> Result<bool, Failure> {
        let mut left = STEP;
        let runs = match image {
            Some(image) => self.payload.images[image].runs,
            None => self.payload.protection_domains[index].runs,
        };
        while (position.run as u64) < u64::from(runs.count) {
            let place = runs.first as usize + position.run;
            let run = &self.payload.runs[place];
            let length = u64::from(run.pages) << run.page_bits;
            if run.writable == 0 || run.kind == run_kind::IN_PLACE || position.offset >= length {
                *position = Position {
                    run: position.run + 1,
                    offset: 0,
                };
                continue;
            }
            if left == 0 {
                return Ok(false);
            }
            let page_size = 1u64 << run.page_bits;
            let part = left.min(page_size - position.offset % page_size);
            self.fill(run, place, position.offset, part)?;
            position.offset += part;
            left -= part;
        }
        // Behind the runs come the pages of a program that was sent.
        let place = position.run - runs.count as usize;
        let sent_pages = image.map_or(0, |image| self.payload.images[image].sent_size >> 12);
        if let Some(image) = image
            && (place as u64) < sent_pages
        {
            self.refill_sent(image, place)?;
            position.run += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// Fills `length` bytes of one page of a run.
    fn fill(&self, run: &Run, place: usize, offset: u64, length: u64) -> Result<(), Failure> {
        let page_bits = u32::from(run.page_bits);
        let frame = u64::from(self.slots.runs[place]) + (offset >> page_bits);
        let within = (offset & ((1 << page_bits) - 1)) as usize;
        self.window
            .look(frame, page_bits, CapRights::READ_WRITE, |memory| {
                if run.kind == run_kind::COPIED {
                    memory.write(within, self.payload.data(run.offset + offset, length));
                } else {
                    memory.clear(within, length as usize);
                }
            })
    }

    /// Drops the signals that wait for a protection domain: they were for its predecessor.
    pub(crate) fn drop_signals(&self, index: usize) -> Result<(), Failure> {
        let slots = self.slots.domains[index];
        // A bound notification is its thread's alone.
        let (thread, is_bound) = (Tcb(slots.thread), slots.endpoint != 0);
        let name = self.name_of(index);
        if is_bound {
            thread
                .unbind_notification()
                .doing("a notification could not be unbound", name)?;
        }
        sel4::syscall::nb_recv(slots.notification);
        if is_bound {
            thread
                .bind_notification(slots.notification)
                .doing("a notification could not be bound", name)?;
        }
        Ok(())
    }

    /// The name of a protection domain, for sentences.
    pub(crate) fn name_of(&self, index: usize) -> &'static str {
        name(&self.payload.protection_domains[index].name)
    }
}
