//! Fault messages.

use crate::constants::*;
use crate::error::LookupFailure;
use crate::ipc_buffer::message_register;
use crate::{MessageInfo, Word};
use core::fmt;

/// Why a thread was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A capability needed for IPC could not be found.
    Capability {
        /// The instruction's address.
        instruction_pointer: Word,
        /// The capability's address.
        address: Word,
        /// Whether the thread was receiving.
        receiving: bool,
        /// What went wrong.
        failure: LookupFailure,
    },
    /// A system call that the kernel does not know.
    UnknownSystemCall {
        /// Address of the `syscall` instruction.
        instruction_pointer: Word,
        /// Its number: rax at the call.
        number: Word,
    },
    /// A processor exception.
    UserException {
        /// The instruction's address.
        instruction_pointer: Word,
        /// The stack pointer.
        stack_pointer: Word,
        /// The flags register.
        flags: Word,
        /// The exception's number: 0 division, 6 invalid opcode, 13 protection.
        number: Word,
        /// The processor's error code.
        code: Word,
    },
    /// A memory access that no mapping allows.
    VirtualMemory {
        /// The instruction's address.
        instruction_pointer: Word,
        /// The address accessed.
        address: Word,
        /// Whether the kernel says it was an instruction fetch (on x86 it never does).
        instruction_fetch: bool,
        /// The processor's page fault error code: bit 0 present, bit 1 write,
        /// bit 2 user, bit 4 instruction fetch.
        code: Word,
    },
    /// Something that this crate does not know.
    Unknown {
        /// The message's label.
        label: Word,
    },
}

impl Fault {
    /// Decodes the fault message that is in the IPC buffer.
    pub fn from_message(information: MessageInfo) -> Self {
        Self::decode(information.label(), |index| {
            message_register(index as usize)
        })
    }

    fn decode(label: Word, word: impl Fn(Word) -> Word) -> Self {
        #[allow(non_upper_case_globals)]
        match label {
            seL4_Fault_CapFault => Self::Capability {
                instruction_pointer: word(seL4_CapFault_IP),
                address: word(seL4_CapFault_Addr),
                receiving: word(seL4_CapFault_InRecvPhase) != 0,
                failure: LookupFailure::decode([
                    word(seL4_CapFault_LookupFailureType),
                    word(seL4_CapFault_BitsLeft),
                    word(seL4_CapFault_GuardMismatch_GuardFound),
                    word(seL4_CapFault_GuardMismatch_BitsFound),
                ]),
            },
            seL4_Fault_UnknownSyscall => Self::UnknownSystemCall {
                instruction_pointer: word(seL4_UnknownSyscall_FaultIP),
                number: word(seL4_UnknownSyscall_RAX),
            },
            seL4_Fault_UserException => Self::UserException {
                instruction_pointer: word(seL4_UserException_FaultIP),
                stack_pointer: word(seL4_UserException_SP),
                flags: word(seL4_UserException_FLAGS),
                number: word(seL4_UserException_Number),
                code: word(seL4_UserException_Code),
            },
            seL4_Fault_VMFault => Self::VirtualMemory {
                instruction_pointer: word(seL4_VMFault_IP),
                address: word(seL4_VMFault_Addr),
                instruction_fetch: word(seL4_VMFault_PrefetchFault) != 0,
                code: word(seL4_VMFault_FSR),
            },
            label => Self::Unknown { label },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capability {
                instruction_pointer,
                address,
                ..
            } => write!(
                formatter,
                "used the capability address {address:#x}, which holds nothing, at {instruction_pointer:#x}"
            ),
            Self::UnknownSystemCall {
                instruction_pointer,
                number,
            } => write!(
                formatter,
                "made system call {number:#x}, which the kernel does not know, at {instruction_pointer:#x}"
            ),
            Self::UserException {
                instruction_pointer,
                number,
                code,
                ..
            } => write!(
                formatter,
                "{} (exception {number}, code {code:#x}) at {instruction_pointer:#x}",
                exception_name(*number)
            ),
            Self::VirtualMemory {
                instruction_pointer,
                address,
                code,
                ..
            } => {
                let access = match code {
                    code if code & 0x10 != 0 => "fetched an instruction from",
                    code if code & 2 != 0 => "wrote to",
                    _ => "read from",
                };
                let why = if code & 1 == 0 {
                    "which is not mapped"
                } else {
                    "which it may not access so"
                };
                write!(
                    formatter,
                    "{access} {address:#x}, {why}, at {instruction_pointer:#x}"
                )
            }
            Self::Unknown { label } => write!(formatter, "unknown fault {label}"),
        }
    }
}

/// What the processor calls an exception (SDM volume 3, table 6-1).
fn exception_name(number: Word) -> &'static str {
    match number {
        0 => "division by zero",
        1 => "debug exception",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid instruction",
        7 => "no floating point unit",
        10..=12 => "segment fault",
        13 => "general protection fault",
        16 | 19 => "floating point exception",
        17 => "unaligned access",
        _ => "processor exception",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::ToString;

    #[test]
    fn faults_are_decoded_and_read_well() {
        // Words as sel4.md, section 2, found them.
        let words = [0x201234, 0xdead_b000, 0, 7];
        let fault = Fault::decode(5, |index| words[index as usize]);
        assert_eq!(
            fault,
            Fault::VirtualMemory {
                instruction_pointer: 0x201234,
                address: 0xdead_b000,
                instruction_fetch: false,
                code: 7
            }
        );
        assert_eq!(
            fault.to_string(),
            "wrote to 0xdeadb000, which it may not access so, at 0x201234"
        );
        let words = [0x201000, 0x7fff_0000, 0x202, 6, 0];
        let fault = Fault::decode(3, |index| words[index as usize]);
        assert_eq!(
            fault.to_string(),
            "invalid instruction (exception 6, code 0x0) at 0x201000"
        );
        assert_eq!(Fault::decode(99, |_| 0), Fault::Unknown { label: 99 });
    }

    #[test]
    fn an_unknown_system_call_names_where() {
        let fault = Fault::decode(2, |index| index + 0x100);
        assert_eq!(
            fault,
            Fault::UnknownSystemCall {
                instruction_pointer: 0x100 + 15,
                number: 0x100
            }
        );
    }
}
