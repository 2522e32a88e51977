//! The kernel's holes: open on seL4 as shipped, shut on the kernel with Segue's fixes.
//!
//! Each test boots a root task (`tests/kernel-holes`) on both kernels and has it walk through one
//! hole. It reports "open" only after it has used the hole; what "use" means stands with each
//! scenario there. Rows of the IO table that are no hole say the same on both kernels.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use segue_system_tests::paths;

/// What a kernel did with a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The forbidden thing was done; for a device: the memory was reached.
    Open,
    /// The forbidden thing was refused; for a device: the memory was not reached.
    Shut,
    /// The kernel stopped.
    Stopped,
}
use Outcome::{Open, Shut, Stopped};

/// Exit codes of QEMU for what the root task writes to the exit device (2v + 1).
const EXIT_OPEN: i32 = 0x21;
const EXIT_SHUT: i32 = 0x23;

/// Longer than any scenario takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// What the kernel prints when it gives up.
const STOPPED: [&str; 2] = ["seL4 called fail at", "KERNEL EXCEPTION"];

/// Runs `scenario` on the kernel `variant`: the outcome, and what was on the console.
fn run(variant: &str, scenario: &str) -> (Outcome, String) {
    let task = task_for(variant, scenario);
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-cpu", processor(scenario), "-m", "128"])
        .args([
            "-M",
            "q35,kernel-irqchip=split",
            "-nodefaults",
            "-no-reboot",
        ])
        .args(["-device", "intel-iommu,intremap=off"])
        .args(["-device", "edu,addr=04.0"])
        .args(["-device", "isa-debug-exit,iobase=0x501,iosize=2"])
        .args(["-display", "none", "-serial", "stdio"])
        .arg("-kernel")
        .arg(paths::kernel(variant))
        .arg("-initrd")
        .arg(&task)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("QEMU starts; `make setup` installs it");
    let mut output = machine.stdout.take().expect("it was piped");
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut bytes) {
            if sender.send(bytes[..count].to_vec()).is_err() {
                break;
            }
        }
    });

    let mut console = Vec::new();
    let deadline = Instant::now() + LIMIT;
    let stopped = loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(bytes) => console.extend(bytes),
            // QEMU has closed its output: it ends.
            Err(mpsc::RecvTimeoutError::Disconnected) => break false,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let _ = machine.kill();
                let _ = machine.wait();
                panic!(
                    "{scenario} on the {variant} kernel does not end; its console:\n{}",
                    readable(&console)
                );
            }
        }
        let text = String::from_utf8_lossy(&console);
        if STOPPED.iter().any(|sign| text.contains(sign)) {
            break true;
        }
    };
    if stopped {
        let _ = machine.kill();
    }
    let status = machine.wait().expect("QEMU was started");
    let console = readable(&console);
    let _ = fs::remove_file(task);
    let outcome = match (stopped, status.code()) {
        (true, _) => Stopped,
        (false, Some(EXIT_OPEN)) => Open,
        (false, Some(EXIT_SHUT)) => Shut,
        _ => {
            panic!("{scenario} on the {variant} kernel failed ({status}); its console:\n{console}")
        }
    };
    (outcome, console)
}

/// What was printed since the kernel was ready (all of it if it never was), without the carriage
/// returns and without what the root task's search for memory has the kernel complain about.
fn readable(console: &[u8]) -> String {
    let text = String::from_utf8_lossy(console).replace('\r', "");
    let start = text.find("Booting all finished").unwrap_or(0);
    text[start..]
        .lines()
        .filter(|line| !line.contains("Insufficient memory"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The processor for a scenario. The others have all that QEMU can do.
fn processor(scenario: &str) -> &'static str {
    match scenario {
        // Without BMI1, whose count of trailing zeros has a defined result for 0.
        "untyped-at-zero" => "Nehalem,+pdpe1gb,+fsgsbase",
        _ => "max",
    }
}

/// A copy of the root task that runs `scenario`.
fn task_for(variant: &str, scenario: &str) -> PathBuf {
    let program = paths::root().join("build/pd/x86_64-unknown-linux-gnu/pd/segue-kernel-holes");
    let mut bytes = fs::read(&program).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; `make test-images` builds it",
            program.display()
        )
    });
    let mark = b"segue scenario: ";
    let places: Vec<usize> = bytes
        .windows(mark.len())
        .enumerate()
        .filter(|(_, window)| window == mark)
        .map(|(place, _)| place + mark.len())
        .collect();
    let [place] = places[..] else {
        panic!(
            "the place for the scenario's name occurs {} times",
            places.len()
        );
    };
    bytes[place..place + scenario.len()].copy_from_slice(scenario.as_bytes());
    let copy = std::env::temp_dir().join(format!(
        "segue-{scenario}-{variant}-{}.elf",
        std::process::id()
    ));
    fs::write(&copy, bytes).expect("the temporary folder is writable");
    copy
}

/// Asserts the outcome on the plain and on the fixed kernel.
#[track_caller]
fn expect(scenario: &str, plain: Outcome, fixed: Outcome) {
    for (variant, expected) in [("plain", plain), ("debug", fixed)] {
        let (outcome, console) = run(variant, scenario);
        assert_eq!(
            outcome, expected,
            "{scenario} on the {variant} kernel; its console:\n{console}"
        );
    }
}

/// Address of a symbol in a kernel.
fn symbol(variant: &str, name: &str) -> u64 {
    let kernel = paths::kernel(variant).with_file_name("kernel.elf");
    let output = Command::new("nm")
        .arg(&kernel)
        .output()
        .expect("nm starts; it comes with the compiler");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find(|line| line.ends_with(&format!(" {name}")))
        .unwrap_or_else(|| panic!("{} has no {name}", kernel.display()));
    u64::from_str_radix(&line[..16], 16).expect("nm prints addresses in hexadecimal")
}

/// The instructions of a function of a kernel.
fn disassembly(variant: &str, function: &str) -> String {
    let kernel = paths::kernel(variant).with_file_name("kernel.elf");
    let output = Command::new("objdump")
        .arg(format!("--disassemble={function}"))
        .arg(&kernel)
        .output()
        .expect("objdump starts; it comes with the compiler");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(&format!("<{function}>:")), "{text}");
    text
}

#[test]
fn h1_a_frame_stays_mapped_when_its_capability_is_gone() {
    expect("frame-outlives-its-capability", Open, Shut);
}

#[test]
fn h1_a_device_reaches_a_page_whose_mapped_capability_was_deleted() {
    expect("io-delete-mapped-copy", Open, Shut);
}

#[test]
fn h1_a_device_reaches_a_page_that_was_revoked_and_given_away() {
    expect("io-revoke-frame", Open, Shut);
}

#[test]
fn h2_a_device_reaches_a_page_after_its_top_table_was_deleted() {
    expect("io-delete-top-table", Open, Shut);
}

#[test]
fn h2_a_device_reaches_a_page_after_all_its_tables_were_revoked() {
    expect("io-revoke-tables", Open, Shut);
}

#[test]
fn h2_a_device_reaches_a_page_after_its_io_space_was_deleted() {
    expect("io-delete-space", Open, Shut);
}

#[test]
fn h2_a_device_obeys_tables_forged_in_memory_it_was_to_leave() {
    expect("io-forge-tables", Open, Shut);
}

#[test]
fn h3_a_device_reaches_a_page_that_was_revoked_while_its_table_was_unmapped() {
    expect("io-remap-table", Open, Shut);
}

#[test]
fn h3_a_table_stays_mapped_when_both_its_capabilities_are_gone() {
    expect("io-table-copy", Open, Shut);
}

#[test]
fn h4_kernel_stacks_are_not_aligned_to_their_size() {
    // Only read from the kernels: with one processor no way was found to have an interrupt left over
    // at the point where the stack pointer is masked. 4 KiB is the size of a kernel stack.
    assert_ne!(symbol("plain", "kernel_stack_alloc") % 4096, 0);
    for variant in ["debug", "release"] {
        assert_eq!(symbol(variant, "kernel_stack_alloc") % 4096, 0, "{variant}");
    }
}

#[test]
fn h5_a_thread_runs_with_a_segment_base_another_wrote() {
    expect("segment-base-instruction", Open, Shut);
}

#[test]
fn h5_a_thread_runs_with_a_segment_base_another_loaded() {
    expect("segment-base-selector", Open, Shut);
}

#[test]
fn h6_the_page_below_the_non_canonical_hole_can_be_mapped() {
    expect("last-page", Open, Shut);
}

#[test]
fn h6_the_upper_half_can_be_mapped() {
    expect("upper-half", Open, Shut);
}

#[test]
fn h6_a_page_can_be_mapped_in_the_kernels_own_page_directory() {
    expect("kernel-page-directory", Open, Shut);
}

#[test]
fn h6_the_end_of_the_address_space_can_be_mapped() {
    expect("end-of-address-space", Open, Shut);
}

#[test]
fn h6_an_ipc_buffer_can_be_at_a_non_canonical_address() {
    expect("ipc-buffer-address", Open, Shut);
}

#[test]
fn h7_a_copy_of_an_io_space_survives_its_revocation() {
    expect("io-space-copy", Open, Shut);
}

#[test]
fn h8_the_direction_flag_of_an_interrupted_thread_is_set_in_the_kernel() {
    // Only read from the kernels: on an interrupt they copy nothing long enough for an instruction
    // that heeds the flag; on a system call they do, but QEMU clears the flag whether told to or not.
    let clears = |variant| disassembly(variant, "handle_interrupt").contains("cld");
    assert!(!clears("plain"));
    assert!(clears("debug") && clears("release"));
}

#[test]
fn h8_the_nested_task_flag_of_a_thread_stops_the_kernel() {
    expect("nested-task-flag", Stopped, Shut);
}

#[test]
fn h9_a_device_writes_into_a_table_that_is_mapped_as_a_page() {
    expect("io-table-as-page", Open, Shut);
}

#[test]
fn h9_a_device_forges_translations_in_a_table_of_its_own() {
    // With H9 open and H3 shut the device writes into the table, but the table is no table then.
    expect("io-forge-in-table", Open, Shut);
}

#[test]
fn a_new_io_page_table_is_left_in_the_processors_cache() {
    // Only read from the kernels: QEMU has no caches. A table is flushed as a whole, 2^12 bytes; in the
    // release kernel the function is part of its callers.
    let flushes = |variant| {
        disassembly(variant, "decodeX86IOPTInvocation")
            .lines()
            .filter(|line| line.contains("$0xc,%esi"))
            .count()
    };
    assert_eq!(flushes("plain"), 0);
    // Where a table becomes the top one, where it becomes another, and where it is unmapped (H3).
    assert_eq!(flushes("debug"), 3);
}

#[test]
fn copying_a_page_directory_pointer_table_stops_the_kernel() {
    expect("page-directory-pointer-table-copy", Stopped, Shut);
}

#[test]
fn a_fault_address_is_cut_to_32_bits() {
    expect("fault-address", Open, Shut);
}

#[test]
fn device_memory_from_512_gib_on_is_cut_into_pieces() {
    expect("untyped-at-zero", Open, Shut);
}

#[test]
fn a_thread_that_deleted_itself_goes_on() {
    // It has no address space any more, so it faults, and nobody can be told but the console.
    let faulted = |variant| {
        let (outcome, console) = run(variant, "revived-thread");
        assert_eq!(outcome, Shut, "{variant}:\n{console}");
        console.contains("while trying to handle")
    };
    assert!(faulted("plain"));
    assert!(!faulted("debug"));
}

#[test]
fn io_table_a_mapped_page_is_read_and_written() {
    expect("io-mapped", Open, Open);
}

#[test]
fn io_table_a_device_without_tables_reaches_nothing() {
    expect("io-no-context", Shut, Shut);
}

#[test]
fn io_table_an_address_beside_a_mapped_page_leads_nowhere() {
    expect("io-neighbour", Shut, Shut);
}

#[test]
fn io_table_a_physical_address_leads_nowhere() {
    expect("io-physical-address", Shut, Shut);
}

#[test]
fn io_table_an_unmapped_page_is_out_of_reach() {
    expect("io-unmap", Shut, Shut);
}

#[test]
fn io_table_a_page_mapped_for_reading_is_not_written() {
    expect("io-read-only", Shut, Shut);
}

#[test]
fn io_table_a_page_of_an_unmapped_table_is_out_of_reach() {
    expect("io-unmap-table", Shut, Shut);
}

#[test]
fn io_table_an_address_beyond_the_levels_is_one_below() {
    // It reaches the page as long as that is mapped, which the scenario asserts.
    expect("io-alias", Shut, Shut);
}

#[test]
fn io_table_capabilities_of_the_last_holder_unmap_nothing_of_the_next() {
    // As shipped the device is still at the tables of the last holder (H2).
    expect("io-stale-capabilities", Shut, Open);
}

#[test]
fn io_table_new_tables_work_after_the_old_ones_are_gone() {
    expect("io-new-tables", Open, Open);
}
