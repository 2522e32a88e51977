//! The director over shared memory, with others that answer as they are told to.

mod machine;

use machine::{Machine, NO_POLICY, table};
use segue_director_core::board::{
    Answer, Answers, GrantOperation, Load, Mode, Refused, RouteOperation, StageOperation, Wanted,
};
use segue_director_core::config::START_DIRECT;
use segue_director_core::director::START_LOOK_INTERVAL;
use segue_director_core::machine::{APPLICATION_TIMEOUT, RETRY_INTERVAL, SERVER_TIMEOUT};
use segue_director_core::policy::Thresholds;
use segue_director_core::report::{Hitch, Obstacle, Report, Step};
use segue_shared_memory::testing::with_death_after;

#[test]
fn a_switch_there_and_back_goes_step_by_step() {
    let mut machine = Machine::new(table(), NO_POLICY);
    machine.wish(0, Wanted::Direct);
    let done = machine.settle(&[0, 1, 2]);
    assert_eq!(
        done,
        [
            "0: Grant { function: 1 }",
            "0: Prepare { function: 1 }",
            "0: Enable { function: 1 }",
            "0: Attach",
            "0: Route { function: 1 }",
            "0: Direct",
        ]
    );
    assert_eq!(
        machine.board().direct(),
        1 << 9,
        "the bit is that of the owner"
    );
    assert_eq!(machine.board().mac(0), [2, 0, 0, 0, 0, 0]);
    let shown = machine.board().shown(0);
    assert_eq!(
        (shown.mode, shown.function, shown.switches),
        (Mode::Direct, Some(1), 1)
    );
    assert!(shown.last_switch > 0);
    assert!(matches!(
        machine.outside.said[..],
        [(0, Report::IsDirect { function: 1, .. })]
    ));
    assert_eq!(machine.director.next_deadline(), None);
    machine.wish(0, Wanted::Server);
    let done = machine.settle(&[0, 1, 2]);
    assert_eq!(
        done,
        [
            "0: Drain",
            "0: Route { function: 0 }",
            "0: Server",
            "0: Revoke",
            "0: Scrub { function: 1 }",
        ]
    );
    assert_eq!(machine.board().direct(), 0);
    let shown = machine.board().shown(0);
    assert_eq!(
        (shown.mode, shown.function, shown.switches),
        (Mode::Server, None, 2)
    );
    assert_eq!(shown.failures, 0);
}

#[test]
fn functions_run_out() {
    let mut machine = Machine::new(table(), NO_POLICY);
    for index in 0..3 {
        machine.wish(index, Wanted::Direct);
    }
    machine.settle(&[0, 1, 2]);
    assert_eq!(
        [0, 1, 2].map(|index| machine.mode(index)),
        [Mode::Direct, Mode::Direct, Mode::Server]
    );
    assert!(machine.outside.said.contains(&(
        2,
        Report::NotBegun {
            direct: true,
            obstacle: Obstacle::NoFunction
        }
    )));
}

#[test]
fn wishes_are_refused_with_a_reason() {
    let mut table = table();
    table.entries[2].functions = 0b1;
    let mut machine = Machine::new(table, NO_POLICY);
    let refused = |machine: &mut Machine, index, obstacle| {
        let report = Report::NotBegun {
            direct: true,
            obstacle,
        };
        machine.wish(index, Wanted::Direct);
        machine.settle(&[0, 1, 2]);
        assert_eq!(machine.outside.said, [(usize::from(index), report)]);
        machine.outside.said.clear();
    };
    refused(&mut machine, 2, Obstacle::NotAllowed);
    machine.outside.macs[0] = None;
    refused(&mut machine, 0, Obstacle::NoAddress);
    machine.outside.macs[0] = Some([3, 0, 0, 0, 0, 1]);
    refused(&mut machine, 0, Obstacle::NoAddress);
    machine.outside.lives[0].is_running = false;
    refused(&mut machine, 0, Obstacle::NotRunning);
    machine.wish(1, Wanted::Direct);
    machine.settle(&[1]);
    machine.outside.said.clear();
    machine.outside.server_is_running = false;
    machine.wish(1, Wanted::Server);
    machine.settle(&[1]);
    assert_eq!(machine.mode(1), Mode::Direct);
    let report = Report::NotBegun {
        direct: false,
        obstacle: Obstacle::NoServer,
    };
    assert_eq!(machine.outside.said, [(1, report)]);
    // A wish for nobody, and the same one again.
    machine.wish(200, Wanted::Direct);
    machine.wishes -= 1;
    machine.outside.server_is_running = true;
    machine.wish(1, Wanted::Server);
    machine.settle(&[1]);
    assert_eq!(machine.mode(1), Mode::Direct, "it was looked at before");
}

#[test]
fn an_application_that_does_not_answer_is_forced() {
    let mut machine = Machine::new(table(), NO_POLICY);
    machine.wish(0, Wanted::Direct);
    machine.settle(&[0]);
    machine.wish(0, Wanted::Server);
    machine.settle(&[]);
    assert_eq!(machine.mode(0), Mode::ToServer);
    let before = machine.now;
    machine.wait();
    assert!(machine.now - before <= APPLICATION_TIMEOUT);
    let done = machine.settle(&[]);
    assert_eq!(
        done,
        [
            "0: Route { function: 0 }",
            "0: Revoke",
            "0: Scrub { function: 1 }"
        ]
    );
    assert_eq!(machine.mode(0), Mode::Server);
    assert_eq!(machine.board().shown(0).failures, 1);
    let stage = machine.board().stage(0).unwrap();
    assert_eq!(stage.operation, StageOperation::Server, "it may come late");
    let forced = Report::Forced {
        step: Step::Drain,
        function: 1,
        hitch: Hitch::Late,
    };
    assert!(machine.outside.said.contains(&(0, forced)));
    // Late, it answers, and can be switched again.
    machine.wish(0, Wanted::Direct);
    machine.settle(&[0]);
    assert_eq!(machine.mode(0), Mode::Direct);
}

#[test]
fn an_application_can_ask_to_be_taken_back() {
    let mut machine = Machine::new(table(), NO_POLICY);
    machine.wish(0, Wanted::Direct);
    machine.settle(&[0]);
    let answers = Answers::new(machine.answers[2]).unwrap();
    let sequence = answers.answer(0).unwrap().sequence;
    // An answer to another order is none.
    for (sequence, mode) in [(sequence - 1, Mode::Direct), (sequence, Mode::Server)] {
        answers.give(
            0,
            Answer {
                sequence,
                result: Err(Refused::Device),
            },
        );
        machine.settle(if mode == Mode::Server { &[0] } else { &[] });
        assert_eq!(machine.mode(0), mode);
    }
    let asks = Report::AsksBack {
        function: 1,
        refused: Refused::Device,
    };
    assert!(machine.outside.said.contains(&(0, asks)));
}

#[test]
fn answers_given_beforehand_do_not_count() {
    let mut machine = Machine::new(table(), NO_POLICY);
    let answers = Answers::new(machine.answers[2]).unwrap();
    answers.give(
        0,
        Answer {
            sequence: 1,
            result: Ok(()),
        },
    );
    machine.wish(0, Wanted::Direct);
    machine.settle(&[]);
    let stage = machine.board().stage(0).unwrap();
    assert_eq!(stage.operation, StageOperation::Prepare { function: 1 });
    assert_eq!(stage.sequence, 2);
}

#[test]
fn who_dies_loses_its_function_and_its_next_life_has_none() {
    let mut machine = Machine::new(table(), NO_POLICY);
    machine.wish(0, Wanted::Direct);
    machine.settle(&[0]);
    // Nobody has seen it dead: it is another life at once.
    machine.outside.lives[0].restarts = 1;
    machine.poll();
    assert_eq!(machine.board().direct(), 0);
    let stage = machine.board().stage(0).unwrap();
    assert_eq!(stage.operation, StageOperation::Server);
    let done = machine.settle(&[]);
    assert_eq!(
        done,
        [
            "0: Route { function: 0 }",
            "0: Revoke",
            "0: Scrub { function: 1 }"
        ]
    );
    assert_eq!(machine.mode(0), Mode::Server);
    assert!(
        machine
            .outside
            .said
            .contains(&(0, Report::Gone { function: 1 }))
    );
}

#[test]
fn a_function_that_is_not_scrubbed_is_for_nobody() {
    let mut machine = Machine::new(table(), NO_POLICY);
    machine.wish(0, Wanted::Direct);
    // pcie does not answer: nothing is done by anybody but the application.
    machine.poll();
    machine.wait();
    let failed = Report::Failed {
        step: Step::Grant,
        function: 1,
        hitch: Hitch::Late,
    };
    assert!(machine.outside.said.contains(&(0, failed)));
    let order = machine.board().grant(0).unwrap();
    assert_eq!(order.operation, GrantOperation::Revoke);
    let before = machine.now;
    machine.wait();
    assert!(machine.now - before >= SERVER_TIMEOUT);
    machine.wait();
    assert!(
        machine.now - before >= RETRY_INTERVAL,
        "it is asked again slowly"
    );
    assert_eq!(
        machine.board().grant(0),
        Some(order),
        "the same order, which it may be about to answer"
    );
    machine.outside.said.clear();
    machine.wish(0, Wanted::Direct);
    let obstacle = Obstacle::NotScrubbed;
    let not_begun = Report::NotBegun {
        direct: true,
        obstacle,
    };
    assert_eq!(machine.outside.said, [(0, not_begun)]);
    // The other function is to be had.
    machine.wish(1, Wanted::Direct);
    machine.poll();
    let grant = machine.board().grant(1).unwrap();
    assert_eq!(grant.operation, GrantOperation::Grant { function: 2 });
    // It answers at last.
    machine.settle(&[0, 1]);
    assert!(
        machine
            .outside
            .said
            .contains(&(0, Report::Free { function: 1 }))
    );
    machine.wish(0, Wanted::Direct);
    machine.settle(&[0, 1]);
    assert_eq!(machine.mode(0), Mode::Direct);
}

#[test]
fn a_wish_in_the_middle_of_a_switch_is_done_after_it() {
    let mut machine = Machine::new(table(), NO_POLICY);
    machine.wish(0, Wanted::Direct);
    machine.poll();
    machine.wish(0, Wanted::Server);
    machine.poll();
    machine.wish(0, Wanted::Direct);
    machine.settle(&[0]);
    assert_eq!(machine.mode(0), Mode::Direct);
}

#[test]
fn a_director_goes_on_where_the_last_one_ended() {
    let mut machine = Machine::new(table(), NO_POLICY);
    machine.wish(0, Wanted::Direct);
    machine.wish(1, Wanted::Direct);
    machine.settle(&[0, 1]);
    machine.wish(1, Wanted::Server);
    machine.poll();
    machine.outside.said.clear();
    machine.restart_director();
    assert_eq!(machine.outside.said, [(1, Report::Undone)]);
    let order = machine.board().stage(0).unwrap();
    machine.settle(&[0, 1]);
    assert_eq!(machine.mode(0), Mode::Direct);
    assert_eq!(machine.board().stage(0), Some(order), "it is left alone");
    assert_eq!(machine.mode(1), Mode::Server);
    assert_eq!(machine.board().direct(), 1 << 9);
    machine.wish(0, Wanted::Server);
    machine.settle(&[0, 1]);
    assert_eq!(machine.mode(0), Mode::Server);
    // It was restarted while there was no director.
    machine.wish(0, Wanted::Direct);
    machine.settle(&[0, 1]);
    machine.outside.lives[0].restarts += 1;
    machine.restart_director();
    assert_eq!(machine.board().direct(), 0);
    machine.settle(&[0, 1]);
    assert_eq!(machine.mode(0), Mode::Server);
}

#[test]
fn who_is_to_start_in_direct_mode_does_when_it_can() {
    let mut table = table();
    table.entries[0].flags = START_DIRECT;
    let mut machine = Machine::new(table, NO_POLICY);
    machine.outside.macs[0] = None;
    machine.poll();
    assert_eq!(machine.mode(0), Mode::Server);
    assert!(machine.outside.said.is_empty());
    let next = machine.director.next_deadline().unwrap();
    assert!(next <= machine.now + START_LOOK_INTERVAL);
    machine.outside.macs[0] = Some([2, 0, 0, 0, 0, 9]);
    machine.wait();
    machine.settle(&[0]);
    assert_eq!(machine.mode(0), Mode::Direct);
    assert_eq!(machine.director.next_deadline(), None);
    // Its next life does too, unless an operator wants otherwise.
    machine.outside.lives[0].restarts = 1;
    machine.settle(&[0]);
    for _ in 0..10 {
        if machine.director.next_deadline().is_some() {
            machine.wait();
        }
        machine.settle(&[0]);
    }
    assert_eq!(machine.mode(0), Mode::Direct);
    machine.wish(0, Wanted::Server);
    machine.outside.lives[0].restarts = 2;
    machine.settle(&[0]);
    assert_eq!(machine.mode(0), Mode::Server);
    assert_eq!(machine.director.next_deadline(), None);
}

#[test]
fn an_application_that_never_answers_is_tried_once() {
    let mut table = table();
    table.entries[0].flags = START_DIRECT;
    let mut machine = Machine::new(table, NO_POLICY);
    for _ in 0..50 {
        machine.settle(&[]);
        if machine.director.next_deadline().is_some() {
            machine.wait();
        }
    }
    assert_eq!(machine.mode(0), Mode::Server);
    let failed = |(_, report): &&(usize, Report)| matches!(report, Report::Failed { .. });
    // It may use what it was granted, for all that is known.
    assert_eq!(machine.outside.said.iter().filter(failed).count(), 1);
    let waits = |(_, report): &&(usize, Report)| *report == Report::Waits;
    assert_eq!(machine.outside.said.iter().filter(waits).count(), 1);
    assert_eq!(machine.director.next_deadline(), None);
    // It was only slow: once it has let go, it is switched.
    machine.settle(&[0]);
    for _ in 0..10 {
        if machine.director.next_deadline().is_some() {
            machine.wait();
        }
        machine.settle(&[0]);
    }
    assert_eq!(machine.mode(0), Mode::Direct);
}

#[test]
fn the_policy_counts_frames_where_they_pass() {
    let thresholds = Thresholds {
        direct_frames: 1_000,
        server_frames: 100,
        stay: 1_000_000,
    };
    let mut machine = Machine::new(table(), thresholds);
    let run = |machine: &mut Machine, seconds: u64, itself: bool, frames: u64| {
        let end = machine.now + seconds * 1_000_000;
        let answers = Answers::new(machine.answers[2]).unwrap();
        while machine.now < end {
            machine.wait();
            if itself {
                let load = answers.load();
                answers.set_load(&Load {
                    frames: load.frames.wrapping_add(frames),
                    ..load
                });
            } else {
                machine.outside.work[0].frames += frames;
            }
            machine.settle(&[0, 1, 2]);
        }
    };
    // Its own account does not count in server mode.
    run(&mut machine, 5, true, 100_000);
    assert_eq!(machine.mode(0), Mode::Server);
    run(&mut machine, 5, false, 1_000);
    assert_eq!(machine.mode(0), Mode::Direct);
    run(&mut machine, 5, true, 1_000);
    assert_eq!(machine.mode(0), Mode::Direct);
    // An operator's wish holds until the policy may decide again.
    machine.wish(0, Wanted::Direct);
    run(&mut machine, 5, true, 0);
    assert_eq!(machine.mode(0), Mode::Direct);
    machine.wish(0, Wanted::Auto);
    run(&mut machine, 5, true, 0);
    assert_eq!(machine.mode(0), Mode::Server);
    assert_eq!(
        machine.board().route(0).map(|o| o.operation),
        Some(RouteOperation::Scrub { function: 1 })
    );
}

#[test]
fn pins_outlive_the_director() {
    let mut machine = Machine::new(table(), NO_POLICY);
    machine.wish(0, Wanted::Server);
    machine.wish(1, Wanted::Direct);
    machine.wish(2, Wanted::Direct);
    machine.wish(2, Wanted::Auto);
    machine.settle(&[0, 1, 2]);
    machine.restart_director();
    let pins = machine.board().pins();
    assert_eq!((pins.direct, pins.server), (0b010, 0b001));
    // Both have work, and the policy may decide for one of them.
    machine.thresholds = Thresholds {
        direct_frames: 10,
        server_frames: 5,
        stay: 0,
    };
    machine.restart_director();
    for _ in 0..40 {
        for work in &mut machine.outside.work {
            work.frames += 1_000;
        }
        machine.now += 100_000;
        machine.settle(&[0, 1, 2]);
    }
    assert_eq!(machine.mode(0), Mode::Server, "pinned");
    assert_eq!(machine.mode(2), Mode::Direct);
}

#[test]
fn a_wish_is_granted_wherever_the_director_dies() {
    let mut has_lived = false;
    for stores in 0..200 {
        let mut machine = Machine::new(table(), NO_POLICY);
        machine.wish(1, Wanted::Server);
        machine.settle(&[0, 1, 2]);
        has_lived = with_death_after(stores, || {
            machine.wish(0, Wanted::Direct);
            machine.settle(&[0, 1, 2]);
        })
        .is_some();
        // The next one may die as well while it takes over.
        with_death_after(stores % 7, || machine.restart_director());
        machine.restart_director();
        // The console's word stays.
        machine.repeat(0, Wanted::Direct, 2);
        for _ in 0..4 {
            machine.settle(&[0, 1, 2]);
            machine.now += RETRY_INTERVAL;
        }
        assert_eq!(machine.mode(0), Mode::Direct, "{stores} stores");
        assert_eq!(machine.board().pins().direct, 1);
        assert_eq!(machine.board().pins().server, 0b10);
        // Its next life is not forced there by an old wish.
        machine.outside.lives[0].restarts += 1;
        machine.settle(&[0, 1, 2]);
        machine.restart_director();
        machine.repeat(0, Wanted::Direct, 2);
        machine.settle(&[0, 1, 2]);
        assert_eq!(machine.mode(0), Mode::Server);
        if has_lived {
            break;
        }
    }
    assert!(has_lived, "all stores were seen");
}
