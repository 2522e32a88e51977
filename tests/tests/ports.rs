//! The port map's tables on the real system.

use segue_system_tests::{Cable, TestMachine};

#[test]
fn cycles_leave_the_tables_as_they_were() {
    let machine = TestMachine::start(TestMachine::machine("binder"), Cable::User);
    machine.expect_line("binder: 65536 cycles, 0 refused");
    machine.expect_line("binder: the tables after the cycles: as they were");
    // The comparison sees a single port.
    machine.expect_line("binder: bound: Ok(())");
    machine.expect_line("binder: the tables while a port is bound: different");
    machine.expect_line("binder: released: Ok(())");
    machine.expect_line("binder: the tables when it is released: as they were");
    machine.expect_line("binder: held: Ok(())");
    machine.expect_line("binder: the tables while a port is held: different");
}
