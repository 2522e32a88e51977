//! What the updater needs of the machine.

use segue_status::orders::{Operation, Outcome};

/// The machine, as far as the updater acts on it.
pub trait Machine {
    /// The staging region, which init can read and nobody else can write.
    fn staging(&mut self) -> &mut [u8];
    /// Orders something for image `image` of the protection domain with this index in the system
    /// status. The order before has been answered.
    fn order(&mut self, operation: Operation, domain: u32, image: u32);
    /// What became of the last order; `None` while there is no answer. If there never was an order,
    /// [`Outcome::Done`].
    fn outcome(&mut self) -> Option<Outcome>;
    /// The highest serial number that a package for the target had; it outlives the updater.
    fn serial(&self, target: usize) -> u64;
    /// Remembers it.
    fn set_serial(&mut self, target: usize, serial: u64);
}
