//! The protection domain's side: counts what it reaches and carries orders out.

use core::sync::atomic::Ordering;
use once_cell::race::OnceRef;
use segue_shared_memory::Region;

use crate::page::{DONE, STRUCK};
use crate::{Kind, Order, Page, Point};

static INSTALLED: OnceRef<'static, Injector> = OnceRef::new();

/// What lets this program fail.
#[derive(Clone, Copy, Debug)]
pub struct Injector {
    orders: Region,
    place: usize,
    page: Page,
    act: fn(Point, Kind),
}

impl Injector {
    /// Takes the orders of the protection domain at `place` from `orders`, counts in `page` and
    /// fails by `act`, which does not return but in tests.
    pub const fn new(orders: Region, place: usize, page: Page, act: fn(Point, Kind)) -> Self {
        Self {
            orders,
            place,
            page,
            act,
        }
    }

    /// As [`reached`](crate::reached), for the protection domain whose orders these are.
    pub fn reached(&self, point: Point) {
        self.page.add(point);
        // At most as many as there is room for: one with the next number is always another word.
        while let Some(order) =
            Order::read(&self.orders, self.place, self.page.done().wrapping_add(1))
        {
            let Some((ordered, kind)) = order.fault else {
                self.page.set_done(order.sequence, false);
                continue;
            };
            if ordered == point && !self.page.passes(order.sequence, order.skip) {
                // First, so that the next life does not do it again.
                self.page.set_done(order.sequence, true);
                (self.act)(point, kind);
            }
            return;
        }
    }
}

/// Number of the order whose point it passes (upper half), and how often it has (lower half).
const PASSED: usize = 8;

impl Page {
    /// Notes that `point` was reached once more.
    fn add(&self, point: Point) {
        let place = Self::place_of(point);
        let count = self.0.load64(place, Ordering::Relaxed).wrapping_add(1);
        self.0.store64(place, count, Ordering::Relaxed);
    }

    /// Whether the point of order `sequence` is to be passed, which has been done less than
    /// `skip` times; notes that it is.
    fn passes(&self, sequence: u16, skip: u32) -> bool {
        let word = self.0.load64(PASSED, Ordering::Relaxed);
        let passed = match word >> 32 == u64::from(sequence) {
            true => word as u32,
            false => 0,
        };
        let passes = passed < skip;
        if passes {
            let word = u64::from(sequence) << 32 | u64::from(passed + 1);
            self.0.store64(PASSED, word, Ordering::Relaxed);
        }
        passes
    }

    /// Notes that order `sequence` is done with, and whether it was acted upon.
    fn set_done(&self, sequence: u16, struck: bool) {
        let count = self.struck().wrapping_add(u64::from(struck));
        self.0.store64(STRUCK, count, Ordering::Relaxed);
        self.0.store64(PASSED, 0, Ordering::Relaxed);
        self.0.store64(DONE, u64::from(sequence), Ordering::Release);
    }
}

/// Lets [`reached`](crate::reached) look for orders. What is installed first stays.
pub fn install(injector: &'static Injector) {
    // The only error is that there is one already.
    let _ = INSTALLED.set(injector);
}

pub(crate) fn installed() -> Option<&'static Injector> {
    INSTALLED.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ORDERS_SIZE, PAGE_SIZE};
    use segue_shared_memory::testing::leaked_region;

    extern crate std;
    use std::cell::RefCell;
    use std::vec::Vec;

    std::thread_local! {
        static ACTS: RefCell<Vec<(Point, Kind)>> = const { RefCell::new(Vec::new()) };
    }

    fn note(point: Point, kind: Kind) {
        ACTS.with_borrow_mut(|acts| acts.push((point, kind)));
    }

    fn acts() -> Vec<(Point, Kind)> {
        ACTS.take()
    }

    const PLACE: usize = 3;
    const ONE: Point = Point::RuntimeReceived;
    const OTHER: Point = Point::RuntimeHandled;

    struct World {
        orders: Region,
        page: Page,
        injector: Injector,
    }

    impl World {
        fn new() -> Self {
            let orders = leaked_region(ORDERS_SIZE);
            let page = Page::new(leaked_region(PAGE_SIZE)).unwrap();
            Self {
                orders,
                page,
                injector: Injector::new(orders, PLACE, page, note),
            }
        }

        fn order(&self, sequence: u16, fault: Option<(Point, Kind)>, skip: u32) {
            let order = Order {
                sequence,
                fault,
                skip,
            };
            order.write(&self.orders, PLACE);
        }

        /// As after a restart: the regions stay, all else is new.
        fn restart(&mut self) {
            self.injector = Injector::new(self.orders, PLACE, self.page, note);
        }
    }

    #[test]
    fn without_an_order_it_only_counts() {
        let world = World::new();
        (0..3).for_each(|_| world.injector.reached(ONE));
        world.injector.reached(OTHER);
        assert_eq!((world.page.count(ONE), world.page.count(OTHER)), (3, 1));
        assert_eq!((acts().len(), world.page.struck()), (0, 0));
    }

    #[test]
    fn an_order_strikes_once_at_its_point_after_its_passes() {
        let mut world = World::new();
        world.order(1, Some((ONE, Kind::Loop)), 2);
        world.injector.reached(ONE);
        world.injector.reached(OTHER);
        world.restart();
        world.injector.reached(ONE);
        assert!(acts().is_empty());
        world.injector.reached(ONE);
        assert_eq!(acts(), [(ONE, Kind::Loop)]);
        world.restart();
        (0..10).for_each(|_| world.injector.reached(ONE));
        assert!(acts().is_empty());
        assert_eq!((world.page.done(), world.page.struck()), (1, 1));
    }

    #[test]
    fn orders_are_carried_out_in_turn() {
        let mut world = World::new();
        world.order(1, Some((ONE, Kind::Panic)), 0);
        world.order(2, Some((OTHER, Kind::Memory)), 1);
        world.order(3, Some((ONE, Kind::Illegal)), 0);
        assert_eq!(world.page.waiting(world.orders, PLACE).count(), 3);
        world.injector.reached(OTHER);
        assert!(acts().is_empty());
        world.injector.reached(ONE);
        world.restart();
        world.injector.reached(ONE);
        world.injector.reached(OTHER);
        world.injector.reached(OTHER);
        world.injector.reached(ONE);
        let expected = [
            (ONE, Kind::Panic),
            (OTHER, Kind::Memory),
            (ONE, Kind::Illegal),
        ];
        assert_eq!(acts(), expected);
        assert_eq!(world.page.waiting(world.orders, PLACE).count(), 0);
    }

    #[test]
    fn what_is_withdrawn_is_passed_over() {
        let world = World::new();
        for sequence in 1..=u16::MAX {
            world.order(sequence, None, 0);
            world.injector.reached(ONE);
        }
        // That of the number 0 is an order, too.
        world.order(0, None, 0);
        world.order(1, Some((ONE, Kind::Panic)), 0);
        world.injector.reached(ONE);
        assert_eq!(acts(), [(ONE, Kind::Panic)]);
        assert_eq!((world.page.done(), world.page.struck()), (1, 1));
    }

    #[test]
    fn numbers_wrap() {
        let world = World::new();
        for sequence in (1..=u16::MAX).chain(0..5) {
            world.order(sequence, Some((ONE, Kind::Panic)), 0);
            world.injector.reached(ONE);
            assert_eq!(world.page.done(), sequence);
        }
        assert_eq!(acts().len(), usize::from(u16::MAX) + 5);
    }

    #[test]
    fn what_is_installed_is_asked() {
        let world = World::new();
        let injector = std::boxed::Box::leak(std::boxed::Box::new(world.injector));
        install(injector);
        crate::reached(ONE);
        assert_eq!(world.page.count(ONE), 1);
    }
}
