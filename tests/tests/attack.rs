//! The network server's service to others while one application attacks it.

use segue_system_tests::attack::{Least, crash_loop, floods};

/// In so short a time an application has few turns, and one more or less counts; the campaign takes
/// the time to ask for nine tenths.
#[test]
fn a_flooded_server_serves_the_others() {
    let least = Least {
        service: 0.85,
        share: 0.5,
        share_of_all: 0.8,
    };
    floods(1, 100_000_000, least);
}

#[test]
fn who_dies_over_and_over_takes_a_bounded_share() {
    crash_loop(1, 100_000_000, 0.6);
}
