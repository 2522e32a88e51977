//! The protection domain that owns the NIC's physical function.
//!
//! When `pcie` says that the functions are in place it brings the NIC up, follows
//! the link, and enables virtual functions: at the start, and again when their
//! user has reset them. It tells the user of a virtual function when that works.
//! Never: sends or receives a frame.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use segue_igb_driver::filters::FilterTable;
use segue_igb_driver::pf::{Link, Outcome, PhysicalFunction, VIRTUAL_FUNCTIONS};
use segue_pci_driver::config::DeviceTable;
use segue_shared_memory::Region;
use segue_timer_core::protocol;
use sel4_microkit::{
    Channel, ChannelSet, Clock, Handler, IrqAckError, MessageInfo, channel, protection_domain,
    region, set_mr, var,
};

struct IgbPf {
    function: PhysicalFunction<Region>,
    /// Whether `pcie` has placed the registers: before, they must not be touched.
    placed: bool,
    failed: bool,
    clock: Clock,
    pcie: Channel,
    timer: Channel,
    interrupt: Channel,
    users: [Option<Channel>; VIRTUAL_FUNCTIONS],
    resets: [Resets; VIRTUAL_FUNCTIONS],
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
    // The image builder refuses such a system.
    let function = PhysicalFunction::new(region!(nic_registers), addresses, filters, 0)
        .unwrap_or_else(|error| panic!("{error}"));
    IgbPf {
        function,
        placed: false,
        failed: false,
        clock: Clock::new(region!(tsc_frequency, 0x1000)),
        pcie: channel!(pcie_channel),
        timer: channel!(timer_channel),
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
                user.notify();
            }
        }
        self.report_resets(outcome.reset);
        if let Some(wake_at) = outcome.wake_at {
            let pause = wake_at.saturating_sub(self.clock.now_microseconds());
            set_mr(0, pause.saturating_mul(1000));
            let answer = self.timer.pp_call(MessageInfo::new(protocol::SET, 1));
            if answer.is_refused() {
                log::error!(
                    "the timer refused a timeout: changes of the link are noticed by interrupt only"
                );
            }
        }
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
        self.placed |= channels.contains(self.pcie);
        if channels.contains(self.interrupt) {
            self.interrupt.irq_ack()?;
        }
        if self.placed && !self.failed {
            self.poll();
        }
        Ok(())
    }
}
