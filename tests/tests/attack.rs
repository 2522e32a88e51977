//! The network server's service to others while one application attacks it.

use segue_system_tests::attack;

/// In so short a time an application has few turns, and one more or less counts; the campaign takes
/// the time.
#[test]
fn a_flooded_server_serves_the_others() {
    let number = |name: &str, otherwise| std::env::var(name).map_or(otherwise, |n| n.parse().unwrap());
    attack::floods(number("R", 1) as usize, number("W", 100) * 1_000_000, 0.0, 0.0);
}
