//! Frames from applications: whose turn it is, whether they may go, and where.

use super::inside::KeptHeaders;
use super::{BATCH, Link, Server, hold_until};
use crate::directory::{Applications, Directory};
use crate::egress;
use crate::ingress::{self, Origin};
use crate::inside::Route;
use crate::nic::{Nic, Refusal, Token, VerifiedFrame};
use segue_fault_points::{Point, reached};
use segue_frame_channel::ProtocolViolation;
use segue_status::network::EgressDrop;

impl Server {
    pub(super) fn send<N: Nic>(&mut self, nic: &mut N, clock: &impl Fn() -> u64) {
        let mut waiting = self.active & self.up & !self.held;
        let mut turn = None;
        let mut left = BATCH;
        while left > 0 {
            left -= 1;
            if !nic.has_room() || self.headers.is_full() {
                break;
            }
            let Some(index) = self.fair.next(waiting) else {
                break;
            };
            if self.is_new_turn(&mut turn, index, clock) && self.must_hold(index, &turn) {
                waiting &= !(1 << index);
                continue;
            }
            let turn = turn.get_or_insert_default();
            turn.frames += 1;
            match self.send_one(nic, index, clock) {
                Ok(Sent::Frame(wire_length)) => {
                    self.fair.charge(wire_length);
                    turn.unasked += u64::from(!self.shares.is_asked(index, wire_length));
                }
                Ok(Sent::Inside(wire_length, copies, is_wanted)) => {
                    self.fair.charge(wire_length);
                    let is_asked = is_wanted && self.shares.is_asked(index, wire_length);
                    turn.unasked += u64::from(!is_asked);
                    left = left.saturating_sub(copies);
                }
                Ok(Sent::Nothing) => {
                    turn.frames -= 1;
                    waiting &= !(1 << index);
                }
                Ok(Sent::Full) => break,
                Ok(Sent::Dropped(cause, length)) => {
                    self.fair.charge(length);
                    turn.unasked += 1;
                    let link = &self.links[index];
                    link.status.drop_frame(cause);
                    if let Some(more) = self.reporter.admit(index, clock()) {
                        log::warn!(
                            "a frame of {} was dropped: {} ({more} more since the last report)",
                            link.name,
                            cause.text()
                        );
                    }
                }
                Err(violation) => {
                    self.cut_off(index, violation);
                    waiting &= !(1 << index);
                }
            }
        }
        if let Some(turn) = turn {
            self.end_turn(&turn, clock());
        }
    }

    /// Whether the frame of `index` that comes next begins a turn; ends the last one.
    fn is_new_turn(
        &mut self,
        turn: &mut Option<Turn>,
        index: usize,
        clock: &impl Fn() -> u64,
    ) -> bool {
        if turn.as_ref().is_some_and(|turn| turn.index == index) {
            return false;
        }
        let now = clock();
        if let Some(turn) = turn {
            self.end_turn(turn, now);
        }
        *turn = Some(Turn {
            index,
            began: now,
            ..Turn::default()
        });
        true
    }

    fn end_turn(&mut self, turn: &Turn, now: u64) {
        let nanoseconds = now.saturating_sub(turn.began) * 1000;
        let (frames, unasked) = (turn.frames, turn.unasked);
        let shares = &mut self.shares;
        shares.charge(turn.index, nanoseconds, frames, unasked, now);
        if frames > 0 {
            self.shares.note_active(turn.index, now);
        }
    }

    /// Whether an application's frames have to wait, since it has had more than its share
    /// and others want to run.
    fn must_hold(&mut self, index: usize, turn: &Option<Turn>) -> bool {
        let now = turn.as_ref().map_or(0, |turn| turn.began);
        let links = &self.links;
        let is_at_work = |index: usize| links[index].channel.is_client_awake();
        let Some(wait) = self.shares.wait(index, self.up, now, is_at_work) else {
            return false;
        };
        let until = now + wait;
        self.held_until = match self.held {
            0 => until,
            _ => self.held_until.min(until),
        };
        self.held |= 1 << index;
        true
    }

    fn send_one<N: Nic>(
        &mut self,
        nic: &mut N,
        index: usize,
        clock: &impl Fn() -> u64,
    ) -> Result<Sent, ProtocolViolation> {
        let link = &mut self.links[index];
        let Some(frame) = link.channel.peek()? else {
            return Ok(Sent::Nothing);
        };
        let length = frame.length as usize;
        let (headers, header_address) = self.headers.header(frame.header_length.into());
        link.channel.copy_header(&frame, headers);
        reached(Point::NetserverSendCopied);
        link.copied_bytes = link.copied_bytes.wrapping_add(headers.len() as u64);
        let verdict = egress::verify(&self.directory, index, headers, length, frame.offload);
        let drop = |link: &mut Link, cause| {
            if let Some((_, ticket)) = link.channel.take() {
                link.channel.complete(ticket);
            }
            Ok(Sent::Dropped(cause, length))
        };
        // By reference: it is long.
        let approved = match &verdict {
            Ok(approved) => approved,
            Err(cause) => {
                self.unpublished |= 1 << index;
                return drop(link, *cause);
            }
        };
        if let Some(fragment) = approved.fragment {
            let (datagram, now) = (fragment.datagram, clock());
            let is_its_own = if fragment.is_first {
                self.fragments.send_first(index, datagram, now)
            } else {
                self.fragments.send_later(index, &datagram, now)
            };
            if !is_its_own {
                self.unpublished |= 1 << index;
                return drop(link, EgressDrop::Fragment);
            }
        }
        let mut route = crate::inside::route(&self.directory, headers);
        if self.directory.direct() & 1 << index != 0 {
            route = route.in_direct_mode(headers);
        }
        let kept = (route != Route::Out).then(|| KeptHeaders::new(headers));
        if let (Route::Inside, Some(kept), 1..) = (route, &kept, self.expected)
            && self.now < hold_until(self.expected_since)
            && is_for(
                self.expected,
                &self.directory,
                self.up,
                kept.bytes(),
                length,
            )
        {
            // It will be there again at once.
            let until = hold_until(self.expected_since);
            self.held_until = match self.held {
                0 => until,
                _ => self.held_until.min(until),
            };
            self.held |= 1 << index;
            return Ok(Sent::Nothing);
        }
        if let (Route::Others | Route::Nowhere, Some(kept)) = (route, &kept) {
            let ticket = link.channel.next_ticket();
            link.channel.take();
            if route == Route::Others {
                self.send_inside_too(index, &frame, kept.bytes(), approved, clock);
            }
            self.links[index].channel.complete(ticket);
            self.unpublished |= 1 << index;
            return Ok(Sent::Inside(approved.wire_length, 0, true));
        }
        if let (Route::Inside, Some(kept)) = (route, &kept) {
            let ticket = link.channel.next_ticket();
            link.channel.take();
            reached(Point::NetserverInsideTaken);
            let (copies, has_receiver) =
                self.send_inside(index, &frame, kept.bytes(), approved, clock);
            reached(Point::NetserverInsideCopied);
            let link = &mut self.links[index];
            link.channel.complete(ticket);
            self.unpublished |= 1 << index;
            // Others here are at its mercy: a connection that it opens is its own idea. But it
            // cannot help it that a receiver does not take its frames.
            let is_wanted = has_receiver && !crate::inside::opens_connection(kept.bytes());
            return Ok(Sent::Inside(approved.wire_length, copies, is_wanted));
        }
        let verified = VerifiedFrame {
            payload_address: link.pool_address + u64::from(frame.offset) + headers.len() as u64,
            payload_length: length - headers.len(),
            headers,
            header_address,
            offload: approved.offload,
        };
        let token = Token {
            application: index as u8,
            ticket: link.channel.next_ticket(),
        };
        reached(Point::NetserverSendVerified);
        match nic.transmit(verified, token) {
            Ok(()) => {
                reached(Point::NetserverSendQueued);
                link.channel.take();
                self.headers.take();
                link.transmitted.count(length);
                self.transmitted.count(length);
                self.unpublished |= 1 << index;
                if let Some(kept) = &kept {
                    self.send_inside_too(index, &frame, kept.bytes(), approved, clock);
                }
                Ok(Sent::Frame(approved.wire_length))
            }
            Err(Refusal::Full) => Ok(Sent::Full),
            Err(Refusal::Unsuitable(reason)) => {
                log::debug!(
                    "the network card refused a frame of {}: {reason}",
                    link.name
                );
                self.unpublished |= 1 << index;
                drop(link, EgressDrop::Device)
            }
        }
    }
}

/// Whether a frame inside is for one of `expected`.
#[inline(never)]
fn is_for(
    expected: Applications,
    directory: &Directory,
    up: Applications,
    headers: &[u8],
    length: usize,
) -> bool {
    let there = up | expected;
    let decision = ingress::demultiplex(directory, there, Origin::Application, headers, length);
    decision.recipients() & expected != 0
}

/// Frames of one application that are sent in a row.
#[derive(Debug, Default)]
struct Turn {
    index: usize,
    /// In microseconds.
    began: u64,
    frames: u64,
    /// Those of them that nobody has asked for.
    unasked: u64,
}

enum Sent {
    /// A frame that puts this many bytes on the wire.
    Frame(usize),
    /// A frame that would put this many bytes on the wire, and the copies that
    /// were made of it instead; whether an application has got it that may have asked.
    Inside(usize, usize, bool),
    /// Nothing: it has none.
    Nothing,
    /// Nothing: the network card has no room.
    Full,
    /// A frame of this length was dropped.
    Dropped(EgressDrop, usize),
}
