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

#[cfg(test)]
mod tests {
    use super::cap::label::*;

    /// The numbers that a running kernel obeyed (sel4.md, section 2): one
    /// processor, no hardware debugging, no virtual machines.
    #[test]
    fn labels_are_those_of_the_kernel() {
        let expected = [
            (UntypedRetype, 1),
            (TCBWriteRegisters, 3),
            (TCBConfigure, 5),
            (TCBSuspend, 10),
            (TCBBindNotification, 12),
            (TCBUnbindNotification, 13),
            (CNodeRevoke, 14),
            (CNodeMint, 18),
            (CNodeSaveCaller, 22),
            (IRQAckIRQ, 24),
            (DomainSetSet, 27),
            (X86PDPTMap, 28),
            (X86PageDirectoryMap, 30),
            (X86PageTableMap, 33),
            (X86IOPageTableMap, 35),
            (X86PageMap, 37),
            (X86PageMapIO, 40),
            (X86PageGetAddress, 41),
            (X86ASIDControlMakePool, 42),
            (X86ASIDPoolAssign, 43),
            (X86IOPortIn8, 44),
            (X86IOPortOut32, 49),
            (X86IRQIssueIRQHandlerIOAPIC, 50),
            (X86IRQIssueIRQHandlerMSI, 51),
        ];
        for (index, (label, number)) in expected.into_iter().enumerate() {
            assert_eq!(label, number, "entry {index}");
        }
    }

    #[test]
    fn system_calls_are_those_of_the_kernel() {
        use crate::syscall::number::*;
        let calls = [
            CALL,
            REPLY_RECV,
            SEND,
            NB_SEND,
            RECV,
            REPLY,
            YIELD,
            NB_RECV,
            DEBUG_PUT_CHAR,
        ];
        for (index, number) in calls.into_iter().enumerate() {
            assert_eq!(number, -1 - index as i64);
        }
    }
}
