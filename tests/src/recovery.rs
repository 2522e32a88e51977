//! Faults on purpose, what the machine says of them, and what is at work meanwhile.
//!
//! [`Injector`] makes a protection domain fault at one of its fault points and waits for its restart;
//! [`Load`] are the clients that should notice nothing of it; [`Ledger`] counts both. [`Inventory`] is
//! what must be the same before and after: ports, virtual functions, memory.

mod fault;
mod injector;
mod inventory;
mod ledger;
mod load;
mod places;

pub use fault::{Chooser, Fault};
pub use injector::{Injector, Outcome, Restart, restart_of, said};
pub use inventory::Inventory;
pub use ledger::Ledger;
pub use load::{Load, Progress, Served, Times};
pub use places::{CRASH_REPORTS, Instants, Places, SYSTEM_STATUS};

/// Programs of the system `recovery`.
pub const PROGRAMS: [&str; 12] = [
    "segue-timer",
    "segue-pcie",
    "segue-igb-pf",
    "segue-portmap",
    "segue-director",
    "segue-console",
    "segue-netserver",
    "segue-http",
    "segue-kv",
    "segue-metronome",
    "segue-visitor",
    "segue-spinner",
];
