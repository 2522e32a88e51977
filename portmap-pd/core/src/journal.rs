//! Each owner's last request, with its answer: what makes it safe to repeat a request to a
//! successor of the port map.
//!
//! A request that changes anything is noted here *before* the first change, with all that was
//! decided about it; and once more when it is carried out. So a successor finds either nothing
//! of it, and it is as if it had never come; or knows what is left to do, and does it before it
//! serves anybody; or knows the answer.
//!
//! A record has six words of 64 bits: what is known (see [`NOTHING`], [`BEGUN`] and [`DONE`])
//! with a checksum of the others in the upper half; the sequence number; the request in two
//! words; the answer; a time. It lies in the region of [`crate::holds`].

use crate::config::MAXIMUM_OWNERS;
use crate::holds::Seconds;
use crate::protocol::{Answer, Message, PortError, REGISTERS, Request};
use core::sync::atomic::Ordering::{Relaxed, Release};
use core::sync::atomic::fence;
use segue_fault_points::{Point, reached};
use segue_shared_memory::Region;

/// Where the records begin in the region.
pub(crate) const JOURNAL_AT: usize = 0x300;
/// Bytes of all records.
pub(crate) const JOURNAL_SIZE: usize = MAXIMUM_OWNERS * RECORD;

const WORDS: usize = 6;
const WORD: usize = size_of::<u64>();
const RECORD: usize = WORDS * WORD;

/// There is no request, or it has not been begun.
const NOTHING: u32 = 0;
/// The request is being carried out.
const BEGUN: u32 = 1;
/// It is carried out.
const DONE: u32 = 2;

/// What was decided about a request that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What will be answered: a port, for one.
    pub answer: u32,
    /// When a hold or a lease ends; 0 if it is about neither.
    pub until: Seconds,
}

/// What is known of an owner's last request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Nothing.
    Nothing,
    /// It was decided what to do, and perhaps a part of it done.
    Begun(Request, Plan),
    /// It was carried out, or refused.
    Done(Request, Answer),
    /// It makes no sense: not written by a port map in its right mind.
    Damaged,
}

/// The records of all owners.
#[derive(Debug)]
pub(crate) struct Journal {
    region: Region,
}

impl Journal {
    /// The records in a region that is large enough for [`crate::holds::Holds`].
    pub const fn new(region: Region) -> Self {
        Self { region }
    }

    /// The last request of `owner`.
    pub fn last(&self, owner: u16) -> Record {
        let Some(at) = place(owner) else {
            return Record::Nothing;
        };
        let words: [u64; WORDS] =
            core::array::from_fn(|index| self.region.load64(at + index * WORD, Relaxed));
        let [head, rest @ ..] = words;
        let (state, checksum) = (head as u32, (head >> 32) as u32);
        if state == NOTHING {
            return Record::Nothing;
        }
        if checksum != sum(&rest) {
            return Record::Damaged;
        }
        let [sequence, first, second, answer, until] = rest;
        let request = Request::decode(&unpack(sequence, first, second));
        let (Ok(request), Some(answer)) = (request, read_answer(answer)) else {
            return Record::Damaged;
        };
        match (state, answer, Seconds::try_from(until)) {
            (BEGUN, Ok(answer), Ok(until)) => Record::Begun(request, Plan { answer, until }),
            (DONE, answer, _) => Record::Done(request, answer),
            _ => Record::Damaged,
        }
    }

    /// `owner` has asked for this, and the plan will be carried out now.
    pub fn begin(&mut self, owner: u16, request: &Request, plan: Plan) {
        self.write(owner, BEGUN, request, Ok(plan.answer), plan.until);
    }

    /// What was begun for `owner` is carried out.
    pub fn finish(&mut self, owner: u16) {
        if let Some(at) = place(owner) {
            let head = self.region.load64(at, Relaxed) >> 32 << 32;
            self.region.store64(at, head | u64::from(DONE), Release);
        }
    }

    /// `owner` has asked for this, and got this answer. Nothing was changed for it.
    pub fn answered(&mut self, owner: u16, request: &Request, answer: Answer) {
        self.write(owner, DONE, request, answer, 0);
    }

    /// The last request of `owner` is forgotten: whoever asks next is another.
    pub fn clear(&mut self, owner: u16) {
        if let Some(at) = place(owner) {
            self.region.store64(at, 0, Release);
            fence(Release);
        }
    }

    fn write(&mut self, owner: u16, state: u32, request: &Request, answer: Answer, until: Seconds) {
        let Some(at) = place(owner) else { return };
        let [first, second] = pack(&request.encode());
        let words = [
            request.sequence,
            first,
            second,
            write_answer(answer),
            until.into(),
        ];
        // In this order whoever dies in between leaves no record that is half another one.
        self.clear(owner);
        for (index, word) in words.into_iter().enumerate() {
            self.region.store64(at + (1 + index) * WORD, word, Relaxed);
        }
        reached(Point::PortmapRequestWritten);
        let head = u64::from(sum(&words)) << 32 | u64::from(state);
        self.region.store64(at, head, Release);
        // Nor is anything changed before it says so.
        fence(Release);
    }
}

/// Where the record of an owner begins; owners count from 1.
fn place(owner: u16) -> Option<usize> {
    let index = usize::from(owner).checked_sub(1)?;
    (index < MAXIMUM_OWNERS).then_some(JOURNAL_AT + index * RECORD)
}

/// FNV-1a over words, folded.
fn sum(words: &[u64; WORDS - 1]) -> u32 {
    let sum = words.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, word| {
        (sum ^ word).wrapping_mul(0x100_0000_01b3)
    });
    (sum ^ sum >> 32) as u32
}

/// A request's label and what it says, in two words: no part of it is larger than its place.
fn pack(message: &Message) -> [u64; 2] {
    let [_, first, second, third, fourth, ..] = message.registers;
    [
        message.label & 0xff | (second & 0xffff) << 16 | first << 32,
        third & 0xffff_ffff | fourth << 32,
    ]
}

fn unpack(sequence: u64, first: u64, second: u64) -> Message {
    let mut registers = [0; REGISTERS];
    registers[..5].copy_from_slice(&[
        sequence,
        first >> 32,
        first >> 16 & 0xffff,
        second & 0xffff_ffff,
        second >> 32,
    ]);
    Message {
        label: first & 0xff,
        registers,
    }
}

/// The label of an error in the upper half; or 0 there, and the value.
fn write_answer(answer: Answer) -> u64 {
    match answer {
        Ok(value) => value.into(),
        Err(error) => error.label() << 32,
    }
}

fn read_answer(word: u64) -> Option<Answer> {
    match word >> 32 {
        0 => Some(Ok(word as u32)),
        label => PortError::from_label(label).map(Err),
    }
}

const _: () = assert!(JOURNAL_AT.is_multiple_of(WORD));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HOLDS_SIZE;
    use crate::protocol::{Operation, SharedAddress};
    use crate::table::{Families, Protocol};
    use proptest::prelude::*;
    use segue_shared_memory::testing::{leaked_region, with_death_after};

    fn requests() -> impl Strategy<Value = Request> {
        let shared = (any::<u32>(), any::<u8>(), any::<[u8; 4]>(), any::<u32>()).prop_map(
            |(address, prefix_length, gateway, seconds)| SharedAddress {
                address: address.max(1).to_be_bytes(),
                prefix_length,
                gateway,
                seconds,
            },
        );
        let operations = prop_oneof![
            any::<u16>().prop_map(|port| Operation::Bind(Protocol::Tcp, port, Families::Both)),
            Just(Operation::BindAny(Protocol::Udp, Families::V6)),
            any::<u16>().prop_map(|port| Operation::Release(Protocol::Udp, port, Families::V4)),
            Just(Operation::ReleaseAll),
            (any::<u16>(), any::<u32>()).prop_map(|(port, time)| {
                Operation::Hold(Protocol::Tcp, port, Families::V6, time)
            }),
            shared.prop_map(|shared| Operation::SetShared(Some(shared))),
            Just(Operation::SetShared(None)),
        ];
        (any::<u64>(), operations).prop_map(|(sequence, operation)| Request {
            sequence,
            operation,
        })
    }

    fn answers() -> impl Strategy<Value = Answer> {
        prop_oneof![
            any::<u32>().prop_map(Ok),
            Just(Err(PortError::AddressInUse)),
            Just(Err(PortError::InvalidAddress)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_noted_is_read(
            request in requests(), answer in answers(), value: u32, until: u32, owner in 1_u16..=64,
        ) {
            let mut journal = Journal::new(leaked_region(HOLDS_SIZE));
            let plan = Plan { answer: value, until };
            journal.begin(owner, &request, plan);
            prop_assert_eq!(journal.last(owner), Record::Begun(request, plan));
            journal.finish(owner);
            prop_assert_eq!(journal.last(owner), Record::Done(request, Ok(value)));
            journal.answered(owner, &request, answer);
            prop_assert_eq!(journal.last(owner), Record::Done(request, answer));
            for other in (0..=65).filter(|other| *other != owner) {
                prop_assert_eq!(journal.last(other), Record::Nothing);
            }
            journal.clear(owner);
            prop_assert_eq!(journal.last(owner), Record::Nothing);
        }

        #[test]
        fn no_record_is_half_another_one(
            old in requests(), new in requests(), answer in answers(), stores in 0_u64..10,
        ) {
            let mut journal = Journal::new(leaked_region(HOLDS_SIZE));
            journal.answered(7, &old, answer);
            let plan = Plan { answer: 80, until: 9 };
            let lived = with_death_after(stores, || journal.begin(7, &new, plan)).is_some();
            let record = journal.last(7);
            if lived {
                prop_assert_eq!(record, Record::Begun(new, plan));
            } else {
                let is_old = record == Record::Done(old, answer);
                prop_assert!(is_old && stores == 0 || record == Record::Nothing);
            }
        }

        #[test]
        fn damage_is_seen(request in requests(), bit in 64_usize..RECORD * 8, words: [u64; WORDS]) {
            let region = leaked_region(HOLDS_SIZE);
            let mut journal = Journal::new(region);
            journal.answered(3, &request, Ok(80));
            let at = JOURNAL_AT + 2 * RECORD + bit / 64 * WORD;
            region.store64(at, region.load64(at, Relaxed) ^ 1 << (bit % 64), Relaxed);
            prop_assert_eq!(journal.last(3), Record::Damaged);
            for (index, word) in words.into_iter().enumerate() {
                region.store64(JOURNAL_AT + index * WORD, word, Relaxed);
            }
            // Anything but a panic.
            journal.last(1);
        }
    }
}
