//! A protection domain that spins takes its share of the time and no more.
//!
//! The machine's clock counts instructions, so shares of time are shares of instructions, whatever
//! the host is doing.

use std::time::Duration;

use segue_qemu::Machine;
use segue_system_tests::changed::{OwnImage, build_system};
use segue_system_tests::paths;

/// Longer than a second of the machine takes on a busy host.
const LIMIT: Duration = Duration::from_secs(300);
/// Lines of the meter between the first and the last that count: a tenth of a second each.
const LINES: usize = 20;

/// A protection domain that counts, and calls after so many steps (0 for never).
#[derive(Clone, Copy)]
struct Spinner {
    calls_every: u64,
}

const NEVER_BLOCKS: Spinner = Spinner { calls_every: 0 };
/// Makes a protected call after some microseconds of work, as a busy application does.
const WORKS: Spinner = Spinner {
    calls_every: 10_000,
};

/// Timer and console of the system `timer`, a meter, and these in the place of its clients.
fn description(text: &str, spinners: &[Spinner]) -> String {
    let (before, _) = text
        .split_once(r#"<protection_domain name="ticker""#)
        .expect("ticker");
    let console = r#"<channel><end pd="console" id="1" pp="true" setvar_id="timer_channel"/><end pd="timer" id="4"/></channel>"#;
    assert!(text.contains(console), "adapt this test");
    let region = r#"<memory_region name="tsc_frequency""#;
    let before = before.replace(
        region,
        &format!(r#"<memory_region name="progress" size="0x1000"/> {region}"#),
    );
    let domain = |(place, spinner): (usize, &Spinner)| {
        let (id, calls_every) = (10 + place, spinner.calls_every);
        format!(
            r#"
    <protection_domain name="spinner-{place}" priority="100">
        <program_image path="segue-spinner"/>
        <map mr="progress" vaddr="0x10000000" perms="rw" setvar_vaddr="progress"/>
        <setvar symbol="place" value="{place}"/>
        <setvar symbol="calls_every" value="{calls_every}"/>
    </protection_domain>
    <channel><end pd="spinner-{place}" id="1" pp="true" setvar_id="timer_channel"/><end pd="timer" id="{id}"/></channel>"#
        )
    };
    let domains: String = spinners.iter().enumerate().map(domain).collect();
    format!(
        r#"{before}
    <protection_domain name="meter" priority="140">
        <program_image path="segue-meter"/>
        <map mr="progress" vaddr="0x10000000" perms="r" setvar_vaddr="progress"/>
        <map mr="tsc_frequency" vaddr="0x22000000" perms="r" setvar_vaddr="tsc_frequency"/>
    </protection_domain>
    <channel><end pd="meter" id="1" pp="true" setvar_id="timer_channel"/><end pd="timer" id="1"/></channel>
    {console}{domains}
</system>"#
    )
}

/// How many steps each of these takes in 1000 instructions of the machine.
fn steps(name: &str, spinners: &[Spinner]) -> Vec<f64> {
    let image = build_system("timer", |text| description(&text, spinners));
    let image = OwnImage::new(name, &image.bytes);
    let machine = Machine::new(paths::kernel("release"), image.path())
        .memory_mib(128)
        .instruction_clock(0)
        .start()
        .unwrap_or_else(|error| panic!("{error}"));
    let mut position = machine.console().position();
    let mut lines: Vec<Vec<u64>> = Vec::new();
    while lines.len() < LINES + 2 {
        let line = machine
            .console()
            .wait_for_after(position, "meter: at ", LIMIT);
        line.unwrap_or_else(|error| panic!("{error}"));
        position = machine.console().position();
        let all = machine.console().lines();
        let all = all.iter().filter(|line| line.text.contains("meter: at "));
        lines = all
            .map(|line| {
                let words = line
                    .text
                    .split(|character: char| !character.is_ascii_digit());
                words.filter_map(|word| word.parse().ok()).collect()
            })
            .collect();
    }
    // The first may be from before all of them ran.
    let (first, last) = (&lines[1], &lines[lines.len() - 1]);
    let instructions = (last[0] - first[0]) as f64;
    let counts = first.iter().zip(last).skip(1).take(spinners.len());
    counts
        .map(|(first, last)| 1000.0 * (last - first) as f64 / instructions)
        .collect()
}

/// With one that never blocks among `applications`, each of the others keeps nine tenths of an equal
/// share of what it could do alone.
fn a_spinner_takes_its_share_among(applications: usize, other: Spinner, name: &str) {
    let alone = steps(&format!("{name}-alone"), &[other])[0];
    let mut spinners = vec![other; applications];
    spinners[0] = NEVER_BLOCKS;
    let together = steps(name, &spinners);
    let shares: Vec<f64> = together[1..].iter().map(|steps| steps / alone).collect();
    println!("{name}: {shares:.3?} of what one does alone");
    for share in shares {
        let least = 0.9 / applications as f64;
        assert!(share >= least, "{share:.3} is less than {least:.3}");
    }
}

#[test]
fn of_two_applications_one_that_spins_takes_half() {
    a_spinner_takes_its_share_among(2, NEVER_BLOCKS, "two");
}

#[test]
fn of_four_applications_one_that_spins_takes_a_quarter() {
    a_spinner_takes_its_share_among(4, NEVER_BLOCKS, "four");
}

#[test]
fn an_application_that_calls_others_keeps_its_share_beside_one_that_spins() {
    a_spinner_takes_its_share_among(2, WORKS, "two-calling");
    a_spinner_takes_its_share_among(4, WORKS, "four-calling");
}
