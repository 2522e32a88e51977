//! Tests of the console as a whole.

use super::*;
use proptest::prelude::*;
extern crate std;
use core::cell::RefCell;
use segue_log_ring::config::CONSOLE_MEMORY_SIZE;
use segue_log_ring::{REGION_SIZE, Writer};
use segue_shared_memory::testing::{leaked_region, with_death_after};
use segue_status::crash;
use std::string::String;

fn memory() -> Memory {
    Memory::new(leaked_region(CONSOLE_MEMORY_SIZE)).unwrap()
}

fn sent(console: &mut Console) -> String {
    let bytes: Vec<u8> = console.output().waiting(usize::MAX).collect();
    console.output().sent(bytes.len());
    String::from_utf8(bytes).expect("only ASCII is sent")
}

fn two_rings() -> (Writer, Writer, Console) {
    let (one, other) = (leaked_region(REGION_SIZE), leaked_region(REGION_SIZE));
    let console = Console::new(
        memory(),
        [("http", one), ("pcie", other)],
        Regions::default(),
    );
    (Writer::new(one), Writer::new(other), console)
}

#[test]
fn lines_get_their_writers_name() {
    let (mut http, mut pcie, mut console) = two_rings();
    http.write(b"ready\nnot ");
    pcie.write(b"found a function\n");
    console.poll();
    assert_eq!(
        sent(&mut console),
        "http: ready\r\npcie: found a function\r\n"
    );
    http.write(b"complete\n");
    console.poll();
    assert_eq!(sent(&mut console), "http: not complete\r\n");
}

#[test]
fn a_writer_cannot_pretend_to_be_another() {
    let (mut http, _, mut console) = two_rings();
    http.write(b"x\r\x1b[2Kpcie: all is well\x9b\n");
    console.poll();
    assert_eq!(
        sent(&mut console),
        "http: x\\x0d\\x1b[2Kpcie: all is well\\x9b\r\n"
    );
}

#[test]
fn a_line_without_end_is_cut() {
    let (mut http, _, mut console) = two_rings();
    http.write(&[b'a'; 600]);
    console.poll();
    let sent = sent(&mut console);
    assert_eq!(sent.matches("http: ").count(), 2, "{sent}");
}

#[test]
fn a_slow_line_stops_the_reading_and_the_loss_is_said() {
    let (mut http, mut pcie, mut console) = two_rings();
    for number in 0..2000 {
        http.write(alloc::format!("number {number}\n").as_bytes());
        console.poll();
    }
    pcie.write(b"still here\n");
    assert_eq!(console.output().dropped(), 0);
    let mut all = String::new();
    for _ in 0..10 {
        all.push_str(&sent(&mut console));
        console.poll();
    }
    assert!(all.contains("http: number 1999\r\n"));
    assert!(all.contains("bytes of its log are lost)\r\n"));
    assert!(all.contains("pcie: still here\r\n"));
}

#[test]
fn what_is_typed_survives_log_lines() {
    let (mut http, _, mut console) = two_rings();
    console.poll();
    assert_eq!(
        sent(&mut console),
        "",
        "no prompt before the first key stroke"
    );
    b"sta".iter().for_each(|byte| console.key(*byte));
    assert_eq!(sent(&mut console), "segue> sta");
    http.write(b"hello\n");
    console.poll();
    assert_eq!(sent(&mut console), "\r\x1b[Khttp: hello\r\nsegue> sta");
    b"\x08\x08\x08help\r"
        .iter()
        .for_each(|byte| console.key(*byte));
    let answer = sent(&mut console);
    assert!(
        answer.starts_with("\x08 \x08\x08 \x08\x08 \x08help\r\nhelp "),
        "{answer:?}"
    );
    assert!(answer.ends_with("\r\nsegue> "), "{answer:?}");
    console.key(b'\x03');
    assert_eq!(sent(&mut console), "^C\r\nsegue> ");
}

#[test]
fn a_crash_report_follows_the_panics_message() {
    let ring = leaked_region(REGION_SIZE);
    let reports = CrashReports::new(leaked_region(crash::REGION_SIZE)).unwrap();
    let regions = Regions {
        crash_reports: Some(reports),
        ..Regions::default()
    };
    let mut console = Console::new(memory(), [("http", ring)], regions);
    Writer::new(ring).write(b"panicked at src/main.rs:1: no\n");
    let mut report = Report::empty();
    report.name[..4].copy_from_slice(b"http");
    report.label = crash::label::EXCEPTION;
    report.words[3] = 6;
    report.registers[0] = 0x20_1234;
    reports.add(&mut report);
    console.poll();
    let text = sent(&mut console);
    assert!(
        text.starts_with("http: panicked at src/main.rs:1: no\r\nhttp was stopped: "),
        "{text}"
    );
    assert!(text.contains("0x0000000000201234"), "{text}");
    console.poll();
    assert_eq!(sent(&mut console), "", "once");
    // More than the region keeps: the console says so and goes on.
    for _ in 0..20 {
        reports.add(&mut report);
    }
    let mut text = String::new();
    for _ in 0..20 {
        console.poll();
        text.push_str(&sent(&mut console));
    }
    let lost = alloc::format!("({} crash reports are lost)\r\n", 20 - SLOTS);
    assert!(text.starts_with(&lost), "{text}");
    assert_eq!(text.matches("http was stopped").count(), SLOTS);
}

#[test]
fn the_largest_crash_report_fits_into_the_room_it_waits_for() {
    const PLACE: u64 = (1 << 46) + (1 << 31);
    let name = "f".repeat(400);
    let table = segue_status::symbols::write::table([(
        "http".into(),
        alloc::vec![(1 << 46, 1 << 32, name)],
    )]);
    let symbols = leaked_region(table.len().next_multiple_of(4096));
    symbols.write(0, &table);
    let mut report = Report::empty();
    report.name = [b'n'; 64];
    report.name[..5].copy_from_slice(b"http\0");
    report.label = crash::label::EXCEPTION;
    report.words = [u64::MAX; 5];
    report.registers = [u64::MAX; 18];
    (
        report.registers[0],
        report.registers[1],
        report.registers[9],
    ) = (PLACE, 0, 0);
    report.code_length = u32::MAX;
    report.stack_length = u32::MAX;
    for frame in 0..64_u64 {
        let place = 16 * frame as usize;
        report.stack[place..place + 8].copy_from_slice(&(16 * (frame + 1)).to_le_bytes());
        report.stack[place + 8..place + 16].copy_from_slice(&PLACE.to_le_bytes());
    }
    let (mut output, _) = Output::new(memory());
    report
        .write(Symbols::new(symbols).as_ref(), &mut output)
        .unwrap();
    output.commit(None);
    let length = output.waiting(usize::MAX).count() + 64;
    assert_eq!(output.dropped(), 0);
    assert!(
        length > REPORT_OUTPUT / 2,
        "the functions are found: {length} bytes"
    );
    assert!(length <= REPORT_OUTPUT, "{length} bytes");
}

/// Sends as a slow line does: a few bytes, then the console may collect again.
fn sent_slowly(console: &mut Console, polls: usize, mut before: impl FnMut()) -> String {
    let mut text = String::new();
    for _ in 0..polls {
        before();
        console.poll();
        let bytes: Vec<u8> = console.output().waiting(16).collect();
        console.output().sent(bytes.len());
        text.push_str(core::str::from_utf8(&bytes).expect("only ASCII is sent"));
    }
    text
}

#[test]
fn a_flood_does_not_hide_a_crash_report() {
    let ring = leaked_region(REGION_SIZE);
    let reports = CrashReports::new(leaked_region(crash::REGION_SIZE)).unwrap();
    let regions = Regions {
        crash_reports: Some(reports),
        ..Regions::default()
    };
    let mut console = Console::new(memory(), [("babbler", ring)], regions);
    let mut babbler = Writer::new(ring);
    let mut flood = || babbler.write(&b"bla bla bla\n".repeat(100));
    sent_slowly(&mut console, 2000, &mut flood);
    let mut report = Report::empty();
    report.name[..4].copy_from_slice(b"http");
    reports.add(&mut report);
    let text = sent_slowly(&mut console, 2000, &mut flood);
    let (before, after) = text
        .split_once("http was stopped: ")
        .expect("the report comes");
    assert!(before.len() <= crate::output::CAPACITY, "{}", before.len());
    assert!(after.contains("babbler: bla"), "the log goes on");
}

#[test]
fn a_flood_does_not_keep_the_operators_answer_away() {
    let (mut http, _, mut console) = two_rings();
    let mut flood = || http.write(&b"bla bla bla\n".repeat(100));
    sent_slowly(&mut console, 2000, &mut flood);
    b"help\r".iter().for_each(|byte| console.key(*byte));
    let text = sent_slowly(&mut console, 2000, &mut flood);
    assert!(text.contains("shows this list"), "{text}");
    assert_eq!(console.output().dropped(), 0);
}

proptest! {
    /// One poll makes a bounded amount of output, whatever is in the rings.
    #[test]
    fn a_flood_is_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..4000), newline in any::<bool>()) {
        let (mut http, _, mut console) = two_rings();
        http.write(&bytes);
        if newline {
            http.write(&[b'\n', b'a'].repeat(2000));
        }
        for _ in 0..100 {
            console.poll();
            prop_assert_eq!(console.output().dropped(), 0);
        }
    }
}

#[test]
fn it_says_who_was_restarted_and_who_is_given_up() {
    let region = leaked_region(segue_status::system::REGION_SIZE);
    let status = SystemStatus::new(region).unwrap();
    let mut name = [0; 64];
    name[..4].copy_from_slice(b"http");
    let domain = segue_status::system::Domain {
        name,
        state: State::Running,
        priority: 100,
        faults: 0,
        restarts: 0,
        outage: 0,
        idle: 0,
        rebuild: 0,
        started: 0,
        memory: 0,
        capabilities: 0,
    };
    status.set_domain(0, &domain);
    let regions = Regions {
        status: Some(status),
        ..Regions::default()
    };
    let mut console = Console::new(memory(), [], regions);
    console.poll();
    status.publish(1);
    console.poll();
    status.set_stopped(0, State::Restarting, 1, 0);
    console.poll();
    assert_eq!(sent(&mut console), "");
    let restart = segue_status::system::Restart {
        count: 1,
        started: 5,
        outage: 12_034,
        rebuild: 34,
    };
    status.set_restarted(0, restart);
    console.poll();
    console.poll();
    assert_eq!(
        sent(&mut console),
        "http was restarted, 12.034 ms after its fault (restarts so far: 1).\r\n"
    );
    status.set_stopped(0, State::GivenUp, 2, 0);
    console.poll();
    assert_eq!(
        sent(&mut console),
        "http is given up: it has faulted too often in a row (faults so far: 2).\r\n"
    );
}

#[test]
fn the_director_is_told_once_of_what_the_operator_wants() {
    use segue_director_core::board::{BOARD_SIZE, Board, Wanted, Wish};
    use segue_director_core::config::DirectorTable;
    let mut table = DirectorTable::EMPTY;
    table.count = 1;
    table.entries[0].name[..4].copy_from_slice(b"http");
    let wishes = leaked_region(crate::WISHES_SIZE);
    let switching = Switching {
        table: Box::leak(Box::new(table)),
        board: Board::new(leaked_region(BOARD_SIZE)).expect("it is large enough"),
        wishes: Some(wishes),
    };
    let regions = Regions {
        switching: Some(switching),
        ..Regions::default()
    };
    let mut console = Console::new(memory(), [], regions);
    let typed = |console: &mut Console, line: &[u8]| {
        line.iter().for_each(|byte| console.key(*byte));
        console.take_asked().director
    };
    assert!(!typed(&mut console, b"switch kv direct\r"));
    assert!(!typed(&mut console, b"switch http direct"));
    assert!(typed(&mut console, b"\r"));
    assert!(!console.take_asked().director);
    assert_eq!(
        Wish::read(&wishes).map(|wish| wish.wanted),
        Some(Wanted::Direct)
    );
    assert!(sent(&mut console).contains("Asked for: http, direct mode."));
}

/// Lines of two programs, a crash report and a restart: what is to be told.
struct Story {
    rings: [Region; 2],
    regions: Regions,
    status: SystemStatus,
    reports: CrashReports,
}

impl Story {
    fn new() -> Self {
        let status = SystemStatus::new(leaked_region(segue_status::system::REGION_SIZE)).unwrap();
        let mut name = [0; 64];
        name[..4].copy_from_slice(b"http");
        let domain = segue_status::system::Domain {
            name,
            state: State::Running,
            priority: 100,
            faults: 0,
            restarts: 0,
            outage: 0,
            idle: 0,
            rebuild: 0,
            started: 0,
            memory: 0,
            capabilities: 0,
        };
        status.set_domain(0, &domain);
        status.publish(1);
        let reports = CrashReports::new(leaked_region(crash::REGION_SIZE)).unwrap();
        Self {
            rings: [leaked_region(REGION_SIZE), leaked_region(REGION_SIZE)],
            regions: Regions {
                status: Some(status),
                crash_reports: Some(reports),
                ..Regions::default()
            },
            status,
            reports,
        }
    }

    /// Something happens.
    fn happen(&self, number: u32) {
        let [one, other] = self.rings.map(Writer::new);
        let (mut one, mut other) = (one, other);
        one.write(alloc::format!("one says {number}\nand then").as_bytes());
        other.write(alloc::format!("other says {number}\n").as_bytes());
        one.write(alloc::format!(" {number} again\n").as_bytes());
        if number % 3 == 1 {
            let mut report = Report::empty();
            report.name[..4].copy_from_slice(b"http");
            self.reports.add(&mut report);
        }
        if number % 3 == 2 {
            let restart = segue_status::system::Restart {
                count: number,
                started: 0,
                outage: 0,
                rebuild: 0,
            };
            self.status.set_stopped(0, State::Restarting, number, 0);
            self.status.set_restarted(0, restart);
        }
    }

    fn console(&self, memory: Memory) -> Console {
        let rings = ["one", "other"].into_iter().zip(self.rings);
        Console::new(memory, rings, self.regions)
    }
}

/// Has the console say what there is, as much as the line takes at once.
fn say_some(console: &mut Console, line: &RefCell<Vec<u8>>, most: usize) -> bool {
    console.poll();
    let bytes: Vec<u8> = console.output().send(most).collect();
    line.borrow_mut().extend_from_slice(&bytes);
    console.output().sent(bytes.len());
    !bytes.is_empty()
}

#[test]
fn a_line_whose_first_bytes_were_sent_unnoted_comes_as_a_whole() {
    let expected = "one: one says 0\r\none: and then 0 again\r\nother: other says 0\r\n";
    for most in 1..4 {
        let mut has_lived = false;
        for stores in 0.. {
            if has_lived {
                break;
            }
            let story = Story::new();
            let region = leaked_region(CONSOLE_MEMORY_SIZE);
            let line = RefCell::new(Vec::new());
            story.happen(0);
            let lived = with_death_after(stores, || {
                let mut console = story.console(Memory::new(region).unwrap());
                while say_some(&mut console, &line, most) {}
            });
            has_lived = lived.is_some();
            let mut console = story.console(Memory::new(region).unwrap());
            while say_some(&mut console, &line, 16) {}
            let text = String::from_utf8(line.into_inner()).expect("only ASCII is sent");
            for wanted in expected.lines() {
                assert!(
                    text.split("\r\n").any(|line| line == wanted),
                    "{wanted} is missing after {stores} stores in\n{text}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Wherever the console dies, also while it takes over: each line is told at least once and
    /// as a whole; a second time at most if it was being sent; and in the order of its writer.
    #[test]
    fn every_line_is_told_wherever_the_console_dies(
        deaths in proptest::collection::vec((0_u64..400, 1_usize..40), 1..12),
    ) {
        let story = Story::new();
        let region = leaked_region(CONSOLE_MEMORY_SIZE);
        let line = RefCell::new(Vec::new());
        let events = deaths.len() as u32;
        for (number, (stores, most)) in deaths.iter().enumerate() {
            story.happen(number as u32);
            with_death_after(*stores, || {
                let mut console = story.console(Memory::new(region).unwrap());
                while say_some(&mut console, &line, *most) {}
            });
        }
        let mut console = story.console(Memory::new(region).unwrap());
        while say_some(&mut console, &line, 16) {}
        prop_assert_eq!(console.output().dropped(), 0);
        let text = String::from_utf8(line.into_inner()).expect("only ASCII is sent");
        let lines: Vec<&str> = text.split("\r\n").collect();
        let mut expected = Vec::new();
        for number in 0..events {
            expected.push(alloc::format!("one: one says {number}"));
            expected.push(alloc::format!("one: and then {number} again"));
            expected.push(alloc::format!("other: other says {number}"));
            if number % 3 == 1 && number + 12 > events {
                expected.push("http was stopped: ".into());
            }
        }
        let mut extra = 0;
        for wanted in &expected {
            let count = lines.iter().filter(|line| line.starts_with(&**wanted)).count();
            prop_assert!(count >= 1, "{} is missing in\n{}", wanted, text);
            if !wanted.starts_with("http") {
                extra += count - 1;
            }
        }
        prop_assert!(extra <= deaths.len(), "{} lines came twice in\n{}", extra, text);
        let last = (0..events).rev().find(|number| number % 3 == 2);
        if let Some(last) = last {
            let wanted = alloc::format!("http was restarted, 0.000 ms after its fault (restarts so far: {last}).");
            prop_assert!(text.contains(&wanted), "{}", text);
        }
        for writer in ["one: one says ", "other: other says "] {
            let told = lines.iter().filter_map(|line| line.strip_prefix(writer)?.parse::<u32>().ok());
            let told: Vec<u32> = told.collect();
            prop_assert!(told.is_sorted(), "{:?}", told);
        }
    }
}

#[test]
fn a_successor_tells_nothing_twice_and_has_the_prompt() {
    let story = Story::new();
    let region = leaked_region(CONSOLE_MEMORY_SIZE);
    let new = || story.console(Memory::new(region).unwrap());
    let mut console = new();
    for number in 0..3 {
        story.happen(number);
    }
    console.poll();
    assert!(sent(&mut console).contains("other says 2"));
    b"sta".iter().for_each(|byte| console.key(*byte));
    assert_eq!(sent(&mut console), "segue> sta");
    drop(console);
    let mut console = new();
    console.poll();
    // What was typed is lost.
    assert_eq!(sent(&mut console), "\r\nsegue> ");
    story.happen(3);
    console.poll();
    assert!(sent(&mut console).contains("other says 3"));
}

#[test]
fn what_makes_no_sense_is_no_position() {
    let story = Story::new();
    let region = leaked_region(CONSOLE_MEMORY_SIZE);
    for number in 0..3 {
        story.happen(number);
    }
    for word in 0..512 {
        region.store64(word * 8, u64::MAX, core::sync::atomic::Ordering::Relaxed);
    }
    let mut console = story.console(Memory::new(region).unwrap());
    console.poll();
    let text = sent(&mut console);
    assert!(
        text.starts_with("console: what waited to be printed is lost"),
        "{text}"
    );
    story.happen(4);
    console.poll();
    let text = sent(&mut console);
    assert!(text.contains("other says 4"), "{text}");
}
