//! Channels and interrupts.

use crate::symbols::{has, microkit_irqs, microkit_notifications, microkit_pps};
use crate::{MessageInfo, abi};
use core::fmt;
use sel4::cap;

/// A connection to another protection domain, or an interrupt, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Channel(u8);

impl Channel {
    /// The channel with this id.
    ///
    /// # Panics
    ///
    /// If `index` is not below 62.
    pub const fn new(index: usize) -> Self {
        assert!(index < abi::CHANNELS, "no such channel: ids are below 62");
        Self(index as u8)
    }

    #[doc(hidden)]
    pub fn from_description(symbol: &str, index: u64) -> Self {
        match usize::try_from(index) {
            Ok(index) if index < abi::CHANNELS => Self::new(index),
            _ => panic!("the system description does not set {symbol} to a channel's id"),
        }
    }

    /// The id.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether the system description allows to signal the other end.
    #[inline]
    pub fn may_notify(self) -> bool {
        has(&microkit_notifications, self.index())
    }

    /// Signals the other end. Never waits.
    ///
    /// # Panics
    ///
    /// If the system description does not allow it.
    #[inline]
    pub fn notify(self) {
        assert!(
            self.may_notify(),
            "channel {} cannot be signalled: the system description does not allow it",
            self.0
        );
        sel4::syscall::signal(abi::slot::notification(self.index()));
    }

    /// Lets the interrupt come again.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, which it does for no interrupt that the system
    /// description gives.
    ///
    /// # Panics
    ///
    /// If the id is not an interrupt's.
    #[inline]
    pub fn irq_ack(self) -> Result<(), IrqAckError> {
        assert!(
            has(&microkit_irqs, self.index()),
            "{} is not the id of an interrupt in the system description",
            self.0
        );
        cap::IrqHandler(abi::slot::interrupt(self.index()))
            .ack()
            .map_err(IrqAckError)
    }

    /// Calls the other end, which must be of higher priority, and waits for its
    /// answer. Arguments and results are in the message registers ([`set_mr`],
    /// [`get_mr`]).
    ///
    /// [`set_mr`]: crate::set_mr
    /// [`get_mr`]: crate::get_mr
    ///
    /// # Panics
    ///
    /// If the system description does not allow it.
    #[inline]
    pub fn pp_call(self, message: MessageInfo) -> MessageInfo {
        assert!(
            has(&microkit_pps, self.index()),
            "channel {} cannot be called over: the system description does not allow it",
            self.0
        );
        let answer = sel4::syscall::call(abi::slot::endpoint(self.index()), message.inner());
        MessageInfo::from_inner(answer)
    }
}

/// The kernel refused to acknowledge an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqAckError(sel4::Error);

impl fmt::Display for IrqAckError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the interrupt cannot be acknowledged: {}",
            self.0
        )
    }
}

impl core::error::Error for IrqAckError {}

/// The channels that were signalled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelSet(u64);

impl ChannelSet {
    pub(crate) const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// Whether `channel` is among them.
    pub const fn contains(&self, channel: Channel) -> bool {
        self.0 >> channel.0 & 1 != 0
    }

    /// The channel, if there is one alone.
    pub const fn only(&self) -> Option<Channel> {
        let index = self.0.trailing_zeros() as usize;
        if self.0.is_power_of_two() && index < abi::CHANNELS {
            Some(Channel(index as u8))
        } else {
            None
        }
    }

    /// The channels, by rising id.
    pub fn iter(&self) -> impl Iterator<Item = Channel> + use<> {
        let mut bits = self.0;
        core::iter::from_fn(move || {
            let index = bits.trailing_zeros() as usize;
            bits &= bits.wrapping_sub(1);
            (index < abi::CHANNELS).then(|| Channel::new(index))
        })
    }

    /// The ids, for people.
    pub fn display(&self) -> impl fmt::Display + use<> {
        struct Display(ChannelSet);
        impl fmt::Display for Display {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter
                    .debug_set()
                    .entries(self.0.iter().map(Channel::index))
                    .finish()
            }
        }
        Display(*self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::ToString;

    #[test]
    fn a_set_has_the_channels_of_its_bits() {
        let set = ChannelSet::new(1 | 1 << 7 | 1 << 61);
        assert!(set.contains(Channel::new(7)) && !set.contains(Channel::new(8)));
        assert!(set.iter().map(Channel::index).eq([0, 7, 61]));
        assert_eq!(set.only(), None);
        assert_eq!(ChannelSet::new(1 << 7).only(), Some(Channel::new(7)));
        assert_eq!(set.display().to_string(), "{0, 7, 61}");
        assert_eq!(ChannelSet::default().iter().count(), 0);
    }

    #[test]
    #[should_panic = "no such channel"]
    fn ids_end_at_61() {
        Channel::new(62);
    }
}
