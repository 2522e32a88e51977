//! The network server's service to others while one application attacks it.

use std::time::Duration;

use segue_system_tests::attack;

/// In so short a time nine tenths cannot be told from eight, nor an application's turns from one
/// more or less; the campaign takes the time.
#[test]
fn a_flooded_server_serves_the_others() {
    attack::floods(Duration::from_millis(2500), 0.7, 0.4);
}
