//! The timer: the clients' timeouts over an alarm that may be lost.

use crate::Timeouts;
use segue_fault_points::{Point, reached};

/// The device, as far as the timer needs it. Times are its ticks.
pub trait Alarm {
    /// The time.
    fn now(&self) -> u64;
    /// Has an interrupt come at this time, instead of what was set before. `false` if the time
    /// has passed: then none is promised.
    fn arm(&mut self, deadline: u64) -> bool;
    /// No interrupt is wanted.
    fn disarm(&mut self);
    /// Has another interrupt come at this time, beside the first. `false` if the time has
    /// passed, or the device has no second interrupt.
    fn watch(&mut self, deadline: u64) -> bool;
}

/// Who waits until when, and what the device is armed for.
///
/// An interrupt may be lost: the IO APIC forgets an edge that comes while the interrupt is
/// masked. It is masked from its arrival until it is acknowledged, and then
/// [`Self::interrupted`] looks at the time; so the timer's own work loses none. In case one is
/// lost all the same, a second interrupt comes now and then while somebody waits, and time
/// goes on. If that one is lost too, the next call of any client goes on.
#[derive(Debug)]
pub struct Timer {
    timeouts: Timeouts,
    /// The deadline that the device is armed for.
    armed: Option<u64>,
    /// When the second interrupt comes.
    watched: Option<u64>,
    /// Ticks between two of them.
    interval: u64,
}

impl Timer {
    /// Nobody waits. A lost interrupt is noticed after `interval` ticks at the latest.
    pub const fn new(interval: u64) -> Self {
        Self {
            timeouts: Timeouts::new(),
            armed: None,
            watched: None,
            interval,
        }
    }

    /// Sets a client's timeout, so many ticks from now, and does what there is to do.
    pub fn set(
        &mut self,
        client: usize,
        ticks: u64,
        alarm: &mut impl Alarm,
        notify: impl FnMut(usize),
    ) {
        self.timeouts.set(client, alarm.now().saturating_add(ticks));
        reached(Point::TimerSet);
        self.update(alarm, notify);
    }

    /// Takes it back, likewise.
    pub fn cancel(&mut self, client: usize, alarm: &mut impl Alarm, notify: impl FnMut(usize)) {
        self.timeouts.cancel(client);
        self.update(alarm, notify);
    }

    /// To be called after each interrupt, when it is acknowledged and can come again.
    pub fn interrupted(&mut self, alarm: &mut impl Alarm, notify: impl FnMut(usize)) {
        // A comparator has fired, or soon will again for what it is armed for.
        self.armed = None;
        self.update(alarm, notify);
    }

    /// Signals everyone whose time has come and arms the device for the next.
    fn update(&mut self, alarm: &mut impl Alarm, mut notify: impl FnMut(usize)) {
        loop {
            let now = alarm.now();
            while let Some(client) = self.timeouts.expire(now) {
                reached(Point::TimerTakenOut);
                notify(client);
            }
            reached(Point::TimerSignalled);
            let next = self.timeouts.next();
            if next.is_some() && self.watched.is_none_or(|at| at <= now) {
                let at = now.saturating_add(self.interval);
                self.watched = alarm.watch(at).then_some(at);
            }
            reached(Point::TimerWatched);
            if next == self.armed {
                return;
            }
            self.armed = next;
            reached(Point::TimerNoted);
            match next {
                None => return alarm.disarm(),
                Some(deadline) if alarm.arm(deadline) => return,
                Some(_) => self.armed = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    extern crate std;
    use std::cell::Cell;
    use std::vec::Vec;

    const INTERVAL: u64 = 1_000;

    /// A device with two comparators on one pin, whose edges are forgotten while it is masked.
    #[derive(Default)]
    struct Device {
        now: Cell<u64>,
        /// Ticks that each access takes.
        speed: u64,
        comparators: Cell<[Option<u64>; 2]>,
        masked: Cell<bool>,
        /// An interrupt waits to be served.
        waits: Cell<bool>,
        /// So many interrupts are lost on their way.
        to_lose: Cell<u32>,
    }

    impl Device {
        fn pass(&self, ticks: u64) {
            self.now.set(self.now.get() + ticks);
            let mut comparators = self.comparators.get();
            for comparator in &mut comparators {
                if comparator.is_none_or(|at| at > self.now.get()) {
                    continue;
                }
                *comparator = None;
                if self.to_lose.get() > 0 {
                    self.to_lose.set(self.to_lose.get() - 1);
                } else if !self.masked.replace(true) {
                    self.waits.set(true);
                }
            }
            self.comparators.set(comparators);
        }

        fn arm(&self, index: usize, deadline: u64) -> bool {
            self.pass(self.speed);
            let passed = deadline <= self.now.get();
            let mut comparators = self.comparators.get();
            comparators[index] = (!passed).then_some(deadline);
            self.comparators.set(comparators);
            !passed
        }
    }

    impl Alarm for &Device {
        fn now(&self) -> u64 {
            self.pass(self.speed);
            self.now.get()
        }
        fn arm(&mut self, deadline: u64) -> bool {
            Device::arm(self, 0, deadline)
        }
        fn disarm(&mut self) {
            let [_, second] = self.comparators.get();
            self.comparators.set([None, second]);
        }
        fn watch(&mut self, deadline: u64) -> bool {
            Device::arm(self, 1, deadline)
        }
    }

    /// Serves an interrupt if one waits. Ticks pass before and after it is acknowledged.
    fn serve(timer: &mut Timer, mut device: &Device, notify: impl FnMut(usize)) {
        if device.waits.replace(false) {
            device.pass(device.speed);
            device.masked.set(false);
            device.pass(device.speed);
            timer.interrupted(&mut device, notify);
        }
    }

    #[test]
    fn nobody_waits_for_ever_when_an_interrupt_is_lost() {
        let device = Device {
            speed: 1,
            ..Device::default()
        };
        let mut timer = Timer::new(INTERVAL);
        let mut alarm = &device;
        timer.set(7, 300, &mut alarm, |_| panic!("too early"));
        device.to_lose.set(1);
        device.pass(500);
        assert!(!device.waits.get(), "the interrupt is lost");
        device.pass(INTERVAL);
        let mut notified = Vec::new();
        serve(&mut timer, &device, |client| notified.push(client));
        assert_eq!(notified, [7]);
    }

    #[test]
    fn an_idle_timer_is_left_alone() {
        let device = Device::default();
        let mut timer = Timer::new(INTERVAL);
        timer.set(7, 300, &mut &device, |_| {});
        for _ in 0..10 {
            device.pass(INTERVAL);
            serve(&mut timer, &device, |_| {});
        }
        assert_eq!(device.comparators.get(), [None, None]);
    }

    proptest! {
        /// However long each access takes, and whatever happens while the interrupt is masked,
        /// every timeout comes, not before its time and soon after; or an interval later, if an
        /// interrupt is lost.
        #[test]
        fn no_timeout_is_lost(
            speed in 0_u64..60,
            is_lost in any::<bool>(),
            steps in proptest::collection::vec((0_usize..6, 0_u64..400, 0_u64..400), 1..60),
        ) {
            let device = Device { speed, ..Device::default() };
            let mut timer = Timer::new(INTERVAL);
            let mut waiting = [None; 6];
            let allowed = INTERVAL * u64::from(is_lost) + 1_000;
            device.to_lose.set(u32::from(is_lost));
            for (client, ticks, pause) in steps {
                let before = device.now.get();
                let mut come = Vec::new();
                timer.set(client, ticks, &mut &device, |client| come.push(client));
                waiting[client] = Some(before + ticks);
                for client in come.drain(..) {
                    let deadline: u64 = waiting[client].take().expect("it waits");
                    prop_assert!(device.now.get() >= deadline);
                }
                for _ in 0..=pause {
                    device.pass(1);
                    serve(&mut timer, &device, |client| come.push(client));
                    for client in come.drain(..) {
                        let deadline: u64 = waiting[client].take().expect("it waits");
                        prop_assert!(device.now.get() >= deadline);
                    }
                }
                let now = device.now.get();
                prop_assert!(waiting.iter().flatten().all(|at| now <= at + allowed));
            }
            for _ in 0..allowed {
                device.pass(1);
                serve(&mut timer, &device, |client| waiting[client] = None);
            }
            prop_assert_eq!(waiting, [None; 6]);
        }
    }
}
