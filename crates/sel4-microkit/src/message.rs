//! Messages of protected calls.

use crate::abi;
use sel4::{MESSAGE_WORDS, Word};

/// What a message is about; 20 bits.
pub type MessageLabel = Word;

/// One word of a message.
pub type MessageRegisterValue = Word;

/// Label and length of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageInfo(sel4::MessageInfo);

impl MessageInfo {
    /// The answer to a call that is not served: label [`abi::REFUSED_LABEL`],
    /// no words.
    pub const REFUSED: Self = Self::new(abi::REFUSED_LABEL, 0);

    /// A message of `count` words (at most 120). Of a label wider than
    /// [`label_width`](Self::label_width) the low bits remain.
    pub const fn new(label: MessageLabel, count: usize) -> Self {
        let count = if count > MESSAGE_WORDS {
            MESSAGE_WORDS
        } else {
            count
        };
        Self(sel4::MessageInfo::new(label, 0, count))
    }

    /// What the message is about.
    pub const fn label(self) -> MessageLabel {
        self.0.label()
    }

    /// Number of words, at most 120 whatever the sender claims.
    pub const fn count(self) -> usize {
        let count = self.0.length();
        if count > MESSAGE_WORDS {
            MESSAGE_WORDS
        } else {
            count
        }
    }

    /// Width of a label, in bits.
    pub const fn label_width() -> usize {
        sel4::MessageInfo::LABEL_BITS as usize
    }

    /// The answer to a call whose server is gone: label [`abi::GONE_LABEL`], no words.
    pub const GONE: Self = Self::new(abi::GONE_LABEL, 0);

    /// Whether this is the answer to a call that was not served, since the one called does not
    /// serve it or is [gone](Self::is_gone).
    pub const fn is_refused(self) -> bool {
        self.label() == abi::REFUSED_LABEL || self.is_gone()
    }

    /// Whether the one called has died before it could answer, or is given up. What the call was
    /// to do may be done or not. A successor, if there is one, serves the next call.
    pub const fn is_gone(self) -> bool {
        self.label() == abi::GONE_LABEL
    }

    pub(crate) const fn inner(self) -> sel4::MessageInfo {
        self.0
    }

    /// The message without the capabilities that a sender may have claimed.
    pub(crate) const fn from_inner(inner: sel4::MessageInfo) -> Self {
        Self::new(inner.label(), inner.length())
    }
}

/// Sets word `index` of the next message.
///
/// Words that are not set hold what earlier messages left there, perhaps
/// another client's: set each word that the message's count covers.
///
/// # Panics
///
/// If `index` is not below 120.
#[inline]
pub fn set_mr(index: usize, value: MessageRegisterValue) {
    sel4::set_message_register(index, value);
}

/// Word `index` of the last message. Only the first [`MessageInfo::count`]
/// words are the sender's.
///
/// # Panics
///
/// If `index` is not below 120.
#[inline]
pub fn get_mr(index: usize) -> MessageRegisterValue {
    sel4::message_register(index)
}

/// Calls `f` with a copy of the last message's words.
pub fn with_msg_regs<T>(f: impl FnOnce(&[Word]) -> T) -> T {
    let words: [Word; MESSAGE_WORDS] = core::array::from_fn(sel4::message_register);
    f(&words)
}

/// Calls `f` with a copy of the last message's bytes.
pub fn with_msg_bytes<T>(f: impl FnOnce(&[u8]) -> T) -> T {
    with_msg_regs(|words| f(zerocopy::IntoBytes::as_bytes(words)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_bounded_on_both_ways() {
        assert_eq!(MessageInfo::new(3, 1000).count(), 120);
        let claimed = sel4::MessageInfo::new(3, 2, 127);
        let received = MessageInfo::from_inner(claimed);
        assert_eq!((received.label(), received.count()), (3, 120));
        assert_eq!(received.inner().capabilities(), 0);
    }

    #[test]
    fn a_refusal_is_recognised() {
        assert!(MessageInfo::REFUSED.is_refused() && !MessageInfo::REFUSED.is_gone());
        assert!(MessageInfo::GONE.is_refused() && MessageInfo::GONE.is_gone());
        assert!(!MessageInfo::new(0, 0).is_refused());
    }
}
