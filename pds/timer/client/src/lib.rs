//! Timeouts from the timer's protection domain.
//!
//! When each call is made, and that none is lost when the timer dies, is decided in
//! `segue_timer_core::client`.

#![no_std]
#![forbid(unsafe_code)]

pub use segue_timer_core::client::Trouble;

use segue_timer_core::client::{Client, Reply, SHORTEST};
use segue_timer_core::protocol::SET;
use sel4_microkit::{Channel, ChannelSet, Clock, MessageInfo, set_mr};

/// The one timeout of this protection domain.
pub struct Timeout {
    channel: Channel,
    client: Client,
}

impl Timeout {
    /// No timeout yet.
    pub fn new(channel: Channel) -> Self {
        Self::not_before(channel, SHORTEST)
    }

    /// No timeout yet, and never one sooner than `shortest` microseconds from when it is set: whatever
    /// else is wrong, those of lower priority get to run.
    pub fn not_before(channel: Channel, shortest: u64) -> Self {
        Self {
            channel,
            client: Client::new(shortest),
        }
    }

    /// Notes that it has come, if it has. It also comes when the timer is started anew and knows of
    /// no timeouts, so [`Self::set`] is to be called after each notification.
    pub fn notified(&mut self, channels: ChannelSet) {
        if channels.contains(self.channel) {
            self.client.signalled();
        }
    }

    /// Has it come at once: who still has work is signalled, and so hears on which other channels it
    /// was signalled, without giving the processor away.
    pub fn set_at_once(&mut self) {
        let channel = self.channel;
        say(self
            .client
            .set_at_once(|nanoseconds| call(channel, nanoseconds)));
    }

    /// For a program without a clock or a log: has it come in so many microseconds, unless one is to
    /// come already. Says whether one is. Not to be mixed with the others.
    ///
    /// # Errors
    ///
    /// Why none is, the first time in a row.
    pub fn set_within(&mut self, microseconds: u64) -> Result<bool, Trouble> {
        let channel = self.channel;
        self.client
            .set_within(microseconds, |nanoseconds| call(channel, nanoseconds))
    }

    /// Makes sure that it comes by `next` (microseconds). One that comes too
    /// early does no harm, so most calls need no call of the timer.
    pub fn set(&mut self, next: Option<u64>, clock: &Clock) {
        let channel = self.channel;
        let now = || clock.now_microseconds();
        say(self
            .client
            .set(next, now, |nanoseconds| call(channel, nanoseconds)));
    }
}

fn call(channel: Channel, nanoseconds: u64) -> Reply {
    set_mr(0, nanoseconds);
    let answer = channel.pp_call(MessageInfo::new(SET, 1));
    if answer.is_gone() {
        Reply::Gone
    } else if answer.is_refused() {
        Reply::Refused
    } else {
        Reply::Done
    }
}

fn say(result: Result<(), Trouble>) {
    match result {
        Ok(()) => {}
        Err(Trouble::Refused) => log::error!(
            "the timer refuses a timeout: what has to wait for a time waits until something else happens"
        ),
        Err(Trouble::Gone) => log::error!(
            "the timer does not answer: what has to wait for a time waits until there is another timer"
        ),
    }
}
