//! The messages between an application and the port map.
//!
//! A request carries a sequence number. A caller that got no sensible answer
//! (the port map died and its successor answered in its place) sends the same
//! request with the same number again, which is safe: what was done is not done
//! twice.

use crate::table::Protocol;
use core::fmt;

/// The label of a reply that carries no error.
pub const LABEL_DONE: u64 = 0;
const LABEL_BIND: u64 = 1;
const LABEL_BIND_ANY: u64 = 2;
const LABEL_RELEASE: u64 = 3;
const LABEL_RELEASE_ALL: u64 = 4;

/// How often a request is sent before its caller gives up.
const ATTEMPTS: usize = 3;

/// A message: a label and message registers. All registers are always sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What is asked, or [`LABEL_DONE`] or an error.
    pub label: u64,
    /// The message registers.
    pub registers: [u64; 3],
}

/// What an application asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// This port.
    Bind(Protocol, u16),
    /// Any free ephemeral port.
    BindAny(Protocol),
    /// To give this port back.
    Release(Protocol, u16),
    /// To give all its ports back.
    ReleaseAll,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The same for a repeated request, different for the next one.
    pub sequence: u64,
    /// What is asked for.
    pub operation: Operation,
}

/// The answer: the port (or, for [`Operation::ReleaseAll`], the number of
/// ports) or why not.
pub type Answer = Result<u32, PortError>;

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortError {
    /// The port has an owner.
    AddressInUse,
    /// The port is not the caller's.
    NotOwner,
    /// All ephemeral ports have owners.
    NoPortFree,
    /// There is no such port.
    InvalidPort,
    /// The message makes no sense.
    InvalidRequest,
    /// The caller may not own ports.
    NotAllowed,
    /// The port map did not answer.
    NoAnswer,
}

impl fmt::Display for PortError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::AddressInUse => "address in use",
            Self::NotOwner => "the port is not the caller's",
            Self::NoPortFree => "no ephemeral port is free",
            Self::InvalidPort => "port 0 cannot be bound",
            Self::InvalidRequest => "the port map does not understand the request",
            Self::NotAllowed => "the caller may not own ports",
            Self::NoAnswer => "the port map did not answer",
        })
    }
}

impl core::error::Error for PortError {}

impl PortError {
    const ALL: [Self; 7] = [
        Self::AddressInUse,
        Self::NotOwner,
        Self::NoPortFree,
        Self::InvalidPort,
        Self::InvalidRequest,
        Self::NotAllowed,
        Self::NoAnswer,
    ];

    fn label(self) -> u64 {
        1 + self as u64
    }

    fn from_label(label: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|error| error.label() == label)
    }
}

impl Request {
    /// The request as a message: registers are sequence number, protocol, port.
    pub fn encode(&self) -> Message {
        let (label, protocol, port) = match self.operation {
            Operation::Bind(protocol, port) => (LABEL_BIND, protocol.number(), port),
            Operation::BindAny(protocol) => (LABEL_BIND_ANY, protocol.number(), 0),
            Operation::Release(protocol, port) => (LABEL_RELEASE, protocol.number(), port),
            Operation::ReleaseAll => (LABEL_RELEASE_ALL, 0, 0),
        };
        Message {
            label,
            registers: [self.sequence, protocol.into(), port.into()],
        }
    }

    /// The request in a message.
    ///
    /// # Errors
    ///
    /// [`PortError::InvalidRequest`] if there is none.
    pub fn decode(message: &Message) -> Result<Self, PortError> {
        let [sequence, protocol, port] = message.registers;
        let protocol = || {
            u8::try_from(protocol)
                .ok()
                .and_then(Protocol::from_number)
                .ok_or(PortError::InvalidRequest)
        };
        let port = || u16::try_from(port).map_err(|_| PortError::InvalidPort);
        let operation = match message.label {
            LABEL_BIND => Operation::Bind(protocol()?, port()?),
            LABEL_BIND_ANY => Operation::BindAny(protocol()?),
            LABEL_RELEASE => Operation::Release(protocol()?, port()?),
            LABEL_RELEASE_ALL => Operation::ReleaseAll,
            _ => return Err(PortError::InvalidRequest),
        };
        Ok(Self {
            sequence,
            operation,
        })
    }
}

/// An answer as a message: registers are sequence number and value.
pub fn encode_answer(sequence: u64, answer: Answer) -> Message {
    match answer {
        Ok(value) => Message {
            label: LABEL_DONE,
            registers: [sequence, value.into(), 0],
        },
        Err(error) => Message {
            label: error.label(),
            registers: [sequence, 0, 0],
        },
    }
}

/// The answer to the request with this sequence number, if it is one.
pub fn decode_answer(sequence: u64, message: &Message) -> Option<Answer> {
    if message.registers[0] != sequence {
        return None;
    }
    if message.label == LABEL_DONE {
        return u32::try_from(message.registers[1]).ok().map(Ok);
    }
    PortError::from_label(message.label).map(Err)
}

/// The caller's side: one per protection domain, over a function that makes the
/// protected call.
#[derive(Debug)]
pub struct PortClient<C> {
    call: C,
    sequence: u64,
}

impl<C: FnMut(Message) -> Message> PortClient<C> {
    /// A client that calls with `call`.
    pub const fn new(call: C) -> Self {
        Self { call, sequence: 0 }
    }

    /// Asks for this port.
    ///
    /// # Errors
    ///
    /// [`PortError::AddressInUse`] if it has an owner.
    pub fn bind(&mut self, protocol: Protocol, port: u16) -> Result<(), PortError> {
        self.request(Operation::Bind(protocol, port)).map(|_| ())
    }

    /// Asks for any free ephemeral port.
    ///
    /// # Errors
    ///
    /// [`PortError::NoPortFree`].
    pub fn bind_any(&mut self, protocol: Protocol) -> Result<u16, PortError> {
        let port = self.request(Operation::BindAny(protocol))?;
        u16::try_from(port).map_err(|_| PortError::NoAnswer)
    }

    /// Gives a port back.
    ///
    /// # Errors
    ///
    /// [`PortError::NotOwner`] if it was not the caller's.
    pub fn release(&mut self, protocol: Protocol, port: u16) -> Result<(), PortError> {
        self.request(Operation::Release(protocol, port)).map(|_| ())
    }

    /// Gives all ports back: what a program does first, in case it had a
    /// predecessor. Returns how many there were.
    ///
    /// # Errors
    ///
    /// [`PortError::NotAllowed`] or [`PortError::NoAnswer`].
    pub fn release_all(&mut self) -> Result<u32, PortError> {
        self.request(Operation::ReleaseAll)
    }

    fn request(&mut self, operation: Operation) -> Answer {
        self.sequence += 1;
        let message = Request {
            sequence: self.sequence,
            operation,
        }
        .encode();
        for _ in 0..ATTEMPTS {
            let reply = (self.call)(message);
            if let Some(answer) = decode_answer(self.sequence, &reply) {
                return answer;
            }
        }
        Err(PortError::NoAnswer)
    }
}
