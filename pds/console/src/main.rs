//! The protection domain that owns the serial port: everybody's log lines, crash
//! reports made readable, and the operator's commands.
//!
//! Never: waits for the line, or lets one wake-up take more than a bounded
//! number of bytes in or out, since most of the system runs at a lower priority.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use segue_console_core::{Console, Regions};
use segue_log_ring::config::RingTable;
use segue_status::crash::CrashReports;
use segue_status::symbols::Symbols;
use segue_status::system::SystemStatus;
use segue_uart_driver::{Ports, Uart};
use sel4_microkit::{
    Channel, ChannelSet, Handler, IoPort, IrqAckError, channel, io_port, protection_domain, region,
    region_at, var,
};

/// Bits a second on the serial line.
const RATE: u32 = 115_200;

/// Most bytes taken from the line in one wake-up.
const INPUT_LIMIT: usize = 64;

/// Most bytes put on the line in one wake-up.
const OUTPUT_LIMIT: usize = 256;

/// The serial port's registers as IO ports.
struct SerialPorts {
    ports: IoPort,
    first: u16,
}

impl Ports for SerialPorts {
    fn read8(&self, port: u16) -> u8 {
        // The kernel refuses only what the system description does not give:
        // then there is no device, which reads as all ones.
        self.ports.read8(self.first + port).unwrap_or(0xff)
    }

    fn write8(&self, port: u16, value: u8) {
        let _ = self.ports.write8(self.first + port, value);
    }
}

struct SerialConsole {
    uart: Uart<SerialPorts>,
    interrupt: Channel,
    console: Console,
}

#[protection_domain(heap_size = 0x2_0000)]
fn init() -> SerialConsole {
    let first = u16::try_from(*var!(serial_base: u64 = 0x3f8)).unwrap_or(0);
    let ports = SerialPorts {
        ports: io_port!(serial_ports),
        first,
    };
    let uart = match Uart::new(ports, RATE) {
        Ok(uart) => uart,
        Err(error) => panic!("{error}"),
    };
    let table = var!(log_rings: RingTable = RingTable::EMPTY);
    let rings = table.rings().iter().filter(|ring| ring.address != 0);
    let regions = Regions {
        status: SystemStatus::new(region!(system_status)),
        crash_reports: CrashReports::new(region!(crash_reports)),
        symbols: Symbols::new(region!(symbols)),
    };
    let rings = rings.map(|ring| (ring.name(), region_at!(ring.address, ring.length)));
    let mut console = Console::new(rings, regions);
    if regions.symbols.is_none() {
        console.say(format_args!(
            "there are no symbols: backtraces will have numbers only"
        ));
    }
    let mut console = SerialConsole {
        uart,
        interrupt: channel!(serial_irq),
        console,
    };
    console.serve();
    console
}

impl SerialConsole {
    /// Moves bytes both ways, as many as can be moved without waiting and as one
    /// wake-up may.
    fn serve(&mut self) {
        self.uart.acknowledge();
        let mut taken = 0;
        while taken < INPUT_LIMIT
            && let Some(byte) = self.uart.read()
        {
            self.console.key(byte);
            taken += 1;
        }
        let mut put = 0;
        loop {
            self.console.poll();
            let output = self.console.output();
            let count = self.uart.write(output.waiting(OUTPUT_LIMIT));
            output.sent(count);
            put += count;
            if count == 0 || put >= OUTPUT_LIMIT {
                break;
            }
        }
        let waiting = !self.console.output().is_empty();
        self.uart.set_transmit_interrupt(waiting);
        if taken == INPUT_LIMIT || put >= OUTPUT_LIMIT {
            self.uart.interrupt_again();
        }
    }
}

impl Handler for SerialConsole {
    type Error = IrqAckError;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), IrqAckError> {
        if channels.contains(self.interrupt) {
            // Before serving: what happens while it is masked makes no interrupt.
            self.interrupt.irq_ack()?;
        }
        self.serve();
        Ok(())
    }
}
