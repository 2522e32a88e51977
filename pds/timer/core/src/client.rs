//! When a client of the timer has to call it, and what becomes of a call that fails.
//!
//! The timer may die at any instant, and all timeouts with it. Its successor signals every
//! client once, as if their time had come; so a client that sets its timeout anew after each
//! signal has one again.

/// Shortest time worth asking for, in microseconds.
pub const SHORTEST: u64 = 100;

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The timeout is set.
    Done,
    /// The timer refuses it.
    Refused,
    /// The timer died meanwhile, or is given up.
    Gone,
}

/// What is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The timer refuses a timeout.
    Refused,
    /// It does not answer.
    Gone,
}

/// The one timeout of a protection domain. Times are microseconds since any moment.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Shortest time that is asked for.
    shortest: u64,
    /// When it comes.
    armed: Option<u64>,
    /// Whether the last call failed: then that was said.
    failed: bool,
}

impl Client {
    /// No timeout yet, and never one sooner than `shortest` from when it is set.
    pub const fn new(shortest: u64) -> Self {
        Self {
            shortest,
            armed: None,
            failed: false,
        }
    }

    /// The timer has signalled: the time has come, or there is another timer.
    pub fn signalled(&mut self) {
        self.armed = None;
    }

    /// Makes sure that the timeout comes by `next`. One that comes too early does no harm, so
    /// most need no call. `call` takes nanoseconds from now.
    pub fn set(
        &mut self,
        next: Option<u64>,
        now: impl FnOnce() -> u64,
        call: impl FnMut(u64) -> Reply,
    ) -> Result<(), Trouble> {
        let Some(next) = next else { return Ok(()) };
        if self.armed.is_some_and(|armed| armed <= next) {
            return Ok(());
        }
        let wait = next.saturating_sub(now()).max(self.shortest);
        self.call(next, wait.saturating_mul(1000), call)
    }

    /// Has it come at once.
    pub fn set_at_once(&mut self, call: impl FnMut(u64) -> Reply) -> Result<(), Trouble> {
        self.call(0, 0, call)
    }

    /// For a client without a clock: has it come in so many microseconds, unless one is to come
    /// already. Says whether one is. Not to be mixed with the others.
    pub fn set_within(
        &mut self,
        wait: u64,
        call: impl FnMut(u64) -> Reply,
    ) -> Result<bool, Trouble> {
        if self.armed.is_none() {
            self.call(0, wait.max(self.shortest).saturating_mul(1000), call)?;
        }
        Ok(self.armed.is_some())
    }

    /// A call that was cut off is repeated once. If that fails too, nothing is armed, so the next
    /// attempt calls again. Each row of failures is told once.
    fn call(
        &mut self,
        next: u64,
        nanoseconds: u64,
        mut call: impl FnMut(u64) -> Reply,
    ) -> Result<(), Trouble> {
        let mut reply = call(nanoseconds);
        if reply == Reply::Gone {
            reply = call(nanoseconds);
        }
        let trouble = match reply {
            Reply::Done => {
                self.armed = Some(next);
                self.failed = false;
                return Ok(());
            }
            Reply::Refused => Trouble::Refused,
            Reply::Gone => Trouble::Gone,
        };
        // What was set before may be lost as well.
        self.armed = None;
        if core::mem::replace(&mut self.failed, true) {
            return Ok(());
        }
        Err(trouble)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    /// Answers with `replies` in turn, and notes what was asked.
    fn answering<'a>(
        replies: &'a [Reply],
        asked: &'a mut Vec<u64>,
    ) -> impl FnMut(u64) -> Reply + 'a {
        move |nanoseconds| {
            asked.push(nanoseconds);
            replies[asked.len() - 1]
        }
    }

    #[test]
    fn only_an_earlier_timeout_needs_a_call() {
        let (mut client, mut asked) = (Client::new(SHORTEST), Vec::new());
        for (next, calls) in [
            (None, 0),
            (Some(2_000), 1),
            (Some(3_000), 1),
            (Some(1_500), 2),
        ] {
            client
                .set(
                    next,
                    || 1_000,
                    |nanoseconds| {
                        asked.push(nanoseconds);
                        Reply::Done
                    },
                )
                .unwrap();
            assert_eq!(asked.len(), calls);
        }
        assert_eq!(asked, [1_000_000, 500_000]);
        // A time that has passed is not asked for.
        client.signalled();
        let mut asked = Vec::new();
        let call = answering(&[Reply::Done], &mut asked);
        client.set(Some(5), || 1_000, call).unwrap();
        assert_eq!(asked, [SHORTEST * 1000]);
    }

    #[test]
    fn a_call_that_was_cut_off_is_repeated_once() {
        let (mut client, mut asked) = (Client::new(SHORTEST), Vec::new());
        let call = answering(&[Reply::Gone, Reply::Done], &mut asked);
        assert_eq!(client.set(Some(2_000), || 1_000, call), Ok(()));
        assert_eq!(asked, [1_000_000, 1_000_000]);
        // It is set.
        let set = client.set(Some(2_000), || 1_000, |_| panic!("not needed"));
        assert_eq!(set, Ok(()));
    }

    #[test]
    fn no_timeout_is_lost_for_ever() {
        let mut client = Client::new(SHORTEST);
        client.set(Some(5_000), || 1_000, |_| Reply::Done).unwrap();
        // An earlier one is wanted, and the timer dies twice: the later one is lost as well.
        let mut calls = 0;
        let gone = |_| {
            calls += 1;
            Reply::Gone
        };
        assert_eq!(client.set(Some(2_000), || 1_000, gone), Err(Trouble::Gone));
        assert_eq!(calls, 2);
        // That is said once.
        assert_eq!(client.set(Some(5_000), || 1_000, |_| Reply::Gone), Ok(()));
        // The next attempt calls again, whatever time it is for.
        let mut asked = Vec::new();
        let call = answering(&[Reply::Done], &mut asked);
        assert_eq!(client.set(Some(5_000), || 1_000, call), Ok(()));
        assert_eq!(asked, [4_000_000]);
        client.signalled();
        assert_eq!(
            client.set(Some(5_000), || 1_000, |_| Reply::Refused),
            Err(Trouble::Refused),
            "a new row of failures is told"
        );
    }

    #[test]
    fn the_signal_of_a_new_timer_has_the_timeout_set_anew() {
        let mut client = Client::new(SHORTEST);
        client.set(Some(5_000), || 1_000, |_| Reply::Done).unwrap();
        client.signalled();
        let mut asked = Vec::new();
        let call = answering(&[Reply::Done], &mut asked);
        client.set(Some(5_000), || 2_000, call).unwrap();
        assert_eq!(asked, [3_000_000]);
    }

    #[test]
    fn without_a_clock_one_is_under_way_or_not() {
        let mut client = Client::new(SHORTEST);
        let mut asked = Vec::new();
        let replies = [
            Reply::Gone,
            Reply::Gone,
            Reply::Gone,
            Reply::Gone,
            Reply::Done,
        ];
        let mut call = answering(&replies, &mut asked);
        assert_eq!(client.set_within(10, &mut call), Err(Trouble::Gone));
        assert_eq!(client.set_within(10, &mut call), Ok(false));
        assert_eq!(client.set_within(10_000, &mut call), Ok(true));
        assert_eq!(client.set_within(10_000, &mut call), Ok(true));
        drop(call);
        assert_eq!(asked, [100_000, 100_000, 100_000, 100_000, 10_000_000]);
    }

    #[test]
    fn at_once_is_without_delay() {
        let (mut client, mut asked) = (Client::new(SHORTEST), Vec::new());
        let call = answering(&[Reply::Gone, Reply::Done], &mut asked);
        client.set_at_once(call).unwrap();
        assert_eq!(asked, [0, 0]);
        let set = client.set(Some(0), || 1_000, |_| panic!("not needed"));
        assert_eq!(set, Ok(()));
    }
}
