//! The messages between an application and the port map.
//!
//! A request carries a sequence number. A caller that got no sensible answer
//! (the port map died and its successor answered in its place) sends the same
//! request with the same number again, which is safe: what was done is not done
//! twice, and answered as it would have been.

use crate::table::{Families, Protocol};
use core::fmt;
use segue_frame_channel::config::Addresses;
use zerocopy::{FromBytes, IntoBytes};

/// The label of a reply that carries no error.
pub const LABEL_DONE: u64 = 0;
const LABEL_BIND: u64 = 1;
const LABEL_BIND_ANY: u64 = 2;
const LABEL_RELEASE: u64 = 3;
const LABEL_RELEASE_ALL: u64 = 4;
const LABEL_HOLD: u64 = 5;
const LABEL_ADDRESSES: u64 = 6;
const LABEL_SET_SHARED: u64 = 7;

/// Most message registers of a message.
pub const REGISTERS: usize = 8;

/// Longest time in milliseconds that a port is held; a longer one counts as this.
pub const LONGEST_HOLD: u32 = 120_000;

/// How often a request is sent before its caller gives up.
const ATTEMPTS: usize = 3;

/// A message: a label and message registers. One that is not sent is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What is asked, or [`LABEL_DONE`] or an error.
    pub label: u64,
    /// The message registers.
    pub registers: [u64; REGISTERS],
}

impl Message {
    /// The message that has arrived in `count` registers.
    pub fn read(label: u64, count: usize, register: impl Fn(usize) -> u64) -> Self {
        let mut registers = [0; REGISTERS];
        for (index, value) in registers.iter_mut().enumerate().take(count) {
            *value = register(index);
        }
        Self { label, registers }
    }

    /// The registers that must be sent: all but the zeroes at the end.
    pub fn sent(&self) -> &[u64] {
        let last = self.registers.iter().rposition(|register| *register != 0);
        &self.registers[..last.map_or(0, |last| last + 1)]
    }
}

/// What an application asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// This port, in all of these versions of IP or in none.
    Bind(Protocol, u16, Families),
    /// Any ephemeral port that is free in all of these versions of IP.
    BindAny(Protocol, Families),
    /// To give this port back, in all of these versions of IP or in none.
    Release(Protocol, u16, Families),
    /// To give all its ports back.
    ReleaseAll,
    /// That this port stays its own for so many milliseconds, even if it gives it back
    /// or dies: a connection is in TIME_WAIT. At most [`LONGEST_HOLD`].
    Hold(Protocol, u16, Families, u32),
    /// Which addresses it has.
    Addresses,
    /// That the application's server has this address, or none any more: what its DHCP
    /// client has found out.
    SetShared(Option<SharedAddress>),
}

/// An IPv4 address that a DHCP server has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedAddress {
    /// The address.
    pub address: [u8; 4],
    /// Length of the network prefix in bits.
    pub prefix_length: u8,
    /// The router to other networks, or all zeroes.
    pub gateway: [u8; 4],
    /// For how long, in seconds from now.
    pub seconds: u32,
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
/// ports; 0 for what has no number) or why not. That to [`Operation::Addresses`] is
/// [`AddressAnswer`].
pub type Answer = Result<u32, PortError>;

/// The answer to [`Operation::Addresses`].
pub type AddressAnswer = Result<Addresses, PortError>;

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortError {
    /// The port, or address, has an owner.
    AddressInUse,
    /// The port is not the caller's.
    NotOwner,
    /// All ephemeral ports have owners.
    NoPortFree,
    /// There is no such port.
    InvalidPort,
    /// The message makes no sense.
    InvalidRequest,
    /// The caller may not do this.
    NotAllowed,
    /// The port map did not answer.
    NoAnswer,
    /// There is no address yet, or none is left. The caller is notified when that changes.
    NoAddress,
    /// No host can have such an address.
    InvalidAddress,
}

impl fmt::Display for PortError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::AddressInUse => "address in use",
            Self::NotOwner => "the port is not the caller's",
            Self::NoPortFree => "no ephemeral port is free",
            Self::InvalidPort => "port 0 cannot be bound",
            Self::InvalidRequest => "the port map does not understand the request",
            Self::NotAllowed => "the caller may not do this",
            Self::NoAnswer => "the port map did not answer",
            Self::NoAddress => "no address yet",
            Self::InvalidAddress => "no host can have such an address",
        })
    }
}

impl core::error::Error for PortError {}

impl PortError {
    const ALL: [Self; 9] = [
        Self::AddressInUse,
        Self::NotOwner,
        Self::NoPortFree,
        Self::InvalidPort,
        Self::InvalidRequest,
        Self::NotAllowed,
        Self::NoAnswer,
        Self::NoAddress,
        Self::InvalidAddress,
    ];

    pub(crate) fn label(self) -> u64 {
        1 + self as u64
    }

    pub(crate) fn from_label(label: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|error| error.label() == label)
    }
}

impl Request {
    /// The request as a message. Registers are the sequence number; protocol, port,
    /// families, milliseconds; or address, prefix length, router, seconds.
    pub fn encode(&self) -> Message {
        let ports = |protocol: Protocol, port: u16, families: Families| {
            [
                protocol.number().into(),
                port.into(),
                families.number().into(),
                0,
            ]
        };
        let (label, words) = match self.operation {
            Operation::Bind(protocol, port, families) => {
                (LABEL_BIND, ports(protocol, port, families))
            }
            Operation::BindAny(protocol, families) => {
                (LABEL_BIND_ANY, ports(protocol, 0, families))
            }
            Operation::Release(protocol, port, families) => {
                (LABEL_RELEASE, ports(protocol, port, families))
            }
            Operation::ReleaseAll => (LABEL_RELEASE_ALL, [0; 4]),
            Operation::Hold(protocol, port, families, milliseconds) => {
                let mut words = ports(protocol, port, families);
                words[3] = milliseconds.into();
                (LABEL_HOLD, words)
            }
            Operation::Addresses => (LABEL_ADDRESSES, [0; 4]),
            Operation::SetShared(None) => (LABEL_SET_SHARED, [0; 4]),
            Operation::SetShared(Some(shared)) => {
                let number = |address| u32::from_be_bytes(address).into();
                let words = [
                    number(shared.address),
                    shared.prefix_length.into(),
                    number(shared.gateway),
                    shared.seconds.into(),
                ];
                (LABEL_SET_SHARED, words)
            }
        };
        let [first, second, third, fourth] = words;
        Message {
            label,
            registers: [self.sequence, first, second, third, fourth, 0, 0, 0],
        }
    }

    /// The request in a message.
    ///
    /// # Errors
    ///
    /// [`PortError::InvalidRequest`] if there is none.
    pub fn decode(message: &Message) -> Result<Self, PortError> {
        let [sequence, first, second, third, fourth, ..] = message.registers;
        let byte = |word: u64| u8::try_from(word).map_err(|_| PortError::InvalidRequest);
        let number = |word: u64| u32::try_from(word).map_err(|_| PortError::InvalidRequest);
        let protocol = || Protocol::from_number(byte(first)?).ok_or(PortError::InvalidRequest);
        let port = || u16::try_from(second).map_err(|_| PortError::InvalidPort);
        let families = || Families::from_number(byte(third)?).ok_or(PortError::InvalidRequest);
        let operation = match message.label {
            LABEL_BIND => Operation::Bind(protocol()?, port()?, families()?),
            LABEL_BIND_ANY => Operation::BindAny(protocol()?, families()?),
            LABEL_RELEASE => Operation::Release(protocol()?, port()?, families()?),
            LABEL_RELEASE_ALL => Operation::ReleaseAll,
            LABEL_HOLD => Operation::Hold(protocol()?, port()?, families()?, number(fourth)?),
            LABEL_ADDRESSES => Operation::Addresses,
            LABEL_SET_SHARED if first == 0 => Operation::SetShared(None),
            LABEL_SET_SHARED => Operation::SetShared(Some(SharedAddress {
                address: number(first)?.to_be_bytes(),
                prefix_length: byte(second)?,
                gateway: number(third)?.to_be_bytes(),
                seconds: number(fourth)?,
            })),
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
    let mut registers = [0; REGISTERS];
    registers[0] = sequence;
    let label = match answer {
        Ok(value) => {
            registers[1] = value.into();
            LABEL_DONE
        }
        Err(error) => error.label(),
    };
    Message { label, registers }
}

/// The answer to [`Operation::Addresses`] as a message: registers are the sequence number
/// and the bytes of [`Addresses`].
pub fn encode_addresses(sequence: u64, answer: AddressAnswer) -> Message {
    let mut message = encode_answer(sequence, answer.map(|_| 0));
    if let Ok(addresses) = answer {
        let words = addresses.as_bytes().as_chunks::<8>().0;
        for (register, word) in message.registers[1..].iter_mut().zip(words) {
            *register = u64::from_le_bytes(*word);
        }
    }
    message
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

/// The answer to the [`Operation::Addresses`] with this sequence number, if it is one.
pub fn decode_addresses(sequence: u64, message: &Message) -> Option<AddressAnswer> {
    if message.registers[0] != sequence {
        return None;
    }
    if message.label != LABEL_DONE {
        return PortError::from_label(message.label).map(Err);
    }
    let mut bytes = [0; size_of::<Addresses>()];
    for (word, register) in bytes
        .as_chunks_mut::<8>()
        .0
        .iter_mut()
        .zip(&message.registers[1..])
    {
        *word = register.to_le_bytes();
    }
    Addresses::read_from_bytes(&bytes).ok().map(Ok)
}

// The addresses fill whole registers, and all of them fit.
const _: () =
    assert!(size_of::<Addresses>().is_multiple_of(8) && size_of::<Addresses>() / 8 < REGISTERS);

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

    /// Asks for this port, in all of `families` or in none.
    ///
    /// # Errors
    ///
    /// [`PortError::AddressInUse`] if it has an owner.
    pub fn bind(
        &mut self,
        protocol: Protocol,
        port: u16,
        families: Families,
    ) -> Result<(), PortError> {
        self.request(Operation::Bind(protocol, port, families))
            .map(|_| ())
    }

    /// Asks for any ephemeral port that is free in all of `families`.
    ///
    /// # Errors
    ///
    /// [`PortError::NoPortFree`].
    pub fn bind_any(&mut self, protocol: Protocol, families: Families) -> Result<u16, PortError> {
        let port = self.request(Operation::BindAny(protocol, families))?;
        u16::try_from(port).map_err(|_| PortError::NoAnswer)
    }

    /// Gives a port back, in all of `families` or in none.
    ///
    /// # Errors
    ///
    /// [`PortError::NotOwner`] if it was not the caller's.
    pub fn release(
        &mut self,
        protocol: Protocol,
        port: u16,
        families: Families,
    ) -> Result<(), PortError> {
        self.request(Operation::Release(protocol, port, families))
            .map(|_| ())
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

    /// Says that a connection on this port is in TIME_WAIT for so long: until then the
    /// port is nobody else's, even if this program gives it back or dies.
    ///
    /// # Errors
    ///
    /// [`PortError::NotOwner`] if the port is not the caller's.
    pub fn hold(
        &mut self,
        protocol: Protocol,
        port: u16,
        families: Families,
        milliseconds: u32,
    ) -> Result<(), PortError> {
        self.request(Operation::Hold(protocol, port, families, milliseconds))
            .map(|_| ())
    }

    /// Asks for the caller's addresses.
    ///
    /// # Errors
    ///
    /// [`PortError::NoAddress`] if there are none yet: the caller is notified when it is worth
    /// asking again.
    pub fn addresses(&mut self) -> AddressAnswer {
        self.ask(Operation::Addresses, decode_addresses)
    }

    /// Says which IPv4 address the caller's server has, if any.
    ///
    /// # Errors
    ///
    /// [`PortError::NotAllowed`] if the caller is no DHCP client,
    /// [`PortError::InvalidAddress`], or [`PortError::AddressInUse`].
    pub fn set_shared_ipv4(&mut self, shared: Option<SharedAddress>) -> Result<(), PortError> {
        self.request(Operation::SetShared(shared)).map(|_| ())
    }

    fn request(&mut self, operation: Operation) -> Answer {
        self.ask(operation, decode_answer)
    }

    fn ask<T>(
        &mut self,
        operation: Operation,
        decode: impl Fn(u64, &Message) -> Option<Result<T, PortError>>,
    ) -> Result<T, PortError> {
        self.sequence += 1;
        let message = Request {
            sequence: self.sequence,
            operation,
        }
        .encode();
        for _ in 0..ATTEMPTS {
            let reply = (self.call)(message);
            if let Some(answer) = decode(self.sequence, &reply) {
                return answer;
            }
        }
        Err(PortError::NoAnswer)
    }
}
