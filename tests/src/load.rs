//! Many clients at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::http::Client;
use crate::{Host, files};

/// What clients do.
#[derive(Clone, Debug)]
pub struct Load {
    /// Connections at the same time, each kept for all its requests.
    pub connections: usize,
    /// Requests in all.
    pub requests: u64,
    /// The test files asked for, in turn.
    pub files: Vec<&'static str>,
}

impl Load {
    /// Runs it and compares every body. All connections are open before the first request.
    ///
    /// # Errors
    /// The first failure of each connection that had one, as sentences.
    pub fn run(&self, host: &Host) -> Result<(), String> {
        let expected: Vec<(String, Vec<u8>)> = self
            .files
            .iter()
            .map(|name| (format!("/{name}"), files::contents(name)))
            .collect();
        let mut clients = Vec::new();
        for number in 0..self.connections {
            let connection = host
                .connect()
                .map_err(|error| format!("connection {number}: {error}"))?;
            clients.push(Client::new(connection));
        }
        let next = AtomicU64::new(0);
        let failures: Vec<String> = thread::scope(|scope| {
            let threads: Vec<_> = clients
                .into_iter()
                .enumerate()
                .map(|(number, mut client)| {
                    let (next, expected) = (&next, &expected);
                    scope.spawn(move || {
                        loop {
                            let request = next.fetch_add(1, Ordering::Relaxed);
                            if request >= self.requests {
                                return None;
                            }
                            let (path, body) = &expected[request as usize % expected.len()];
                            let failure = match client.get(path) {
                                Ok(answer) if answer.status != 200 => {
                                    format!("status {}", answer.status)
                                }
                                Ok(answer) if answer.body != *body => "a wrong body".to_owned(),
                                Ok(_) => continue,
                                Err(error) => error.to_string(),
                            };
                            return Some(format!(
                                "connection {number}, request {request} ({path}): {failure}"
                            ));
                        }
                    })
                })
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined
                .filter_map(|result| result.unwrap_or_else(|_| Some("a client panicked".into())))
                .collect()
        });
        if failures.is_empty() {
            Ok(())
        } else {
            Err(failures.join("\n"))
        }
    }
}
