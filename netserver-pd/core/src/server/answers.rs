//! The server's own answers: on the wire, and to applications.

use super::Server;
use crate::answer;
use crate::ingress::{Answer, LONG_HEADER};
use crate::nic::{Nic, Token, VerifiedFrame};
use segue_fault_points::{Point, reached};
use segue_frame_channel::ReceivedFrame;
use segue_frame_channel::server::Ticket;
use segue_shared_memory::Region;
use segue_status::network::{IngressDrop, ServerCounter};

/// Stands for the server where an application's index would be: no application
/// is told when the frame has been sent.
pub(super) const SERVER: u8 = u8::MAX;

impl Server {
    /// Answers a frame from the network. Who asks gets no answer if the card is
    /// full, or if closed ports have given too many already.
    pub(super) fn answer_network<N: Nic>(
        &mut self,
        nic: &mut N,
        frame: &N::Frame,
        description: ReceivedFrame,
        answer: Answer,
        clock: &impl Fn() -> u64,
    ) {
        let of_closed_port = is_of_closed_port(answer);
        if of_closed_port && !description.checksums_verified {
            // A damaged frame says nothing about a port.
            let mut header = [0; LONG_HEADER];
            let header = &mut header[..description.length.min(LONG_HEADER)];
            nic.read(frame, header);
            if answer == Answer::Reset || !answer::is_unsummed(header) {
                return self.status.drop_frame(IngressDrop::NoOwner);
            }
        }
        if !nic.has_room() || of_closed_port && !self.limit.admit(None, clock()) {
            return self.status.drop_frame(IngressDrop::NotAnswered);
        }
        let Some((buffer, header_address)) = self.headers.answer() else {
            return self.status.drop_frame(IngressDrop::NotAnswered);
        };
        let read = |to: &mut [u8]| nic.read(frame, to);
        let composed = answer::compose(&self.directory, answer, description.length, buffer, read);
        let Some(length) = composed else {
            return self.status.drop_frame(unanswerable(answer));
        };
        let verified = VerifiedFrame {
            headers: &mut buffer[..length],
            header_address,
            payload_address: 0,
            payload_length: 0,
            offload: None,
        };
        let token = Token {
            application: SERVER,
            ticket: Ticket::default(),
        };
        reached(Point::NetserverAnswerComposed);
        if nic.transmit(verified, token).is_ok() {
            self.headers.take_answer();
            self.transmitted.count(length);
            self.status.add(ServerCounter::Answered, 1);
        } else {
            self.status.drop_frame(IngressDrop::NotAnswered);
        }
    }

    /// Answers a frame of `length` bytes from an application; `read` reads it
    /// from its start on.
    pub(super) fn answer_inside(
        &mut self,
        sender: usize,
        length: usize,
        answer: Answer,
        read: impl Fn(&Self, &mut [u8]),
        clock: &impl Fn() -> u64,
    ) {
        if is_of_closed_port(answer) && !self.limit.admit(Some(sender), clock()) {
            return self.status.drop_frame(IngressDrop::NotAnswered);
        }
        let mut scratch = core::mem::take(&mut self.scratch);
        let read = |to: &mut [u8]| read(self, to);
        let composed = answer::compose(&self.directory, answer, length, &mut scratch, read);
        match composed {
            Some(length) => {
                let description = ReceivedFrame {
                    length,
                    checksums_verified: true,
                };
                let copy = |slots: &Region, offset| slots.write(offset, &scratch[..length]);
                if self.deliver(description, copy, sender, clock) {
                    self.status.add(ServerCounter::Answered, 1);
                }
            }
            None => self.status.drop_frame(unanswerable(answer)),
        }
        self.scratch = scratch;
    }
}

fn is_of_closed_port(answer: Answer) -> bool {
    matches!(answer, Answer::Reset | Answer::Unreachable)
}

/// Why a frame could not be answered.
fn unanswerable(answer: Answer) -> IngressDrop {
    if is_of_closed_port(answer) {
        IngressDrop::NoOwner
    } else {
        IngressDrop::Malformed
    }
}
