//! Capabilities and their invocations.

use crate::ipc_buffer::{message_register, set_capability, set_message_register};
use crate::syscall::{FAST_REGISTERS, call_with};
use crate::{CPtr, Error, MessageInfo, Word};

/// The words of a successful invocation's answer.
pub(crate) struct Answer([Word; FAST_REGISTERS]);

impl Answer {
    /// Word `index` of the answer.
    #[inline]
    pub(crate) fn word(&self, index: usize) -> Word {
        self.0
            .get(index)
            .copied()
            .unwrap_or_else(|| message_register(index))
    }
}

/// Invokes a capability with a message of `words`.
#[inline]
pub(crate) fn invoke(
    capability: CPtr,
    label: Word,
    capabilities: &[CPtr],
    words: &[Word],
) -> Result<Answer, Error> {
    for (index, capability) in capabilities.iter().enumerate() {
        set_capability(index, *capability);
    }
    let mut registers = [0; FAST_REGISTERS];
    for (index, value) in words.iter().enumerate() {
        match registers.get_mut(index) {
            Some(register) => *register = *value,
            None => set_message_register(index, *value),
        }
    }
    let information = MessageInfo::new(label, capabilities.len(), words.len());
    let received = call_with(capability, information, registers);
    let answer = Answer(received.registers);
    Error::check(received.information.label(), |index| answer.word(index))?;
    Ok(answer)
}

macro_rules! capability {
    ($(#[$documentation:meta])* $name:ident) => {
        $(#[$documentation])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(transparent)]
        pub struct $name(pub CPtr);

        impl $name {
            /// The capability's address in the caller's CSpace.
            #[inline]
            pub const fn cptr(self) -> CPtr {
                self.0
            }
        }

        impl From<$name> for CPtr {
            #[inline]
            fn from(capability: $name) -> CPtr {
                capability.0
            }
        }
    };
}

pub mod cap {
    //! The kinds of capabilities, each with its invocations.
    //!
    //! A value only names a slot of the caller's CSpace; the kernel checks what
    //! is in that slot at each invocation.
    use crate::object::{CapData, CapRights, Priorities, VmAttributes};
    use crate::{CPtr, Error, Word};

    include!(concat!(env!("OUT_DIR"), "/invocations.rs"));
}
