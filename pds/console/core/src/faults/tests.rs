use super::*;
extern crate std;
use crate::Regions;
use crate::commands::{Asked, execute};
use segue_fault_points::{Injector, ORDERS_SIZE, PAGE_SIZE};
use segue_shared_memory::testing::leaked_region;
use std::cell::RefCell;
use std::format;

std::thread_local! {
    static ACTS: RefCell<Vec<(Point, Kind)>> = const { RefCell::new(Vec::new()) };
}

fn note(point: Point, kind: Kind) {
    ACTS.with_borrow_mut(|acts| acts.push((point, kind)));
}

const NAMES: [&str; 2] = ["netserver", "http"];

struct World {
    regions: Regions,
    injectors: Vec<Injector>,
}

impl World {
    fn new() -> Self {
        let orders = leaked_region(ORDERS_SIZE);
        let pages: Vec<Region> = NAMES.iter().map(|_| leaked_region(PAGE_SIZE)).collect();
        let injector = |(place, page): (usize, &Region)| {
            Injector::new(orders, place, Page::new(*page).unwrap(), note)
        };
        Self {
            injectors: pages.iter().enumerate().map(injector).collect(),
            regions: Regions {
                faults: Some(Faults::new(NAMES.into_iter().zip(pages), orders)),
                ..Regions::default()
            },
        }
    }

    fn answer(&self, line: &str) -> String {
        let mut output = String::new();
        assert_eq!(
            execute(line, &self.regions, &mut output),
            Ok(Asked::default())
        );
        output
    }

    /// What becomes of it if the protection domain at `place` reaches the runtime's points.
    fn reach(&self, place: usize) -> Vec<(Point, Kind)> {
        for point in [Point::RuntimeReceived, Point::RuntimeHandled] {
            self.injectors[place].reached(point);
        }
        ACTS.take()
    }
}

#[test]
fn a_fault_strikes_whom_it_is_for() {
    let world = World::new();
    assert_eq!(
        world.answer("fault http runtime-handled loop 1"),
        "Ordered: http, runtime-handled, loop, after passing once.\n"
    );
    assert!(world.reach(0).is_empty() && world.reach(1).is_empty());
    assert_eq!(world.reach(1), [(Point::RuntimeHandled, Kind::Loop)]);
    assert!(world.reach(1).is_empty());
    let overview = world.answer("fault");
    assert!(overview.contains("http "), "{overview}");
    assert!(overview.ends_with("       1       0\n"), "{overview}");
}

#[test]
fn several_wait_in_turn_up_to_a_limit() {
    let world = World::new();
    for _ in 0..QUEUE {
        let answer = world.answer("fault netserver runtime-received panic");
        assert_eq!(answer, "Ordered: netserver, runtime-received, panic.\n");
    }
    assert_eq!(
        world.answer("fault netserver runtime-received panic"),
        "8 faults wait in netserver already, of 8 at most. Type \"fault netserver withdraw\" to be rid of them.\n"
    );
    assert_eq!(world.reach(0), [(Point::RuntimeReceived, Kind::Panic)]);
    assert!(
        world
            .answer("fault netserver runtime-handled memory 3")
            .starts_with("Ordered")
    );
    let list = world.answer("fault netserver");
    let waiting = "Waiting: netserver, runtime-handled, memory, after passing 3 times.\n";
    assert!(list.contains(waiting), "{list}");
    assert!(
        list.ends_with("Faults injected in netserver: 1.\n"),
        "{list}"
    );
}

#[test]
fn faults_are_ordered_together_or_not_at_all() {
    let world = World::new();
    assert_eq!(
        world.answer("fault netserver runtime-received loop then runtime-handled panic 1"),
        "Ordered: netserver, runtime-received, loop.\n\
         Ordered: netserver, runtime-handled, panic, after passing once.\n"
    );
    assert_eq!(world.reach(0), [(Point::RuntimeReceived, Kind::Loop)]);
    assert_eq!(world.reach(0), [(Point::RuntimeHandled, Kind::Panic)]);
    for line in [
        "fault netserver runtime-received loop then",
        "fault netserver then runtime-received loop",
        "fault netserver runtime-received loop then runtime-handled",
    ] {
        assert_eq!(world.answer(line), USAGE, "{line}");
    }
    let unknown = world.answer("fault netserver runtime-received loop then nowhere loop");
    assert!(unknown.contains("no fault point"), "{unknown}");
    let nine = "runtime-received loop then ".repeat(8) + "runtime-received loop";
    let many = world.answer(&format!("fault netserver {nine}"));
    assert!(many.starts_with("0 faults wait in netserver"), "{many}");
    assert!(world.reach(0).is_empty());
}

#[test]
fn what_is_withdrawn_never_strikes_and_makes_room() {
    let world = World::new();
    for _ in 0..QUEUE {
        world.answer("fault http runtime-received panic");
    }
    assert_eq!(
        world.answer("fault http withdraw"),
        "8 faults were withdrawn from http.\n"
    );
    assert_eq!(
        world.answer("fault http withdraw"),
        "0 faults were withdrawn from http.\n"
    );
    assert!(world.reach(1).is_empty());
    assert_eq!(
        world.answer("fault http runtime-received illegal"),
        "Ordered: http, runtime-received, illegal.\n"
    );
    assert_eq!(world.reach(1), [(Point::RuntimeReceived, Kind::Illegal)]);
}

#[test]
fn a_new_console_goes_on_where_its_predecessor_was() {
    let mut world = World::new();
    for _ in 0..3 {
        world.answer("fault http runtime-received panic");
        world.reach(1);
    }
    world.answer("fault http runtime-received panic 1");
    let faults = world.regions.faults.unwrap();
    let domains = faults.domains.iter();
    let pages: Vec<(&str, Page)> = domains.map(|domain| (&*domain.name, domain.page)).collect();
    let domains = pages.into_iter().map(|(name, page)| Domain {
        name: name.into(),
        page,
    });
    world.regions.faults = Some(Faults {
        domains: Box::leak(domains.collect::<Vec<_>>().into_boxed_slice()),
        orders: faults.orders,
    });
    world.answer("fault http runtime-handled panic");
    world.reach(1);
    assert_eq!(world.reach(1).len(), 2);
}

#[test]
fn points_are_listed_with_how_often_they_were_reached() {
    let world = World::new();
    (0..3).for_each(|_| drop(world.reach(0)));
    let list = world.answer("fault netserver");
    let row = format!("{:<24} {:>10}  a signal", "runtime-received", 3);
    assert!(list.contains(&row), "{list}");
    let starting = format!("{:<24} {:>10}  ", "runtime-starting", 0);
    assert!(list.contains(&starting), "{list}");
}

#[test]
fn a_mistake_gets_a_sentence() {
    let world = World::new();
    let unknown = "There is no protection domain \"nets\", only netserver, http.\n";
    for (line, expected) in [
        ("fault nets", unknown),
        ("fault nets runtime-started panic", unknown),
        (
            "fault http middle panic",
            "http has no fault point \"middle\". Type \"fault http\" for a list.\n",
        ),
        ("fault http runtime-started", USAGE),
        ("fault http runtime-started explode", USAGE),
        ("fault http runtime-started panic 1 2", USAGE),
        (
            "fault http runtime-started panic -1",
            "How often the point is passed before is a number up to 16777215.\n",
        ),
        (
            "fault http runtime-started panic 16777216",
            "How often the point is passed before is a number up to 16777215.\n",
        ),
    ] {
        assert_eq!(world.answer(line), expected, "{line}");
    }
    assert!(world.reach(1).is_empty());
}

#[test]
fn the_command_exists_only_where_faults_do() {
    let mut world = World::new();
    assert!(world.answer("help").contains("fault PD"));
    world.regions.faults = None;
    assert!(!world.answer("help").contains("fault PD"));
    let answer = world.answer("fault http runtime-started panic");
    assert!(answer.starts_with("There is no command"), "{answer}");
}
