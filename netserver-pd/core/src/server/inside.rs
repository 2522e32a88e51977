//! Who gets a frame; and frames from one application to another.

use super::{Server, members};
use crate::directory::Applications;
use crate::egress::Approved;
use crate::fragments::Datagram;
use crate::ingress::{self, Answer, Decision, Origin};
use crate::inside::Parcel;
use segue_frame_channel::ReceivedFrame;
use segue_frame_channel::descriptor::TransmitFrame;
use segue_frame_channel::layout::MAXIMUM_HEADER_LENGTH;
use segue_shared_memory::Region;
use segue_status::network::IngressDrop;

/// What is to be done with a frame that goes to nobody now.
pub(super) enum Unanswered {
    /// The server answers it.
    Answer(Answer),
    /// It is a later fragment of a datagram whose first one has not come.
    Early(Datagram),
}

/// A copy of verified headers, for a frame that goes inside.
pub(super) struct KeptHeaders {
    bytes: [u8; MAXIMUM_HEADER_LENGTH],
    length: usize,
}

impl KeptHeaders {
    pub(super) fn new(headers: &[u8]) -> Self {
        let mut bytes = [0; MAXIMUM_HEADER_LENGTH];
        bytes[..headers.len()].copy_from_slice(headers);
        Self {
            bytes,
            length: headers.len(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Server {
    /// Who gets a frame about which this was decided: perhaps nobody, if it is
    /// dropped, which is counted. Or what else is to be done with it.
    pub(super) fn recipients(
        &mut self,
        decision: Decision,
        clock: &impl Fn() -> u64,
    ) -> Result<Applications, Unanswered> {
        let cause = match decision {
            Decision::Deliver(applications) => return Ok(applications),
            Decision::Answer(answer) => return Err(Unanswered::Answer(answer)),
            Decision::FirstFragment(datagram, applications) => {
                self.fragments
                    .received_first(datagram, applications, clock());
                return Ok(applications);
            }
            Decision::LaterFragment(datagram) => {
                match self.fragments.received_later(&datagram, clock()) {
                    Some(applications) if applications & self.up != 0 => {
                        return Ok(applications & self.up);
                    }
                    Some(_) => IngressDrop::ChannelDown,
                    None => return Err(Unanswered::Early(datagram)),
                }
            }
            Decision::Drop(cause) => cause,
            Decision::Longer => IngressDrop::Malformed,
        };
        self.status.drop_frame(cause);
        Ok(0)
    }

    /// Delivers what came before the first fragment of a datagram, now that it has
    /// come and gone to these applications.
    pub(super) fn deliver_early(
        &mut self,
        datagram: &Datagram,
        applications: Applications,
        clock: &impl Fn() -> u64,
    ) {
        if self.early.is_empty() {
            return;
        }
        let mut early = core::mem::take(&mut self.early);
        let dropped = early.take(datagram, clock(), |description, bytes| {
            for index in members(applications) {
                let copy = |slots: &Region, offset| slots.write(offset, bytes);
                self.deliver(description, copy, index, clock);
            }
        });
        self.early = early;
        self.count_early(dropped);
    }

    /// Counts fragments that were dropped before the first one of their datagram
    /// had come.
    pub(super) fn count_early(&self, dropped: usize) {
        for _ in 0..dropped {
            self.status.drop_frame(IngressDrop::Fragment);
        }
    }

    /// Delivers a verified frame inside, where it has its only receivers, or
    /// answers it. Returns how many copies were made, and whether there is an application
    /// to get it, even if it has no room.
    pub(super) fn send_inside(
        &mut self,
        sender: usize,
        frame: &TransmitFrame,
        headers: &[u8],
        approved: &Approved,
        clock: &impl Fn() -> u64,
    ) -> (usize, bool) {
        let decision = self.decide_inside(headers, frame);
        match self.recipients(decision, clock) {
            Ok(applications) => {
                let copies = self.hand_over(sender, frame, headers, approved, applications, clock);
                (copies, applications != 0)
            }
            // An application's first fragment comes first, or none of them passes.
            Err(Unanswered::Early(_)) => {
                self.status.drop_frame(IngressDrop::Fragment);
                (0, false)
            }
            Err(Unanswered::Answer(answer)) => {
                let read = |server: &Self, to: &mut [u8]| {
                    let known = headers.len().min(to.len());
                    to[..known].copy_from_slice(&headers[..known]);
                    server.read_sent(sender, frame, known, &mut to[known..]);
                };
                self.answer_inside(sender, frame.length as usize, answer, read, clock);
                (1, false)
            }
        }
    }

    /// Delivers a verified frame, which also goes to the network, to whomever it
    /// concerns inside but its sender.
    pub(super) fn send_inside_too(
        &mut self,
        sender: usize,
        frame: &TransmitFrame,
        headers: &[u8],
        approved: &Approved,
        clock: &impl Fn() -> u64,
    ) {
        match self.decide_inside(headers, frame) {
            Decision::Deliver(applications) => {
                let others = applications & !(1 << sender);
                self.hand_over(sender, frame, headers, approved, others, clock);
            }
            // An announcement of a shared address: who makes it may be looking
            // for the others who have it.
            Decision::Answer(answer) => {
                let read = |_: &Self, to: &mut [u8]| {
                    let known = headers.len().min(to.len());
                    to[..known].copy_from_slice(&headers[..known]);
                };
                self.answer_inside(sender, headers.len(), answer, read, clock);
            }
            // It has gone to the network: nothing is dropped.
            _ => {}
        }
    }

    fn decide_inside(&self, headers: &[u8], frame: &TransmitFrame) -> Decision {
        let (origin, length) = (Origin::Application, frame.length as usize);
        ingress::demultiplex(&self.directory, self.up, origin, headers, length)
    }

    /// Copies a frame, in segments if it is one of many, into receive rings. What
    /// does not fit one is dropped, with the segments behind it.
    fn hand_over(
        &mut self,
        sender: usize,
        frame: &TransmitFrame,
        headers: &[u8],
        approved: &Approved,
        applications: Applications,
        clock: &impl Fn() -> u64,
    ) -> usize {
        let parcel = Parcel::new(headers, frame.length as usize, approved);
        let segments = if applications == 0 {
            0
        } else {
            parcel.segments()
        };
        let mut scratch = core::mem::take(&mut self.scratch);
        let mut receivers = applications;
        let mut copies = 0;
        for segment in 0..segments {
            let read = |from: usize, to: &mut [u8]| self.read_sent(sender, frame, from, to);
            let Some(length) = parcel.write(segment, &mut scratch, read) else {
                break;
            };
            let description = ReceivedFrame {
                length,
                checksums_verified: parcel.is_summed(),
            };
            copies += receivers.count_ones() as usize;
            for index in members(receivers) {
                let copy = |slots: &Region, offset| slots.write(offset, &scratch[..length]);
                if self.deliver(description, copy, index, clock) {
                    self.links[sender].inside.count(length);
                    self.shares.note_received(index, self.now);
                } else {
                    receivers &= !(1 << index);
                }
            }
            if receivers == 0 {
                break;
            }
        }
        self.scratch = scratch;
        copies
    }

    /// Reads a frame in its sender's pool, from an offset on.
    fn read_sent(&self, sender: usize, frame: &TransmitFrame, from: usize, to: &mut [u8]) {
        if to.is_empty() {
            return;
        }
        let rest = TransmitFrame {
            offset: frame.offset + from as u32,
            ..*frame
        };
        self.links[sender].channel.copy_header(&rest, to);
    }
}
