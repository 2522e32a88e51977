//! Orders to init.

use core::sync::atomic::Ordering::{Acquire, Release};

use segue_shared_memory::{PrivateRegion, Region};
use segue_status::orders::{Operation, Order, Outcome};
use segue_status::system::SystemStatus;
use segue_updater_core::Machine;
use sel4_microkit::notify_init;

/// The way to init, and what goes with it.
pub(crate) struct InitOrders {
    staging: PrivateRegion,
    /// A word for each target.
    serials: Region,
    orders: Region,
    /// The number by which init knows this orderer.
    orderer: usize,
    status: SystemStatus,
}

impl InitOrders {
    /// Takes over from a predecessor, if there was one.
    pub(crate) fn new(
        staging: PrivateRegion,
        serials: Region,
        orders: Region,
        orderer: usize,
        status: SystemStatus,
    ) -> Self {
        let mut this = Self {
            staging,
            serials,
            orders,
            orderer,
            status,
        };
        // It may have died before it could tell init.
        if this.outcome().is_none() {
            notify_init();
        }
        this
    }
}

impl Machine for InitOrders {
    fn staging(&mut self) -> &mut [u8] {
        let length = self.staging.length();
        self.staging.slice_mut(0, length).unwrap_or_default()
    }

    fn order(&mut self, operation: Operation, domain: u32, image: u32) {
        self.staging.publish();
        let order = Order {
            sequence: Order::next_sequence(&self.orders),
            operation: Some(operation),
            domain: domain.into(),
            image: image.into(),
        };
        order.write(&self.orders);
        notify_init();
    }

    fn outcome(&mut self) -> Option<Outcome> {
        let Some(order) = Order::read(&self.orders) else {
            return Some(Outcome::Done);
        };
        let answer = self.status.answer(self.orderer)?;
        answer.outcome.filter(|_| answer.sequence == order.sequence)
    }

    fn serial(&self, target: usize) -> u64 {
        self.serials.load64(target * size_of::<u64>(), Acquire)
    }

    fn set_serial(&mut self, target: usize, serial: u64) {
        let place = target * size_of::<u64>();
        self.serials.store64(place, serial, Release);
    }
}
