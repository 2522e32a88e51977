//! The protection domain that owns every switch of an application between the network
//! server and a virtual function of its own.
//!
//! It writes orders on the board and reads answers; everybody is told by notification and
//! nobody is waited for. What it knows lies on the board, which outlives it. Never: sees a
//! frame, touches a device, holds a capability to one, calls anybody but the timer.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use segue_director_core::board::{ANSWERS_SIZE, Answers, BOARD_SIZE, Board, Wish};
use segue_director_core::config::{ADDRESS_LEASED, DirectorTable, MAXIMUM_APPLICATIONS};
use segue_director_core::director::{AnswerRegions, Director, Surroundings, Work};
use segue_director_core::machine::Life;
use segue_director_core::policy::Thresholds;
use segue_director_core::report::Report;
use segue_fault_points::{Point, reached};
use segue_portmap_core::{AddressReader, REGION_SIZE};
use segue_shared_memory::Region;
use segue_status::network::{self, Counter, NetworkStatus};
use segue_status::system::{self, SystemStatus};
use segue_timer_client::Timeout;
use sel4_microkit::{
    Channel, ChannelSet, Clock, Handler, Infallible, abi, channel, protection_domain, region,
    region_at, var,
};

/// Bytes of the region that the console writes wishes to.
const WISHES_SIZE: usize = 0x1000;

/// Shortest time that the timer is asked for, in microseconds.
const SHORTEST_WAIT: u64 = 1_000;

struct Program {
    director: Director,
    outside: Outside,
    wishes: Region,
    clock: Clock,
    timeout: Timeout,
}

/// What the director sees and reaches of the system.
struct Outside {
    table: &'static DirectorTable,
    system: Option<SystemStatus>,
    network: Option<NetworkStatus>,
    addresses: Option<AddressReader>,
    pcie: Option<Channel>,
    physical_function: Option<Channel>,
    applications: [Option<Channel>; MAXIMUM_APPLICATIONS],
}

/// A channel that can be notified; `None` if the description has none.
fn notifiable(id: u32) -> Option<Channel> {
    let id = usize::try_from(id).ok().filter(|id| *id < abi::CHANNELS)?;
    Some(Channel::new(id)).filter(|channel| channel.may_notify())
}

/// A region for answers; `None` if the description has none.
fn answers(address: u64) -> Option<Answers> {
    if address == 0 {
        return None;
    }
    Answers::new(region_at!(address, ANSWERS_SIZE as u64))
}

#[protection_domain]
fn init() -> Program {
    let table = var!(director_table: DirectorTable = DirectorTable::EMPTY);
    let Some(board) = Board::new(region!(board, BOARD_SIZE)) else {
        panic!("the region board must have {BOARD_SIZE:#x} bytes");
    };
    let [Some(pcie), Some(physical_function)] = table.answers.map(answers) else {
        panic!("the system description gives this program no regions with answers");
    };
    let mut regions = AnswerRegions {
        pcie,
        physical_function,
        applications: [None; MAXIMUM_APPLICATIONS],
    };
    let mut applications = [None; MAXIMUM_APPLICATIONS];
    for (index, entry) in table.applications().iter().enumerate() {
        regions.applications[index] = answers(entry.answers);
        applications[index] = notifiable(entry.channel);
    }
    let thresholds = Thresholds {
        direct_frames: *var!(policy_direct_frames: u64 = 0),
        server_frames: *var!(policy_server_frames: u64 = 0),
        stay: var!(policy_stay_ms: u64 = 0).saturating_mul(1000),
    };
    let mut outside = Outside {
        table,
        system: SystemStatus::new(region!(system_status, system::REGION_SIZE)),
        network: NetworkStatus::new(region!(network_status, network::REGION_SIZE)),
        addresses: AddressReader::new(region!(port_table, REGION_SIZE)),
        pcie: notifiable(table.channels[0]),
        physical_function: notifiable(table.channels[1]),
        applications,
    };
    let clock = Clock::new(region!(tsc_frequency));
    log::info!(
        "applications that may have a virtual function: {}",
        table.applications().len()
    );
    let now = clock.now_microseconds();
    let director = Director::new(table, board, regions, thresholds, now, &mut outside);
    let mut program = Program {
        director,
        outside,
        wishes: region!(wishes, WISHES_SIZE),
        clock,
        timeout: Timeout::not_before(channel!(timer_channel), SHORTEST_WAIT),
    };
    // What its predecessor has not come to, and who is to start in direct mode.
    program.update();
    program
}

impl Surroundings for Outside {
    fn life(&self, index: usize) -> Life {
        let place = self.table.entries[index].domain as usize;
        let incarnation = self.system.and_then(|system| system.incarnation(place));
        incarnation.map_or(Life::default(), |incarnation| Life {
            restarts: incarnation.restarts,
            is_running: incarnation.is_running,
        })
    }

    fn mac(&self, index: usize) -> Option<[u8; 6]> {
        let entry = &self.table.entries[index];
        if entry.flags & ADDRESS_LEASED == 0 {
            return Some(entry.mac);
        }
        let addresses = self.addresses?.addresses(entry.owner)?;
        Some(addresses.mac)
    }

    fn server_is_running(&self) -> bool {
        let place = self.table.server_domain as usize;
        let incarnation = self.system.and_then(|system| system.incarnation(place));
        incarnation.is_some_and(|incarnation| incarnation.is_running)
    }

    fn work_at_server(&self, index: usize) -> Work {
        let place = usize::from(self.table.entries[index].owner).checked_sub(1);
        let application = self
            .network
            .zip(place)
            .and_then(|(network, place)| network.application(place));
        application.map_or(Work::default(), |application| {
            let sum = |counters: [Counter; 2]| {
                let counters = counters.map(|counter| application.counter(counter));
                counters[0].saturating_add(counters[1])
            };
            Work {
                frames: sum([Counter::ReceivedFrames, Counter::TransmittedFrames]),
                bytes: sum([Counter::ReceivedBytes, Counter::TransmittedBytes]),
            }
        })
    }

    fn notify_pcie(&mut self) {
        notify(self.pcie);
    }

    fn notify_physical_function(&mut self) {
        notify(self.physical_function);
    }

    fn notify_application(&mut self, index: usize) {
        notify(self.applications[index]);
    }

    fn say(&mut self, index: usize, report: Report) {
        let sentence = report.about(self.table.entries[index].name());
        if report.is_warning() {
            log::warn!("{sentence}");
        } else {
            log::info!("{sentence}");
        }
    }
}

/// Notifies a channel if there is one; else whoever should have been is late.
fn notify(channel: Option<Channel>) {
    if let Some(channel) = channel {
        channel.notify();
    }
}

impl Program {
    /// Looks at everything, and sees to it that time does not pass unnoticed.
    fn update(&mut self) {
        if let Some(wish) = Wish::read(&self.wishes) {
            self.director.wish(wish, &mut self.outside);
            reached(Point::DirectorWishTaken);
        }
        let now = self.clock.now_microseconds();
        self.director.poll(now, &mut self.outside);
        reached(Point::DirectorPolled);
        self.timeout.set(self.director.next_deadline(), &self.clock);
    }
}

impl Handler for Program {
    type Error = Infallible;

    /// There is an answer, a wish, a fault, or time has passed.
    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        self.timeout.notified(channels);
        self.update();
        Ok(())
    }
}
