//! Functions that are granted to changing holders while the device runs.
//!
//! What is wanted is kept here, in memory, and written again after a reset of the device:
//! which of these functions work, and to which function each address goes. A successor finds it
//! in the device's registers and in the orders (`adoption.rs`).

use super::*;
use segue_fault_points::{Point, reached};

/// Reads until a queue that does not stop is given up: at 0.1 us or more each, well above
/// what the datasheet allows (section 4.5.9, some microseconds).
const QUEUE_READS: usize = 100_000;

impl<M: Mmio> PhysicalFunction<M> {
    /// Lets a function work that its holder has reset: it gets untagged frames, broadcasts,
    /// the multicasts of the device, and what [`PhysicalFunction::route`] sends there. Until
    /// [`PhysicalFunction::scrub`] it is also enabled again after each further reset by its
    /// holder. It can send from the addresses only that go to it.
    ///
    /// # Errors
    ///
    /// [`Error::FunctionNotGrantable`], [`Error::NotReady`], or why the device was given up.
    pub fn enable(&mut self, function: u8) -> Result<(), Error> {
        let bit = self.grantable_bit(function)?;
        self.check_running()?;
        self.enabled |= bit;
        // First, so that a reset from here on is found by `poll`.
        FUNCTIONS_RESET.write(&self.registers, bit.into());
        reached(Point::IgbPfEnableNoted);
        self.set_pool_filters(bit);
        // A check without an address lets nothing out, until there is a route.
        self.set_source_checks(self.source_checks());
        reached(Point::IgbPfEnableChecked);
        self.set_working_functions();
        Ok(())
    }

    /// Makes frames to `address` go to `function` and to no other. One register is written
    /// for an address that is known, so each frame gets to either the function before or
    /// this one. An unknown address takes a free filter.
    ///
    /// # Errors
    ///
    /// [`Error::FunctionOff`] if the function has no address of its own and was not enabled,
    /// [`Error::NotOneStation`], [`Error::OwnAddress`]; [`Error::TooManyAddresses`] if no
    /// filter is free; [`Error::NotReady`], or why the device was given up.
    pub fn route(&mut self, address: [u8; 6], function: u8) -> Result<(), Error> {
        let pool = self
            .working_bit(function)
            .ok_or(Error::FunctionOff(function))?;
        if !adoption::is_station(address) {
            return Err(Error::NotOneStation(address));
        }
        if self.is_own(address) {
            return Err(Error::OwnAddress(address));
        }
        self.check_running()?;
        let known = |filter: &Option<Unicast>| filter.is_some_and(|it| it.address == address);
        let place = self.unicast.iter().position(known);
        let place = place.or_else(|| self.unicast.iter().position(Option::is_none));
        let Some(index) = place else {
            return Err(Error::TooManyAddresses(ADDRESS_FILTERS + 1));
        };
        let home = match pool & self.grantable {
            0 => pool,
            _ => self.unicast[index].map_or(0, |filter| filter.home),
        };
        self.set_filter(
            index,
            Some(Unicast {
                address,
                pools: pool,
                home,
            }),
        );
        Ok(())
    }

    /// Takes a function that nobody holds out of use: it neither receives nor sends, and
    /// whatever its last holder could write is as after a reset of the device, so that the
    /// next one finds no trace of it. Addresses that still go to it go back to where they
    /// were before, and their filters become free if that is nowhere.
    ///
    /// Until the next [`PhysicalFunction::enable`] its resets change nothing.
    ///
    /// # Errors
    ///
    /// [`Error::FunctionNotGrantable`], [`Error::NotReady`], or why the device was given up;
    /// [`Error::QueueStuck`]: the function is off, but can still be in the middle of a
    /// transfer. It must not be granted before a call has succeeded.
    pub fn scrub(&mut self, function: u8) -> Result<(), Error> {
        let bit = self.grantable_bit(function)?;
        self.check_running()?;
        self.give_addresses_back(bit);
        reached(Point::IgbPfScrubAddresses);
        self.enabled &= !bit;
        self.set_working_functions();
        self.set_pool_filters(bit);
        self.set_source_checks(self.source_checks());
        let registers = &self.registers;
        let function = usize::from(function);
        function_control(function).write(registers, CONTROL::RESET::SET);
        self.stop_queues(function)?;
        reached(Point::IgbPfScrubStopped);
        self.reset_queues(function);
        reached(Point::IgbPfScrubQueues);
        self.reset_interrupts(function);
        self.reset_mailbox(function);
        // Ours, and those of the holder that nobody has looked at.
        FUNCTIONS_RESET.write(registers, bit.into());
        Ok(())
    }

    /// Functions whose frames the device lets out only if their source address goes to them.
    ///
    /// A granted function is always one of them. Another one is not while an address of its
    /// users goes to a granted function: it still sends frames from there, when a user
    /// changes from one to the other. It is the network server's, which looks at the source of
    /// each frame itself.
    pub(super) fn source_checks(&self) -> u8 {
        let filters = self.unicast.iter().flatten();
        let lent = filters.fold(0, |lent, filter| lent | filter.home & !filter.pools);
        self.working() & !lent
    }

    pub(super) fn set_source_checks(&self, functions: u8) {
        // Frames between functions leave the device: loopback costs the emulated
        // NIC its segmentation, and makes it return broadcasts to their sender.
        TRANSMIT_SWITCH_REGISTER.correct_all(
            &self.registers,
            TRANSMIT_SWITCH::CHECK_SOURCE_ADDRESS.val(functions.into()),
        );
    }

    /// Makes sure that address filter `index` of 24 is as it is to be. A half that stands is not
    /// written; if both differ the filter is not valid meanwhile.
    pub(super) fn correct_filter(&self, index: usize) {
        let registers = &self.registers;
        let filter = self.unicast.get(index).copied().flatten();
        let (low, high) = filter.map_or((0, 0), |filter| {
            let [a, b, c, d, ..] = filter.address;
            (u32::from_le_bytes([a, b, c, d]), filter.high().value)
        });
        let is_low_wrong = address_low(index).read(registers) != low;
        let is_high_wrong = address_high(index).read(registers).get() != high;
        match (is_low_wrong, is_high_wrong) {
            (false, false) => {}
            (true, false) => address_low(index).write(registers, low),
            (false, true) => self.write_filter_high(index, filter.as_ref()),
            (true, true) => {
                self.write_filter_high(index, None);
                self.write_filter(index);
            }
        }
        self.count(is_low_wrong || is_high_wrong);
    }

    /// Writes address filter `index` of 24 as it is to be.
    pub(super) fn write_filter(&self, index: usize) {
        let filter = self.unicast.get(index).copied().flatten();
        if let Some(filter) = filter {
            let [a, b, c, d, ..] = filter.address;
            // The high half is written last and makes the filter valid.
            address_low(index).write(&self.registers, u32::from_le_bytes([a, b, c, d]));
            reached(Point::IgbPfAddressHalf);
            self.write_filter_high(index, Some(&filter));
        } else {
            self.write_filter_high(index, None);
            address_low(index).write(&self.registers, 0);
        }
    }

    fn write_filter_high(&self, index: usize, filter: Option<&Unicast>) {
        let high = filter.map_or(ADDRESS_HIGH::VALID::CLEAR, Unicast::high);
        address_high(index).write(&self.registers, high);
    }

    /// Changes filter `index`, and the checks of source addresses that depend on it. Those
    /// that fall away do so before and others come after, so that no frame is stopped
    /// whose sender could send it before or can now.
    fn set_filter(&mut self, index: usize, filter: Option<Unicast>) {
        let before = self.source_checks();
        let old = core::mem::replace(&mut self.unicast[index], filter);
        let after = self.source_checks();
        if before & !after != 0 {
            self.set_source_checks(before & after);
        }
        reached(Point::IgbPfChecksLifted);
        match (old, filter) {
            (Some(old), Some(new)) if old.address == new.address => {
                self.write_filter_high(index, Some(&new));
            }
            _ => self.write_filter(index),
        }
        reached(Point::IgbPfRouted);
        if after & !before != 0 {
            self.set_source_checks(after);
        }
    }

    /// Takes the functions (one bit each) out of all address filters.
    fn give_addresses_back(&mut self, functions: u8) {
        for index in 0..ADDRESS_FILTERS {
            let Some(mut filter) = self.unicast[index] else {
                continue;
            };
            if filter.pools & functions != 0 {
                filter.pools = filter.home;
                self.set_filter(index, (filter.home != 0).then_some(filter));
            }
        }
    }

    /// The function as a bit, if it can be granted.
    fn grantable_bit(&self, function: u8) -> Result<u8, Error> {
        match 1_u8.checked_shl(function.into()).unwrap_or(0) & self.grantable {
            0 => Err(Error::FunctionNotGrantable(function)),
            bit => Ok(bit),
        }
    }

    fn check_running(&self) -> Result<(), Error> {
        match self.state {
            State::Running { .. } => Ok(()),
            State::Failed(error) => Err(error),
            State::Start
            | State::Resetting { .. }
            | State::Negotiating { .. }
            | State::Asking { .. } => Err(Error::NotReady),
        }
    }

    /// Stops all queues of a function: their registers may be written only when they are
    /// off (4.5.9).
    fn stop_queues(&self, function: usize) -> Result<(), Error> {
        let registers = &self.registers;
        let controls = queues(function).map(|queue| {
            [
                ("receive", receive_queue_control(queue)),
                ("transmit", transmit_queue_control(queue)),
            ]
        });
        for (_, control) in controls.iter().flatten() {
            control.modify(registers, QUEUE_CONTROL::ENABLE::CLEAR);
        }
        for (queue, control) in controls.iter().flatten() {
            let is_off = || !control.read(registers).is_set(QUEUE_CONTROL::ENABLE);
            if !(0..QUEUE_READS).any(|_| is_off()) {
                let what = "stop";
                return Err(Error::QueueStuck { queue, what });
            }
        }
        Ok(())
    }

    fn reset_queues(&self, function: usize) {
        let registers = &self.registers;
        for queue in queues(function) {
            for (register, value) in RECEIVE_QUEUE_RESET {
                registers.write32(receive_queue(queue, register), value);
            }
            let _cleared = receive_queue_dropped(queue).read(registers);
            for (register, value) in TRANSMIT_QUEUE_RESET {
                registers.write32(transmit_queue(queue, register), value);
            }
        }
        header_split(function).write(registers, 0);
    }

    fn reset_interrupts(&self, function: usize) {
        let registers = &self.registers;
        function_mask_clear(function).write(registers, FUNCTION_INTERRUPTS);
        function_mask_set(function).write(registers, 0);
        function_auto_clear(function).write(registers, 0);
        function_auto_mask(function).write(registers, 0);
        for throttle in function_throttles(function) {
            throttle.write(registers, 0);
        }
        for vectors in function_own_vectors(function) {
            vectors.write(registers, 0);
        }
        // The emulated device only adds to it what a holder writes to its own.
        function_vectors(function).write(registers, 0);
        function_cause(function).write(registers, FUNCTION_INTERRUPTS);
        // Reading clears what the emulated device keeps of the word just written.
        let _cleared = function_cause(function).read(registers);
    }

    fn reset_mailbox(&self, function: usize) {
        let registers = &self.registers;
        for word in 0..MAILBOX_WORDS {
            mailbox_memory(function, word).write(registers, 0);
        }
        // On the emulated device only this lets the mailbox go for both sides.
        function_mailbox(function).write(registers, 0);
        mailbox(function).write(registers, MAILBOX::TAKE_FROM_FUNCTION::SET);
        MAILBOX_CAUSE.write(registers, 0x0001_0001 << function);
    }
}
