//! How a program that is built for fault injection fails.
//!
//! Nothing of it is in other programs: see `segue-fault-points`.

use core::cell::OnceCell;
use segue_fault_points::config::Injection;
use segue_fault_points::{Injector, Kind, ORDERS_SIZE, PAGE_SIZE, Page, Point};

use crate::logging::SingleThread;

static INJECTOR: SingleThread<OnceCell<Injector>> = SingleThread(OnceCell::new());

/// Lets orders reach the program, if the system description has `<fault_injection/>`.
pub(crate) fn install() {
    let told = crate::var!(fault_injection: Injection = Injection::NONE);
    if *told == Injection::NONE {
        return;
    }
    let orders = crate::region_at!(told.orders, ORDERS_SIZE as u64);
    let page = Page::new(crate::region_at!(told.page, PAGE_SIZE as u64));
    if let (Some(page), Ok(place)) = (page, usize::try_from(told.place)) {
        let injector = Injector::new(orders, place, page, act);
        segue_fault_points::install(INJECTOR.0.get_or_init(|| injector));
    }
}

fn act(point: Point, kind: Kind) {
    crate::trace("injected", point as u64);
    match kind {
        Kind::Panic => panic!("a fault was injected at {}", point.name()),
        // SAFETY: the instruction raises an exception and does nothing else.
        Kind::Illegal => unsafe { core::arch::asm!("ud2", options(noreturn, nostack)) },
        // SAFETY: nothing is mapped at address 0 (the image builder refuses it), so the
        // write raises an exception and does nothing else.
        Kind::Memory => unsafe {
            core::arch::asm!("mov qword ptr [{0}], {0}", in(reg) 0_u64, options(nostack));
        },
        Kind::Loop => loop {
            core::hint::spin_loop();
        },
        Kind::Deadlock => wait_for_ever(),
    }
}

/// Waits for what never comes. The callers of a server go on waiting, too.
fn wait_for_ever() -> ! {
    loop {
        // Nobody but this thread receives there, so it waits for itself: the image builder gives
        // it the right to.
        sel4::syscall::send(crate::abi::slot::INPUT, sel4::MessageInfo::new(0, 0, 0));
        // Who serves no calls has a notification there, to which the kernel sends no message.
        sel4::syscall::wait(crate::abi::slot::INPUT);
    }
}
