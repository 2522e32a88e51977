//! All clients' connections.

use alloc::vec::Vec;

use crate::connection::{Connection, Counters, Limits, Progress, Stream};
use crate::site::{Dynamic, Site};

/// How often connections are looked at for a passed deadline, in microseconds.
/// The limits are seconds, so a sweep costs less than a queue kept in order.
const SWEEP_MICROSECONDS: u64 = 500_000;

/// What the caller does with a stream after serving it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: wait for the stream.
    None,
    /// Close the sending side once everything queued is sent.
    Close,
    /// Reset the stream.
    Abort,
}

/// The connections by the dense index that the library OS gives them.
pub struct Server<'a> {
    site: Site<'a>,
    limits: Limits,
    connections: Vec<Option<(Connection<'a>, u64)>>,
    open: usize,
    next_sweep: u64,
    counters: Counters,
}

impl<'a> Server<'a> {
    /// A server without connections.
    pub fn new(site: Site<'a>, limits: Limits) -> Self {
        Self {
            site,
            limits,
            connections: Vec::new(),
            open: 0,
            next_sweep: 0,
            counters: Counters::default(),
        }
    }

    /// A client has connected; `index` must be free.
    pub fn accepted(&mut self, index: usize, now: u64) {
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        if self.open == 0 {
            self.next_sweep = now.saturating_add(SWEEP_MICROSECONDS);
        }
        let deadline = now.saturating_add(self.limits.idle_microseconds);
        let before =
            self.connections[index].replace((Connection::new(&self.limits, now), deadline));
        self.open += usize::from(before.is_none());
    }

    /// The stream has bytes, room or an end.
    pub fn ready(
        &mut self,
        index: usize,
        stream: &mut impl Stream,
        dynamic: &mut impl Dynamic,
        now: u64,
    ) -> Action {
        let Some(Some((connection, deadline))) = self.connections.get_mut(index) else {
            return Action::None;
        };
        let progress = connection.serve(
            stream,
            &self.site,
            dynamic,
            &self.limits,
            now,
            &mut self.counters,
        );
        match progress {
            Progress::Wait { deadline: next } => {
                *deadline = next;
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

    /// The stream is gone.
    pub fn closed(&mut self, index: usize) {
        if let Some(slot) = self.connections.get_mut(index) {
            self.open -= usize::from(slot.take().is_some());
        }
    }

    /// Connections whose deadline has passed: call [`Server::ready`] for each.
    /// Empty until [`Server::next_sweep`].
    pub fn overdue(&mut self, now: u64) -> Vec<usize> {
        if self.open == 0 || now < self.next_sweep {
            return Vec::new();
        }
        self.next_sweep = now.saturating_add(SWEEP_MICROSECONDS);
        let late =
            |slot: &Option<(Connection, u64)>| slot.as_ref().is_some_and(|(_, at)| now >= *at);
        (0..self.connections.len())
            .filter(|&index| late(&self.connections[index]))
            .collect()
    }

    /// When [`Server::overdue`] wants to be called next, in microseconds.
    pub fn next_sweep(&self) -> Option<u64> {
        (self.open > 0).then_some(self.next_sweep)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Counts since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}
