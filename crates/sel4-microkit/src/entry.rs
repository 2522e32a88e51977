//! Start and main loop.

use crate::handler::{Handler, dispatch};
use crate::symbols::microkit_irqs;
use core::alloc::{GlobalAlloc, Layout};

use crate::{Channel, ChannelSet, MessageInfo, abi, logging, pd_is_passive, watch};
use segue_fault_points::{Point, reached};

/// Initialises the runtime, then the protection domain, then reacts for ever.
///
/// Called by the entry that [`_entry!`](crate::_entry) makes, once.
pub fn run<H: Handler>(initialise: impl FnOnce() -> H) -> ! {
    // SAFETY: whoever creates a protection domain maps its IPC buffer there
    // (abi), and this thread is its only one.
    unsafe { sel4::set_ipc_buffer(abi::IPC_BUFFER_ADDRESS as *mut sel4::Word) };
    // Whoever was inside a call to a predecessor; else nothing.
    sel4::syscall::reply(MessageInfo::GONE.inner());
    watch::begin();
    watch::trace("start", 0);
    logging::install();
    segue_fault_points::if_enabled!({ crate::faults::install() } else {});
    assert!(
        !pd_is_passive(),
        "this kernel has no passive protection domains"
    );
    reached(Point::RuntimeStarting);
    let mut handler = initialise();
    reached(Point::RuntimeStarted);
    // An interrupt stays masked until it is acknowledged for the first time.
    let irqs = *microkit_irqs.get();
    for channel in (0..abi::CHANNELS)
        .filter(|id| irqs >> id & 1 != 0)
        .map(Channel::new)
    {
        if let Err(error) = channel.irq_ack() {
            panic!("{error}");
        }
    }
    let mut answer = None;
    let mut ready = false;
    loop {
        if !ready && handler.is_ready() {
            ready = true;
            watch::ready();
        }
        if let Some(Err(error)) = handler
            .take_deferred_action()
            .map(|action| action.execute_now())
        {
            panic!("{error}");
        }
        watch::end();
        let (mut message, mut badge) = match answer.take() {
            None => sel4::syscall::recv(abi::slot::INPUT),
            Some(answer) => {
                let answer: MessageInfo = answer;
                sel4::syscall::reply_recv(abi::slot::INPUT, answer.inner())
            }
        };
        while let Some(abi::Received::Notified(bits)) = abi::received(badge)
            && handler.is_idle(ChannelSet::new(bits))
        {
            (message, badge) = sel4::syscall::recv(abi::slot::INPUT);
        }
        watch::begin();
        watch::received(badge, message.label());
        reached(Point::RuntimeReceived);
        answer = dispatch(&mut handler, badge, message);
        reached(Point::RuntimeHandled);
    }
}

/// Makes the function a program's entry; used by `#[protection_domain]`.
#[doc(hidden)]
#[macro_export]
macro_rules! _entry {
    ($initialise:ident) => {
        mod _protection_domain_entry {
            extern "C" fn start() -> ! {
                $crate::_private::run(super::$initialise)
            }

            // The thread starts with the stack pointer at the top of the stack,
            // aligned to 16 bytes, and all else 0. A zero frame pointer ends the
            // chain of frames. The floating point unit is as a predecessor left
            // it; the ABI wants it as after a reset (no exceptions).
            ::core::arch::global_asm!(
                ".globl _start",
                ".type _start, @function",
                "_start:",
                "xor ebp, ebp",
                "cld",
                "fninit",
                "push 0x1f80",
                "ldmxcsr [rsp]",
                "pop rax",
                "call {start}",
                "ud2",
                ".size _start, . - _start",
                start = sym start,
            );

            #[panic_handler]
            fn panic(information: &::core::panic::PanicInfo<'_>) -> ! {
                $crate::_private::panicked(information)
            }
        }
        $crate::_private::sel4::memory_functions!();
    };
}

/// The allocator of a program without a heap: it never has memory.
///
/// A program whose dependencies link the `alloc` crate needs an allocator, even
/// if it never allocates.
#[derive(Clone, Copy, Debug)]
pub struct NoHeap;

// SAFETY: it hands out no memory, so nothing can be wrong with it.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

/// Makes no heap; used by `#[protection_domain]` without `heap_size`.
#[doc(hidden)]
#[macro_export]
macro_rules! _no_heap {
    () => {
        const _: () = {
            #[global_allocator]
            static ALLOCATOR: $crate::_private::NoHeap = $crate::_private::NoHeap;
        };
    };
}

/// Makes a heap; used by `#[protection_domain(heap_size = ...)]`.
#[doc(hidden)]
#[macro_export]
macro_rules! _heap {
    ($size:expr) => {
        const _: () = {
            const SIZE: usize = $size;
            static mut HEAP: [u128; SIZE.div_ceil(16)] = [0; SIZE.div_ceil(16)];

            #[global_allocator]
            static ALLOCATOR: $crate::_private::talc::cell::TalcSyncCell<
                $crate::_private::talc::source::Claim,
                $crate::_private::talc::DefaultBinning,
            > =
                // SAFETY: a protection domain has one thread and no signal
                // handlers, and nothing but the allocator uses HEAP.
                unsafe {
                    $crate::_private::talc::cell::TalcSyncCell::new(
                        $crate::_private::talc::cell::TalcCell::new(
                            $crate::_private::talc::source::Claim::array(&raw mut HEAP),
                        ),
                    )
                };
        };
    };
}
