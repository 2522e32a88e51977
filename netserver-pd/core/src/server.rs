//! The turn of the server, over channels and network card.

mod answers;
mod inside;
mod receiving;
mod sending;

use crate::answer::{Limit, MAXIMUM_ANSWER};
use crate::buffers::Buffers;
use crate::directory::{Applications, Directory};
use crate::early::EarlyFragments;
use crate::fair::RoundRobin;
use crate::fragments::Fragments;
use crate::nic::{Nic, Token};
use crate::report::Reporter;
use crate::shares::Shares;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use segue_director_core::board::Board;
use segue_fault_points::{Point, reached};
use segue_frame_channel::config::{ServerEntry, ServerTable};
use segue_frame_channel::{ProtocolViolation, ServerChannel};
use segue_portmap_core::{AddressReader, PortReader};
use segue_shared_memory::{PrivateRegion, Region};
use segue_status::network::{Application, ChannelState, Counter, NetworkStatus, ServerCounter};

/// Frames received, or sent, before the other direction has its turn.
const BATCH: usize = 64;

/// Rounds before applications learn of what was done for them, even if there
/// is more to do.
const ROUNDS_BEFORE_NOTIFICATION: usize = 8;

/// How long the network card waits for a receive ring, in microseconds.
const LONGEST_PAUSE: u64 = 1_000_000;

/// How long received frames wait for applications that were there when the server started anew, in
/// microseconds: they need a turn to join again, which may come after those of all their equals.
const LONGEST_REUNION: u64 = 500_000;
/// How long others wait for the same: senders of frames to these applications, and what is behind
/// received frames for which there is no room aside.
const LONGEST_HOLD: u64 = 5_000;

/// The regions of one channel, as mapped in the server.
#[derive(Clone, Copy, Debug)]
pub struct ChannelRegions {
    /// Written by the application.
    pub client: Region,
    /// Written by the server.
    pub server: Region,
    /// The transmit pool, with its device address.
    pub pool: Region,
}

/// Frames and bytes, counted in private memory and shown once a round.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    frames: u64,
    bytes: u64,
}

impl Tally {
    #[inline]
    fn count(&mut self, bytes: usize) {
        self.frames = self.frames.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(bytes as u64);
    }
}

/// One application.
#[derive(Debug)]
struct Link {
    received: Tally,
    transmitted: Tally,
    inside: Tally,
    copied_bytes: u64,
    /// Notifications with nothing behind them, since they were last shown.
    idle_notifications: u64,
    name: String,
    channel: ServerChannel<Region>,
    pool_address: u64,
    status: Application,
    was_up: bool,
}

/// The network server but for its network card.
#[derive(Debug)]
pub struct Server {
    directory: Directory,
    /// Says which applications are in direct mode, if the system has that.
    board: Option<Board>,
    links: Vec<Link>,
    status: NetworkStatus,
    headers: Buffers,
    fair: RoundRobin,
    shares: Shares,
    /// Those whose frames stay where they are, since they have had more than their share.
    held: Applications,
    /// When it is looked at again whether they still have to wait, in microseconds.
    held_until: u64,
    /// When the current round has begun, in microseconds.
    now: u64,
    /// When there is something to do without being notified, in microseconds.
    resume_at: Option<u64>,
    fragments: Fragments,
    early: EarlyFragments,
    limit: Limit,
    /// Where frames for applications inside, and answers to them, are made.
    scratch: Vec<u8>,
    reporter: Reporter,
    /// Those that were told the server is awake, and are looked at each round.
    active: Applications,
    /// Those whose channels are up.
    up: Applications,
    /// Those that were part of an epoch of a predecessor and have not joined again yet.
    expected: Applications,
    /// Since when, in microseconds; set in the first round.
    expected_since: Option<u64>,
    /// Whether a frame waits for them, and all behind it, with the network card.
    keeps: bool,
    /// Whether frames wait for them aside.
    has_aside: bool,
    /// Whether these are to be looked at again.
    asks_back: bool,
    /// Those for whom something was done that they do not know of.
    unpublished: Applications,
    /// Those to be notified before the server sleeps.
    unnotified: Applications,
    /// The one for whose receive ring the network card has to wait, as a set.
    awaited: Applications,
    /// Since when the network card has waited for a receive ring, in microseconds.
    awaited_since: Option<u64>,
    /// Wakeups with nothing behind them, since they were last shown, and whose they were.
    idle_wakeups: u64,
    idle: Applications,
    /// Whether somebody was cut off whom nobody has asked about.
    has_cut_off: bool,
    received: Tally,
    transmitted: Tally,
}

impl Server {
    /// Opens a channel to each application of the table, as if nobody had been there: the
    /// regions may hold anything. The network card must not read or write any memory for a
    /// predecessor any more. `regions` finds the
    /// regions of an entry; `headers` is memory that the network card may read,
    /// 256 bytes for each frame it can hold and 32 KiB for the server's answers.
    ///
    /// # Errors
    ///
    /// A sentence, if table and regions do not fit each other.
    pub fn new(
        table: &ServerTable,
        ports: PortReader,
        leases: Option<AddressReader>,
        status: NetworkStatus,
        headers: PrivateRegion,
        mut regions: impl FnMut(&ServerEntry) -> ChannelRegions,
    ) -> Result<Self, String> {
        status.initialise(table.applications().iter().map(|entry| &entry.name));
        let mut links = Vec::with_capacity(table.applications().len());
        for (index, entry) in table.applications().iter().enumerate() {
            let found = regions(entry);
            let channel = ServerChannel::new(
                found.client,
                found.server,
                found.pool,
                entry.transmit_entries,
                entry.receive_entries,
            )
            .map_err(|error| alloc::format!("the frame channel of {}: {error}", entry.name()))?;
            reached(Point::NetserverChannelOpened);
            let status = status
                .application(index)
                .ok_or("the status region holds too few applications")?;
            let name = entry.name().to_string();
            links.push(Link {
                name,
                channel,
                pool_address: entry.pool,
                received: Tally::default(),
                transmitted: Tally::default(),
                inside: Tally::default(),
                copied_bytes: 0,
                idle_notifications: 0,
                status,
                was_up: false,
            });
        }
        let headers = Buffers::new(headers).ok_or("there is no memory for header buffers")?;
        let count = links.len();
        let expected = links
            .iter()
            .enumerate()
            .filter(|(_, link)| link.channel.had_peer())
            .fold(0, |set, (index, _)| set | 1 << index);
        let all = links.iter().fold(0, |set, _| set << 1 | 1);
        Ok(Self {
            directory: Directory::new(table, ports, leases),
            board: None,
            links,
            status,
            headers,
            fair: RoundRobin::new(count),
            shares: Shares::new(count),
            held: 0,
            held_until: 0,
            now: 0,
            resume_at: None,
            fragments: Fragments::new(count),
            early: EarlyFragments::new(),
            limit: Limit::new(count),
            scratch: alloc::vec![0; MAXIMUM_ANSWER],
            reporter: Reporter::new(count),
            active: all,
            up: 0,
            expected,
            expected_since: None,
            keeps: false,
            has_aside: false,
            asks_back: false,
            unpublished: all,
            unnotified: 0,
            awaited: 0,
            awaited_since: None,
            idle_wakeups: 0,
            idle: 0,
            has_cut_off: false,
            received: Tally::default(),
            transmitted: Tally::default(),
        })
    }

    /// From now on looks at this board once a round, to see which applications are in
    /// direct mode. Without one, none is.
    pub fn set_board(&mut self, board: Board) {
        self.board = Some(board);
    }

    /// Whether an application has been cut off since the last call.
    pub fn take_cut_off(&mut self) -> bool {
        core::mem::take(&mut self.has_cut_off)
    }

    /// The application of index `application`.
    pub fn name(&self, application: usize) -> &str {
        self.links.get(application).map_or("?", |link| &link.name)
    }

    /// Whether those who notify the server have nothing for it: then there is nothing to
    /// be done, and the network card need not be looked at. Floods of notifications are made
    /// of this, so it does little; they are shown with what is done next.
    #[inline]
    pub fn is_idle(&mut self, woken: Applications) -> bool {
        for index in members(woken & !self.held) {
            let awaited = self.awaited & 1 << index != 0;
            let link = self.links.get(index);
            if link.is_some_and(|link| link.channel.has_news(awaited)) {
                return false;
            }
        }
        self.idle_wakeups += 1;
        for index in members(woken) {
            if let Some(link) = self.links.get_mut(index) {
                link.idle_notifications += 1;
            }
        }
        self.idle |= woken;
        true
    }

    /// Shows wakeups with nothing behind them.
    fn show_idle(&mut self) {
        let wakeups = core::mem::take(&mut self.idle_wakeups);
        self.status.add(ServerCounter::Wakeups, wakeups);
        for index in members(core::mem::take(&mut self.idle)) {
            if let Some(link) = self.links.get_mut(index) {
                let count = core::mem::take(&mut link.idle_notifications);
                link.status.add(Counter::NotificationsReceived, count);
            }
        }
    }

    /// When the server wants to run again without being notified, in microseconds.
    pub fn resume_at(&self) -> Option<u64> {
        let held_until = (self.held != 0).then_some(self.held_until);
        let since = self.expected_since.unwrap_or(0);
        let kept_until = self.keeps.then(|| hold_until(self.expected_since));
        let aside_until = self.has_aside.then_some(since + LONGEST_REUNION);
        let all = [self.resume_at, held_until, kept_until, aside_until];
        all.into_iter().flatten().min()
    }

    /// Does all there is to do, until nothing is left. `woken` are the
    /// applications that have notified the server; `notify` notifies one;
    /// `clock` tells microseconds.
    pub fn run<N: Nic>(
        &mut self,
        nic: &mut N,
        woken: Applications,
        clock: impl Fn() -> u64,
        mut notify: impl FnMut(usize),
    ) {
        if self.idle_wakeups > 0 {
            self.show_idle();
        }
        self.status.add(ServerCounter::Wakeups, 1);
        nic.mask_interrupt();
        for index in members(woken) {
            if let Some(link) = self.links.get_mut(index) {
                link.status.add(Counter::NotificationsReceived, 1);
                link.channel.wake();
                self.active |= 1 << index;
            }
        }
        let mut rounds = 0;
        loop {
            self.directory.refresh();
            if let Some(board) = &self.board {
                self.directory.set_direct(board.direct());
            }
            self.round(nic, &clock);
            rounds += 1;
            if rounds % ROUNDS_BEFORE_NOTIFICATION == 0 {
                self.notify(&mut notify);
            }
            if !self.may_sleep(nic) {
                continue;
            }
            if self.awaited != 0 || self.keeps {
                // Whoever makes room, or joins, says so; until then there is nothing
                // to be done with a received frame.
                break;
            }
            if !nic.unmask_interrupt(nic.outstanding() > 0) {
                break;
            }
            nic.mask_interrupt();
        }
        self.notify(&mut notify);
    }

    /// Looks at each active channel and at the network card once.
    fn round<N: Nic>(&mut self, nic: &mut N, clock: &impl Fn() -> u64) {
        self.now = clock();
        if self.expected != 0 {
            let since = *self.expected_since.get_or_insert(self.now);
            if self.now >= since + LONGEST_REUNION {
                self.expected = 0;
                self.held = 0;
                self.asks_back = true;
            }
        }
        let before = (self.received.frames, self.transmitted.frames);
        if self.now >= self.held_until {
            self.held = 0;
        }
        for index in members(self.active & !self.held) {
            if let Err(violation) = self.links[index].channel.poll() {
                self.cut_off(index, violation);
            }
            self.note_state(index);
        }
        self.receive(nic, clock);
        reached(Point::NetserverRoundReceived);
        self.send(nic, clock);
        nic.flush();
        self.reclaim(nic);
        let (received, transmitted) = (self.received.frames, self.transmitted.frames);
        self.publish();
        reached(Point::NetserverRoundPublished);
        nic.settle();
        if received != before.0 || transmitted != before.1 {
            self.show_totals();
        }
    }

    /// Tells applications what was done for them, and counts it for all to see.
    fn publish(&mut self) {
        for index in members(core::mem::take(&mut self.unpublished)) {
            let link = &mut self.links[index];
            if link.channel.publish() {
                self.unnotified |= 1 << index;
            }
            let status = &link.status;
            status.set(Counter::ReceivedFrames, link.received.frames);
            status.set(Counter::ReceivedBytes, link.received.bytes);
            status.set(Counter::TransmittedFrames, link.transmitted.frames);
            status.set(Counter::TransmittedBytes, link.transmitted.bytes);
            status.set(Counter::CopiedBytes, link.copied_bytes);
            status.set(Counter::InsideFrames, link.inside.frames);
            status.set(Counter::InsideBytes, link.inside.bytes);
        }
    }

    fn show_totals(&self) {
        let status = &self.status;
        status.set(ServerCounter::ReceivedFrames, self.received.frames);
        status.set(ServerCounter::ReceivedBytes, self.received.bytes);
        status.set(ServerCounter::TransmittedFrames, self.transmitted.frames);
        status.set(ServerCounter::TransmittedBytes, self.transmitted.bytes);
    }

    fn reclaim<N: Nic>(&mut self, nic: &mut N) {
        nic.reclaim(|token| self.complete(token));
    }

    /// Says that the network card will not read this frame again: also for a
    /// card that was stopped before it sent it.
    pub fn complete(&mut self, token: Token) {
        if token.application == answers::SERVER {
            return self.headers.release_answer();
        }
        self.headers.release();
        reached(Point::NetserverSendReported);
        if let Some(link) = self.links.get_mut(usize::from(token.application)) {
            link.channel.complete(token.ticket);
            self.unpublished |= 1 << token.application;
            if !link.channel.is_up() {
                // It may have waited for this to be opened anew.
                self.active |= 1 << token.application;
            }
        }
    }

    /// Tells active applications that the server is about to sleep, and looks
    /// once more whether it may.
    fn may_sleep<N: Nic>(&mut self, nic: &N) -> bool {
        let awaited = |index: usize| self.awaited & 1 << index != 0;
        // To those who are held the server stays awake, so that they do not notify it.
        let looked_at = (self.active | self.awaited) & !self.held;
        for index in members(looked_at) {
            self.links[index].channel.announce_sleep(awaited(index));
        }
        reached(Point::NetserverSleepAnnounced);
        let Some(first) = self.links.first() else {
            return true;
        };
        // One fence for all of them.
        first.channel.fence();
        let mut news = 0;
        let mut backlog = 0;
        for index in members(looked_at) {
            let channel = &self.links[index].channel;
            if channel.has_news(awaited(index)) {
                news |= 1 << index;
            } else if channel.has_backlog() {
                backlog |= 1 << index;
            }
        }
        // What the card has no room for waits until it has.
        let blocked = !nic.has_room() || self.headers.is_full();
        let ready = news | if blocked { 0 } else { backlog };
        for index in members(ready) {
            self.links[index].channel.wake();
        }
        self.active = news | backlog | self.held;
        ready == 0
    }

    fn notify(&mut self, notify: &mut impl FnMut(usize)) {
        for index in members(core::mem::take(&mut self.unnotified)) {
            self.links[index].status.add(Counter::NotificationsSent, 1);
            reached(Point::NetserverNotifyDue);
            notify(index);
        }
    }

    fn note_state(&mut self, index: usize) {
        let link = &mut self.links[index];
        let is_up = link.channel.is_up();
        if is_up != link.was_up {
            link.was_up = is_up;
            self.up = self.up & !(1 << index) | Applications::from(is_up) << index;
            if self.expected & 1 << index != 0 {
                self.expected &= !(1 << index);
                // Whoever has waited for it waits no more.
                self.held = 0;
                self.asks_back = true;
            }
            if is_up {
                link.status.add(Counter::Epochs, 1);
                link.status.set_state(ChannelState::Up);
                log::debug!(
                    "{} has joined its channel, epoch {}",
                    link.name,
                    link.channel.epoch()
                );
            } else if !link.channel.is_cut_off() {
                link.status.set_state(ChannelState::Down);
            }
        }
        // A channel that has been opened anew has something to say.
        if !is_up {
            self.unpublished |= 1 << index;
        }
    }

    fn cut_off(&mut self, index: usize, violation: ProtocolViolation) {
        let link = &mut self.links[index];
        link.channel.cut_off();
        link.status.add(Counter::Violations, 1);
        link.status.set_state(ChannelState::CutOff);
        self.has_cut_off = true;
        self.unpublished |= 1 << index;
        log::error!(
            "{} has broken the protocol of its frame channel and is cut off: {violation}",
            link.name
        );
        self.note_state(index);
    }
}

/// Until when others wait for applications that have not joined again since then, in microseconds.
fn hold_until(expected_since: Option<u64>) -> u64 {
    expected_since.unwrap_or(0) + LONGEST_HOLD
}

/// The indices of the applications in a set.
pub(crate) fn members(mut set: Applications) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        (set != 0).then(|| {
            let index = set.trailing_zeros() as usize;
            set &= set - 1;
            index
        })
    })
}
