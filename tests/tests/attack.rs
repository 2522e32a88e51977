//! The network server's service to others while one application attacks it.

use segue_system_tests::attack::{Least, floods};

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
