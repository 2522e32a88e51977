//! What is missing or wrong is said in a sentence, and nothing is left running.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use segue_bench::Guest;
use segue_bench::machines::{BOOT, Counted, SYSTEM};
use segue_system_tests::{paths, scenarios};

/// What `segue-bench` says when it fails, with these words before it.
fn complaint(before: &[&str], environment: &[(&str, &Path)]) -> String {
    let program = env!("CARGO_BIN_EXE_segue-bench");
    let words = [before, &[program, "--quick", "--only", "nothing"]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).envs(environment.iter().copied());
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", words[0]));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("{text}");
    text
}

/// The machines that this process has started and not waited for.
fn machines() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux has /proc");
    let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).ok();
    let children: String = tasks.flatten().filter_map(of).collect();
    let name = |child: &str| fs::read_to_string(format!("/proc/{child}/comm")).ok();
    let names = children.split_whitespace().filter_map(name);
    names.filter(|name| name.starts_with("qemu")).collect()
}

#[test]
fn without_the_right_to_make_a_tap_it_says_what_it_needs() {
    // Root keeps its name and loses its rights; who has none already needs no help.
    let before = match scenarios::may_make_tap_devices() {
        Ok(()) => &["setpriv", "--bounding-set=-all", "--inh-caps=-all"][..],
        Err(_) => &[],
    };
    let text = complaint(before, &[]);
    assert!(text.starts_with("segue-bench: each machine needs a tap device"));
    assert!(text.contains("run this as root"), "{text}");
}

#[test]
fn without_packages_it_says_where_they_come_from() {
    if let Err(why) = scenarios::may_make_tap_devices() {
        println!("not tested: {why}");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let settings = folder.path().join("apt.conf");
    let text = format!(
        r#"Dir::State "{0}"; Dir::Cache "{0}"; Dir::Etc::sourcelist "/dev/null"; Dir::Etc::sourceparts "/dev/null";"#,
        folder.path().display()
    );
    fs::write(&settings, text).expect("a file can be written");
    let text = complaint(&[], &[("APT_CONFIG", &settings)]);
    let wanted = "apt knows no package linux-image-amd64: add Debian's sources to /etc/apt";
    assert!(text.contains(wanted), "{text}");
}

#[test]
fn a_guest_that_does_not_boot_is_told_of_and_stopped() {
    if let Err(why) = scenarios::may_make_tap_devices() {
        println!("not tested: {why}");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let nonsense = folder.path().join("nonsense");
    fs::write(&nonsense, "no kernel").expect("a file can be written");
    let no_kernel = Guest {
        kernel: nonsense.clone(),
        initramfs: nonsense,
        patience: BOOT,
    };
    // One that boots, and never says that it is ready.
    let another = Guest {
        kernel: paths::kernel("release"),
        initramfs: paths::image(SYSTEM),
        patience: Duration::from_secs(3),
    };
    for (guest, wanted) in [(no_kernel, "QEMU"), (another, "waited 3 s in vain for")] {
        let text = match Counted::linux(&guest) {
            Ok(_) => panic!("that is no Linux"),
            Err(text) => text,
        };
        println!("{text}\n");
        assert!(text.contains(wanted), "{text}");
        assert_eq!(machines(), [""; 0]);
    }
}
