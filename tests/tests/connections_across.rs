//! Many connections across many applications.

use segue_system_tests::connections;

#[test]
fn two_thousand_connections_at_once_and_as_many_in_a_row_leave_nothing_behind() {
    connections::across_applications(2_000);
}
