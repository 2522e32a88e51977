//! The protection domain that owns the NIC's physical function.
//!
//! When `pcie` says that the functions are in place (it is asked at the start) it brings the NIC
//! up, follows the link, and enables virtual functions: at the start, and again when their
//! user has reset them. It tells the user of a virtual function when that works. For the
//! director, if there is one, it enables functions for those they are granted to, and moves
//! the addresses of applications between them and the network server. If it is started anew
//! while the NIC carries traffic, it takes it over as it is, finds in its registers and in the
//! director's orders what its predecessor knew, and tells all users again.
//! Never: sends or receives a frame, or waits for the director.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use segue_director_core::board::{ANSWERS_SIZE, Answers, BOARD_SIZE, Board, Refused};
use segue_director_core::config::RouteTable;
use segue_director_core::route_server::{self, RouteDevice, RouteServer, Settled};
use segue_fault_points::{Point, reached};
use segue_igb_driver::Error;
use segue_igb_driver::filters::FilterTable;
use segue_igb_driver::pf::{Link, Outcome, PhysicalFunction, Record, Route, VIRTUAL_FUNCTIONS};
use segue_pci_driver::config::DeviceTable;
use segue_shared_memory::Region;
use segue_timer_client::Timeout;
use sel4_microkit::{
    Channel, ChannelSet, Clock, Handler, IrqAckError, channel, progress, protection_domain, region,
    region_at, var,
};

struct IgbPf {
    function: PhysicalFunction<Region>,
    /// Whether `pcie` has placed the registers: before, they must not be touched.
    placed: bool,
    failed: bool,
    clock: Clock,
    pcie: Channel,
    timeout: Timeout,
    interrupt: Channel,
    users: [Option<Channel>; VIRTUAL_FUNCTIONS],
    resets: [Resets; VIRTUAL_FUNCTIONS],
    /// Orders of the director, if there is one.
    routes: Option<Routes>,
}

/// Orders of the director.
struct Routes {
    server: RouteServer,
    director: Channel,
    /// Whether there may be one that was not looked at.
    waiting: bool,
}

/// At most one line a second says that a virtual function was reset: its user can
/// reset it as often as it likes.
const RESET_LINE_MICROSECONDS: u64 = 1_000_000;

/// Resets of a virtual function.
#[derive(Clone, Copy, Default)]
struct Resets {
    /// Since the last line about them.
    count: u32,
    /// When the next line may be written, in microseconds.
    next_line: u64,
}

#[protection_domain]
fn init() -> IgbPf {
    let table = var!(pci_devices: DeviceTable = DeviceTable::EMPTY);
    let Some([device, ..]) = table.devices() else {
        panic!("the system description gives this program no PCI device");
    };
    let addresses = core::array::from_fn(|index| device.vf_mac(index));
    let filters = var!(mac_filters: FilterTable = FilterTable::EMPTY).filters();
    let filters = filters.iter().copied().filter(|filter| filter.device == 0);
    let table = var!(routes: RouteTable = RouteTable::EMPTY);
    let routes = Routes::new(table);
    let grantable = match routes {
        // Virtual functions have numbers from 0 to 7.
        Some(_) => table.functions as u8,
        None => 0,
    };
    // The image builder refuses such a system.
    let function = PhysicalFunction::new(region!(nic_registers), addresses, filters, grantable)
        .unwrap_or_else(|error| panic!("{error}"));
    let pcie = channel!(pcie_channel);
    // It may have said so to nobody, or to a predecessor.
    pcie.notify();
    IgbPf {
        function,
        placed: false,
        failed: false,
        clock: Clock::new(region!(tsc_frequency, 0x1000)),
        pcie,
        timeout: Timeout::new(channel!(timer_channel)),
        interrupt: channel!(nic_irq),
        users: [
            *var!(vf0_user: u64 = u64::MAX),
            *var!(vf1_user: u64 = u64::MAX),
            *var!(vf2_user: u64 = u64::MAX),
            *var!(vf3_user: u64 = u64::MAX),
            *var!(vf4_user: u64 = u64::MAX),
            *var!(vf5_user: u64 = u64::MAX),
            *var!(vf6_user: u64 = u64::MAX),
            *var!(vf7_user: u64 = u64::MAX),
        ]
        .map(|id| (id != u64::MAX).then(|| Channel::new(id as usize))),
        resets: [Resets::default(); VIRTUAL_FUNCTIONS],
        routes,
    }
}

impl Routes {
    fn new(table: &RouteTable) -> Option<Self> {
        if table.count == 0 {
            return None;
        }
        let board = Board::new(region_at!(table.board, BOARD_SIZE as u64));
        let answers = Answers::new(region_at!(table.answers, ANSWERS_SIZE as u64));
        Some(Self {
            server: RouteServer::new(table, board?, answers?),
            director: Channel::new(table.channel as usize),
            waiting: true,
        })
    }
}

/// What an order says of its application, in the driver's words.
fn record(record: route_server::Record) -> Record {
    Record {
        mac: record.mac,
        route: match record.settled {
            Settled::No => Route::Unsettled,
            Settled::Home => Route::Home,
            Settled::To(function) => Route::To(function),
        },
        function: record.function,
        works: record.works,
    }
}

/// The NIC, as the director's orders see it.
struct Nic<'a>(&'a mut PhysicalFunction<Region>);

impl RouteDevice for Nic<'_> {
    fn enable(&mut self, function: u8) -> Result<(), Refused> {
        done(self.0.enable(function))
    }

    fn route(&mut self, mac: [u8; 6], function: u8) -> Result<(), Refused> {
        done(self.0.route(mac, function))
    }

    fn scrub(&mut self, function: u8) -> Result<(), Refused> {
        done(self.0.scrub(function))
    }
}

/// What became of an order. There may be more of them, and each can take as long as a queue may take
/// to stop.
fn done(result: Result<(), Error>) -> Result<(), Refused> {
    progress();
    result.map_err(refused)
}

/// The answer to an order that the driver did not carry out; the log says more.
fn refused(error: Error) -> Refused {
    log::warn!("an order of the director is refused: {error}");
    match error {
        Error::TooManyAddresses(_) => Refused::Exhausted,
        Error::FunctionNotGrantable(_)
        | Error::FunctionOff(_)
        | Error::NotOneStation(_)
        | Error::OwnAddress(_) => Refused::Invalid,
        _ => Refused::Device,
    }
}

impl IgbPf {
    fn poll(&mut self) {
        match self.function.poll(self.clock.now_microseconds()) {
            Ok(outcome) => self.report(&outcome),
            Err(error) => {
                log::error!("{error}: the network stays down");
                self.failed = true;
            }
        }
    }

    /// Takes the NIC over from a predecessor, if there was one.
    fn take_over(&mut self) {
        let records = self.routes.iter().flat_map(|it| it.server.records());
        let records = records.map(record);
        match self.function.adopt(self.clock.now_microseconds(), records) {
            Ok(None) => {}
            Ok(Some(0)) => log::info!("the NIC runs already and is taken over as it is"),
            Ok(Some(count)) => log::warn!(
                "the NIC runs already and is taken over; {count} of its registers were not as they should be, and were corrected"
            ),
            // `poll` says the same.
            Err(_) => {}
        }
    }

    /// Carries out what the director has ordered, once the device is set up. When it was given up,
    /// the driver refuses by itself and touches nothing.
    fn serve_director(&mut self) {
        let can_serve = self.failed || self.function.is_running();
        if let Some(routes) = &mut self.routes
            && routes.waiting
            && can_serve
        {
            routes.waiting = false;
            routes.server.serve(&mut Nic(&mut self.function));
            reached(Point::IgbPfOrdersAnswered);
            // In any case: an answer may have been a predecessor's last act.
            routes.director.notify();
        }
    }

    fn report(&mut self, outcome: &Outcome) {
        match outcome.link {
            Some(Link::Up {
                megabits,
                full_duplex,
            }) => {
                let duplex = if full_duplex { "full" } else { "half" };
                log::info!("link up, {megabits} Mbit/s, {duplex} duplex");
            }
            Some(Link::Down) => log::warn!("link down"),
            None => {}
        }
        for (index, user) in self.users.iter().enumerate() {
            if let Some(user) = user
                && outcome.ready >> index & 1 != 0
            {
                reached(Point::IgbPfUserDue);
                user.notify();
            }
        }
        self.report_resets(outcome.reset);
        self.timeout.set(outcome.wake_at, &self.clock);
    }

    fn report_resets(&mut self, functions: u8) {
        if functions == 0 {
            return;
        }
        let now = self.clock.now_microseconds();
        for (index, resets) in self.resets.iter_mut().enumerate() {
            if functions >> index & 1 == 0 {
                continue;
            }
            resets.count += 1;
            if now >= resets.next_line {
                let often = if resets.count == 1 {
                    ""
                } else {
                    ", many times"
                };
                log::info!(
                    "virtual function {index} was reset by its user and is enabled again{often}"
                );
                *resets = Resets {
                    count: 0,
                    next_line: now + RESET_LINE_MICROSECONDS,
                };
            }
        }
    }
}

impl Handler for IgbPf {
    type Error = IrqAckError;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), IrqAckError> {
        self.timeout.notified(channels);
        if channels.contains(self.interrupt) {
            self.interrupt.irq_ack()?;
        }
        if channels.contains(self.pcie) && !self.placed {
            self.placed = true;
            self.take_over();
            reached(Point::IgbPfTakenOver);
        }
        if self.placed && !self.failed {
            self.poll();
        }
        if let Some(routes) = &mut self.routes {
            routes.waiting |= channels.contains(routes.director);
        }
        self.serve_director();
        Ok(())
    }
}
