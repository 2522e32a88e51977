//! All clients, and the store that they share.

use alloc::vec::Vec;

use crate::client::{Client, Progress, Stream};
use crate::info::Facts;
use crate::parser::Limit;
use crate::store::Store;

/// Time between two sweeps for expired keys, in microseconds.
const SWEEP: u64 = 100_000;
/// Places that one sweep looks at.
const SWEPT: usize = 2048;

/// What the server may use up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Memory of keys and values, in bytes.
    pub store_bytes: usize,
    /// Memory of all clients' requests and answers, in bytes.
    pub client_bytes: usize,
    /// Clients at once.
    pub clients: usize,
    /// Size of a request. The largest argument is the largest value, too.
    pub request: Limit,
    /// Largest answer that is made of several keys or values, in bytes.
    pub answer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            store_bytes: 16 << 20,
            client_bytes: 8 << 20,
            clients: 256,
            request: Limit {
                arguments: 16 * 1024,
                argument_bytes: 512 * 1024,
                request_bytes: 1 << 20,
            },
            answer_bytes: 1 << 20,
        }
    }
}

/// What the caller does next with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Close it when everything is sent.
    Close,
    /// Reset it.
    Abort,
}

/// The server. Clients are known by an index that the caller chooses, below [`Limits::clients`].
pub struct Server {
    limits: Limits,
    store: Store,
    clients: Vec<Option<Client>>,
    evicted: Vec<usize>,
    facts: Facts,
    /// When the last sweep was, in microseconds.
    swept: u64,
}

impl Server {
    /// A server without keys or clients, at `now` microseconds. `seed` should be unpredictable.
    /// `port` and `timeout` (seconds of silence after which a client is shown out) are only told.
    pub fn new(limits: Limits, seed: [u64; 2], port: u16, timeout: u64, now: u64) -> Self {
        Self {
            limits,
            store: Store::new(limits.store_bytes, seed),
            clients: Vec::new(),
            evicted: Vec::new(),
            facts: Facts {
                maximum_clients: limits.clients,
                timeout,
                port,
                began: now / 1000,
                ..Facts::default()
            },
            swept: now,
        }
    }

    /// Clients connected.
    pub fn open(&self) -> usize {
        self.facts.clients
    }

    /// Bytes of the clients' buffers.
    pub fn client_memory(&self) -> usize {
        self.facts.client_memory
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A client has connected. Returns false if it must be turned away.
    pub fn accepted(&mut self, index: usize) -> bool {
        if index >= self.limits.clients {
            return false;
        }
        self.closed(index);
        if self.clients.len() <= index {
            self.clients.resize_with(index + 1, || None);
        }
        self.facts.connections += 1;
        self.facts.clients += 1;
        self.clients[index] = Some(Client::new(&self.limits, self.facts.connections));
        true
    }

    /// A client has gone.
    pub fn closed(&mut self, index: usize) {
        if let Some(client) = self.clients.get_mut(index).and_then(Option::take) {
            self.facts.clients -= 1;
            self.facts.client_memory -= client.memory();
        }
    }

    /// Something has arrived from a client, or there is room to send to it.
    pub fn ready(&mut self, index: usize, stream: &mut impl Stream, now: u64) -> Action {
        let Some(Some(client)) = self.clients.get_mut(index) else {
            return Action::Abort;
        };
        let before = client.memory();
        let (store, facts) = (&mut self.store, &mut self.facts);
        let progress = client.serve(stream, store, facts, &self.limits, now / 1000);
        facts.client_memory = facts.client_memory - before + client.memory();
        match progress {
            Progress::Wait => {
                self.evict();
                Action::None
            }
            Progress::Close => {
                self.closed(index);
                Action::Close
            }
            Progress::Abort => {
                self.closed(index);
                Action::Abort
            }
        }
    }

    /// While buffers take too much, the client with the largest goes.
    fn evict(&mut self) {
        while self.facts.client_memory > self.limits.client_bytes {
            let memory = |client: &Option<Client>| client.as_ref().map_or(0, Client::memory);
            let largest = (0..self.clients.len()).max_by_key(|&index| memory(&self.clients[index]));
            let Some(largest) = largest else { return };
            self.closed(largest);
            self.facts.evicted_clients += 1;
            self.evicted.push(largest);
        }
    }

    /// A client that had to go because buffers took too much memory: its connection is to be
    /// reset.
    pub fn next_evicted(&mut self) -> Option<usize> {
        self.evicted.pop()
    }

    /// When [`Server::tick`] should be called, in microseconds: nothing expires unnoticed then.
    pub fn next_tick(&self) -> Option<u64> {
        (self.store.expiring() > 0).then(|| self.swept.saturating_add(SWEEP))
    }

    /// Removes some of what has expired, if it is time.
    pub fn tick(&mut self, now: u64) {
        if self.next_tick().is_some_and(|at| at <= now) {
            self.swept = now;
            self.store.sweep(SWEPT, now / 1000);
        }
    }
}
