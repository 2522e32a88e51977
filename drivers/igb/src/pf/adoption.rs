//! Taking over a device that a predecessor of this driver has set up, while it carries traffic.
//!
//! What the predecessor knew is gone with its memory. Which functions work for their holders, and
//! to which each address goes, is found in two places: in the orders that were given (they are
//! definite where they are known to have been carried out), and in the device's own registers.
//! Everything else follows from the system description. Each register is then compared with what
//! it is to be, and only what differs is written, so that nobody who sends or receives is disturbed.

use super::*;

/// What is known of one address from the last order that was about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The address.
    pub mac: [u8; 6],
    /// Where its frames go.
    pub route: Route,
    /// The function that the order was about, if it is one that can be granted.
    pub function: Option<u8>,
    /// Whether that function is to work.
    pub works: bool,
}

/// Where the frames to an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// An order about it may have been carried out or not: as the device has it.
    Unsettled,
    /// Where they went before there was any order.
    Home,
    /// To this function.
    To(u8),
}

/// Registers of six that tell a device that was set up from one that was reset. A single one that
/// is damaged does not make it another.
const MARKS: usize = 4;

impl<M: Mmio> PhysicalFunction<M> {
    /// Takes over what a predecessor left, if it left anything; called once, before the first
    /// [`PhysicalFunction::poll`]. `records` are about the addresses whose route, and the functions
    /// whose holder, was ever changed by an order; they may say anything.
    ///
    /// If the device runs, it goes on: no reset, no function is switched off that works, and
    /// registers that differ from what they are to be are corrected one by one. Returns how many
    /// those were; `None` if the device does not run, so that the next call of `poll` resets it.
    /// What is recorded counts then, too.
    ///
    /// The next call of `poll` tells of each function that works as if the link had come up just now:
    /// their users may not have heard it from the predecessor.
    ///
    /// # Errors
    ///
    /// [`Error::NotPresent`], or why the device was given up.
    pub fn adopt<I>(&mut self, now: u64, records: I) -> Result<Option<u32>, Error>
    where
        I: IntoIterator<Item = Record> + Clone,
    {
        if let State::Failed(error) = self.state {
            return Err(error);
        }
        if STATUS_REGISTER.read(&self.registers).get() == u32::MAX {
            self.state = State::Failed(Error::NotPresent);
            return Err(Error::NotPresent);
        }
        let runs = self.marks() >= MARKS
            && !CONTROL_REGISTER
                .read(&self.registers)
                .is_set(CONTROL::RESET);
        self.recall_functions(runs, records.clone());
        self.recall_routes(runs, records);
        if !runs {
            return Ok(None);
        }
        self.corrected.set(0);
        let set_link_up = CONTROL::SET_LINK_UP::SET;
        self.count(CONTROL_REGISTER.correct(&self.registers, set_link_up));
        self.set_up();
        // Functions that were reset meanwhile stay noted, and are seen to by `poll`.
        self.set_working_functions();
        self.tell_that_it_works();
        self.state = match self.link() {
            Link::Up { .. } => State::Running { link: Link::Down },
            Link::Down => State::Asking { since: now },
        };
        if self.state == (State::Asking { since: now })
            && TRANSCEIVER_REGISTER
                .read(&self.registers)
                .is_set(TRANSCEIVER::READY)
        {
            self.ask_transceiver();
        }
        Ok(Some(self.corrected.get()))
    }

    /// Counts the registers that stand as [`PhysicalFunction::set_up`] leaves them, and a reset does
    /// not.
    fn marks(&self) -> usize {
        let registers = &self.registers;
        let extended = CONTROL_EXTENDED_REGISTER.read(registers);
        let spread = QUEUE_SPREAD_REGISTER.read(registers).get();
        let control = POOL_CONTROL_REGISTER.read(registers).get();
        let mode = INTERRUPT_MODE_REGISTER.read(registers);
        let marks = [
            spread == QUEUE_SPREAD::MODE::Pools.value,
            control == pool_control().value,
            mode.is_set(INTERRUPT_MODE::MSIX) && mode.is_set(INTERRUPT_MODE::PENDING_BITS),
            TRANSMIT_CONTROL_REGISTER.read(registers).get() == transmit_control().value,
            RECEIVE_CONTROL_REGISTER.read(registers).get() == receive_control().value,
            extended.is_set(CONTROL_EXTENDED::RESET_DONE)
                && extended.is_set(CONTROL_EXTENDED::DRIVER_LOADED),
        ];
        marks.into_iter().filter(|mark| *mark).count()
    }

    /// Finds which of the functions that can be granted are to work.
    fn recall_functions(&mut self, runs: bool, records: impl IntoIterator<Item = Record>) {
        let mut spoken_of = 0;
        for record in records {
            let function = record.function.unwrap_or(u8::MAX);
            let bit = 1_u8.checked_shl(function.into()).unwrap_or(0) & self.grantable;
            spoken_of |= bit;
            if record.works {
                self.enabled |= bit;
            }
        }
        if !runs {
            return;
        }
        // Nothing is known of the others but what the device does with them.
        let registers = &self.registers;
        let noted = FUNCTIONS_RESET.read(registers);
        let on = RECEIVE_ENABLE.read(registers) | TRANSMIT_ENABLE.read(registers) | noted;
        for index in 0..VIRTUAL_FUNCTIONS {
            let filter = pool_filter(index).read(registers);
            let accepts = filter.is_set(POOL_FILTER::ACCEPT_UNTAGGED)
                && filter.is_set(POOL_FILTER::ACCEPT_BROADCAST);
            if accepts {
                self.enabled |= 1 << index & on as u8 & self.grantable & !spoken_of;
            }
        }
    }

    /// Finds where each address goes.
    fn recall_routes<I>(&mut self, runs: bool, records: I)
    where
        I: IntoIterator<Item = Record> + Clone,
    {
        let record_of = |mac: [u8; 6]| records.clone().into_iter().find(|it| it.mac == mac);
        let mut found: [Option<([u8; 6], u8)>; ADDRESS_FILTERS] = [None; ADDRESS_FILTERS];
        if runs {
            found = core::array::from_fn(|index| self.read_filter(index));
        }
        // Those whose address did not come by an order keep their filter.
        for (index, found) in found.iter().enumerate() {
            let Some(filter) = self.unicast[index] else {
                continue;
            };
            if !self.is_own(filter.address) {
                let record = record_of(filter.address);
                let found = found.filter(|(address, _)| *address == filter.address);
                let found = found.map(|(_, pools)| pools);
                self.unicast[index] = Some(self.recalled(filter, record, found));
            }
        }
        let unchecked = match runs {
            true => {
                let switch = TRANSMIT_SWITCH_REGISTER.read(&self.registers);
                !switch.read(TRANSMIT_SWITCH::CHECK_SOURCE_ADDRESS) as u8 & self.used()
            }
            false => 0,
        };
        for (index, found) in found.iter().enumerate() {
            let Some((address, pools)) = *found else {
                continue;
            };
            let is_new = self.unicast[index].is_none() && !self.is_known(address);
            if let Some(record) = record_of(address).filter(|_| is_new && is_station(address)) {
                self.unicast[index] = self.recalled_new(address, record, Some(pools), unchecked);
            }
        }
        for record in records.clone() {
            if let Route::To(_) = record.route
                && is_station(record.mac)
                && !self.is_known(record.mac)
                && let Some(index) = self.unicast.iter().position(Option::is_none)
            {
                self.unicast[index] = self.recalled_new(record.mac, record, None, unchecked);
            }
        }
    }

    /// Address and pools of filter `index`, if it is valid.
    fn read_filter(&self, index: usize) -> Option<([u8; 6], u8)> {
        let high = address_high(index).read(&self.registers);
        let [a, b, c, d] = address_low(index).read(&self.registers).to_le_bytes();
        let [e, f, ..] = high.read(ADDRESS_HIGH::OCTETS).to_le_bytes();
        let pools = high.read(ADDRESS_HIGH::POOLS) as u8;
        high.is_set(ADDRESS_HIGH::VALID)
            .then_some(([a, b, c, d, e, f], pools))
    }

    pub(super) fn is_own(&self, address: [u8; 6]) -> bool {
        self.addresses.iter().flatten().any(|own| *own == address)
    }

    fn is_known(&self, address: [u8; 6]) -> bool {
        let mut filters = self.unicast.iter().flatten();
        filters.any(|filter| filter.address == address)
    }

    /// A function as the one bit of its pool, if it works.
    pub(super) fn working_bit(&self, function: u8) -> Option<u8> {
        let bit = 1_u8.checked_shl(function.into()).unwrap_or(0) & self.working();
        (bit != 0).then_some(bit)
    }

    /// The filter of an address that the description names, by what is recorded of it and the
    /// pools it was found with.
    fn recalled(&self, described: Unicast, record: Option<Record>, found: Option<u8>) -> Unicast {
        let at = |pool: u8| Unicast {
            pools: pool,
            home: match pool & self.grantable {
                0 => pool,
                _ => described.home,
            },
            ..described
        };
        let route = record.map_or(Route::Unsettled, |record| record.route);
        if let Route::To(function) = route {
            return self.working_bit(function).map_or(described, at);
        }
        // Its home is another if an order has brought it back to one of several functions.
        let single = found.filter(|pools| pools.is_power_of_two());
        let is_granted = |pool: u8| pool & self.grantable & self.enabled != 0;
        match single {
            Some(pool) if route == Route::Unsettled && is_granted(pool) => at(pool),
            Some(pool) if record.is_some() && pool & described.home != 0 => at(pool),
            _ => described,
        }
    }

    /// The filter of an address that came by an order. `unchecked` are functions (one bit each)
    /// that were found free to send from addresses that do not go to them: one of those has lent it.
    fn recalled_new(
        &self,
        address: [u8; 6],
        record: Record,
        found: Option<u8>,
        unchecked: u8,
    ) -> Option<Unicast> {
        let found = found.filter(|pools| pools.is_power_of_two() && pools & self.working() != 0);
        let pools = match record.route {
            Route::To(function) => self.working_bit(function)?,
            Route::Unsettled => found?,
            // Back where an order has brought it, or nowhere.
            Route::Home => found.filter(|pool| pool & self.grantable == 0)?,
        };
        let home = match pools & self.grantable {
            0 => pools,
            _ => unchecked,
        };
        (!self.is_own(address)).then_some(Unicast {
            address,
            pools,
            home,
        })
    }

    /// Asks the transceiver for its control register.
    fn ask_transceiver(&self) {
        TRANSCEIVER_REGISTER.write(
            &self.registers,
            TRANSCEIVER::OPERATION::Read
                + TRANSCEIVER::ADDRESS.val(TRANSCEIVER_ADDRESS)
                + TRANSCEIVER::REGISTER.val(TRANSCEIVER_CONTROL),
        );
    }

    /// Leaves a transceiver alone that tries to get a link, and has any other do so.
    pub(super) fn look_at_transceiver(&mut self, now: u64, since: u64) -> Result<Outcome, Error> {
        let Some(answer) = self.transceiver_answer(now, since)? else {
            return Self::wait(now, TRANSCEIVER_POLL_MICROSECONDS);
        };
        let access = TRANSCEIVER_REGISTER.read(&self.registers);
        if !access.matches_all(TRANSCEIVER::OPERATION::Read) {
            // That was still the predecessor's.
            self.ask_transceiver();
            self.state = State::Asking { since: now };
            return Self::wait(now, TRANSCEIVER_POLL_MICROSECONDS);
        }
        if answer & TRANSCEIVER_WORKS != TRANSCEIVER_NEGOTIATE & TRANSCEIVER_WORKS {
            return self.negotiate(now);
        }
        self.state = State::Running { link: Link::Down };
        Ok(self.watch(now, Link::Down))
    }
}

/// Whether an address is that of one station.
pub(super) fn is_station(address: [u8; 6]) -> bool {
    address[0] & 1 == 0 && address != [0; 6]
}
