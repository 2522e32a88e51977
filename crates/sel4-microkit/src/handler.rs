//! What a protection domain does when something arrives.

use crate::{Channel, ChannelSet, Infallible, IrqAckError, MessageInfo, abi};
use core::fmt;

/// The reactions of a protection domain.
pub trait Handler {
    /// Why it gives up.
    type Error: fmt::Display;

    /// Reacts to signals and interrupts. An error ends the protection domain:
    /// it panics with it.
    ///
    /// # Errors
    ///
    /// What the protection domain cannot go on after.
    fn notified(&mut self, channels: ChannelSet) -> Result<(), Self::Error> {
        log::warn!("unexpected signal on the channels {}", channels.display());
        Ok(())
    }

    /// Answers a call over `channel`. The arguments are in the message registers,
    /// and so are the results. An error is logged, and the caller is told that
    /// the call was refused.
    ///
    /// # Errors
    ///
    /// Why the call cannot be served.
    fn protected(
        &mut self,
        channel: Channel,
        message: MessageInfo,
    ) -> Result<MessageInfo, Self::Error> {
        log::warn!(
            "unexpected call {} on channel {}",
            message.label(),
            channel.index()
        );
        Ok(MessageInfo::REFUSED)
    }

    /// Whether signals ask for nothing, so that the protection domain waits again at once: they are
    /// neither handled nor noted as events. Called before anything else, and while no work counts as
    /// pending, so it must be short. Floods of signals are made of this.
    fn is_idle(&mut self, _channels: ChannelSet) -> bool {
        false
    }

    /// Whether it is able to do what it is for. Asked after `init` and after each reaction, until
    /// it is: a new image of a program that does not get there in time is taken back.
    fn is_ready(&self) -> bool {
        true
    }

    /// One last thing to do before waiting.
    fn take_deferred_action(&mut self) -> Option<DeferredAction> {
        None
    }
}

/// A handler that expects nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullHandler(());

impl NullHandler {
    /// A handler that expects nothing.
    pub const fn new() -> Self {
        Self(())
    }
}

impl Handler for NullHandler {
    type Error = Infallible;
}

/// A signal or an acknowledgement that waits until the handler is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeferredAction {
    channel: Channel,
    interface: DeferredActionInterface,
}

/// What a [`DeferredAction`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeferredActionInterface {
    /// Signals the channel.
    Notify,
    /// Acknowledges the interrupt.
    IrqAck,
}

impl DeferredAction {
    /// Signals `channel` later.
    pub const fn new_notify(channel: Channel) -> Self {
        Self {
            channel,
            interface: DeferredActionInterface::Notify,
        }
    }

    /// Acknowledges the interrupt `channel` later.
    pub const fn new_irq_ack(channel: Channel) -> Self {
        Self {
            channel,
            interface: DeferredActionInterface::IrqAck,
        }
    }

    /// The channel.
    pub const fn channel(self) -> Channel {
        self.channel
    }

    /// What it does.
    pub const fn interface(self) -> DeferredActionInterface {
        self.interface
    }

    /// Does it.
    ///
    /// # Errors
    ///
    /// As [`Channel::irq_ack`].
    pub fn execute_now(self) -> Result<(), IrqAckError> {
        match self.interface {
            DeferredActionInterface::Notify => {
                self.channel.notify();
                Ok(())
            }
            DeferredActionInterface::IrqAck => self.channel.irq_ack(),
        }
    }
}

/// Hands what was received to `handler`; the answer if it was a call.
pub(crate) fn dispatch<H: Handler>(
    handler: &mut H,
    badge: u64,
    message: sel4::MessageInfo,
) -> Option<MessageInfo> {
    match abi::received(badge) {
        Some(abi::Received::Notified(bits)) => {
            if let Err(error) = handler.notified(ChannelSet::new(bits)) {
                panic!("{error}");
            }
            None
        }
        Some(abi::Received::Called(index)) => {
            let channel = Channel::new(index);
            let answer = handler.protected(channel, MessageInfo::from_inner(message));
            Some(answer.unwrap_or_else(|error| {
                log::error!("the call on channel {index} is refused: {error}");
                MessageInfo::REFUSED
            }))
        }
        // A capability that nobody should have made. Its sender may wait for an answer.
        None => {
            log::error!("message with the unknown badge {badge:#x}");
            Some(MessageInfo::REFUSED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::String;
    use std::vec::Vec;

    #[derive(Default)]
    struct Recorder {
        notified: Vec<usize>,
        called: Vec<(usize, u64, usize)>,
    }

    impl Handler for Recorder {
        type Error = String;
        fn notified(&mut self, channels: ChannelSet) -> Result<(), String> {
            self.notified.extend(channels.iter().map(Channel::index));
            if channels.contains(Channel::new(61)) {
                Err("broken".into())
            } else {
                Ok(())
            }
        }
        fn protected(
            &mut self,
            channel: Channel,
            message: MessageInfo,
        ) -> Result<MessageInfo, String> {
            self.called
                .push((channel.index(), message.label(), message.count()));
            if message.label() == 7 {
                Err("no".into())
            } else {
                Ok(MessageInfo::new(0, 2))
            }
        }
    }

    #[test]
    fn calls_and_signals_reach_their_methods() {
        let mut handler = Recorder::default();
        let badge = abi::notification_badge(3) | abi::notification_badge(5);
        assert_eq!(
            dispatch(&mut handler, badge, sel4::MessageInfo::new(0, 0, 0)),
            None
        );
        let call = sel4::MessageInfo::new(9, 3, 127);
        let answer = dispatch(&mut handler, abi::call_badge(4), call);
        assert_eq!(answer, Some(MessageInfo::new(0, 2)));
        assert_eq!(handler.notified, [3, 5]);
        assert_eq!(handler.called, [(4, 9, 120)]);
    }

    #[test]
    fn an_error_of_a_call_is_an_answer() {
        let mut handler = Recorder::default();
        let call = sel4::MessageInfo::new(7, 0, 0);
        assert_eq!(
            dispatch(&mut handler, abi::call_badge(0), call),
            Some(MessageInfo::REFUSED)
        );
    }

    #[test]
    fn a_call_that_nobody_expects_is_refused() {
        let call = sel4::MessageInfo::new(1, 0, 1);
        let mut handler = NullHandler::new();
        assert_eq!(
            dispatch(&mut handler, abi::call_badge(0), call),
            Some(MessageInfo::REFUSED)
        );
        assert_eq!(
            dispatch(&mut handler, abi::notification_badge(0), call),
            None
        );
        assert_eq!(
            dispatch(&mut handler, 1 << 20, call),
            Some(MessageInfo::REFUSED)
        );
    }

    #[test]
    #[should_panic = "broken"]
    fn an_error_of_a_signal_ends_the_protection_domain() {
        let message = sel4::MessageInfo::new(0, 0, 0);
        dispatch(
            &mut Recorder::default(),
            abi::notification_badge(61),
            message,
        );
    }
}
