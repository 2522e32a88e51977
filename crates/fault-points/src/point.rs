//! All fault points.

/// Whose code a point lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The runtime, which every protection domain has.
    Runtime,
    /// What applications share: they have a frame channel, and perhaps a virtual function.
    Application,
    /// The driver of a virtual function, which the network server and applications have.
    Function,
    /// The server of this name.
    Server(&'static str),
}

macro_rules! points {
    ($(
        $part:expr => {
            $($point:ident = $name:literal: $before:literal | $after:literal;)*
        }
    )*) => {
        /// A place between two steps that must go together.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Point {
            $($(#[doc = concat!("After ", $before, ", before ", $after, ".")] $point,)*)*
        }

        impl Point {
            /// All points.
            pub const ALL: &[Self] = &[$($(Self::$point,)*)*];

            /// Whose code it lies in.
            pub const fn part(self) -> Part {
                match self {
                    $($(Self::$point)|* => $part,)*
                }
            }

            /// Its name, which no other point of the same protection domain has.
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Self::$point => $name,)*)*
                }
            }

            /// What has been done there, and what comes next.
            pub const fn sides(self) -> (&'static str, &'static str) {
                match self {
                    $($(Self::$point => ($before, $after),)*)*
                }
            }
        }
    };
}

points! {
    Part::Runtime => {
        RuntimeStarting = "runtime-starting": "the program has been started" | "it looks at anything";
        RuntimeStarted = "runtime-started": "it has initialised itself" | "its interrupts can come again";
        RuntimeReceived = "runtime-received": "a signal or a call was received" | "it is handled";
        RuntimeHandled = "runtime-handled": "a signal or a call was handled" | "the caller gets its answer";
    }
    Part::Function => {
        FunctionStopped = "function-stopped": "its queues have been stopped" | "its rings are emptied";
        FunctionRings = "function-rings": "it knows its rings" | "its queues run";
        FunctionRunning = "function-running": "its queues run" | "it has buffers to receive into";
        TransmitDescribed = "transmit-described": "frames are described in its ring" | "it is told of them";
        TransmitReported = "transmit-reported": "it has reported a frame as sent" | "whose frame it was is told";
        ReceiveTaken = "receive-taken": "a received frame was taken out of its ring" | "somebody looks at it";
        ReceiveReleased = "receive-released": "a received frame was dealt with" | "its buffer is in the ring again";
        ReceivePosted = "receive-posted": "empty buffers are in its ring" | "it is told of them";
    }
    Part::Server("netserver") => {
        NetserverCardTakenOver = "card-taken-over": "the function is at rest" | "the channels are opened";
        NetserverChannelOpened = "channel-opened": "one channel was opened" | "the next one is";
        NetserverChannelsTold = "channels-told": "the applications know of their channels" | "the port map knows that nobody is cut off";
        NetserverCardEmptied = "card-emptied": "frames that were never sent were given back" | "the function is started";
        NetserverCardStarted = "card-started": "the function runs" | "it is watched";
        NetserverInterruptAcknowledged = "interrupt-acknowledged": "an interrupt can come again" | "the function is looked at";
        NetserverEpochClosed = "epoch-closed": "a channel's last epoch is over" | "its indices are cleared";
        NetserverEpochEmptied = "epoch-emptied": "a channel's indices are cleared" | "the next epoch is offered";
        NetserverEpochMarked = "epoch-marked": "an epoch is marked as joined" | "it is looked whether the application is still in it";
        NetserverReceiveDecided = "receive-decided": "it is decided who gets a frame" | "it is copied";
        NetserverReceiveCopied = "receive-copied": "a frame was copied into its slot" | "its descriptor says so";
        NetserverReceiveDelivered = "receive-delivered": "a frame was copied to all its receivers" | "its buffer is free";
        NetserverReceivePublished = "receive-published": "an application sees its frames" | "it sees which of its own are sent";
        NetserverRoundReceived = "round-received": "frames were received" | "frames are sent";
        NetserverRoundPublished = "round-published": "the applications see what was done" | "buffers go back to the network card";
        NetserverNotifyDue = "notify-due": "an application sees what was done for it" | "it is notified";
        NetserverSleepAnnounced = "sleep-announced": "applications are told that the server sleeps" | "it looks once more for work";
        NetserverAnswerComposed = "answer-composed": "an answer is written" | "the network card gets it";
        NetserverSendCopied = "send-copied": "a frame's headers were copied" | "they are verified";
        NetserverSendVerified = "send-verified": "a frame was verified" | "the network card gets it";
        NetserverSendQueued = "send-queued": "the network card has a frame" | "it is taken out of the channel";
        NetserverSendReported = "send-reported": "the network card is done with a frame" | "its room in the channel is free";
        NetserverInsideTaken = "inside-taken": "a frame for an application inside was taken out" | "it is copied to its receivers";
        NetserverInsideCopied = "inside-copied": "a frame was copied to its receivers inside" | "its room in the channel is free";
    }
    Part::Server("timer") => {
        TimerStartSignalled = "start-signalled": "one client knows that its timeout is lost" | "the next one does";
        TimerSet = "timeout-set": "a timeout is noted" | "the device is armed for it";
        TimerTakenOut = "timeout-taken-out": "a timeout that has passed was taken out" | "its client is signalled";
        TimerSignalled = "client-signalled": "a client was signalled" | "the device is armed for the next";
        TimerNoted = "deadline-noted": "a deadline counts as armed" | "the device is armed for it";
        TimerWatched = "watch-armed": "the second interrupt is armed" | "the first one is";
        TimerAcknowledged = "interrupt-acknowledged": "the interrupt can come again" | "the time is looked at";
    }
    Part::Server("portmap") => {
        PortmapBegun = "request-begun": "a request is noted" | "it is carried out";
        PortmapRequestWritten = "request-written": "the words of a record are written" | "the record counts";
        PortmapCarriedOut = "request-carried-out": "a request was carried out" | "that is noted";
        PortmapHoldEnded = "hold-ended": "a port is not held any more" | "it is bound";
        PortmapBound = "port-bound": "a port was bound for one version of IP" | "it is for the next";
        PortmapFreed = "port-freed": "a port has no owner" | "its hold is forgotten";
        PortmapOneReturned = "port-returned": "one port of somebody who is gone was taken back" | "the next one is";
        PortmapLifeEnded = "life-ended": "all ports of an ended life were taken back" | "the life counts as ended";
        PortmapHeld = "port-held": "a port is held" | "its owner's last hold is noted";
        PortmapShared = "address-shared": "addresses by DHCP were given or taken" | "the end of the lease is noted";
        PortmapAnswered = "request-answered": "an answer is decided" | "others are told what has changed";
        PortmapServerTold = "server-told": "the network server knows of a change" | "the applications do";
    }
    Part::Server("pcie") => {
        PcieFunctionPlaced = "function-placed": "the physical function is in its place" | "the virtual ones are";
        PcieFunctionsSetUp = "functions-set-up": "the virtual functions are set up" | "the physical one may make requests";
        PcieOwnerTold = "owner-told": "the owner of the physical function knows that it can start" | "a predecessor's grants are taken over";
        PcieGrantIoSpace = "grant-io-space": "the IO space of a function was made" | "it is given away";
        PcieGrantCopied = "grant-copied": "one capability of a function was given away" | "the next one is";
        PcieGrantInterrupt = "grant-interrupt": "one interrupt leads to the new holder" | "the next one does";
        PcieWithdrawBusMaster = "withdraw-bus-master": "a function may make no more requests" | "its IO space is taken back";
        PcieWithdrawRevoked = "withdraw-revoked": "the holder's IO space was taken back" | "its original is deleted";
        PcieWithdrawInterrupt = "withdraw-interrupt": "an interrupt leads nowhere" | "its handler is taken back";
        PcieWithdrawRegisters = "withdraw-registers": "the registers were taken back" | "the function counts as free";
        PcieCoverUnmapped = "cover-unmapped": "there is nothing where registers were" | "a page stands in for them";
        PcieOrderCarriedOut = "order-carried-out": "an order was carried out" | "it is answered";
        PcieOrderAnswered = "order-answered": "orders were answered" | "the director is notified";
    }
    Part::Server("igb-pf") => {
        IgbPfTakenOver = "taken-over": "the device was taken over or is to be reset" | "it is looked at";
        IgbPfUserDue = "user-due": "a virtual function works" | "its user is notified";
        IgbPfEnableNoted = "enable-noted": "a function is to work" | "it accepts frames";
        IgbPfEnableChecked = "enable-checked": "what a function sends is checked" | "it works";
        IgbPfAddressHalf = "address-half": "one half of an address filter is written" | "the other one is";
        IgbPfChecksLifted = "checks-lifted": "a check of source addresses was lifted" | "an address goes elsewhere";
        IgbPfRouted = "routed": "an address goes elsewhere" | "source addresses are checked again";
        IgbPfScrubAddresses = "scrub-addresses": "no address goes to a function any more" | "it is switched off";
        IgbPfScrubStopped = "scrub-stopped": "a function's queues have stopped" | "what its holder left in them is cleared";
        IgbPfScrubQueues = "scrub-queues": "a function's queues are cleared" | "its interrupts are";
        IgbPfOrderCarriedOut = "order-carried-out": "an order was carried out" | "it is answered";
        IgbPfOrdersAnswered = "orders-answered": "orders were answered" | "the director is notified";
    }
    Part::Server("director") => {
        DirectorWishTaken = "wish-taken": "a wish was looked at" | "anything is done about it";
        DirectorStepShown = "step-shown": "the board shows a step" | "it is ordered";
        DirectorGrantOrdered = "grant-ordered": "a grant is ordered on the board" | "pcie is notified";
        DirectorRouteOrdered = "route-ordered": "a route is ordered on the board" | "the owner of the physical function is notified";
        DirectorStageOrdered = "stage-ordered": "a stage is ordered on the board" | "the application is notified";
        DirectorDirectMarked = "direct-marked": "the board says who is direct" | "the switch is shown as done";
        DirectorRested = "rested": "an application is at rest" | "the board shows it";
        DirectorPolled = "polled": "all was done that can be done" | "the timer is set for the next";
    }
    Part::Server("console") => {
        ConsoleLogTaken = "log-taken": "bytes were taken from a log" | "they are among the output";
        ConsoleLogWritten = "log-written": "bytes of a log are written behind the output" | "they count, and are read";
        ConsoleReportWritten = "report-written": "a crash report is written behind the output" | "it counts, as told";
        ConsoleLifeWritten = "life-written": "a restart is written behind the output" | "it counts, as told";
        ConsoleCommitted = "committed": "text and what it is about are noted" | "both count";
        ConsoleMarkKept = "mark-kept": "what a text is about counts as told" | "the text counts";
        ConsoleLineGiven = "line-given": "the line has taken bytes" | "they are taken off the output";
        ConsoleLineNoted = "line-noted": "bytes are taken off the output" | "they count for the pace";
        ConsoleReportCounted = "report-counted": "a crash report counts as printed" | "it is";
        ConsoleLifeNoted = "life-noted": "a restart counts as told" | "it is";
        ConsoleFaultsNoted = "faults-noted": "faults and restarts were noticed" | "others are told of them";
        ConsoleWishWritten = "wish-written": "a wish is written" | "the director is to be notified";
        ConsoleWishDue = "wish-due": "it is known whom a wish concerns" | "they are notified";
    }
    Part::Server("dhcp") => {
        DhcpPolled = "polled": "the client has decided what to do" | "it is done";
        DhcpLeaseTold = "lease-told": "the port map knows of a lease" | "people do";
        DhcpLeaseForgotten = "lease-forgotten": "a lease is lost" | "the port map knows";
        DhcpFrameBuilt = "frame-built": "a frame is written" | "it is handed in";
        DhcpServerDue = "server-due": "the network server sees frames" | "it is notified";
    }
    Part::Application => {
        ApplicationEpochPrepared = "epoch-prepared": "the start of an epoch is written" | "it is joined";
        ApplicationEpochJoined = "epoch-joined": "an epoch was joined" | "the network server is notified";
        ApplicationFrameFilled = "frame-filled": "a frame is written" | "it is described in the ring";
        ApplicationFrameDescribed = "frame-described": "a frame is described in the ring" | "it counts";
        ApplicationFramesPublished = "frames-published": "the network server sees frames" | "it sees which slots are free";
        ApplicationReceiveCopied = "receive-copied": "a frame was copied out of its slot" | "the slot is free";
        ApplicationSleepAnnounced = "sleep-announced": "the network server is told that the application sleeps" | "it looks once more for work";
        ApplicationPortsAnswered = "ports-answered": "the port map has answered" | "the answer is looked at";
        ApplicationFunctionMapped = "function-mapped": "some memory for a function is mapped" | "more of it is";
        ApplicationFunctionStarted = "function-started": "a granted function runs" | "frames go through it";
        ApplicationStageAnswered = "stage-answered": "an order of the director was answered" | "the director is notified";
    }
}

/// Servers that use nothing of what applications share.
const SERVERS: [&str; 7] = [
    "timer",
    "pcie",
    "igb-pf",
    "portmap",
    "director",
    "console",
    "netserver",
];

impl Point {
    /// The points that the protection domain called `domain` has. Who is called like no server is
    /// taken for an application.
    pub fn of(domain: &str) -> impl Iterator<Item = Self> + '_ {
        Self::ALL
            .iter()
            .copied()
            .filter(move |point| match point.part() {
                Part::Runtime => true,
                Part::Application => !SERVERS.contains(&domain),
                Part::Function => domain == "netserver" || !SERVERS.contains(&domain),
                Part::Server(server) => server == domain,
            })
    }

    /// The point of this name of the protection domain called `domain`.
    pub fn find(domain: &str, name: &str) -> Option<Self> {
        Self::of(domain).find(|point| point.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::collections::HashSet;
    use std::vec::Vec;

    #[test]
    fn numbers_are_places() {
        for (place, point) in Point::ALL.iter().enumerate() {
            assert_eq!(*point as usize, place);
        }
    }

    #[test]
    fn each_is_found_by_its_name() {
        for point in Point::ALL {
            let domain = match point.part() {
                Part::Runtime | Part::Application | Part::Function => "http",
                Part::Server(server) => server,
            };
            assert_eq!(Point::find(domain, point.name()), Some(*point));
        }
        assert_eq!(Point::find("http", "nowhere"), None);
    }

    #[test]
    fn names_are_words_and_one_domain_has_each_once() {
        for domain in SERVERS.into_iter().chain(["http", "dhcp"]) {
            let mut seen = HashSet::new();
            for point in Point::of(domain) {
                let name = point.name();
                assert!(seen.insert(name), "{domain} has {name} twice");
                let fine = |letter: char| letter.is_ascii_lowercase() || letter == '-';
                assert!(name.chars().all(fine), "{name}");
            }
        }
    }

    #[test]
    fn everybody_has_enough_of_them() {
        for domain in SERVERS.into_iter().chain(["http", "dhcp"]) {
            let points: Vec<Point> = Point::of(domain).collect();
            assert!(points.contains(&Point::RuntimeReceived), "{domain}");
            let least = if domain == "netserver" { 16 } else { 8 };
            assert!(points.len() >= least, "{domain}: {}", points.len());
        }
    }
}
