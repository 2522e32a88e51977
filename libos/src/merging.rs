//! Acknowledgements that the next frame makes needless.

use crate::connection::Place;
use crate::stack::Stack;
use crate::wire::{self, ACK, RST, SYN, Segment};

/// A congestion window that has let so many bytes go need not grow fast any more.
const MUCH_IN_FLIGHT: u32 = 32 * 1024;

impl Stack {
    /// Whether a segment says all that an acknowledgement just before it does, and
    /// is as sure to be taken in.
    #[inline]
    pub(crate) fn includes(&self, segment: &Segment, acknowledgement: &Segment) -> bool {
        segment.key == acknowledgement.key
            && segment.flags & (ACK | SYN | RST) == ACK
            && segment.sequence == acknowledgement.sequence
            && segment.payload < segment.end
            && !wire::before(segment.acknowledgement, acknowledgement.acknowledgement)
            && self.in_flight_includes(segment)
    }

    fn in_flight_includes(&self, segment: &Segment) -> bool {
        let Some(&Place::Connection(index)) = self.table.get(&segment.key) else {
            return false;
        };
        self.connections
            .get(index)
            .is_some_and(|connection| !wire::before(connection.send_next, segment.acknowledgement))
    }

    /// The connection of a segment that does nothing but acknowledge some of what
    /// is in flight, and more than `held` does. If another such follows, this one
    /// need not be looked at: a peer that acknowledges each segment of a large
    /// frame would cost more than the frame.
    ///
    /// The congestion window grows with each acknowledgement, so none is left out
    /// while there is more to send than the window allows, unless that is large.
    #[inline]
    pub(crate) fn mere_progress(&self, segment: &Segment, held: Option<Segment>) -> Option<u32> {
        if segment.flags != ACK || segment.payload != segment.end {
            return None;
        }
        let Some(&Place::Connection(index)) = self.table.get(&segment.key) else {
            return None;
        };
        let connection = self.connections.get(index)?;
        let first = match held {
            Some(held) if held.key == segment.key => held.acknowledgement,
            _ => connection.flight.first,
        };
        let in_flight = connection.send_next.wrapping_sub(connection.flight.first);
        let queued = self
            .engines
            .get_ref(connection.engine?)
            .socket_ref()
            .send_queue();
        ((in_flight >= MUCH_IN_FLIGHT || in_flight as usize >= queued)
            && wire::before(first, segment.acknowledgement)
            && !wire::before(connection.send_next, segment.acknowledgement))
        .then_some(index)
    }
}
