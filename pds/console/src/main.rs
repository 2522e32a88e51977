//! The protection domain that owns the serial port: everybody's log lines, crash
//! reports made readable, and the operator's commands.
//!
//! Never: waits for the line, or lets one wake-up take more than a bounded
//! number of bytes in or out, since most of the system runs at a lower priority.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use segue_console_core::{
    Console, Memory, Pace, Regions, Switching, TICK_MICROSECONDS, Upgrading, WISHES_SIZE,
};
use segue_director_core::board::{BOARD_SIZE, Board};
use segue_director_core::config::DirectorTable;
use segue_fault_points::{Point, reached};
use segue_log_ring::config::{CONSOLE_MEMORY_SIZE, RingTable};
use segue_status::crash::CrashReports;
use segue_status::orders::{self, ImageTable};
use segue_status::symbols::Symbols;
use segue_status::system::SystemStatus;
use segue_timer_client::{Timeout, Trouble};
use segue_uart_driver::{Ports, Uart};
use sel4_microkit::{
    Channel, ChannelSet, Handler, IoPort, IrqAckError, abi, channel, io_port, notify_init,
    protection_domain, region, region_at, var,
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
    /// Without a timer, output is not paced.
    timer: Option<(Channel, Timeout)>,
    pace: Pace,
    /// Whom to tell about faults, since they are reported here.
    portmap: Option<Channel>,
    /// Whom to tell about faults and about what the operator wants.
    director: Option<Channel>,
    status: Option<SystemStatus>,
    /// Faults and restarts of all protection domains that were passed on.
    lives: u32,
}

#[protection_domain(heap_size = 0x2_0000)]
fn init() -> SerialConsole {
    let first = u16::try_from(*var!(serial_base: u64 = 0x3f8)).unwrap_or(0);
    let ports = SerialPorts {
        ports: io_port!(serial_ports),
        first,
    };
    // A predecessor may have died over an interrupt. An edge that comes while it is masked is
    // lost, and there is none after it before the device is served.
    let interrupt = channel!(serial_irq);
    if let Err(error) = interrupt.irq_ack() {
        panic!("{error}");
    }
    let uart = match Uart::new(ports, RATE) {
        Ok(uart) => uart,
        Err(error) => panic!("{error}"),
    };
    let optional = |id: u64| {
        let id = usize::try_from(id).ok();
        id.filter(|id| *id < abi::CHANNELS).map(Channel::new)
    };
    let timer = optional(*var!(timer_channel: u64 = u64::MAX));
    let portmap = optional(*var!(portmap_channel: u64 = u64::MAX));
    let director = optional(*var!(director_channel: u64 = u64::MAX));
    let table = var!(log_rings: RingTable = RingTable::EMPTY);
    let rings = table.rings().iter().filter(|ring| ring.address != 0);
    let regions = Regions {
        status: SystemStatus::new(region!(system_status)),
        crash_reports: CrashReports::new(region!(crash_reports)),
        symbols: Symbols::new(region!(symbols)),
        switching: switching(director),
        upgrading: upgrading(),
        faults: fault_orders(),
    };
    let rings = rings.map(|ring| (ring.name(), region_at!(ring.address, ring.length)));
    // The image builder sets it together with the rings.
    let memory = Memory::new(region_at!(table.memory, CONSOLE_MEMORY_SIZE as u64));
    let memory = memory.unwrap_or_else(|| unreachable!("the region has this size"));
    let mut console = Console::new(memory, rings, regions);
    if regions.symbols.is_none() {
        console.say(format_args!(
            "there are no symbols: backtraces will have numbers only"
        ));
    }
    let pace = Pace::new();
    let mut console = SerialConsole {
        uart,
        interrupt,
        console,
        timer: timer.map(|channel| (channel, Timeout::new(channel))),
        pace,
        portmap,
        director,
        status: regions.status,
        lives: 0,
    };
    // What a predecessor was told and has not passed on.
    console.pass_on_everything();
    console.write();
    console
}

segue_fault_points::if_enabled!({
    /// Where faults can be ordered; `None` in a system without `<fault_injection/>`.
    fn fault_orders() -> Option<segue_console_core::Faults> {
        use segue_fault_points::config::FaultTable;
        use segue_fault_points::{ORDERS_SIZE, PAGE_SIZE};

        let table = var!(faulty_domains: FaultTable = FaultTable::EMPTY);
        if table.orders == 0 {
            return None;
        }
        let domains = table.domains().iter();
        let pages = domains
            .map(|domain| (domain.name(), region_at!(domain.page, PAGE_SIZE as u64)));
        Some(segue_console_core::Faults::new(pages, region_at!(table.orders, ORDERS_SIZE as u64)))
    }
} else {
    /// Nobody was built to fail.
    fn fault_orders() -> Option<segue_console_core::Faults> {
        None
    }
});

/// What there is to be switched; `None` in a system without a director. One that cannot be
/// notified is asked for nothing.
fn switching(director: Option<Channel>) -> Option<Switching> {
    let table = var!(switchable: DirectorTable = DirectorTable::EMPTY);
    let board = *var!(director_board: u64 = 0);
    let wishes = *var!(wishes: u64 = 0);
    if board == 0 {
        return None;
    }
    Some(Switching {
        table,
        board: Board::new(region_at!(board, BOARD_SIZE as u64))?,
        wishes: (director.is_some() && wishes != 0).then(|| region_at!(wishes, WISHES_SIZE as u64)),
    })
}

/// Other images, and where to order them; `None` if nobody has any.
fn upgrading() -> Option<Upgrading> {
    let table = var!(images: ImageTable = ImageTable::EMPTY);
    let orders = *var!(init_orders: u64 = 0);
    if orders == 0 {
        return None;
    }
    Some(Upgrading {
        table,
        orders: region_at!(orders, orders::REGION_SIZE as u64),
        orderer: *var!(init_orderer: u64 = 0) as usize,
    })
}

/// Counts all that has happened to lives: whenever one ends or begins it is another number.
fn lives(status: &SystemStatus) -> u32 {
    status.domains().fold(0, |sum: u32, domain| {
        sum.wrapping_add(domain.faults)
            .wrapping_add(domain.restarts)
    })
}

impl SerialConsole {
    /// Takes what the operator typed, as much as one wake-up may.
    fn read(&mut self) {
        self.uart.acknowledge();
        for _ in 0..INPUT_LIMIT {
            match self.uart.read() {
                Some(byte) => self.console.key(byte),
                None => return,
            }
        }
        self.uart.interrupt_again();
    }

    /// Tells the port map and the director that a protection domain has been stopped, for
    /// whose ports and functions nobody speaks any more.
    fn pass_on_faults(&mut self) {
        let Some(status) = self.status else {
            return;
        };
        if self.portmap.is_none() && self.director.is_none() {
            return;
        }
        let lives = lives(&status);
        if lives != self.lives {
            self.lives = lives;
            reached(Point::ConsoleFaultsNoted);
            self.notify();
        }
    }

    /// Has everybody look who may have been told something by a predecessor, or not any more:
    /// of faults, and of what the operator wants.
    fn pass_on_everything(&mut self) {
        self.lives = self.status.as_ref().map_or(0, lives);
        self.notify();
        notify_init();
    }

    fn notify(&self) {
        for told in [self.portmap, self.director].into_iter().flatten() {
            told.notify();
        }
    }

    /// Tells the director and `init` that the operator wants something of them.
    fn pass_on_wishes(&mut self) {
        let asked = self.console.take_asked();
        reached(Point::ConsoleWishDue);
        if asked.director
            && let Some(director) = self.director
        {
            director.notify();
        }
        if asked.init {
            notify_init();
        }
    }

    /// Collects output and hands it to the line, as much as can be handed over
    /// without waiting, as one wake-up may, and as the pace allows.
    fn write(&mut self) {
        let mut put = 0;
        loop {
            self.console.poll();
            let output = self.console.output();
            let mut limit = OUTPUT_LIMIT - put;
            if self.timer.is_some() {
                limit = limit.min(self.pace.allowed());
            }
            if limit == 0 || output.is_empty() {
                break;
            }
            let count = self.uart.write(output.send(limit));
            reached(Point::ConsoleLineGiven);
            output.sent(count);
            reached(Point::ConsoleLineNoted);
            if count == 0 {
                break;
            }
            self.pace.sent(count);
            put += count;
        }
        if let Some((_, timeout)) = &mut self.timer
            && self.pace.needs_tick()
        {
            // If none comes nobody would ever allow more. It is asked again next time.
            match timeout.set_within(TICK_MICROSECONDS) {
                Ok(true) => {}
                Ok(false) => self.pace = Pace::new(),
                Err(trouble) => {
                    self.pace = Pace::new();
                    self.console.say(format_args!(
                        "{}: output is not paced",
                        match trouble {
                            Trouble::Refused => "the timer refuses",
                            Trouble::Gone => "the timer does not answer",
                        }
                    ));
                }
            }
        }
        let paused = self.timer.is_some() && self.pace.allowed() == 0;
        let waiting = !self.console.output().is_empty();
        self.uart.set_transmit_interrupt(waiting && !paused);
        if put == OUTPUT_LIMIT {
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
            self.read();
        }
        if let Some((channel, timeout)) = &mut self.timer {
            timeout.notified(channels);
            if channels.contains(*channel) {
                self.pace.tick();
            }
        }
        self.pass_on_wishes();
        self.pass_on_faults();
        self.write();
        Ok(())
    }
}
