//! Crash reports, symbols and states, written and read back.

use std::ptr::NonNull;

use proptest::prelude::*;
use segue_shared_memory::Region;
use segue_status::crash::{self, CrashReports, REGISTERS, Report, SLOTS, STACK_LENGTH, label};
use segue_status::symbols::{self, Symbols};
use segue_status::system::{self, Domain, Incarnation, Restart, State, SystemStatus};

/// Memory that lasts as long as the tests.
fn memory(length: usize) -> Region {
    let words = vec![0u64; length / 8].leak();
    // SAFETY: leaked, so it stays; aligned to 8; only the region uses it.
    unsafe { Region::new(NonNull::from(&mut words[0]).cast(), length) }
}

fn padded(text: &str) -> [u8; 64] {
    let mut name = [0; 64];
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

fn function(address: u64, size: u64, name: &str) -> symbols::write::Named {
    (address, size, name.to_string())
}

fn table() -> Vec<u8> {
    symbols::write::table([
        (
            "http".to_string(),
            vec![
                function(0x20_3000, 0x100, "http::serve"),
                function(0x20_1000, 0x80, "_start"),
                function(0x20_2000, 0x40, "http::main"),
            ],
        ),
        (
            "timer".to_string(),
            vec![function(0x20_1000, 0x200, "timer::expire")],
        ),
    ])
}

#[test]
fn an_address_leads_to_the_function_of_that_program() {
    let table = table();
    let symbols = Symbols::new(&table[..]).expect("a table");
    let find = |domain, address| symbols.find(domain, address).map(|found| found.to_string());
    assert_eq!(find("http", 0x20_1000).as_deref(), Some("_start+0x0"));
    assert_eq!(find("http", 0x20_107f).as_deref(), Some("_start+0x7f"));
    assert_eq!(find("http", 0x20_1080), None);
    assert_eq!(find("http", 0x20_30ff).as_deref(), Some("http::serve+0xff"));
    assert_eq!(
        find("timer", 0x20_1000).as_deref(),
        Some("timer::expire+0x0")
    );
    assert_eq!(find("http", 0x1000), None);
    assert_eq!(find("console", 0x20_1000), None);
}

#[test]
fn a_long_name_is_cut_between_characters() {
    let name = "ö".repeat(symbols::NAME_LENGTH);
    let table = symbols::write::table([("a".to_string(), vec![function(0, 1, &name)])]);
    let found = Symbols::new(&table[..])
        .and_then(|symbols| symbols.find("a", 0))
        .expect("found");
    assert!(found.name().chars().all(|letter| letter == 'ö'));
    assert!(found.name().len() > symbols::NAME_LENGTH - 4);
}

proptest! {
    #[test]
    fn a_damaged_symbol_table_is_never_trusted(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        length in any::<prop::sample::Index>(),
        address in any::<u64>(),
    ) {
        let mut table = table();
        for (place, value) in changes {
            let place = place.index(table.len());
            table[place] = value;
        }
        table.truncate(length.index(table.len() + 1));
        if let Some(symbols) = Symbols::new(&table[..]) {
            let _ = symbols.find("http", address);
            let _ = symbols.find("http", 0x20_2010);
        }
    }

    #[test]
    fn a_backtrace_of_any_stack_ends(
        registers in prop::array::uniform18(any::<u64>()),
        words in prop::collection::vec(0u64..0x2000, STACK_LENGTH / 8),
        length in any::<u32>(),
    ) {
        let mut report = Report::empty();
        report.registers = registers;
        report.registers[1] = 0x1000;
        report.registers[9] = 0x1000 + (registers[9] & 0xff8);
        report.stack_address = 0x1000;
        report.stack_length = length;
        for (place, word) in report.stack.chunks_mut(8).zip(words) {
            place.copy_from_slice(&(word & !7).to_le_bytes());
        }
        prop_assert!(report.backtrace().count() <= crash::BACKTRACE_LENGTH);
        let mut text = String::new();
        report.write::<&[u8]>(None, &mut text).expect("text");
    }
}

fn report() -> Report {
    let mut report = Report::empty();
    report.name = padded("http");
    report.label = label::MEMORY;
    report.words = [0x20_2010, 0xdead_0000, 0, 6, 0];
    report.registers = std::array::from_fn(|index| index as u64);
    report.registers[0] = 0x20_2010;
    report.registers[1] = 0x7000;
    report.registers[9] = 0x7010;
    report.code[..2].copy_from_slice(&[0x0f, 0x0b]);
    report.code_length = 2;
    report.stack_address = 0x7000;
    report.stack_length = 0x100;
    let mut put = |address: usize, word: u64| {
        report.stack[address - 0x7000..][..8].copy_from_slice(&word.to_le_bytes());
    };
    put(0x7010, 0x7040);
    put(0x7018, 0x20_3008);
    put(0x7040, 0);
    // A call as the last instruction of a function returns behind its end.
    put(0x7048, 0x20_1080);
    report
}

#[test]
fn a_report_reads_well() {
    let table = table();
    let symbols = Symbols::new(&table[..]).expect("a table");
    let mut text = String::new();
    report().write(Some(&symbols), &mut text).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "http was stopped: it wrote to memory at 0xdead0000, which it was not given."
    );
    assert!(
        lines[1].starts_with("     rip 0x0000000000202010"),
        "{text}"
    );
    assert!(lines.contains(&"  code at rip: 0f 0b"), "{text}");
    let backtrace = &lines[lines.len() - 3..];
    assert_eq!(backtrace[0], "    0x202010 http::main+0x10");
    assert_eq!(backtrace[1], "    0x203008 http::serve+0x8");
    assert_eq!(backtrace[2], "    0x201080 _start+0x80");
    for register in REGISTERS {
        assert!(text.contains(register), "{register} is missing");
    }
}

#[test]
fn reasons_are_sentences() {
    let with = |label, words: [u64; 5]| {
        let report = Report {
            label,
            words,
            ..report()
        };
        report.reason().to_string()
    };
    assert_eq!(
        with(label::MEMORY, [0, 0x1000, 0, 7, 0]),
        "it wrote to memory at 0x1000, which it may only read"
    );
    assert_eq!(
        with(label::MEMORY, [0, 0x20_2010, 0, 4, 0]),
        "it jumped to memory at 0x202010, which it was not given"
    );
    assert_eq!(
        with(label::EXCEPTION, [0, 0, 0, 6, 0]),
        "it gave up (a panic) or ran an invalid instruction"
    );
    assert_eq!(
        with(label::UNKNOWN_SYSTEM_CALL, [0; 5]),
        "it made system call 6, which this kernel does not have"
    );
    assert_eq!(
        with(77, [0; 5]),
        "it sent init a message that is no fault (label 77)"
    );
}

#[test]
fn the_last_reports_can_be_read() {
    let reports = CrashReports::new(memory(crash::REGION_SIZE)).expect("large enough");
    assert!(CrashReports::new(memory(crash::REGION_SIZE - 8)).is_none());
    let mut read = Report::empty();
    assert_eq!(reports.count(), 0);
    assert!(!reports.read(0, &mut read) && !reports.read(1, &mut read));
    let total = SLOTS as u64 + 3;
    for index in 0..total {
        let mut report = report();
        report.time = index;
        reports.add(&mut report);
        assert_eq!(report.sequence, index + 1);
    }
    assert_eq!(reports.count(), total);
    for sequence in 1..=total {
        let there = reports.read(sequence, &mut read);
        assert_eq!(there, sequence > 3, "{sequence}");
        if there {
            assert_eq!(
                (read.sequence, read.time, read.name()),
                (sequence, sequence - 1, "http")
            );
        }
    }
}

#[test]
fn states_are_read_as_written() {
    let region = memory(system::REGION_SIZE);
    let status = SystemStatus::new(region).expect("large enough");
    let domain = |index: u32| Domain {
        name: padded(&format!("domain{index}")),
        state: State::Running,
        priority: 100 + index,
        faults: 0,
        restarts: 0,
        outage: 0,
        idle: 0,
        rebuild: 0,
        started: 5_000,
        memory: 1 << 20,
        capabilities: 7,
    };
    for index in 0..63 {
        status.set_domain(index as usize, &domain(index));
    }
    assert_eq!(
        status.count(),
        0,
        "nothing is seen before all of it is there"
    );
    status.set_free(1 << 27, 4_000);
    status.publish(63);
    assert_eq!(status.domains().count(), 63);
    assert_eq!(
        (status.free_memory(), status.free_slots()),
        (1 << 27, 4_000)
    );
    status.set_stopped(62, State::Stopped, 3, 21_000);
    let stopped = Domain {
        state: State::Stopped,
        faults: 3,
        idle: 21_000,
        ..domain(62)
    };
    assert_eq!(status.domain(62), Some(stopped));
    assert_eq!(
        status.domain(62).map(|domain| domain.name() == "domain62"),
        Some(true)
    );
    assert_eq!(status.domain(61), Some(domain(61)));
    assert_eq!(status.domain(63), None);
    assert_eq!(status.find("domain62"), Some(62));
    assert_eq!(status.find("domain63"), None);
    let incarnation = |restarts, is_running| {
        Some(Incarnation {
            restarts,
            is_running,
        })
    };
    assert_eq!(status.incarnation(62), incarnation(0, false));
    let restart = Restart {
        count: 1,
        started: 9_000,
        outage: 40,
        rebuild: 30,
    };
    status.set_restarted(62, restart);
    assert_eq!(status.incarnation(62), incarnation(1, true));
    status.set_stopped(62, State::GivenUp, 4, 0);
    assert_eq!(status.incarnation(62), incarnation(1, false));
    assert_eq!(status.incarnation(63), None);
    let domain = status.domain(62).expect("it is there");
    assert_eq!((domain.started, domain.outage), (9_000, 40));
    assert_eq!((domain.rebuild, domain.idle), (30, 0));
    assert_eq!(domain.state, State::GivenUp);
}
