//! Registers (National Semiconductor PC16550D data sheet, section 8).

use tock_registers::register_bitfields;

/// Receiver buffer (read), transmitter holding (write); divisor's low byte
/// while the divisor is selected.
pub const DATA: u16 = 0;
/// Interrupt enable; divisor's high byte while the divisor is selected.
pub const INTERRUPT_ENABLE: u16 = 1;
/// Interrupt identification (read), FIFO control (write).
pub const INTERRUPT_IDENTIFICATION: u16 = 2;
/// FIFO control.
pub const FIFO_CONTROL: u16 = 2;
/// Line control.
pub const LINE_CONTROL: u16 = 3;
/// Modem control.
pub const MODEM_CONTROL: u16 = 4;
/// Line status.
pub const LINE_STATUS: u16 = 5;
/// Modem status.
pub const MODEM_STATUS: u16 = 6;
/// Scratch: keeps what is written.
pub const SCRATCH: u16 = 7;

register_bitfields![u8,
    /// Interrupt enable (section 8.7).
    pub InterruptEnable [
        /// Data were received.
        RECEIVED OFFSET(0) NUMBITS(1) [],
        /// The transmitter can take data.
        TRANSMITTER_EMPTY OFFSET(1) NUMBITS(1) [],
    ],
    /// Interrupt identification (section 8.6).
    pub InterruptIdentification [
        /// Clear while an interrupt is pending.
        NONE_PENDING OFFSET(0) NUMBITS(1) [],
        /// Which.
        CAUSE OFFSET(1) NUMBITS(3) [
            ModemStatus = 0,
            TransmitterEmpty = 1,
            Received = 2,
            LineStatus = 3,
            ReceiveTimeout = 6,
        ],
        /// Both set if the FIFOs work.
        FIFO OFFSET(6) NUMBITS(2) [],
    ],
    /// FIFO control (section 8.5).
    pub FifoControl [
        /// Whether the FIFOs are used.
        ENABLE OFFSET(0) NUMBITS(1) [],
        /// Empties the receiver's.
        CLEAR_RECEIVER OFFSET(1) NUMBITS(1) [],
        /// Empties the transmitter's.
        CLEAR_TRANSMITTER OFFSET(2) NUMBITS(1) [],
        /// How many bytes make an interrupt.
        TRIGGER OFFSET(6) NUMBITS(2) [One = 0, Eight = 2],
    ],
    /// Line control (section 8.3).
    pub LineControl [
        /// Length of a word.
        WORD OFFSET(0) NUMBITS(2) [EightBits = 3],
        /// Selects the divisor in place of data and interrupt enable.
        DIVISOR OFFSET(7) NUMBITS(1) [],
    ],
    /// Modem control (section 8.8).
    pub ModemControl [
        /// Data terminal ready.
        TERMINAL_READY OFFSET(0) NUMBITS(1) [],
        /// Request to send.
        REQUEST_TO_SEND OFFSET(1) NUMBITS(1) [],
        /// On a PC, lets interrupts out.
        OUT2 OFFSET(3) NUMBITS(1) [],
    ],
    /// Line status (section 8.4).
    pub LineStatus [
        /// A byte was received.
        RECEIVED OFFSET(0) NUMBITS(1) [],
        /// The transmitter's FIFO is empty.
        TRANSMITTER_EMPTY OFFSET(5) NUMBITS(1) [],
    ],
];
