//! Timeouts from the timer's protection domain.

#![no_std]
#![forbid(unsafe_code)]

use segue_timer_core::protocol::SET;
use sel4_microkit::{Channel, ChannelSet, Clock, MessageInfo, set_mr};

/// Shortest time worth asking for, in microseconds.
const SHORTEST: u64 = 100;

/// The one timeout of this protection domain.
pub struct Timeout {
    channel: Channel,
    /// Shortest time that is asked for, in microseconds.
    shortest: u64,
    /// When it comes, in microseconds.
    armed: Option<u64>,
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
            shortest,
            armed: None,
        }
    }

    /// Notes that it has come, if it has.
    pub fn notified(&mut self, channels: ChannelSet) {
        if channels.contains(self.channel) {
            self.armed = None;
        }
    }

    /// Has it come at once: who still has work is signalled, and so hears on which other channels it
    /// was signalled, without giving the processor away.
    pub fn set_at_once(&mut self) {
        set_mr(0, 0);
        if self.channel.pp_call(MessageInfo::new(SET, 1)).is_refused() {
            log::error!("the timer refuses a timeout");
            return;
        }
        self.armed = Some(0);
    }

    /// Makes sure that it comes by `next` (microseconds). One that comes too
    /// early does no harm, so most calls need no call of the timer.
    pub fn set(&mut self, next: Option<u64>, clock: &Clock) {
        let Some(next) = next else { return };
        if self.armed.is_some_and(|armed| armed <= next) {
            return;
        }
        let wait = next
            .saturating_sub(clock.now_microseconds())
            .max(self.shortest);
        set_mr(0, wait.saturating_mul(1000));
        if self.channel.pp_call(MessageInfo::new(SET, 1)).is_refused() {
            log::error!("the timer refuses a timeout of {wait} microseconds");
            return;
        }
        self.armed = Some(next);
    }
}
