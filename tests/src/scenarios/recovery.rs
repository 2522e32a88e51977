//! Faults in servers and applications while clients are at work.
//!
//! All of them run on the system `recovery` (`systems.rs`): everybody in it can be made to fault, and is
//! restarted at once. One application is in direct mode and one job uses no network; both must go on
//! through everything, whoever faults.

mod corruptions;
mod device;
mod faults;
mod outages;
mod session;
mod upgrades;

pub use corruptions::{Corruptions, corruptions};
pub use device::device_troubles;
pub use faults::{faults, faults_elsewhere, faults_in, given_up, pairs};
pub use outages::{Outages, outages};
pub use session::Session;
pub use upgrades::upgrades;

/// Whether it can run here, where it takes a tap device; prints why not.
fn is_possible() -> bool {
    match super::may_make_tap_devices() {
        Ok(()) => true,
        Err(why) => {
            println!("not tested, since it takes a tap device: {why}");
            false
        }
    }
}
