//! What the kernel answers when it refuses an invocation.

use crate::Word;
use crate::constants::*;
use core::fmt;

/// Why a capability's address could not be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupFailure {
    /// The CSpace's root is no CNode.
    InvalidRoot,
    /// The slot is empty.
    MissingCapability {
        /// Bits of the address not yet resolved. When mapping a page, this says
        /// which table is missing: 21 page table, 30 page directory, 39 page
        /// directory pointer table.
        bits_left: Word,
    },
    /// The address ends at another depth than asked for.
    DepthMismatch {
        /// Bits of the address not yet resolved.
        bits_left: Word,
        /// Bits that the last CNode would resolve.
        bits_found: Word,
    },
    /// A CNode's guard differs from the address.
    GuardMismatch {
        /// Bits of the address not yet resolved.
        bits_left: Word,
        /// The CNode's guard.
        guard: Word,
        /// Width of that guard, in bits.
        bits_found: Word,
    },
    /// The kernel gave a reason that this crate does not know.
    Unknown,
}

impl LookupFailure {
    /// Decodes the words that start with the kind of the failure.
    pub(crate) fn decode(words: [Word; 4]) -> Self {
        let [kind, bits_left, second, third] = words;
        #[allow(non_upper_case_globals)]
        match kind {
            seL4_InvalidRoot => Self::InvalidRoot,
            seL4_MissingCapability => Self::MissingCapability { bits_left },
            seL4_DepthMismatch => Self::DepthMismatch {
                bits_left,
                bits_found: second,
            },
            seL4_GuardMismatch => Self::GuardMismatch {
                bits_left,
                guard: second,
                bits_found: third,
            },
            _ => Self::Unknown,
        }
    }
}

/// The kernel's refusal of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// An argument is not allowed.
    InvalidArgument {
        /// Its number.
        argument: Word,
    },
    /// A capability is of the wrong kind, or the invoked one is none.
    InvalidCapability {
        /// Its number: 0 is the invoked one.
        capability: Word,
    },
    /// The object does not know this operation, or not now.
    IllegalOperation,
    /// An argument is outside its range.
    Range {
        /// Least allowed value.
        minimum: Word,
        /// Greatest allowed value.
        maximum: Word,
    },
    /// An address is not aligned.
    Alignment,
    /// A capability named in the message, or a paging structure, is missing.
    FailedLookup {
        /// Whether the source (rather than the destination) was not found.
        source: bool,
        /// What went wrong.
        failure: LookupFailure,
    },
    /// The message is too short.
    TruncatedMessage,
    /// Something has to be deleted first.
    DeleteFirst,
    /// Derived capabilities have to be revoked first.
    RevokeFirst,
    /// The untyped memory is used up.
    NotEnoughMemory {
        /// Bytes left.
        available: Word,
    },
    /// A label that this crate does not know.
    Unknown {
        /// The label.
        label: Word,
    },
}

impl Error {
    /// Decodes the answer to an invocation; `Ok` if it succeeded.
    #[inline]
    pub(crate) fn check(label: Word, word: impl Fn(usize) -> Word) -> Result<(), Self> {
        if label == seL4_NoError {
            Ok(())
        } else {
            Err(Self::decode(label, word))
        }
    }

    #[cold]
    fn decode(label: Word, word: impl Fn(usize) -> Word) -> Self {
        #[allow(non_upper_case_globals)]
        match label {
            seL4_InvalidArgument => Self::InvalidArgument { argument: word(0) },
            seL4_InvalidCapability => Self::InvalidCapability {
                capability: word(0),
            },
            seL4_IllegalOperation => Self::IllegalOperation,
            seL4_RangeError => Self::Range {
                minimum: word(0),
                maximum: word(1),
            },
            seL4_AlignmentError => Self::Alignment,
            seL4_FailedLookup => Self::FailedLookup {
                source: word(0) != 0,
                failure: LookupFailure::decode([word(1), word(2), word(3), word(4)]),
            },
            seL4_TruncatedMessage => Self::TruncatedMessage,
            seL4_DeleteFirst => Self::DeleteFirst,
            seL4_RevokeFirst => Self::RevokeFirst,
            seL4_NotEnoughMemory => Self::NotEnoughMemory { available: word(0) },
            label => Self::Unknown { label },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidArgument { argument } => {
                write!(formatter, "argument {argument} is not allowed")
            }
            Self::InvalidCapability { capability } => {
                write!(
                    formatter,
                    "capability {capability} is missing or of the wrong kind"
                )
            }
            Self::IllegalOperation => write!(formatter, "the operation is not allowed"),
            Self::Range { minimum, maximum } => {
                write!(
                    formatter,
                    "an argument is outside {minimum:#x} to {maximum:#x}"
                )
            }
            Self::Alignment => write!(formatter, "an address is not aligned"),
            Self::FailedLookup { source, failure } => {
                let what = if *source {
                    "source"
                } else {
                    "destination or paging structure"
                };
                write!(formatter, "the {what} was not found: {failure:?}")
            }
            Self::TruncatedMessage => write!(formatter, "the message is too short"),
            Self::DeleteFirst => write!(formatter, "the place is taken: delete first"),
            Self::RevokeFirst => write!(formatter, "derived capabilities exist: revoke first"),
            Self::NotEnoughMemory { available } => {
                write!(
                    formatter,
                    "not enough untyped memory: {available:#x} bytes are left"
                )
            }
            Self::Unknown { label } => write!(formatter, "unknown error {label}"),
        }
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(label: Word, words: [Word; 5]) -> Result<(), Error> {
        Error::check(label, |index| words[index])
    }

    #[test]
    fn the_kernels_answers_are_decoded() {
        assert_eq!(answer(0, [0; 5]), Ok(()));
        // A page mapped where the page table is missing (see sel4.md, section 2).
        assert_eq!(
            answer(6, [0, 2, 21, 0, 0]),
            Err(Error::FailedLookup {
                source: false,
                failure: LookupFailure::MissingCapability { bits_left: 21 }
            })
        );
        assert_eq!(
            answer(10, [4096, 0, 0, 0, 0]),
            Err(Error::NotEnoughMemory { available: 4096 })
        );
        assert_eq!(
            answer(4, [1, 9, 0, 0, 0]),
            Err(Error::Range {
                minimum: 1,
                maximum: 9
            })
        );
        assert_eq!(answer(77, [0; 5]), Err(Error::Unknown { label: 77 }));
    }
}
