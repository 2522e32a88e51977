//! What a protection domain says of its fault points.

use core::sync::atomic::Ordering;
use segue_shared_memory::Region;

use crate::{Order, Point, QUEUE};

/// Bytes of the page.
pub const PAGE_SIZE: usize = 0x1000;

/// Number of the last order that it is done with. The word after it is the injector's.
pub(crate) const DONE: usize = 0;
/// How often it has acted upon an order.
pub(crate) const STRUCK: usize = 16;
/// How often it has reached each point.
const COUNTS: usize = 64;

const _: () = assert!(COUNTS + Point::ALL.len() * 8 <= PAGE_SIZE);

/// The page that one protection domain writes and the console reads.
///
/// It is a memory region, which a restart leaves as it is.
#[derive(Clone, Copy, Debug)]
pub struct Page(pub(crate) Region);

impl Page {
    /// The page in `region`; `None` if it is too small.
    pub fn new(region: Region) -> Option<Self> {
        (region.length() >= PAGE_SIZE).then_some(Self(region))
    }

    /// How often the protection domain has reached `point`, in all its lives.
    pub fn count(&self, point: Point) -> u64 {
        self.0.load64(Self::place_of(point), Ordering::Relaxed)
    }

    /// How often it has acted upon an order.
    pub fn struck(&self) -> u64 {
        self.0.load64(STRUCK, Ordering::Relaxed)
    }

    /// Number of the last order that it is done with.
    pub fn done(&self) -> u16 {
        self.0.load64(DONE, Ordering::Acquire) as u16
    }

    /// The orders that wait for the protection domain at `place`, the next one first.
    pub fn waiting(&self, orders: Region, place: usize) -> impl Iterator<Item = Order> + use<> {
        let done = self.done();
        (1..=QUEUE).map_while(move |next| Order::read(&orders, place, done.wrapping_add(next)))
    }

    pub(crate) const fn place_of(point: Point) -> usize {
        COUNTS + point as usize * 8
    }
}
