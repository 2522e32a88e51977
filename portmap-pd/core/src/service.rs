//! What the port map answers, given who asks.

use crate::config::{MAXIMUM_OWNERS, OwnerTable};
use crate::protocol::{Answer, Message, Operation, PortError, Request, encode_answer};
use crate::table::{Families, Family, PortTable};

/// The port map: the table, who may call on which channel, and each caller's
/// last request.
#[derive(Debug)]
pub struct Service {
    table: PortTable,
    owners: OwnerTable,
    /// The last request of the owner in the same entry of `owners`, with its
    /// answer. `None` until the first: then an earlier incarnation may have
    /// done what is being asked.
    last: [Option<(Request, Answer)>; MAXIMUM_OWNERS],
    /// The owners in the same entries that have been stopped or cut off.
    gone: [bool; MAXIMUM_OWNERS],
}

impl Service {
    /// A port map over this table for these owners.
    pub const fn new(table: PortTable, owners: OwnerTable) -> Self {
        Self {
            table,
            owners,
            last: [None; MAXIMUM_OWNERS],
            gone: [false; MAXIMUM_OWNERS],
        }
    }

    /// The table.
    pub const fn table(&self) -> &PortTable {
        &self.table
    }

    /// Answers a message that came in on this channel.
    pub fn handle(&mut self, channel: u32, message: &Message) -> Message {
        let sequence = message.registers[0];
        let Some(index) = self
            .owners
            .owners()
            .iter()
            .position(|entry| entry.channel == channel)
        else {
            return encode_answer(sequence, Err(PortError::NotAllowed));
        };
        if self.gone[index] {
            return encode_answer(sequence, Err(PortError::NotAllowed));
        }
        let request = match Request::decode(message) {
            Ok(request) => request,
            Err(error) => return encode_answer(sequence, Err(error)),
        };
        let answer = match self.last[index] {
            Some((last, answer)) if last == request => answer,
            last => self.perform(
                self.owners.entries[index].owner,
                request.operation,
                last.is_none(),
            ),
        };
        self.last[index] = Some((request, answer));
        encode_answer(sequence, answer)
    }

    /// Takes all ports back from an owner that is gone. Returns how many there
    /// were.
    pub fn release_all(&mut self, owner: u16) -> u32 {
        for (entry, last) in self.owners.entries.iter().zip(&mut self.last) {
            if entry.owner == owner {
                *last = None;
            }
        }
        self.table.release_all(owner)
    }

    /// Says of each owner whether it is gone: stopped after a fault, or cut off by
    /// the network server. `is_gone` is asked by name. Who is gone has no ports and
    /// gets none; `released` is told whose ports were taken back, and how many.
    pub fn update(&mut self, is_gone: impl Fn(&str) -> bool, mut released: impl FnMut(&str, u32)) {
        for index in 0..self.owners.owners().len() {
            let entry = self.owners.entries[index];
            let gone = is_gone(entry.name());
            if gone && !self.gone[index] {
                let count = self.release_all(entry.owner);
                released(entry.name(), count);
            }
            self.gone[index] = gone;
        }
    }

    fn perform(&mut self, owner: u16, operation: Operation, first: bool) -> Answer {
        match operation {
            Operation::Bind(protocol, port) => {
                // The first request since this incarnation started may repeat
                // one that its predecessor carried out and did not answer.
                if first && port != 0 && self.table.owner(Family::V4, protocol, port) == owner {
                    return Ok(port.into());
                }
                self.table
                    .bind(owner, Families::Both, protocol, port)
                    .map(|()| port.into())
            }
            Operation::BindAny(protocol) => self
                .table
                .bind_any(owner, Families::Both, protocol)
                .map(u32::from),
            Operation::Release(protocol, port) => {
                match self.table.release(owner, Families::Both, protocol, port) {
                    // As above: the predecessor may have released it.
                    Err(PortError::NotOwner)
                        if first && self.table.owner(Family::V4, protocol, port) == 0 =>
                    {
                        Ok(port.into())
                    }
                    result => result.map(|()| port.into()),
                }
            }
            Operation::ReleaseAll => Ok(self.table.release_all(owner)),
        }
    }
}
