//! Places in protection domains where a test can let one fail.
//!
//! A fault point lies between two steps that must go together: what a protection domain leaves
//! behind when it dies there is what recovery is about. The code says
//! `segue_fault_points::reached(Point::NetserverReceiveCopied)`; [`Point`] has all of them.
//!
//! Without the feature `enabled`, [`reached`] is nothing at all, and so is everything between the
//! braces of [`if_enabled!`]: programs that are not built for fault injection hold neither the
//! points nor the way to order a fault. With it, each protection domain counts how often it reaches
//! each point, and looks whether a fault is ordered there ([`Injector`]).
//!
//! Memory, which the image builder makes for `<fault_injection/>`:
//!
//! | region | written by | holds |
//! | --- | --- | --- |
//! | `faults.orders` | the console | for each protection domain the last [`QUEUE`] orders ([`Order`]) |
//! | `faults.<name>` | the protection domain | which orders it is done with, and counts ([`Page`]) |
//!
//! Both outlive a restart. An order is marked as done before it is acted upon, so no later life acts
//! upon it again.
#![no_std]
#![forbid(unsafe_code)]

pub mod config;
#[cfg(feature = "enabled")]
mod injector;
mod order;
mod page;
mod point;

#[cfg(feature = "enabled")]
pub use injector::{Injector, install};
pub use order::{Kind, LARGEST_SKIP, ORDERS_SIZE, Order, QUEUE};
pub use page::{PAGE_SIZE, Page};
pub use point::{Part, Point};

/// Whether faults can be injected.
pub const ENABLED: bool = cfg!(feature = "enabled");

/// Says that the program is at `point`. If a fault is ordered there it does not return.
#[cfg(not(feature = "enabled"))]
#[inline(always)]
pub fn reached(_: Point) {}

/// Says that the program is at `point`. If a fault is ordered there it does not return.
#[cfg(feature = "enabled")]
pub fn reached(point: Point) {
    if let Some(injector) = injector::installed() {
        injector.reached(point);
    }
}

/// The first of two blocks of code if faults can be injected, else the second:
/// `if_enabled!({ ... } else { ... })`, for items or for an expression.
#[cfg(feature = "enabled")]
#[macro_export]
macro_rules! if_enabled {
    ({ $($enabled:tt)* } else { $($disabled:tt)* }) => { $($enabled)* };
}

/// The first of two blocks of code if faults can be injected, else the second:
/// `if_enabled!({ ... } else { ... })`, for items or for an expression.
#[cfg(not(feature = "enabled"))]
#[macro_export]
macro_rules! if_enabled {
    ({ $($enabled:tt)* } else { $($disabled:tt)* }) => { $($disabled)* };
}
