//! The runtime of a protection domain: the Microkit programming model.
//!
//! Public names and meanings follow the seL4 Foundation's crate of that name;
//! the ABI is that of Microkit 2.3 on x86_64, but for the badges (see
//! [`sel4_microkit_abi`]). A protection domain is a program of one thread that
//! initialises itself and then only reacts: to signals ([`Handler::notified`])
//! and to calls ([`Handler::protected`]).
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! #![forbid(unsafe_code)]
//!
//! use sel4_microkit::{
//!     Channel, ChannelSet, Clock, Handler, Infallible, MessageInfo, channel, get_mr,
//!     protection_domain, region, set_mr,
//! };
//!
//! struct Server {
//!     device: Channel,
//!     clock: Clock,
//! }
//!
//! #[protection_domain(heap_size = 0x1_0000)]
//! fn init() -> Server {
//!     // <map ... setvar_vaddr="tsc_frequency"/>, <irq id="0" ... setvar_id="device_irq"/>
//!     let clock = Clock::new(region!(tsc_frequency));
//!     let device = channel!(device_irq);
//!     log::info!("ready");
//!     Server { device, clock }
//! }
//!
//! impl Handler for Server {
//!     type Error = Infallible;
//!
//!     fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
//!         if channels.contains(self.device) {
//!             // ... serve the device, then let it interrupt again.
//!             self.device.irq_ack().expect("the interrupt belongs to this protection domain");
//!         }
//!         Ok(())
//!     }
//!
//!     fn protected(&mut self, _: Channel, call: MessageInfo) -> Result<MessageInfo, Infallible> {
//!         Ok(match (call.label(), call.count()) {
//!             (1, 1) => {
//!                 set_mr(0, get_mr(0) + self.clock.now_microseconds());
//!                 MessageInfo::new(0, 1)
//!             }
//!             _ => MessageInfo::REFUSED,
//!         })
//!     }
//! }
//! ```
//!
//! The attribute supplies `_start`, the panic handler, the memory functions
//! that the compiler expects and, if asked for, a heap. Programs need
//! `#![no_std]` and `#![no_main]` and the linker arguments listed in the
//! project's Makefile (static, no standard start files, page-sized segments).
//!
//! `log::info!` and its kin append a line to the protection domain's log ring,
//! which the console prints. A panic is logged there too and ends in an invalid
//! instruction, so that `init` sees a fault and reports it.
//!
//! A program that dies, or makes no progress for too long, may be started again from its image, with
//! the regions and devices that it had. Whoever was inside a call to it gets the answer
//! [`MessageInfo::GONE`]; signals that waited are dropped, so `init` looks at everything once.
//! [`trace`] notes what the program is doing, for the report of its death.
//!
//! What Microkit has and this runtime does not: children (`Child`,
//! `Handler::fault`), virtual machines, passive protection domains, and a stack
//! inside the image.
#![no_std]

mod channel;
mod clock;
mod entry;
segue_fault_points::if_enabled!({ mod faults; } else {});
mod handler;
mod io_port;
mod logging;
mod memory;
mod message;
mod patched;
mod random;
mod symbols;
mod watch;

pub use channel::{Channel, ChannelSet, IrqAckError};
pub use clock::Clock;
pub use core::convert::Infallible;
pub use handler::{DeferredAction, DeferredActionInterface, Handler, NullHandler};
pub use io_port::IoPort;
pub use logging::debug_write;
pub use message::{
    MessageInfo, MessageLabel, MessageRegisterValue, get_mr, set_mr, with_msg_bytes, with_msg_regs,
};
pub use patched::Patched;
pub use random::hardware_random;
pub use sel4_microkit_abi as abi;
pub use sel4_microkit_macros::{private_region, protection_domain, region};
pub use symbols::{pd_is_passive, pd_name};
pub use watch::{exit, notify_init, progress, trace};

#[doc(hidden)]
pub mod _private {
    //! What the macros refer to.
    pub use crate::entry::{NoHeap, run};
    pub use crate::logging::{panicked, ring};
    pub use crate::memory::{private_region, region};
    pub use segue_shared_memory;
    pub use sel4;
    pub use talc;
}
