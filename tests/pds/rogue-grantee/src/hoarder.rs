//! Keeping what was granted: copies of it, what can be made of it, what others would take of it.

use core::fmt;
use core::sync::atomic::Ordering;

use segue_director_core::config::WINDOW_SIZE;
use sel4::cap::{CNode, IoPageTable, IrqHandler, Page, Untyped};
use sel4::{CapData, CapRights, Error, LookupFailure, MessageInfo, ObjectType, VmAttributes};
use sel4_microkit::region_at;
use sel4_microkit_abi::{CHANNELS, grant, slot};

use crate::party::Party;

const GRANT: CNode = CNode(grant::GRANT_CNODE);
const SLOTS: u64 = 1 << grant::GRANT_BITS;
/// Slots of memory that are tried: IO page tables and frames.
const MEMORY_SLOTS: u64 = 1 << grant::MEMORY_BITS;
/// How long a line takes to come out, where nothing may be lost that follows.
const LINE_MICROSECONDS: u64 = 50_000;
/// How long the function may take to be revoked once it was let go.
const PATIENCE_MICROSECONDS: u64 = 5_000_000;

// What is put where, in the CNode of the grant.
const UNTYPED_COPY: u64 = 4;
const IO_SPACE_COPY: u64 = 5;
const INTERRUPT_COPY: u64 = 6;
const SPARE: u64 = 7;
/// Two untypeds, made of the copy.
const PARTS: u64 = 8;
/// Two frames, made of the first of these.
const FRAMES: u64 = 10;
const FRAME_COPY: u64 = 12;
const MOVED: u64 = 13;

/// What the kernel said to an attempt.
struct Outcome(Result<(), Error>);

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(()) => formatter.write_str("done"),
            Err(error) => write!(formatter, "{error}"),
        }
    }
}

/// Whoever keeps.
pub struct Hoarder<'a> {
    pub party: &'a Party,
}

impl Hoarder<'_> {
    fn attempt(what: fmt::Arguments<'_>, outcome: Result<(), Error>) {
        log::info!("{what}: {}", Outcome(outcome));
    }

    /// A second place for a page of the registers, behind the window.
    fn second_place(&self) -> u64 {
        self.party.config.window + WINDOW_SIZE as u64
    }

    /// Tries everything with what was granted.
    pub fn hoard(&self) {
        Self::make_objects();
        self.copy();
        self.give_away();
        Self::use_interrupts();
        log::info!("has hoarded");
    }

    /// What could be made of memory, if this were some.
    fn make_objects() {
        let untyped = Untyped(grant::granted(grant::UNTYPED));
        let make = |kind: ObjectType, bits, place, count| {
            untyped.retype(kind.raw(), bits, GRANT, 0, 0, place, count)
        };
        for (kind, bits) in [
            (ObjectType::Tcb, 0),
            (ObjectType::CNode, 4),
            (ObjectType::Endpoint, 0),
            (ObjectType::Notification, 0),
            (ObjectType::PageTable, 0),
            (ObjectType::Pml4, 0),
            (ObjectType::IoPageTable, 0),
        ] {
            let outcome = make(kind, bits, SPARE, 1);
            Self::attempt(format_args!("Retype into {kind:?}"), outcome);
        }
    }

    fn copy(&self) {
        let copy = |to, from| {
            GRANT.copy(
                to,
                grant::GRANT_BITS,
                GRANT,
                from,
                grant::GRANT_BITS,
                CapRights::ALL,
            )
        };
        let mint = |to, from, data| {
            let bits = grant::GRANT_BITS;
            GRANT.mint(to, bits, GRANT, from, bits, CapRights::ALL, data)
        };
        Self::attempt(
            format_args!("Copy of the untyped"),
            copy(UNTYPED_COPY, grant::UNTYPED),
        );
        Self::attempt(
            format_args!("Copy of the IO space"),
            copy(IO_SPACE_COPY, grant::IO_SPACE),
        );
        let first = grant::INTERRUPTS[0];
        Self::attempt(
            format_args!("Copy of the handler"),
            copy(INTERRUPT_COPY, first),
        );
        let theirs = CapData::io_space(1, 0x98);
        Self::attempt(
            format_args!("Mint of the server's IO space"),
            mint(SPARE, grant::IO_SPACE, theirs),
        );
        let second = grant::INTERRUPTS[1];
        let moved = GRANT.move_(MOVED, grant::GRANT_BITS, GRANT, second, grant::GRANT_BITS);
        Self::attempt(format_args!("Move of the other handler"), moved);
        let saved = GRANT.save_caller(SPARE, grant::GRANT_BITS);
        Self::attempt(format_args!("SaveCaller"), saved);

        let parts = Untyped(grant::granted(UNTYPED_COPY)).retype(
            ObjectType::Untyped.raw(),
            13,
            GRANT,
            0,
            0,
            PARTS,
            2,
        );
        Self::attempt(format_args!("Retype of the copy into two untypeds"), parts);
        let frames = Untyped(grant::granted(PARTS)).retype(
            ObjectType::SmallPage.raw(),
            0,
            GRANT,
            0,
            0,
            FRAMES,
            2,
        );
        Self::attempt(format_args!("Retype of one of these into frames"), frames);
        Self::attempt(format_args!("Copy of a frame"), copy(FRAME_COPY, FRAMES));
        let window = self.party.config.window;
        Self::attempt(format_args!("Map of a frame"), map(FRAMES, window));
        let second = map(FRAME_COPY, self.second_place());
        Self::attempt(format_args!("Map of its copy elsewhere"), second);
        let table = IoPageTable(grant::memory(0));
        let address = self.party.config.io_table_addresses[0];
        let table = table.map(grant::granted(IO_SPACE_COPY), address);
        Self::attempt(format_args!("Map of an IO page table"), table);
    }

    /// Every address that could be that of a CNode, and everybody who could take a capability.
    fn give_away(&self) {
        let small = (1..1 << slot::CNODE_BITS).filter(|address| {
            // These would be sent to: notifications, endpoints, and the fault handler.
            let channels = slot::notification(0)..slot::endpoint(CHANNELS);
            *address != slot::FAULT_ENDPOINT
                && *address != grant::GRANT_CNODE
                && !channels.contains(address)
        });
        let granted = (0..SLOTS).map(grant::granted);
        let memory = (0..MEMORY_SLOTS).map(grant::memory);
        let upper = (1..64).map(|slot: u64| slot << 58);
        let mut taken = 0;
        for address in small.chain(granted).chain(memory).chain(upper) {
            for depth in [grant::GRANT_BITS, slot::CNODE_BITS, 64] {
                let io_space = grant::IO_SPACE;
                let copied = CNode(address).copy(
                    SPARE,
                    depth,
                    GRANT,
                    io_space,
                    grant::GRANT_BITS,
                    CapRights::ALL,
                );
                taken += u32::from(copied.is_ok());
            }
        }
        log::info!("{taken} other CNodes took a capability");
        let portmap = self.party.channel.portmap_channel as usize;
        for label in 0..4 {
            for (index, slot) in [grant::UNTYPED, grant::IO_SPACE, INTERRUPT_COPY]
                .into_iter()
                .enumerate()
            {
                sel4::set_capability(index, grant::granted(slot));
            }
            sel4::set_receive_slot(grant::GRANT_CNODE, SPARE, grant::GRANT_BITS);
            let message = MessageInfo::new(label, 3, 0);
            let answer = sel4::syscall::call(slot::endpoint(portmap), message);
            log::info!(
                "portmap answered a call with capabilities by {:#x} and {} capabilities",
                answer.label(),
                answer.capabilities()
            );
        }
    }

    /// Has interrupts signalled to whoever it can name.
    fn use_interrupts() {
        let mut taken = 0;
        let handler = IrqHandler(grant::granted(INTERRUPT_COPY));
        for address in 1_u64..1 << slot::CNODE_BITS {
            taken += u32::from(handler.set_notification(address).is_ok());
        }
        log::info!("{taken} notifications can be signalled by the handler");
        Self::attempt(format_args!("Ack of the handler"), handler.ack());
    }

    /// Waits until the function is revoked, then tries each copy.
    pub fn look_what_is_left(&self) {
        let end = self.party.clock.now_microseconds() + PATIENCE_MICROSECONDS;
        while !is_empty(grant::IO_SPACE) && self.party.clock.now_microseconds() < end {
            core::hint::spin_loop();
        }
        // The other steps follow at once, at a higher priority.
        let left = (0..SLOTS).filter(|slot| !is_empty(*slot)).count();
        let usable = [
            Untyped(grant::granted(PARTS + 1))
                .retype(ObjectType::SmallPage.raw(), 0, GRANT, 0, 0, SPARE, 1)
                .is_ok(),
            map(FRAMES, self.party.config.window).is_ok(),
            map(FRAME_COPY, self.second_place()).is_ok(),
            IrqHandler(grant::granted(INTERRUPT_COPY)).ack().is_ok(),
            IrqHandler(grant::granted(MOVED)).clear().is_ok(),
            Page(grant::memory(u64::from(self.party.config.io_tables)))
                .map_io(
                    grant::granted(IO_SPACE_COPY),
                    CapRights::READ_WRITE,
                    self.party.config.memory,
                )
                .is_ok(),
        ];
        let usable = usable.iter().filter(|usable| **usable).count();
        if left == 0 && usable == 0 {
            log::info!("nothing is left");
        } else {
            log::error!("{left} capabilities are left, {usable} of the copies can be used");
        }
        self.party.pass(LINE_MICROSECONDS);
        let window = region_at!(self.party.config.window, 0x1000);
        let word = window.load32(0, Ordering::Relaxed);
        log::info!("where the registers were there is {word:#x}; now it reads the second place");
        self.party.pass(LINE_MICROSECONDS);
        let second = region_at!(self.second_place(), 0x1000);
        let word = second.load32(0, Ordering::Relaxed);
        log::error!("the second place reads {word:#x}");
    }
}

fn map(frame: u64, address: u64) -> Result<(), Error> {
    Page(grant::granted(frame)).map(
        slot::VSPACE,
        address,
        CapRights::READ_WRITE,
        VmAttributes::UNCACHEABLE,
    )
}

/// Whether a slot of the grant holds nothing: there is nothing to copy then.
fn is_empty(slot: u64) -> bool {
    let bits = grant::GRANT_BITS;
    let copied = GRANT.copy((slot + 1) % SLOTS, bits, GRANT, slot, bits, CapRights::ALL);
    matches!(
        copied,
        Err(Error::FailedLookup {
            source: true,
            failure: LookupFailure::MissingCapability { .. }
        })
    )
}
