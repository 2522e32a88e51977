//! The physical function: brings the NIC up so that its virtual functions work.
//!
//! [`PhysicalFunction`] is a state machine. Call [`PhysicalFunction::poll`] when
//! the function interrupts and when the time it asked for has come; it never waits.
//! It gives each virtual function with an address a pool of its own, with exactly
//! that address, those that the filters name, and broadcasts, and enables a virtual
//! function again after its user has reset it. Functions without an address can be
//! granted to changing holders while it runs: [`PhysicalFunction::enable`],
//! [`PhysicalFunction::route`], [`PhysicalFunction::scrub`]. It moves no frame itself.
//!
//! A driver may come to a device that its predecessor has set up, and that carries traffic:
//! [`PhysicalFunction::adopt`] then takes it over as it is.

use core::cell::Cell;

use segue_device::Mmio;
use tock_registers::fields::FieldValue;

use crate::error::Error;
use crate::filters::{ADDRESS_FILTERS, Filter};
use crate::pf_registers::*;

mod adoption;
mod grants;
#[cfg(test)]
mod tests;

pub use adoption::{Record, Route};

/// Virtual functions of an 82576.
pub const VIRTUAL_FUNCTIONS: usize = 8;

/// Datasheet 4.3.1: the device is ready again 1 ms after a reset at the latest,
/// 10 ms with its configuration read from the EEPROM.
const RESET_MICROSECONDS: u64 = 10_000;
/// Until a reset that does not end is given up.
const RESET_LIMIT_MICROSECONDS: u64 = 1_000_000;
/// A transceiver access takes 64 us (IEEE 802.3, clause 22.2.4.5: 64 bits at 2.5 MHz and
/// the answer); how often it is looked at, and when it is given up.
const TRANSCEIVER_POLL_MICROSECONDS: u64 = 200;
const TRANSCEIVER_LIMIT_MICROSECONDS: u64 = 100_000;
/// How often the link is looked at while it is down, should its interrupt fail.
const LINK_DOWN_POLL_MICROSECONDS: u64 = 100_000;
/// ... and while it is up, with resets of virtual functions.
const LINK_UP_POLL_MICROSECONDS: u64 = 2_000_000;
/// Shortest time between two interrupts: a user of a virtual function can cause
/// them at will, and must not keep this driver busy.
const INTERRUPT_INTERVAL_MICROSECONDS: u32 = 500;

/// The transceiver sits at address 1 (datasheet 3.5.2.2).
const TRANSCEIVER_ADDRESS: u32 = 1;
/// Its control register (IEEE 802.3, clause 22.2.4.1).
const TRANSCEIVER_CONTROL: u32 = 0;
/// Automatic negotiation on and started anew, full duplex, 1000 Mbit/s.
const TRANSCEIVER_NEGOTIATE: u32 = 0x1340;
/// The bits of its control register that say whether it works, and how: reset, loopback, negotiation,
/// power down, isolation.
const TRANSCEIVER_WORKS: u32 = 0xdc00;
/// Longest frame a pool accepts, with its check sequence.
const LONGEST_FRAME: u32 = 1536;
/// Values the datasheet recommends (8.12.1).
const COLLISION_THRESHOLD: u32 = 0x0f;
const COLLISION_DISTANCE: u32 = 0x40;

/// What a call of [`PhysicalFunction::poll`] found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The link came up or went down.
    pub link: Option<Link>,
    /// Virtual functions that work from now on, one bit each: their users may start
    /// them. Set when the link comes up, and after a reset of the function.
    pub ready: u8,
    /// Virtual functions that were found reset and were enabled again, one bit each.
    pub reset: u8,
    /// When to call again, in microseconds of the same clock, if no interrupt
    /// comes first.
    pub wake_at: Option<u64>,
}

/// The state of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// No connection.
    Down,
    /// Frames can pass.
    Up {
        /// Speed in Mbit/s.
        megabits: u32,
        /// Both directions at once.
        full_duplex: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Resetting {
        since: u64,
    },
    Negotiating {
        since: u64,
    },
    /// Adopted without a link: the transceiver is asked whether it tries to get one.
    Asking {
        since: u64,
    },
    Running {
        link: Link,
    },
    Failed(Error),
}

/// The driver of the physical function.
pub struct PhysicalFunction<M> {
    registers: M,
    addresses: [Option<[u8; 6]>; VIRTUAL_FUNCTIONS],
    unicast: [Option<Unicast>; ADDRESS_FILTERS],
    multicast: [u32; MULTICAST_REGISTERS],
    /// Pools that the multicast table is for, one bit each.
    multicast_pools: u8,
    /// Functions that can be granted, one bit each; none has an address of its own.
    grantable: u8,
    /// Those of them that are to work now.
    enabled: u8,
    state: State,
    /// Registers that were not as they should be.
    corrected: Cell<u32>,
}

/// An address of one station. Pools and functions are one bit each.
#[derive(Clone, Copy)]
struct Unicast {
    address: [u8; 6],
    /// The pools that get its frames.
    pools: u8,
    /// Functions, none of them granted, whose frames can have it as their source; they get
    /// its frames unless a granted function does.
    home: u8,
}

impl Unicast {
    /// The upper half of its filter.
    fn high(&self) -> FieldValue<u32, ADDRESS_HIGH::Register> {
        let [.., e, f] = self.address;
        ADDRESS_HIGH::OCTETS.val(u16::from_le_bytes([e, f]).into())
            + ADDRESS_HIGH::POOLS.val(self.pools.into())
            + ADDRESS_HIGH::VALID::SET
    }
}

impl<M: Mmio> PhysicalFunction<M> {
    /// Takes the function over. `addresses` has the MAC address of each virtual
    /// function that is in use, `filters` the other addresses whose frames go to
    /// one of them, of one station or multicast; those of functions that are not in
    /// use say nothing. `grantable` has one bit for each function that can be granted;
    /// it is off at the start, and has no address of its own (otherwise its bit says
    /// nothing). Nothing happens before the first [`PhysicalFunction::poll`].
    ///
    /// The device tells multicast addresses apart by a part of their bits, and once
    /// for all functions, so that a function can get frames to others too.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyAddresses`] if the device has not enough filters.
    pub fn new(
        registers: M,
        addresses: [Option<[u8; 6]>; VIRTUAL_FUNCTIONS],
        filters: impl IntoIterator<Item = Filter>,
        grantable: u8,
    ) -> Result<Self, Error> {
        let mut function = Self {
            registers,
            addresses,
            unicast: [None; ADDRESS_FILTERS],
            multicast: [0; MULTICAST_REGISTERS],
            multicast_pools: 0,
            grantable: 0,
            enabled: 0,
            state: State::Start,
            corrected: Cell::new(0),
        };
        for (index, address) in addresses.into_iter().enumerate() {
            function.unicast[index] = address.map(|address| Unicast {
                address,
                pools: 1 << index,
                home: 1 << index,
            });
        }
        let used = function.used();
        function.grantable = grantable & !used;
        let mut missing = 0;
        for filter in filters {
            let Some(pool) = 1_u8.checked_shl(filter.function.into()) else {
                continue;
            };
            if pool & used == 0 {
                continue;
            }
            if filter.is_multicast() {
                let (register, bit) = multicast_place(filter.mac);
                function.multicast[register] |= bit;
                function.multicast_pools |= pool;
            } else if !function.add_unicast(filter.mac, pool) {
                missing += 1;
            }
        }
        match missing {
            0 => Ok(function),
            missing => Err(Error::TooManyAddresses(ADDRESS_FILTERS + missing)),
        }
    }

    /// Notes that frames to `address` go to `pools`; false if no filter is free.
    fn add_unicast(&mut self, address: [u8; 6], pools: u8) -> bool {
        let known = self
            .unicast
            .iter_mut()
            .flatten()
            .find(|filter| filter.address == address);
        if let Some(filter) = known {
            filter.pools |= pools;
            filter.home |= pools;
            return true;
        }
        // A function's own address keeps the filter with its number.
        let Some(free) = self.unicast.iter_mut().find(|filter| filter.is_none()) else {
            return false;
        };
        *free = Some(Unicast {
            address,
            pools,
            home: pools,
        });
        true
    }

    /// Does what is to be done at `now` (microseconds of any clock that does not
    /// go back): after the start, after an interrupt, or when the time has come.
    ///
    /// # Errors
    ///
    /// If the device does not do what it must. It is left alone from then on, and
    /// each further call says the same.
    pub fn poll(&mut self, now: u64) -> Result<Outcome, Error> {
        let result = self.step(now);
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        result
    }

    /// Whether the device is set up, so that it can be told of functions and routes.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    fn step(&mut self, now: u64) -> Result<Outcome, Error> {
        match self.state {
            State::Failed(error) => Err(error),
            State::Start => self.begin_reset(now),
            State::Resetting { since } => self.await_reset(now, since),
            State::Negotiating { since } => self.await_transceiver(now, since),
            State::Asking { since } => self.look_at_transceiver(now, since),
            State::Running { link } => Ok(self.watch(now, link)),
        }
    }

    fn wait(now: u64, microseconds: u64) -> Result<Outcome, Error> {
        Ok(Outcome {
            wake_at: Some(now + microseconds),
            ..Outcome::default()
        })
    }

    fn begin_reset(&mut self, now: u64) -> Result<Outcome, Error> {
        if STATUS_REGISTER.read(&self.registers).get() == u32::MAX {
            return Err(Error::NotPresent);
        }
        self.forbid_interrupts();
        CONTROL_REGISTER.modify(&self.registers, CONTROL::RESET::SET);
        self.state = State::Resetting { since: now };
        Self::wait(now, RESET_MICROSECONDS)
    }

    fn await_reset(&mut self, now: u64, since: u64) -> Result<Outcome, Error> {
        let passed = now.saturating_sub(since);
        if passed < RESET_MICROSECONDS {
            return Self::wait(since, RESET_MICROSECONDS);
        }
        if CONTROL_REGISTER
            .read(&self.registers)
            .is_set(CONTROL::RESET)
        {
            if passed >= RESET_LIMIT_MICROSECONDS {
                return Err(Error::ResetStuck);
            }
            return Self::wait(now, RESET_MICROSECONDS);
        }
        // In case the reset allowed some again.
        self.forbid_interrupts();
        CONTROL_REGISTER.modify(&self.registers, CONTROL::SET_LINK_UP::SET);
        self.negotiate(now)
    }

    /// Has the transceiver negotiate a link anew.
    fn negotiate(&mut self, now: u64) -> Result<Outcome, Error> {
        TRANSCEIVER_REGISTER.write(
            &self.registers,
            TRANSCEIVER::OPERATION::Write
                + TRANSCEIVER::ADDRESS.val(TRANSCEIVER_ADDRESS)
                + TRANSCEIVER::REGISTER.val(TRANSCEIVER_CONTROL)
                + TRANSCEIVER::DATA.val(TRANSCEIVER_NEGOTIATE),
        );
        self.state = State::Negotiating { since: now };
        self.await_transceiver(now, now)
    }

    fn await_transceiver(&mut self, now: u64, since: u64) -> Result<Outcome, Error> {
        if self.transceiver_answer(now, since)?.is_none() {
            return Self::wait(now, TRANSCEIVER_POLL_MICROSECONDS);
        }
        self.set_up();
        // What was reset along with the device needs nothing else.
        FUNCTIONS_RESET.write(&self.registers, u32::from(u8::MAX));
        self.set_working_functions();
        self.tell_that_it_works();
        self.state = State::Running { link: Link::Down };
        Ok(self.watch(now, Link::Down))
    }

    /// What the transceiver has answered, once it has: 16 bits, if it was asked for any.
    fn transceiver_answer(&self, now: u64, since: u64) -> Result<Option<u32>, Error> {
        let access = TRANSCEIVER_REGISTER.read(&self.registers);
        if access.is_set(TRANSCEIVER::ERROR) {
            return Err(Error::TransceiverError);
        }
        if access.is_set(TRANSCEIVER::READY) {
            return Ok(Some(access.read(TRANSCEIVER::DATA)));
        }
        match now.saturating_sub(since) >= TRANSCEIVER_LIMIT_MICROSECONDS {
            true => Err(Error::TransceiverSilent),
            false => Ok(None),
        }
    }

    fn forbid_interrupts(&self) {
        CAUSE_MASK_CLEAR.write(&self.registers, u32::MAX);
        INTERRUPT_MASK_CLEAR.write(&self.registers, u32::MAX);
        let _cleared = CAUSE_READ.read(&self.registers);
    }

    /// One bit for each virtual function in use.
    fn used(&self) -> u8 {
        self.addresses
            .iter()
            .enumerate()
            .fold(0, |used, (index, address)| {
                used | u8::from(address.is_some()) << index
            })
    }

    /// One bit for each virtual function that is to work: those in use, and those that
    /// were enabled for their holders.
    fn working(&self) -> u8 {
        self.used() | self.enabled
    }

    fn set_working_functions(&self) {
        let working = self.working();
        self.count(RECEIVE_ENABLE.correct(&self.registers, working.into()));
        self.count(TRANSMIT_ENABLE.correct(&self.registers, working.into()));
    }

    /// Counts a register that was not as it should be.
    fn count(&self, is_corrected: bool) {
        let before = self.corrected.get();
        self.corrected.set(before + u32::from(is_corrected));
    }

    /// Makes the device what it is to be, but for which functions work. Each register is looked at
    /// first and written only if it differs, so that a device that runs is not disturbed.
    fn set_up(&self) {
        self.set_up_pools();
        let registers = &self.registers;
        self.count(INTERRUPT_MODE_REGISTER.correct_all(
            registers,
            INTERRUPT_MODE::MSIX::SET
                + INTERRUPT_MODE::PENDING_BITS::SET
                + INTERRUPT_MODE::CLEAR_ON_READ::SET,
        ));
        self.count(INTERRUPT_THROTTLE_0.correct(
            registers,
            THROTTLE::INTERVAL.val(INTERRUPT_INTERVAL_MICROSECONDS),
        ));
        self.count(OTHER_VECTORS_REGISTER.correct_all(
            registers,
            OTHER_VECTORS::OTHER.val(0) + OTHER_VECTORS::OTHER_VALID::SET,
        ));
        // Mailboxes are not used, so nobody may interrupt by writing one.
        self.count(MAILBOX_INTERRUPT_MASK.correct(registers, 0));
        // The other entries are the virtual functions'.
        for own in [INTERRUPT_AUTO_CLEAR, INTERRUPT_MASK_SET] {
            let is_off = own.read(registers) & 1 == 0;
            if is_off {
                own.write(registers, 1);
            }
            self.count(is_off);
        }
        self.allow_interrupts();

        self.count(TRANSMIT_CONTROL_REGISTER.correct_all(registers, transmit_control()));
        self.count(RECEIVE_CONTROL_REGISTER.correct_all(registers, receive_control()));
        // A holder that offers no descriptors would otherwise hold up the frames of all.
        self.count(QUEUE_DROP.correct(registers, ALL_QUEUES));
    }

    /// Lets the causes interrupt that this driver looks at, and no others.
    fn allow_interrupts(&self) {
        let registers = &self.registers;
        let wanted = CAUSE::LINK_CHANGE::SET + CAUSE::VIRTUAL_FUNCTION::SET;
        let found = CAUSE_MASK_SET.read(registers).get();
        let superfluous = found & !wanted.value;
        if superfluous != 0 {
            CAUSE_MASK_CLEAR.write(registers, superfluous);
        }
        if found & wanted.value != wanted.value {
            CAUSE_MASK_SET.write(registers, wanted);
        }
        self.count(found != wanted.value);
    }

    /// Tells the virtual functions that the physical one works. Last, so that this also says that the
    /// device was set up to the end.
    fn tell_that_it_works(&self) {
        self.count(CONTROL_EXTENDED_REGISTER.correct(
            &self.registers,
            CONTROL_EXTENDED::RESET_DONE::SET + CONTROL_EXTENDED::DRIVER_LOADED::SET,
        ));
    }

    fn set_up_pools(&self) {
        let registers = &self.registers;
        self.count(QUEUE_SPREAD_REGISTER.correct_all(registers, QUEUE_SPREAD::MODE::Pools));
        self.count(POOL_CONTROL_REGISTER.correct_all(registers, pool_control()));
        // First without the checks that are too many, then with those that are missing: nobody's
        // frames are stopped who may send them before or after.
        let wanted = self.source_checks();
        let found = TRANSMIT_SWITCH_REGISTER.read(registers);
        let checked = found.read(TRANSMIT_SWITCH::CHECK_SOURCE_ADDRESS) as u8;
        self.set_source_checks(checked & wanted);
        for index in 0..ADDRESS_FILTERS {
            self.correct_filter(index);
        }
        self.set_source_checks(wanted);
        self.count(found.get() != u32::from(wanted));
        for (index, bits) in self.multicast.iter().enumerate() {
            self.count(multicast_table(index).correct(registers, *bits));
        }
        self.set_pool_filters(u8::MAX);
    }

    /// Says what each of the pools (one bit each) accepts.
    fn set_pool_filters(&self, pools: u8) {
        for (index, address) in self.addresses.iter().enumerate() {
            if pools >> index & 1 == 0 {
                continue;
            }
            let mut filter =
                POOL_FILTER::LONGEST.val(LONGEST_FRAME) + POOL_FILTER::STRIP_FRAME_CHECK::SET;
            let granted = self.enabled >> index & 1 != 0;
            if granted || address.is_some() {
                filter =
                    filter + POOL_FILTER::ACCEPT_UNTAGGED::SET + POOL_FILTER::ACCEPT_BROADCAST::SET;
            }
            if granted || self.multicast_pools >> index & 1 != 0 {
                filter += POOL_FILTER::ACCEPT_MULTICAST_HASH::SET;
            }
            self.count(pool_filter(index).correct_all(&self.registers, filter));
        }
    }

    /// Looks at everything that can change while the function runs.
    fn watch(&mut self, now: u64, before: Link) -> Outcome {
        let registers = &self.registers;
        // Reading takes the cause away, before what it stands for is looked at.
        let _cause = CAUSE_READ.read(registers);
        let working = self.working();
        let reset = FUNCTIONS_RESET.read(registers) as u8;
        if reset != 0 {
            FUNCTIONS_RESET.write(registers, reset.into());
            // The reset leaves them on the emulated device; nothing is said of others.
            self.set_pool_filters(reset);
            self.set_working_functions();
        }
        let link = self.link();
        self.state = State::Running { link };
        let is_up = link != Link::Down;
        let came_up = is_up && before == Link::Down;
        let ready = match (is_up, came_up) {
            (false, _) => 0,
            (true, true) => working,
            (true, false) => reset & working,
        };
        let pause = if is_up {
            LINK_UP_POLL_MICROSECONDS
        } else {
            LINK_DOWN_POLL_MICROSECONDS
        };
        Outcome {
            link: (link != before).then_some(link),
            ready,
            reset: reset & working,
            wake_at: Some(now + pause),
        }
    }

    fn link(&self) -> Link {
        let status = STATUS_REGISTER.read(&self.registers);
        if status.get() == u32::MAX || !status.is_set(STATUS::LINK_UP) {
            return Link::Down;
        }
        let megabits = match status.read_as_enum(STATUS::SPEED) {
            Some(STATUS::SPEED::Value::Megabit10) => 10,
            Some(STATUS::SPEED::Value::Megabit100) => 100,
            // Both remaining codes mean 1000 (8.2.2).
            _ => 1000,
        };
        Link::Up {
            megabits,
            full_duplex: status.is_set(STATUS::FULL_DUPLEX),
        }
    }
}

fn transmit_control() -> FieldValue<u32, TRANSMIT_CONTROL::Register> {
    TRANSMIT_CONTROL::ENABLE::SET
        + TRANSMIT_CONTROL::PAD_SHORT::SET
        + TRANSMIT_CONTROL::COLLISION_THRESHOLD.val(COLLISION_THRESHOLD)
        + TRANSMIT_CONTROL::COLLISION_DISTANCE.val(COLLISION_DISTANCE)
}

fn receive_control() -> FieldValue<u32, RECEIVE_CONTROL::Register> {
    RECEIVE_CONTROL::ENABLE::SET
        + RECEIVE_CONTROL::MULTICAST_HASH::Bits47To36
        + RECEIVE_CONTROL::ACCEPT_BROADCAST::SET
        + RECEIVE_CONTROL::STRIP_FRAME_CHECK::SET
}

fn pool_control() -> FieldValue<u32, POOL_CONTROL::Register> {
    POOL_CONTROL::NO_DEFAULT_POOL::SET + POOL_CONTROL::REPLICATE::SET
}

/// Where a multicast address is in the multicast table: the register, and the bit in
/// it. The place is the address's bits 47 to 36 (8.10.1, and 7.1.2.2 of the datasheet).
fn multicast_place(mac: [u8; 6]) -> (usize, u32) {
    let place = u16::from_le_bytes([mac[4], mac[5]]) >> 4;
    (usize::from(place >> 5), 1 << (place & 0x1f))
}
