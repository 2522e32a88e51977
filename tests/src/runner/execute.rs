//! Runs one test in a process of its own, with a limit.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{Outcome, Test};
use crate::paths;

/// How much of a failed test's output is shown, in bytes from its end.
const SHOWN: usize = 16 * 1024;

pub(crate) fn execute(test: &Test, limit: Duration) -> Outcome {
    let started = Instant::now();
    let failure = run(test, limit).err();
    Outcome {
        name: test.name.clone(),
        time: started.elapsed(),
        failure,
    }
}

fn run(test: &Test, limit: Duration) -> Result<(), String> {
    let (program, arguments) = test.command.split_first().expect("a command has a program");
    // If this runner is killed, or the limit passes, the test ends, and its machine with it.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", program])
        .args(arguments)
        .current_dir(&test.folder)
        .env("CARGO_MANIFEST_DIR", &test.folder)
        .env("CARGO", paths::cargo())
        .env("LD_LIBRARY_PATH", paths::libraries())
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let output = collect(child.stdout.take());
    let errors = collect(child.stderr.take());
    let result = wait(&mut child, limit);
    let shown = || {
        let mut text = output.join().unwrap_or_default();
        text.extend(errors.join().unwrap_or_default());
        let start = text.len().saturating_sub(SHOWN);
        String::from_utf8_lossy(&text[start..]).into_owned()
    };
    match result {
        Ok(true) => Ok(()),
        Ok(false) => Err(shown()),
        Err(sentence) => Err(format!("{}\n{sentence}", shown())),
    }
}

fn wait(child: &mut Child, limit: Duration) -> Result<bool, String> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            Ok(None) => {
                // It may have ended in this very moment.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("ended after {} s: too long", limit.as_secs()));
            }
            Err(error) => return Err(format!("waiting for the test: {error}")),
        }
    }
}

fn collect(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // What was read until an error is what can be shown.
            let _ = stream.read_to_end(&mut bytes);
        }
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(script: &str) -> Test {
        Test {
            name: "example".into(),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            folder: "/".into(),
            system: false,
        }
    }

    #[test]
    fn success_failure_and_too_long_are_told_apart() {
        let limit = Duration::from_secs(30);
        assert!(execute(&test("exit 0"), limit).failure.is_none());
        let failed = execute(&test("echo seen; exit 1"), limit);
        assert_eq!(failed.failure.as_deref(), Some("seen\n"));
        let slow = execute(&test("exec sleep 60"), Duration::from_millis(50));
        assert!(slow.failure.unwrap().contains("too long"));
    }
}
