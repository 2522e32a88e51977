//! `redis-benchmark`, over and over.

use std::net::SocketAddrV4;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use segue_qemu::NetworkNamespace;

/// What `redis-benchmark` says of one command.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    /// The command, for instance `SET`.
    pub command: String,
    /// Requests per second, by the host's clock.
    pub per_second: f64,
    /// The longest time that a request took, in milliseconds by the host's clock; `None` if this
    /// version does not say.
    pub maximum_latency: Option<f64>,
}

/// A load from `redis-benchmark` in rounds of a fixed number of requests.
pub struct RedisLoad {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<Benchmarks>>,
}

/// What became of the rounds.
#[derive(Clone, Debug, Default)]
pub struct Benchmarks {
    /// What each round that came to its end has measured.
    pub rounds: Vec<Vec<Rate>>,
    /// What a round that failed has said; it was the last one.
    pub failure: Option<String>,
}

impl RedisLoad {
    /// Begins, inside the namespace of a tap: `clients` connections, `requests` requests of each
    /// command in a round. A round takes new connections; for connections that last, have it be long.
    pub fn start(
        namespace: Arc<NetworkNamespace>,
        server: SocketAddrV4,
        clients: u32,
        requests: u32,
    ) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            let mut all = Benchmarks::default();
            while !theirs.load(Ordering::Relaxed) {
                match round(&namespace, server, clients, requests) {
                    Ok(rates) => all.rounds.push(rates),
                    Err(failure) => {
                        all.failure = Some(failure);
                        break;
                    }
                }
            }
            all
        });
        Self {
            ended,
            thread: Some(thread),
        }
    }

    /// Waits for the round under way and says what became of all.
    pub fn stop(mut self) -> Benchmarks {
        self.ended.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is stopped once");
        thread.join().unwrap_or_else(|_| Benchmarks {
            rounds: Vec::new(),
            failure: Some("the thread that starts redis-benchmark panicked".into()),
        })
    }
}

impl Drop for RedisLoad {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn round(
    namespace: &NetworkNamespace,
    server: SocketAddrV4,
    clients: u32,
    requests: u32,
) -> Result<Vec<Rate>, String> {
    let numbers = [u32::from(server.port()), clients, requests].map(|number| number.to_string());
    let [port, clients, requests] = &numbers;
    let address = server.ip().to_string();
    let output = namespace.run(|| {
        Command::new("timeout")
            .args(["300", "redis-benchmark", "-h", &address, "-p", port])
            .args(["-c", clients, "-n", requests])
            .args(["-t", "set,get,incr", "-r", "1000", "--csv"])
            .output()
    });
    let output = output
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("redis-benchmark: {error}"))?;
    judge(&output)
}

/// A reset does not make `redis-benchmark` fail, but it says so.
fn judge(output: &Output) -> Result<Vec<Rate>, String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let rates = rates(&text);
    let is_sound = !text.contains("Error") && !errors.contains("Error");
    if output.status.success() && is_sound && !rates.is_empty() {
        return Ok(rates);
    }
    Err(format!(
        "redis-benchmark ended with {}:\n{text}\n{errors}",
        output.status
    ))
}

/// What `redis-benchmark --csv` has written: a line for each command.
pub fn rates(text: &str) -> Vec<Rate> {
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.split(',').map(|field| field.trim_matches('"'));
        Some(Rate {
            command: fields.next()?.to_owned(),
            per_second: fields.next()?.parse().ok()?,
            // avg, min, p50, p95, p99, max
            maximum_latency: fields.nth(5).and_then(|field| field.parse().ok()),
        })
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    const LINES: &str = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\
        \"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\
        \"SET\",\"5000.5\",\"1.1\",\"0.2\",\"1.0\",\"2.0\",\"3.0\",\"9.5\"\n\
        \"GET\",\"6000.0\"\n";

    #[test]
    fn rates_are_read() {
        let found = rates(LINES);
        assert_eq!(found.len(), 2);
        assert_eq!((&*found[0].command, found[0].per_second), ("SET", 5000.5));
        assert_eq!(found[0].maximum_latency, Some(9.5));
        assert_eq!(
            (&*found[1].command, found[1].maximum_latency),
            ("GET", None)
        );
    }

    #[test]
    fn a_round_with_errors_has_failed() {
        let output = |code: i32, stdout: &str, stderr: &str| Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        assert_eq!(judge(&output(0, LINES, "")).unwrap().len(), 2);
        let reset = "Error from server: Connection reset by peer";
        for wrong in [
            output(1, LINES, ""),
            output(0, LINES, reset),
            output(0, "", ""),
        ] {
            assert!(judge(&wrong).unwrap_err().contains("redis-benchmark"));
        }
    }
}
