//! Frames from the network card to applications.

use super::inside::Unanswered;
use super::{BATCH, LONGEST_PAUSE, Server, hold_until, members};
use crate::directory::Applications;
use crate::ingress::{self, Decision, LONG_HEADER, Origin, SHORT_HEADER};
use crate::nic::Nic;
use segue_fault_points::{Point, reached};
use segue_frame_channel::ReceivedFrame;
use segue_shared_memory::Region;
use segue_status::network::{Counter, IngressDrop, ServerCounter};

impl Server {
    pub(super) fn receive<N: Nic>(&mut self, nic: &mut N, clock: &impl Fn() -> u64) {
        self.awaited = 0;
        self.keeps = false;
        self.resume_at = None;
        if core::mem::take(&mut self.asks_back) && core::mem::take(&mut self.has_aside) {
            nic.ask_back();
        }
        let mut header = [0; LONG_HEADER];
        for _ in 0..BATCH {
            if self.must_wait(clock) {
                return;
            }
            let Some(mut frame) = nic.receive() else {
                return;
            };
            let description = nic.describe(&frame);
            let decision = self.decide(nic, &frame, description.length, &mut header);
            reached(Point::NetserverReceiveDecided);
            if self.expected != 0 && decision.recipients() & self.expected != 0 {
                match self.put_off(nic, frame) {
                    PutOff::Aside => continue,
                    PutOff::Kept => return,
                    PutOff::TooLate(late) => frame = late,
                }
            }
            self.received.count(description.length);
            match decision {
                Decision::Deliver(applications) => {
                    self.deliver_received(nic, &frame, description, applications, clock);
                }
                _ => self.receive_other(nic, &frame, description, decision, clock),
            }
            reached(Point::NetserverReceiveDelivered);
            nic.release(frame);
        }
    }

    /// What is to be done with a frame of `length` bytes, of which as little is read into
    /// `header` as suffices.
    fn decide<N: Nic>(
        &self,
        nic: &N,
        frame: &N::Frame,
        length: usize,
        header: &mut [u8; LONG_HEADER],
    ) -> Decision {
        let mut decide = |most: usize| {
            let header = &mut header[..length.min(most)];
            nic.read(frame, header);
            let there = self.up | self.expected;
            ingress::demultiplex(&self.directory, there, Origin::Network, header, length)
        };
        match decide(SHORT_HEADER) {
            Decision::Longer => decide(LONG_HEADER),
            decision => decision,
        }
    }

    /// A frame for somebody who was there a moment ago, and will be again, waits aside. One for which
    /// there is no room there waits with all that is behind it, a few milliseconds at most.
    #[inline(never)]
    fn put_off<N: Nic>(&mut self, nic: &mut N, frame: N::Frame) -> PutOff<N::Frame> {
        match nic.set_aside(frame) {
            Ok(()) => {
                self.has_aside = true;
                PutOff::Aside
            }
            Err(frame) if self.now < hold_until(self.expected_since) => {
                nic.keep(frame);
                self.keeps = true;
                PutOff::Kept
            }
            Err(frame) => PutOff::TooLate(frame),
        }
    }

    fn deliver_received<N: Nic>(
        &mut self,
        nic: &N,
        frame: &N::Frame,
        description: ReceivedFrame,
        applications: Applications,
        clock: &impl Fn() -> u64,
    ) {
        for index in members(applications) {
            let copy = |slots: &Region, offset| nic.copy(frame, slots, offset);
            if self.deliver(description, copy, index, clock) {
                self.shares.note_received(index, self.now);
            }
        }
    }

    /// A frame that does not just go to its owners: few are of this kind, and the others
    /// are not to pay for it.
    #[inline(never)]
    fn receive_other<N: Nic>(
        &mut self,
        nic: &mut N,
        frame: &N::Frame,
        description: ReceivedFrame,
        decision: Decision,
        clock: &impl Fn() -> u64,
    ) {
        match self.recipients(decision, clock) {
            Ok(applications) => {
                self.deliver_received(nic, frame, description, applications, clock);
                if let Decision::FirstFragment(datagram, applications) = decision {
                    self.deliver_early(&datagram, applications & self.up, clock);
                }
            }
            Err(Unanswered::Early(datagram)) => {
                let read = |to: &mut [u8]| nic.read(frame, to);
                let dropped = self.early.keep(datagram, description, clock(), read);
                self.count_early(dropped);
            }
            Err(Unanswered::Answer(answer)) => {
                self.answer_network(nic, frame, description, answer, clock);
            }
        }
    }

    /// Whether received frames are better left with the network card: if only
    /// one application is there and its ring is full. It then gets to run (it
    /// would not while the server drops frames), and the sender is slowed down.
    /// With several applications a full one must not hold up the others.
    /// Not for ever, though: an application that does not come back must not keep the
    /// server from answering.
    fn must_wait(&mut self, clock: &impl Fn() -> u64) -> bool {
        if !self.up.is_power_of_two() {
            return false;
        }
        let index = self.up.trailing_zeros() as usize;
        match self.links[index].channel.receive_room() {
            Ok(1..) => {
                self.awaited_since = None;
                return false;
            }
            Ok(0) if self.links[index].channel.is_up() => {
                let now = clock();
                let until = *self.awaited_since.get_or_insert(now) + LONGEST_PAUSE;
                if now >= until {
                    // It need not say when there is room.
                    self.active |= 1 << index;
                    return false;
                }
                self.resume_at = Some(until);
                self.awaited = 1 << index;
                self.status.add(ServerCounter::ReceivePauses, 1);
                return true;
            }
            Ok(0) => {}
            Err(violation) => self.cut_off(index, violation),
        }
        self.note_state(index);
        false
    }

    /// Delivers a frame to an application; `copy` copies it. Returns whether
    /// there was room.
    pub(super) fn deliver(
        &mut self,
        description: ReceivedFrame,
        copy: impl Fn(&Region, usize),
        index: usize,
        clock: &impl Fn() -> u64,
    ) -> bool {
        let mut room = 1;
        // The ring's room is looked at only if it seems to have none.
        for _ in 0..2 {
            let link = &mut self.links[index];
            if link.channel.deliver(description, &copy) {
                link.received.count(description.length);
                self.unpublished |= 1 << index;
                return true;
            }
            match link.channel.receive_room() {
                Ok(0) => room = 0,
                Ok(_) => continue,
                Err(violation) => self.cut_off(index, violation),
            }
            break;
        }
        let link = &mut self.links[index];
        let cause = if !link.channel.is_up() {
            IngressDrop::ChannelDown
        } else if room == 0 {
            IngressDrop::RingFull
        } else {
            IngressDrop::TooLong
        };
        link.status.add(Counter::ReceiveDropped, 1);
        self.status.drop_frame(cause);
        if cause == IngressDrop::RingFull
            && let Some(more) = self.reporter.admit(index, clock())
        {
            let name = &self.links[index].name;
            log::warn!(
                "{name} does not take its frames: one was dropped ({more} more since the last report)"
            );
        }
        self.note_state(index);
        false
    }
}

/// Where a frame waits.
enum PutOff<F> {
    /// Aside.
    Aside,
    /// With the network card.
    Kept,
    /// Nowhere: it has to be dealt with.
    TooLate(F),
}
