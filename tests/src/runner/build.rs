//! Builds the test programs and asks each for its tests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{Outcome, Test};
use crate::paths;

const SYSTEM_TESTS: &str = "segue-system-tests";

/// Builds the tests of all default members.
const ORDINARY: &[&str] = &[
    "test",
    "--locked",
    "--no-run",
    "--message-format=json-render-diagnostics",
];

/// Builds the tests that run every interleaving of a protocol: in a build of their own.
const MODEL_CHECKED: &[&str] = &[
    "test",
    "--locked",
    "--release",
    "--no-run",
    "--message-format=json-render-diagnostics",
    "-p",
    "segue-frame-channel",
    "--test",
    "loom",
];

/// All tests of the workspace's default members, and those that are model-checked.
pub(crate) fn tests() -> Result<Vec<Test>, String> {
    let mut tests = Vec::new();
    let loom_folder = paths::root().join("build/loom");
    let loom_folder = loom_folder.to_string_lossy();
    let model_checked = programs(
        MODEL_CHECKED,
        &[
            ("RUSTFLAGS", "--cfg loom"),
            ("CARGO_TARGET_DIR", &loom_folder),
        ],
    )?;
    for program in programs(ORDINARY, &[])?.into_iter().chain(model_checked) {
        let ignored = listed(&program, true)?;
        for name in listed(&program, false)? {
            if ignored.contains(&name) {
                continue;
            }
            tests.push(Test {
                name: format!("{}::{name}", program.name),
                command: vec![
                    program.file.clone(),
                    name,
                    "--exact".into(),
                    "--nocapture".into(),
                ],
                folder: program.folder.clone(),
                system: program.system,
            });
        }
    }
    if tests.is_empty() {
        return Err("no test was found; something is wrong with the build.".into());
    }
    Ok(tests)
}

struct Program {
    name: String,
    file: String,
    folder: PathBuf,
    system: bool,
}

fn programs(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Vec<Program>, String> {
    let mut programs = Vec::new();
    cargo_messages(arguments, &paths::root(), environment, |message| {
        let Some(file) = message["executable"].as_str() else {
            return;
        };
        if message["profile"]["test"] != true {
            return;
        }
        let manifest = Path::new(message["manifest_path"].as_str().unwrap_or_default());
        let folder = manifest.parent().unwrap_or(Path::new(".")).to_owned();
        let package = package_name(message["package_id"].as_str().unwrap_or_default());
        let target = message["target"]["name"].as_str().unwrap_or_default();
        let kind = message["target"]["kind"][0].as_str().unwrap_or_default();
        programs.push(Program {
            name: if kind == "lib" || kind == "proc-macro" {
                package.clone()
            } else {
                format!("{package}::{target}")
            },
            file: file.to_owned(),
            folder,
            system: kind == "test" && package == SYSTEM_TESTS,
        });
    })
    .map_err(|cause| format!("the tests do not compile ({cause}); the messages above say why."))?;
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(programs)
}

/// The name in `path+file:///home/me/segue/libos#segue-libos@0.1.0` or `...#0.1.0` after a folder's name.
fn package_name(id: &str) -> String {
    let (url, fragment) = id.rsplit_once('#').unwrap_or((id, ""));
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => url.rsplit('/').next().unwrap_or(url).to_owned(),
    }
}

fn listed(program: &Program, ignored: bool) -> Result<Vec<String>, String> {
    let mut command = Command::new(&program.file);
    command
        .args(["--list", "--format", "terse"])
        .current_dir(&program.folder)
        .env("LD_LIBRARY_PATH", paths::libraries());
    if ignored {
        command.arg("--ignored");
    }
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", program.file))?;
    if !output.status.success() {
        return Err(format!("{} does not list its tests", program.file));
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.strip_suffix(": test").map(str::to_owned))
        .collect())
}

/// The fuzz targets, each as a test that fuzzes for `seconds`.
pub(crate) fn fuzz_targets(seconds: u64) -> Result<Vec<Test>, String> {
    let folder = paths::root().join("fuzz");
    let output = Command::new(folder.join("run"))
        .arg("--build")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("fuzz/run: {error}"))?;
    if !output.status.success() {
        return Err("the fuzz targets do not compile; the messages above say why.".into());
    }
    let targets = String::from_utf8_lossy(&output.stdout);
    Ok(targets
        .lines()
        .map(|target| Test {
            name: format!("fuzz::{target}"),
            command: vec![
                folder.join("run").to_string_lossy().into_owned(),
                target.to_owned(),
                seconds.to_string(),
            ],
            folder: folder.clone(),
            system: true,
        })
        .collect())
}

/// Runs the documentation tests; cargo runs those of a crate in one go, so they have no times.
pub(crate) fn documentation_tests() -> Result<Vec<Outcome>, String> {
    let output = Command::new(paths::cargo())
        .args(["test", "--locked", "--doc", "--no-fail-fast"])
        .current_dir(paths::root())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo test --doc: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut outcomes: Vec<Outcome> = text
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.rsplit_once(" ... "))
        .filter(|(_, result)| !result.starts_with("ignored"))
        .map(|(name, result)| Outcome {
            name: format!("documentation::{name}"),
            time: Duration::ZERO,
            failure: (result != "ok").then(|| text.clone()),
        })
        .collect();
    if !output.status.success() && outcomes.iter().all(|outcome| outcome.failure.is_none()) {
        outcomes.push(Outcome {
            name: "documentation".into(),
            time: Duration::ZERO,
            failure: Some(text),
        });
    }
    Ok(outcomes)
}

/// Runs cargo and hands each of its JSON messages to `each`.
fn cargo_messages(
    arguments: &[&str],
    folder: &Path,
    environment: &[(&str, &str)],
    mut each: impl FnMut(&BTreeMap<String, Value>),
) -> Result<(), String> {
    let mut child = Command::new(paths::cargo())
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(folder)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cargo: {error}"))?;
    let output = child.stdout.take().expect("standard output is piped");
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|error| format!("cargo: {error}"))?;
        if let Ok(message) = serde_json::from_str::<BTreeMap<String, Value>>(&line)
            && message.contains_key("target")
            && message.contains_key("profile")
        {
            each(&message);
        }
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_ids_give_names() {
        assert_eq!(
            package_name("path+file:///w/libos#segue-libos@0.1.0"),
            "segue-libos"
        );
        assert_eq!(
            package_name("path+file:///w/segue-qemu#0.1.0"),
            "segue-qemu"
        );
    }
}
