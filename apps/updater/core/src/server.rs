//! All clients' connections, and the upgrade that is under way.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use segue_http_core::{Action, Stream};
use segue_status::orders::{Operation, Outcome};

use crate::check::{Accepted, check};
use crate::config::{Target, UpgradeTable};
use crate::connection::{Answer, Connection, Limits, Method, Request, State};
use crate::machine::Machine;

/// Where packages are sent to, followed by the name of the protection domain.
const PREFIX: &str = "/upgrade/";

/// The upgrade that is under way.
#[derive(Debug)]
enum Work {
    /// There is none.
    Idle,
    /// A package is being received by a connection.
    Receiving {
        connection: usize,
        target: usize,
        length: usize,
        received: usize,
    },
    /// Init is at work for a connection, if that is still there.
    Ordered {
        connection: Option<usize>,
        target: usize,
        /// What was verified; `None` after a restart, if it was for a predecessor.
        package: Option<Accepted>,
        /// Which of the two places for it.
        place: usize,
        /// Whether the image is installed, and the upgrade itself was ordered.
        is_installed: bool,
    },
}

/// The updater.
pub struct Server {
    table: &'static UpgradeTable,
    limits: Limits,
    /// By the dense index that the library OS gives them.
    connections: Vec<Option<Connection>>,
    work: Work,
    /// What the client at this connection is to be told.
    finished: Option<(usize, Answer)>,
    /// What there is to say on the console.
    remarks: Vec<String>,
}

impl Server {
    /// A server without connections. An order that a predecessor gave, and that was not answered, goes
    /// before all others.
    pub fn new(table: &'static UpgradeTable, limits: Limits, machine: &mut impl Machine) -> Self {
        let work = match machine.outcome() {
            Some(_) => Work::Idle,
            None => Work::Ordered {
                connection: None,
                target: usize::MAX,
                package: None,
                place: 0,
                is_installed: true,
            },
        };
        Self {
            table,
            limits,
            connections: Vec::new(),
            work,
            finished: None,
            remarks: Vec::new(),
        }
    }

    /// A client has connected; `index` must be free.
    pub fn accepted(&mut self, index: usize, now: u64) {
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        self.connections[index] = Some(Connection::new(&self.limits, now));
    }

    /// The stream is gone. What init was told goes on.
    pub fn closed(&mut self, index: usize) {
        if let Some(slot) = self.connections.get_mut(index) {
            *slot = None;
        }
        match &mut self.work {
            Work::Receiving { connection, .. } if *connection == index => self.work = Work::Idle,
            Work::Ordered { connection, .. } if *connection == Some(index) => *connection = None,
            _ => {}
        }
        self.finished
            .take_if(|(connection, _)| *connection == index);
    }

    /// The stream has bytes, room or an end, or its time has come.
    pub fn ready(
        &mut self,
        index: usize,
        stream: &mut impl Stream,
        machine: &mut impl Machine,
        now: u64,
    ) -> Action {
        let slot = self.connections.get_mut(index);
        let Some(mut connection) = slot.and_then(Option::take) else {
            return Action::None;
        };
        let action = self.serve(index, &mut connection, stream, machine, now);
        if action == Action::None {
            self.connections[index] = Some(connection);
        } else {
            self.closed(index);
        }
        action
    }

    /// Looks whether init has answered. The connection that [`Server::ready`] is to be called for.
    pub fn look(&mut self, machine: &mut impl Machine) -> Option<usize> {
        if let Work::Ordered { .. } = self.work
            && let Some(outcome) = machine.outcome()
        {
            self.answered(outcome, machine);
        }
        self.finished.as_ref().map(|(connection, _)| *connection)
    }

    /// Connections whose deadline has passed: call [`Server::ready`] for each.
    pub fn overdue(&self, now: u64) -> Vec<usize> {
        let late = |(index, slot): (usize, &Option<Connection>)| {
            let connection = slot.as_ref()?;
            (now >= connection.deadline).then_some(index)
        };
        self.connections
            .iter()
            .enumerate()
            .filter_map(late)
            .collect()
    }

    /// When a deadline passes next, in microseconds.
    pub fn next_deadline(&self) -> Option<u64> {
        let connections = self.connections.iter().flatten();
        connections.map(|connection| connection.deadline).min()
    }

    /// Something to say on the console, if there is.
    pub fn remark(&mut self) -> Option<String> {
        self.remarks.pop()
    }

    fn serve(
        &mut self,
        index: usize,
        connection: &mut Connection,
        stream: &mut impl Stream,
        machine: &mut impl Machine,
        now: u64,
    ) -> Action {
        loop {
            let is_out = connection.send(stream);
            let late = now >= connection.deadline;
            match connection.state {
                State::Head => match connection.read_head(stream, &self.limits) {
                    Some(Ok(request)) => self.begin(index, connection, &request, machine, now),
                    Some(Err((status, text))) => {
                        let answer = Answer::new(status, text);
                        connection.answer(&answer, u64::MAX, &self.limits, now);
                    }
                    None if stream.at_end() || (late && connection.is_silent()) => {
                        return Action::Close;
                    }
                    None if late => {
                        let answer = Answer::new(408, "The request did not arrive in time.");
                        connection.answer(&answer, u64::MAX, &self.limits, now);
                    }
                    None => return Action::None,
                },
                State::Package { left, until } => {
                    let taken = self.receive(stream, machine);
                    let left = left.saturating_sub(taken);
                    connection.state = State::Package { left, until };
                    if left == 0 {
                        self.complete(index, connection, machine, now);
                    } else if taken > 0 {
                        let stall = now.saturating_add(self.limits.stall_microseconds);
                        connection.deadline = until.min(stall);
                        if now >= until {
                            self.give_up(connection, left, now);
                        }
                    } else if stream.at_end() {
                        return Action::Abort;
                    } else if late {
                        self.give_up(connection, left, now);
                    } else {
                        return Action::None;
                    }
                }
                State::Waiting => {
                    let finished = self.finished.take_if(|(waiting, _)| *waiting == index);
                    if let Some((_, answer)) = finished {
                        connection.answer(&answer, 0, &self.limits, now);
                    } else if late {
                        let answer = Answer::new(
                            504,
                            "init has not answered in time; the console tells what becomes of it.",
                        );
                        self.closed(index);
                        connection.answer(&answer, 0, &self.limits, now);
                    } else {
                        return Action::None;
                    }
                }
                State::Answer { discard } => {
                    // A client that is still sending would not see the answer if it were reset.
                    let mut taken = 0;
                    stream.receive_with(&mut |bytes| {
                        taken = (bytes.len() as u64).min(discard);
                        taken as usize
                    });
                    let discard = discard - taken;
                    connection.state = State::Answer { discard };
                    if is_out && (discard == 0 || stream.at_end() || late) {
                        return Action::Close;
                    }
                    if late {
                        return Action::Abort;
                    }
                    if taken == 0 {
                        return Action::None;
                    }
                }
            }
        }
    }

    /// Decides about a request.
    fn begin(
        &mut self,
        index: usize,
        connection: &mut Connection,
        request: &Request,
        machine: &mut impl Machine,
        now: u64,
    ) {
        let mut answer = match self.target_of(request, machine) {
            Ok((target, length)) => {
                self.work = Work::Receiving {
                    connection: index,
                    target,
                    length,
                    received: 0,
                };
                let until = now.saturating_add(self.limits.package_microseconds);
                let stall = now.saturating_add(self.limits.stall_microseconds);
                connection.state = State::Package {
                    left: length,
                    until,
                };
                connection.deadline = until.min(stall);
                if request.expects_continue {
                    connection.go_on();
                }
                return;
            }
            Err(answer) => answer,
        };
        answer.is_head = request.method == Method::Head;
        // Who waits for a word before the body sends none after this one.
        let discard = match request.expects_continue {
            true => 0,
            false => request.body(),
        };
        connection.answer(&answer, discard, &self.limits, now);
    }

    /// The target of a package that may be sent and its length, or what else the client is told.
    fn target_of(
        &mut self,
        request: &Request,
        machine: &mut impl Machine,
    ) -> Result<(usize, usize), Answer> {
        match request.method {
            Method::Get | Method::Head if request.path == "/upgrade" => {
                return Err(Answer::new(200, self.overview(machine)));
            }
            Method::Get | Method::Head => {
                return Err(Answer::new(
                    404,
                    "There is nothing here. GET /upgrade says what can be upgraded.",
                ));
            }
            Method::Put => {}
            Method::Other => {
                return Err(Answer::new(
                    405,
                    "Send a package with PUT /upgrade/<protection domain>.",
                ));
            }
        }
        let name = request.path.strip_prefix(PREFIX).unwrap_or_default();
        let targets = self.table.targets();
        let found = targets.iter().position(|target| target.name() == name);
        let Some(index) = found.filter(|_| !name.is_empty()) else {
            let names: Vec<&str> = targets.iter().map(Target::name).collect();
            let known = match names.is_empty() {
                true => "nothing can be upgraded in this system".into(),
                false => format!("what can be upgraded is {}", names.join(", ")),
            };
            let text = format!("There is no such protection domain here: {known}.");
            return Err(Answer::new(404, text));
        };
        let Some(length) = request.length else {
            return Err(Answer::new(
                411,
                "Say how long the package is, with Content-Length.",
            ));
        };
        let place = targets[index].place;
        let room =
            segue_upgrade_package::largest_package(place).min(machine.staging().len() as u64);
        if length > room {
            let text = format!(
                "The package has {length} bytes, but there is room for {room}: nothing was done."
            );
            return Err(Answer::new(413, text));
        }
        if length == 0 {
            return Err(Answer::new(403, refusal("there is no package")));
        }
        if !matches!(self.work, Work::Idle) {
            return Err(Answer::new(
                503,
                "Another upgrade is under way: try again later.",
            ));
        }
        // No more than the staging region: it fits.
        Ok((index, length as usize))
    }

    /// What can be upgraded.
    fn overview(&self, machine: &impl Machine) -> String {
        let lines = self
            .table
            .targets()
            .iter()
            .enumerate()
            .map(|(index, target)| {
                format!(
                    "{}: packages with a serial number above {}, for programs of up to {} bytes",
                    target.name(),
                    self.last_serial(index, machine),
                    target.place
                )
            });
        let lines: Vec<String> = lines.collect();
        match lines.is_empty() {
            true => "Nothing can be upgraded in this system.".into(),
            false => lines.join("\n"),
        }
    }

    fn last_serial(&self, target: usize, machine: &impl Machine) -> u64 {
        machine.serial(target).max(self.table.serial)
    }

    /// Writes what has arrived of the package to the staging region; how many bytes.
    fn receive(&mut self, stream: &mut impl Stream, machine: &mut impl Machine) -> usize {
        let Work::Receiving {
            length, received, ..
        } = &mut self.work
        else {
            return 0;
        };
        let before = *received;
        let staging = machine.staging();
        stream.receive_with(&mut |bytes| {
            let taken = bytes.len().min(*length - *received);
            let to = staging.get_mut(*received..*received + taken);
            match (to, bytes.get(..taken)) {
                (Some(to), Some(from)) => to.copy_from_slice(from),
                _ => return 0,
            }
            *received += taken;
            taken
        });
        *received - before
    }

    fn give_up(&mut self, connection: &mut Connection, left: usize, now: u64) {
        self.work = Work::Idle;
        let answer = Answer::new(408, refusal("the package did not arrive in time"));
        connection.answer(&answer, left as u64, &self.limits, now);
    }

    /// The whole package is there.
    fn complete(
        &mut self,
        index: usize,
        connection: &mut Connection,
        machine: &mut impl Machine,
        now: u64,
    ) {
        let Work::Receiving { target, length, .. } = self.work else {
            return;
        };
        self.work = Work::Idle;
        let Some(described) = self.table.targets().get(target) else {
            return;
        };
        let last = self.last_serial(target, machine);
        let package = machine.staging().get(..length).unwrap_or_default();
        match check(package, described, &self.table.public_key, last) {
            Ok(accepted) => {
                // Whatever becomes of it: it is not accepted twice.
                machine.set_serial(target, accepted.serial);
                let [image, _] = described.images;
                machine.order(install(&accepted), described.index, image);
                self.work = Work::Ordered {
                    connection: Some(index),
                    target,
                    package: Some(accepted),
                    place: 0,
                    is_installed: false,
                };
                connection.state = State::Waiting;
                connection.deadline = now.saturating_add(self.limits.answer_microseconds);
            }
            Err(why) => {
                self.remarks.push(format!(
                    "a package for {} was refused: {why}",
                    described.name()
                ));
                let answer = Answer::new(why.status(), refusal(&format!("{why}")));
                connection.answer(&answer, 0, &self.limits, now);
            }
        }
    }

    /// Init has said what became of the last order.
    fn answered(&mut self, outcome: Outcome, machine: &mut impl Machine) {
        let work = core::mem::replace(&mut self.work, Work::Idle);
        let Work::Ordered {
            connection,
            target,
            package: Some(package),
            place,
            is_installed,
        } = work
        else {
            return;
        };
        let Some(described) = self.table.targets().get(target) else {
            return;
        };
        let next = match outcome {
            Outcome::Done if !is_installed => Some((Operation::Upgrade, place)),
            // The last program that was sent runs there.
            Outcome::InUse if place == 0 => Some((install(&package), 1)),
            _ => None,
        };
        if let Some((operation, place)) = next {
            machine.order(operation, described.index, described.images[place]);
            self.work = Work::Ordered {
                connection,
                target,
                package: Some(package),
                place,
                is_installed: operation == Operation::Upgrade,
            };
            return;
        }
        let name = described.name();
        let (label, serial) = (&package.label, package.serial);
        let answer = match outcome {
            Outcome::Done => Answer::new(
                200,
                format!("{name} was upgraded to {label} (serial number {serial})."),
            ),
            outcome if outcome.is_rolled_back() => Answer::new(
                409,
                format!(
                    "{name} was rolled back to what it ran before: {}.",
                    outcome.reason()
                ),
            ),
            Outcome::Busy => Answer::new(503, refusal(outcome.reason())),
            Outcome::Malformed | Outcome::TooLarge => Answer::new(422, refusal(outcome.reason())),
            Outcome::Stopped => Answer::new(
                409,
                format!("{name} is stopped for good: nothing was done."),
            ),
            outcome => Answer::new(500, refusal(outcome.reason())),
        };
        // Whoever operates the machine need not be who has sent it.
        self.remarks.push(answer.text.clone());
        self.finished = connection.map(|connection| (connection, answer));
    }
}

/// The order to install a package.
fn install(package: &Accepted) -> Operation {
    Operation::Install {
        length: package.length,
        hash: package.hash,
    }
}

/// A sentence that says why nothing was done.
fn refusal(why: &str) -> String {
    let mut letters = why.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let text: String = first.into_iter().chain(letters).collect();
    format!("{text}: nothing was done.")
}
