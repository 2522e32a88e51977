//! Intel 82576 (igb): drivers for its physical and its virtual functions.
//!
//! [`vf`] moves frames through one virtual function; the network server and
//! applications in direct mode link it. [`pf`] brings the physical function up
//! so that the virtual ones work: link, address filters, pools. It moves no
//! frame. Both reach the device through the traits of `segue-device`, know no
//! kernel, and take the time as an argument.
//!
//! What the device writes (descriptors, registers) is checked before it is
//! used: a broken or hostile NIC can lose frames, not memory safety.
//!
//! Section numbers refer to the Intel 82576EB Gigabit Ethernet Controller Datasheet.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "simulation"))]
extern crate std;

mod descriptor;
mod error;
pub mod filters;
pub mod offload;
pub mod pf;
mod pf_registers;
mod register;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
pub mod vf;
mod vf_registers;

pub use error::Error;
