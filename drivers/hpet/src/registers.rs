//! Registers (IA-PC HPET specification 1.0a, section 2.3).

use tock_registers::register_bitfields;

/// General capabilities and identification.
pub const CAPABILITIES: usize = 0x000;
/// General configuration.
pub const CONFIGURATION: usize = 0x010;
/// General interrupt status.
pub const INTERRUPT_STATUS: usize = 0x020;
/// Main counter.
pub const COUNTER: usize = 0x0f0;

/// Timer `timer`: configuration and capabilities.
pub const fn timer_configuration(timer: usize) -> usize {
    0x100 + 0x20 * timer
}

/// Timer `timer`: comparator.
pub const fn timer_comparator(timer: usize) -> usize {
    0x108 + 0x20 * timer
}

register_bitfields![u64,
    /// General capabilities and identification (section 2.3.4).
    pub Capabilities [
        /// Number of the last timer.
        LAST_TIMER OFFSET(8) NUMBITS(5) [],
        /// Whether the main counter has 64 bits.
        WIDE_COUNTER OFFSET(13) NUMBITS(1) [],
        /// Femtoseconds in a tick, at most 100,000,000.
        PERIOD OFFSET(32) NUMBITS(32) [],
    ],
    /// General configuration (section 2.3.5).
    pub Configuration [
        /// Whether the main counter runs.
        ENABLE OFFSET(0) NUMBITS(1) [],
        /// Whether timers 0 and 1 replace the PIT and the clock.
        LEGACY_REPLACEMENT OFFSET(1) NUMBITS(1) [],
    ],
    /// Timer configuration and capabilities (section 2.3.8).
    pub Timer [
        /// Whether interrupts are level-triggered.
        LEVEL_TRIGGERED OFFSET(1) NUMBITS(1) [],
        /// Whether the timer interrupts.
        INTERRUPT OFFSET(2) NUMBITS(1) [],
        /// Whether it is periodic.
        PERIODIC OFFSET(3) NUMBITS(1) [],
        /// Whether the timer can do 64 bits.
        WIDE OFFSET(5) NUMBITS(1) [],
        /// Whether it is held to 32 bits.
        FORCE_32_BITS OFFSET(8) NUMBITS(1) [],
        /// The IO APIC pin that it interrupts on.
        ROUTE OFFSET(9) NUMBITS(5) [],
        /// Whether it interrupts by a message instead of a pin.
        MESSAGE OFFSET(14) NUMBITS(1) [],
        /// The pins that it can interrupt on, one bit each.
        ROUTES OFFSET(32) NUMBITS(32) [],
    ],
];
