//! What `init` does when something is wrong: a protection domain that
//! misbehaves, a machine that lacks something, an image that is damaged.

use std::fs;
use std::time::Duration;

use segue_qemu::{Machine, Network, Running};
use segue_system_image::Payload;
use segue_system_tests::changed::{OwnImage, build_system};
use segue_system_tests::{Cable, TestMachine, paths};
use zerocopy::IntoBytes;

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Two more protection domains for the default system: `hello` calls `echo`,
/// then reads memory that it was not given.
const TRESPASSER: &str = r#"
    <memory_region name="hello_shared" size="0x1000"/>
    <protection_domain name="echo" priority="90">
        <program_image path="segue-echo"/>
        <map mr="hello_shared" vaddr="0x10000000" perms="rw" setvar_vaddr="shared" setvar_size="shared_size"/>
    </protection_domain>
    <protection_domain name="hello" priority="80">
        <program_image path="segue-hello"/>
        <map mr="hello_shared" vaddr="0x20000000" perms="rw" setvar_vaddr="shared" setvar_size="shared_size"/>
    </protection_domain>
    <channel><end pd="hello" id="1" pp="true" setvar_id="echo_channel"/><end pd="echo" id="3"/></channel>
</system>"#;

/// The image of the default system after a change of its description.
fn build(change: impl FnOnce(String) -> String) -> Vec<u8> {
    build_system("system", change).bytes
}

/// Offset of the payload in an image.
fn payload_offset(image: &[u8]) -> usize {
    let pages = image.chunks(0x1000);
    let page = pages
        .into_iter()
        .position(|page| page.starts_with(b"SEGUEIMG"));
    page.expect("a payload") * 0x1000
}

fn start(machine: Machine) -> Running {
    machine.start().unwrap_or_else(|error| panic!("{error}"))
}

fn expect(machine: &Running, text: &str) -> String {
    let line = machine.console().wait_for(text, LIMIT);
    line.unwrap_or_else(|error| panic!("{error}")).text
}

/// Waits for the sentence of a system that cannot start and checks that nothing
/// runs after it.
fn expect_refusal(machine: &Running, text: &str) {
    expect(machine, &format!("Segue cannot start: {text}"));
    std::thread::sleep(Duration::from_millis(500));
    let console = machine.console().text();
    assert!(
        !console.contains("protection domains run"),
        "something runs:\n{console}"
    );
}

#[test]
fn a_trespasser_is_stopped_and_reported_and_the_page_still_loads() {
    let image = OwnImage::new(
        "trespasser",
        &build(|text| text.replace("</system>", TRESPASSER)),
    );
    let mut machine = TestMachine::start(image.machine(), Cable::User);
    machine.expect_line("hello was stopped: it read memory at 0xdead0000, which it was not given.");
    machine.expect_line(" rip 0x");
    let outermost = machine.expect_line(" _start+0x");
    assert!(outermost.trim_start().starts_with("0x"), "{outermost}");
    machine.wait_until_it_answers();
    machine.assert_page_loads();
    let status = machine.status().to_string();
    assert!(
        status.contains("stopped"),
        "the page does not know: {status}"
    );
}

#[test]
fn calls_notifications_and_shared_memory_work_without_a_device() {
    let machine = Machine::new(paths::kernel("debug"), paths::image("hello")).memory_mib(128);
    let machine = start(machine);
    expect(&machine, "hello: echo answered 8 1001");
    expect(&machine, "hello: shared memory holds 42");
    expect(&machine, "hello: notified by echo");
    // Without a console, init reports itself.
    expect(
        &machine,
        "hello was stopped: it read memory at 0xdead0000, which it was not given (at 0x",
    );
}

/// The kernel's number for the kind of capability that a line of the report is
/// about (tags in seL4's structures.bf).
fn kind(what: &str) -> u64 {
    let kinds = [
        ("endpoint of ", 4),
        ("fault endpoint", 4),
        ("notification of ", 6),
        ("its own VSpace", 9),
        ("interrupt handler", 16),
        ("IO ports", 19),
    ];
    let kind = kinds.iter().find(|(start, _)| what.starts_with(start));
    kind.unwrap_or_else(|| panic!("what is {what}?")).1
}

#[test]
fn a_protection_domain_has_exactly_the_capabilities_of_the_report() {
    let image = build_system("prober", |text| text);
    let report = &image.summary.protection_domains[1];
    assert_eq!(report.name, "prober");
    let listed: Vec<String> = report
        .capabilities
        .iter()
        .map(|line| format!("prober: slot {} kind {}", line.slot, kind(&line.what)))
        .collect();
    assert_eq!(listed.len(), 3 + 2 + 2 + 1 + 1, "of each kind: {listed:?}");
    let file = OwnImage::new("prober", &image.bytes);
    let machine = start(Machine::new(paths::kernel("debug"), file.path()).memory_mib(128));
    expect(&machine, "prober: done");
    let lines = machine.console().lines();
    let found: Vec<String> = lines
        .into_iter()
        .map(|line| line.text.trim().to_string())
        .filter(|text| text.starts_with("prober: ") && text != "prober: done")
        .collect();
    assert_eq!(found, listed);
}

/// What the builder lets pass must fit the machine: its idea of what is left
/// must not exceed what `init` finds left, nor fall far behind it.
#[test]
fn the_builder_knows_how_much_memory_there_is() {
    for memory in [64, 256, 3072, 6144] {
        let described = format!(r#"<machine memory="{memory}M"/>"#);
        let change = |text: String| {
            assert!(text.contains(r#"<machine memory="128M"/>"#));
            text.replace(r#"<machine memory="128M"/>"#, &described)
        };
        let image = build_system("hello", change);
        let left = (image.summary.memory_available - image.summary.memory_needed) >> 20;
        let file = OwnImage::new(&format!("memory-{memory}"), &image.bytes);
        let machine = start(Machine::new(paths::kernel("debug"), file.path()).memory_mib(memory));
        expect(&machine, " MiB of memory are free.");
        let text = machine.console().text();
        let found: u64 = text
            .split_once("protection domains run; ")
            .and_then(|(_, rest)| rest.split_once(" MiB"))
            .and_then(|(number, _)| number.parse().ok())
            .unwrap_or_else(|| panic!("no number:\n{text}"));
        assert!(
            left <= found && found <= left + 16,
            "{memory} MiB: {left} told, {found} found"
        );
    }
}

#[test]
fn without_an_iommu_nothing_starts() {
    let machine = start(TestMachine::machine("system").iommu(false));
    expect_refusal(&machine, "IO address space netserver_io needs an IOMMU");
}

#[test]
fn without_the_nic_a_sentence_says_so() {
    let machine = start(TestMachine::machine("system").network(Network::NoDevice));
    expect(
        &machine,
        "pcie: error: no device at 00:03.0: start the machine with nic",
    );
    // The rest runs: the console answers.
    expect(&machine, "http: listening on ");
}

#[test]
fn init_reports_a_console_that_was_stopped() {
    // The console is not told its ports, so it gives up.
    let change = |text: String| {
        let told = r#" setvar_id="serial_ports""#;
        assert!(
            text.contains(told),
            "the description has changed: adapt this test"
        );
        text.replace(told, "")
    };
    let image = OwnImage::new("console", &build(change));
    let mut machine = TestMachine::start(image.machine(), Cable::User);
    machine.expect_line("console was stopped: ");
    machine.wait_until_it_answers();
    machine.assert_page_loads();
}

#[test]
fn with_too_little_memory_nothing_starts() {
    let machine = start(TestMachine::machine("system").memory_mib(24));
    expect_refusal(&machine, "too little memory: the system needs ");
    let line = expect(&machine, "too little memory");
    assert!(
        line.contains(" MiB besides kernel and boot image, and this machine has "),
        "{line}"
    );
}

#[test]
fn a_damaged_table_is_noticed() {
    let mut bytes = fs::read(paths::image("system")).expect("an image");
    let offset = payload_offset(&bytes);
    bytes[offset + 1000] ^= 1;
    let image = OwnImage::new("table", &bytes);
    expect_refusal(
        &start(image.machine()),
        "the boot image is damaged: its tables do not have",
    );
}

#[test]
fn a_damaged_program_is_named() {
    let mut bytes = fs::read(paths::image("system")).expect("an image");
    let offset = payload_offset(&bytes);
    let mut words = vec![0u64; (bytes.len() - offset).div_ceil(8)];
    words.as_mut_bytes()[..bytes.len() - offset].copy_from_slice(&bytes[offset..]);
    let payload = Payload::read(words.as_bytes()).expect("a payload");
    let timer = &payload.protection_domains[0];
    bytes[offset + (timer.program_offset + timer.program_length) as usize - 1] ^= 1;
    let image = OwnImage::new("program", &bytes);
    let sentence =
        "the boot image is damaged: the program of protection domain timer does not have";
    expect_refusal(&start(image.machine()), sentence);
}

#[test]
fn device_memory_that_is_not_there_is_named() {
    // No device in the machine described, but ordinary memory in a larger one.
    let change =
        |text: String| text.replace(r#"phys_addr="0xfed00000""#, r#"phys_addr="0x18000000""#);
    let image = OwnImage::new("device", &build(change));
    let machine = start(image.machine().memory_mib(512));
    let sentence =
        "memory region hpet_registers needs device memory at physical address 0x18000000";
    expect_refusal(&machine, sentence);
}
