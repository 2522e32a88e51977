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
    /// What is known of the owners in the same entries.
    lives: [Life; MAXIMUM_OWNERS],
}

/// Which incarnation of an owner there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// How often the owner has been restarted.
    pub restarts: u32,
    /// Whether it has been stopped after a fault, or cut off by the network server.
    pub is_gone: bool,
}

impl Service {
    /// A port map over this table for these owners.
    pub const fn new(table: PortTable, owners: OwnerTable) -> Self {
        Self {
            table,
            owners,
            last: [None; MAXIMUM_OWNERS],
            lives: [Life {
                restarts: 0,
                is_gone: false,
            }; MAXIMUM_OWNERS],
        }
    }

    /// The table.
    pub const fn table(&self) -> &PortTable {
        &self.table
    }

    /// Who calls on this channel: an index into the table of owners.
    pub fn caller(&self, channel: u32) -> Option<usize> {
        let mut owners = self.owners.owners().iter();
        owners.position(|entry| entry.channel == channel)
    }

    /// Answers a message that came in on this channel.
    pub fn handle(&mut self, channel: u32, message: &Message) -> Message {
        let sequence = message.registers[0];
        let Some(index) = self.caller(channel) else {
            return encode_answer(sequence, Err(PortError::NotAllowed));
        };
        if self.lives[index].is_gone {
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

    /// Takes note of the owner in entry `index`. One that is gone loses its ports
    /// and gets none; if there is another incarnation of it, it starts with none.
    /// Either happens once for each life that ended, whenever it is noticed: before
    /// a new incarnation's first request is answered, this must have been called.
    /// Returns how many ports were taken back from a life that ended.
    pub fn note(&mut self, index: usize, life: Life) -> Option<u32> {
        let before = core::mem::replace(self.lives.get_mut(index)?, life);
        let has_ended = life.is_gone || life.restarts != before.restarts;
        (has_ended && !before.is_gone).then(|| self.release_all(self.owners.entries[index].owner))
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
