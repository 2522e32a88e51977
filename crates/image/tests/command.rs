//! The command `segue-image` itself, from files to files.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder of this test's own with the default system in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("programs")).unwrap();
        let files = support::default_programs();
        for (name, bytes) in &files.programs {
            std::fs::write(path.join("programs").join(name), bytes).unwrap();
        }
        let init = support::raw_program(&[("payload_location", 24)]);
        std::fs::write(path.join("programs/segue-init"), init).unwrap();
        for (name, bytes) in &files.files {
            let place = path.join(name);
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(place, bytes).unwrap();
        }
        let folder = Folder(path);
        folder.describe(support::DEFAULT_SYSTEM);
        folder
    }

    fn describe(&self, text: &str) {
        std::fs::write(self.0.join("system.xml"), text).unwrap();
    }

    fn run(&self, output: &str, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_segue-image"))
            .current_dir(&self.0)
            .args(["--system", "system.xml", "--programs", "programs"])
            .args(["--output", output])
            .args(more)
            .output()
            .unwrap()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap()
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn two_runs_write_the_same_three_files() {
    let folder = Folder::new("deterministic");
    let first = folder.run("one", &[]);
    assert_eq!(errors(&first), "");
    assert_eq!(first.status.code(), Some(0));
    let printed = String::from_utf8(first.stdout).unwrap();
    assert_eq!(printed.lines().count(), 2, "{printed}");
    assert!(printed.starts_with("one/image.elf: "), "{printed}");
    folder.run("two", &[]);
    for name in ["image.elf", "report.txt", "system.svg"] {
        let (one, two) = (
            folder.read(&format!("one/{name}")),
            folder.read(&format!("two/{name}")),
        );
        assert!(one == two, "{name} differs");
        assert!(!one.is_empty());
    }
    assert_eq!(std::fs::read_dir(folder.0.join("one")).unwrap().count(), 3);
    if let Ok(path) = std::env::var("SEGUE_REPORT") {
        std::fs::copy(folder.0.join("one/report.txt"), path).unwrap();
    }
}

#[test]
fn the_report_says_what_the_application_has_and_who_reaches_it() {
    let folder = Folder::new("report");
    assert_eq!(folder.run("output", &[]).status.code(), Some(0));
    let report = String::from_utf8(folder.read("output/report.txt")).unwrap();
    let squeezed: Vec<String> = report
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        // Shared memory, calls, notifications, DMA.
        "netserver.http.client http netserver",
        "netserver.http.server netserver http",
        "port_table portmap director, netserver",
        "system_status init portmap, director, console, http",
        "http 1 timer 1",
        "http 59 portmap 60",
        "netserver 60 http 60",
        "nic.vf0 (00:13.0) 1 0x000010000000-0x0000101fffff rw netserver_dma netserver",
        // Grants.
        "http pcie nic.vf1 (00:13.2), nic.vf2 (00:13.4), nic.vf3 (00:13.6), nic.vf4 (00:14.0), nic.vf5 (00:14.2), nic.vf6 (00:14.4) http.direct 0x00200028c000-0x00200058efff",
        // The application.
        "priority 100, program segue-http, stack 64 KiB",
        "60 netserver 60 notify, be notified",
        "59 portmap 60 call, be notified",
        "http its own 52:54:00:5e:61:15 10.0.2.15/24 10.0.2.2 fd00:5e60::15/64 fd00:5e60::2",
        "61 console 61 notify",
        "log_ring 0x2000595000",
    ] {
        assert!(
            squeezed.iter().any(|found| found == line),
            "{line}\n{report}"
        );
    }
}

#[test]
fn a_mistake_leaves_everything_as_it_was() {
    let folder = Folder::new("mistake");
    assert_eq!(folder.run("output", &[]).status.code(), Some(0));
    let before = folder.read("output/image.elf");
    folder.describe("<system>\n<memory_region name='a' size='1'/>\n</system>");
    let output = folder.run("output", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        errors(&output),
        "system.xml:2:31: size=\"1\" is not a multiple of the page size 0x1000: write size=\"0x1000\"\n"
    );
    assert!(folder.read("output/image.elf") == before);
    assert_eq!(
        std::fs::read_dir(folder.0.join("output")).unwrap().count(),
        3
    );

    assert_eq!(folder.run("fresh", &[]).status.code(), Some(1));
    assert!(!folder.0.join("fresh").exists());
}

#[test]
fn checking_writes_nothing() {
    let folder = Folder::new("check");
    let output = folder.run("output", &["--check"]);
    assert_eq!(errors(&output), "");
    assert_eq!(output.status.code(), Some(0));
    assert!(!folder.0.join("output").exists());
}

#[test]
fn too_little_memory_is_reported_at_the_machine() {
    let folder = Folder::new("memory");
    let text = support::DEFAULT_SYSTEM;
    let small = text.replace("<machine memory=\"256M\"/>", "<machine memory=\"32M\"/>");
    let large = small.replace("pool_size=\"0x200000\"", "pool_size=\"0x4000000\"");
    assert_ne!(small, large);
    folder.describe(&large);
    let output = folder.run("output", &[]);
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    let line = 1 + text
        .lines()
        .position(|line| line.contains("<machine"))
        .unwrap();
    assert!(
        errors(&output).starts_with(&format!("system.xml:{line}:5: ")),
        "{}",
        errors(&output)
    );
    assert!(!folder.0.join("output").exists());
}

#[test]
fn what_is_not_the_description_s_fault_is_told_apart() {
    let folder = Folder::new("other");
    let cases: [(&[&str], &str); 4] = [
        (
            &["--system", "absent.xml"],
            "segue-image: cannot read absent.xml",
        ),
        (
            &["--frobnicate"],
            "segue-image: invalid option '--frobnicate'; --help tells how",
        ),
        (
            &["surplus"],
            "segue-image: unexpected argument \"surplus\"; --help tells how",
        ),
        (
            &["--output", "system.xml"],
            "segue-image: cannot make system.xml",
        ),
    ];
    for (arguments, message) in cases {
        let output = folder.run("output", arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(errors(&output).starts_with(message), "{}", errors(&output));
    }
    std::fs::write(folder.0.join("system.xml"), b"<system>\n  \xff").unwrap();
    let output = folder.run("output", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        errors(&output),
        "system.xml:2:3: this is not UTF-8: save the file as UTF-8\n"
    );
}

#[test]
fn too_few_capability_slots_are_reported_at_the_machine() {
    let folder = Folder::new("slots");
    folder.describe(
        "<system>\n<machine memory='2G'/>\n<memory_region name='m' size='768M'/>\n\
         <protection_domain name='a'><program_image path='segue-timer'/>\
         <map mr='m' vaddr='0x40000000'/></protection_domain>\n</system>",
    );
    let output = folder.run("output", &[]);
    assert_eq!(output.status.code(), Some(1));
    let errors = errors(&output);
    assert!(errors.starts_with("system.xml:2:1: "), "{errors}");
    assert!(errors.contains("slots"), "{errors}");
    assert!(!folder.0.join("output").exists());
}
