//! The port map against a model (`segue_portmap_core::model`), and what needs a story.

use proptest::prelude::*;
use segue_frame_channel::config::Addresses;
use segue_portmap_core::model::{Model, sample};
use segue_portmap_core::protocol::{Message, Operation, Request, decode_answer};
use segue_portmap_core::table::EPHEMERAL_PORTS;
use segue_portmap_core::{
    AddressReader, AddressTable, Changes, Families, Family, HOLDS_SIZE, Life, PortClient,
    PortError, PortReader, PortTable, Protocol, REGION_SIZE, Repairs, Returned, Service,
    SharedAddress, TABLE_SIZE,
};
use segue_shared_memory::Region;
use segue_shared_memory::testing::{leaked_region, with_death_after};
use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering::Relaxed;

const SECOND: u64 = 1_000_000;
/// Where the sample's owners are, by their index.
const OWNERS: usize = 9;
/// The first of the owners with a pool, the DHCP client, who follows it, who is alone.
const POOLED: usize = 3;
const CLIENT: usize = 6;
const FOLLOWER: usize = 7;
const ALONE: usize = 8;

/// The port map and its memory.
struct World {
    tables: Region,
    holds: Region,
    service: Service,
    now: u64,
    sequence: u64,
}

impl World {
    fn new() -> Self {
        let (tables, holds) = (leaked_region(REGION_SIZE), leaked_region(HOLDS_SIZE));
        let mut world = Self {
            tables,
            holds,
            service: service(tables, holds, 5 * SECOND),
            now: 5 * SECOND,
            sequence: 0,
        };
        world.service.take_changes();
        world
    }

    fn restart(&mut self) {
        self.service = service(self.tables, self.holds, self.now);
        assert_eq!(self.service.repairs(), Repairs::default());
        // Everybody is told.
        self.service.take_changes();
    }

    fn message(&mut self, owner: usize, message: &Message) -> Message {
        self.service.handle(channel(owner), message, self.now)
    }

    fn ask(&mut self, owner: usize, operation: Operation) -> Result<u32, PortError> {
        self.sequence += 1;
        let sequence = self.sequence;
        let message = Request {
            sequence,
            operation,
        }
        .encode();
        let reply = self.message(owner, &message);
        decode_answer(sequence, &reply).expect("an answer to this")
    }

    fn addresses(&mut self, owner: usize) -> Result<Addresses, PortError> {
        let (service, now) = (RefCell::new(&mut self.service), self.now);
        PortClient::new(|message| service.borrow_mut().handle(channel(owner), &message, now))
            .addresses()
    }

    fn gone(&mut self, gone: &[usize]) -> Vec<(usize, Returned)> {
        self.note(&std::array::from_fn(|index| Life {
            is_gone: gone.contains(&index),
            restarts: 0,
        }))
    }

    fn note(&mut self, lives: &[Life; OWNERS]) -> Vec<(usize, Returned)> {
        let lives = lives.iter().enumerate();
        let noted = lives.filter_map(|(index, life)| {
            let returned = self.service.note(index, *life, self.now)?;
            Some((index, returned))
        });
        noted.collect()
    }

    fn pass(&mut self, seconds: u64) {
        self.now += seconds * SECOND;
        self.service.expire(self.now);
    }

    fn owner(&self, protocol: Protocol, port: u16) -> [u16; 2] {
        Family::ALL.map(|family| self.service.table().owner(family, protocol, port))
    }
}

fn service(tables: Region, holds: Region, now: u64) -> Service {
    let (owners, pools) = sample();
    Service::new(tables, holds, owners, pools, now).expect("the regions are large enough")
}

fn channel(owner: usize) -> u32 {
    60 - owner as u32
}

fn bytes(region: Region, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xff; length];
    region.read(0, &mut bytes);
    bytes
}

fn protocols() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]
}

fn families() -> impl Strategy<Value = Families> {
    prop_oneof![
        1 => Just(Families::V4),
        1 => Just(Families::V6),
        2 => Just(Families::Both)
    ]
}

/// Few ports, neighbours among them (two share a word), and the ends.
fn ports() -> impl Strategy<Value = u16> {
    prop_oneof![
        1 => Just(0),
        4 => Just(80),
        2 => Just(81),
        1 => Just(49_152),
        1 => Just(49_153),
        1 => Just(65_535)
    ]
}

fn shared() -> impl Strategy<Value = SharedAddress> {
    let addresses = prop_oneof![
        4 => Just([10, 0, 2, 40]),
        4 => Just([10, 0, 2, 41]),
        1 => Just([10, 0, 2, 15]),
        1 => Just([10, 0, 2, 33]),
        1 => Just([127, 0, 0, 1]),
        1 => any::<[u8; 4]>(),
    ];
    let gateways = prop_oneof![4 => Just([10, 0, 2, 2]), 1 => Just([0; 4]), 1 => any::<[u8; 4]>()];
    let lengths = prop_oneof![6 => Just(24), 1 => any::<u8>()];
    let seconds = prop_oneof![8 => 1..100u32, 1 => Just(0), 1 => Just(u32::MAX)];
    (addresses, lengths, gateways, seconds).prop_map(
        |(address, prefix_length, gateway, seconds)| SharedAddress {
            address,
            prefix_length,
            gateway,
            seconds,
        },
    )
}

fn operations() -> impl Strategy<Value = Operation> {
    let key = || (protocols(), ports(), families());
    prop_oneof![
        6 => key().prop_map(|(protocol, port, families)| Operation::Bind(protocol, port, families)),
        3 => (protocols(), families())
            .prop_map(|(protocol, families)| Operation::BindAny(protocol, families)),
        5 => key()
            .prop_map(|(protocol, port, families)| Operation::Release(protocol, port, families)),
        1 => Just(Operation::ReleaseAll),
        5 => (key(), prop_oneof![0..200_000u32, any::<u32>()]).prop_map(
            |((protocol, port, families), time)| Operation::Hold(protocol, port, families, time)
        ),
        4 => Just(Operation::Addresses),
        2 => shared().prop_map(|shared| Operation::SetShared(Some(shared))),
        1 => Just(Operation::SetShared(None)),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    /// An owner asks, once or twice.
    Ask(usize, Operation, bool),
    /// So many microseconds pass.
    Pass(u64),
    /// These owners are gone, the others are there, these in another incarnation.
    Lives([bool; OWNERS], [bool; OWNERS]),
    /// An owner asks; the port map dies after so many stores, its successor after so many others,
    /// and the owner asks again.
    Die(usize, Operation, [u64; 2]),
    /// The port map is started anew.
    Restart,
    /// The timer comes when it was asked to.
    Timer,
}

fn some(share: f64) -> impl Strategy<Value = [bool; OWNERS]> {
    prop::array::uniform9(prop::bool::weighted(share))
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..OWNERS, operations(), any::<bool>())
            .prop_map(|(owner, operation, twice)| Step::Ask(owner, operation, twice)),
        3 => (0..90 * SECOND).prop_map(Step::Pass),
        2 => (some(0.3), some(0.1)).prop_map(|(gone, anew)| Step::Lives(gone, anew)),
        5 => (0..OWNERS, operations(), prop::array::uniform2(0..25u64))
            .prop_map(|(owner, operation, deaths)| Step::Die(owner, operation, deaths)),
        1 => Just(Step::Restart),
        1 => Just(Step::Timer),
    ]
}

fn model_note(model: &mut Model, lives: &[Life; OWNERS], now: u64) -> Vec<(usize, Returned)> {
    let lives = lives.iter().enumerate();
    let noted = lives.filter_map(|(index, life)| Some((index, model.noted(index, *life, now)?)));
    noted.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_tables_are_what_the_model_says(steps in prop::collection::vec(steps(), 1..120)) {
        let mut world = World::new();
        let (owners, pools) = sample();
        let mut model = Model::new(owners, pools);
        let mut lives = [Life::default(); OWNERS];
        for step in steps {
            match step {
                Step::Ask(owner, operation, twice) => {
                    world.sequence += 1;
                    let request = Request { sequence: world.sequence, operation };
                    let message = request.encode();
                    // No address at all is the same as none.
                    if !matches!(operation, Operation::SetShared(Some(shared)) if shared.address == [0; 4]) {
                        prop_assert_eq!(Request::decode(&message), Ok(request));
                    }
                    for _ in 0..=usize::from(twice) {
                        let reply = world.message(owner, &message);
                        model.answered(channel(owner), &message, &reply, world.now);
                    }
                }
                Step::Die(owner, operation, [first, second]) => {
                    world.sequence += 1;
                    let message = Request { sequence: world.sequence, operation }.encode();
                    with_death_after(first, || world.message(owner, &message));
                    let World { tables, holds, now, .. } = world;
                    with_death_after(second, || {
                        let mut service = service(tables, holds, now);
                        for (index, life) in lives.iter().enumerate() {
                            service.note(index, *life, now);
                        }
                        service.handle(channel(owner), &message, now)
                    });
                    world.restart();
                    world.note(&lives);
                    model.restarted();
                    model_note(&mut model, &lives, world.now);
                    let reply = world.message(owner, &message);
                    model.answered(channel(owner), &message, &reply, world.now);
                }
                Step::Pass(time) => world.now += time,
                Step::Lives(gone, anew) => {
                    for (index, life) in lives.iter_mut().enumerate() {
                        life.is_gone = gone[index];
                        life.restarts += u32::from(anew[index]);
                    }
                    prop_assert_eq!(world.note(&lives), model_note(&mut model, &lives, world.now));
                }
                Step::Restart => {
                    world.restart();
                    model.restarted();
                    prop_assert_eq!(world.note(&lives), model_note(&mut model, &lives, world.now));
                }
                Step::Timer => {
                    if let Some(at) = world.service.next_deadline() {
                        world.now = world.now.max(at);
                        world.service.expire(world.now);
                        prop_assert!(world.service.next_deadline().is_none_or(|next| next > world.now));
                    }
                }
            }
            model.compare(world.tables, &mut world.service, world.now);
        }
        // When everybody is gone and time has passed, nothing is left: no port, no member.
        world.gone(&Vec::from_iter(0..OWNERS));
        world.sequence += 1;
        world.pass(200);
        prop_assert!(bytes(world.tables, TABLE_SIZE).iter().all(|byte| *byte == 0));
        let has = |index| world.service.addresses().addresses(1 + index as u16).is_some();
        prop_assert!(!(POOLED..CLIENT).any(has));
        let held = bytes(world.holds, HOLDS_SIZE);
        prop_assert!(held[0x1000..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn any_message_is_answered(
        channel in 0u32..64,
        label in 0u64..9,
        registers in any::<[u64; 8]>(),
        small in any::<[u8; 8]>(),
    ) {
        let mut world = World::new();
        for registers in [registers, small.map(u64::from)] {
            let message = Message { label, registers };
            let reply = world.service.handle(channel, &message, world.now);
            if label != 6 {
                let answer = decode_answer(registers[0], &reply);
                prop_assert!(answer.is_some());
                if !(52..=60).contains(&channel) {
                    prop_assert_eq!(answer, Some(Err(PortError::NotAllowed)));
                }
            }
            prop_assert_eq!(Message::read(label, message.sent().len(), |index| registers[index]), message);
        }
    }
}

#[test]
fn a_full_range_is_said_to_be_full_and_can_be_emptied() {
    let mut world = World::new();
    let any = |protocol| Operation::BindAny(protocol, Families::Both);
    let count = EPHEMERAL_PORTS.count();
    for _ in 0..count {
        world.ask(1, any(Protocol::Udp)).unwrap();
    }
    assert_eq!(world.ask(1, any(Protocol::Udp)), Err(PortError::NoPortFree));
    world.ask(1, any(Protocol::Tcp)).unwrap();
    let all = world.ask(1, Operation::ReleaseAll).unwrap();
    assert_eq!(all as usize, 2 * (count + 1));
    world.ask(0, any(Protocol::Udp)).unwrap();
}

#[test]
fn cycles_leave_both_regions_as_they_were() {
    let mut world = World::new();
    world
        .ask(1, Operation::Bind(Protocol::Tcp, 443, Families::Both))
        .unwrap();
    let before = essence(&world);
    for cycle in 0..=u16::MAX {
        let families = [Families::V4, Families::V6, Families::Both][usize::from(cycle) % 3];
        let protocol = Protocol::ALL[usize::from(cycle / 3) % 2];
        let port = match cycle {
            0 | 443 => world
                .ask(0, Operation::BindAny(protocol, families))
                .unwrap() as u16,
            port => {
                world
                    .ask(0, Operation::Bind(protocol, port, families))
                    .unwrap();
                port
            }
        };
        world
            .ask(0, Operation::Release(protocol, port, families))
            .unwrap();
    }
    assert!(before == essence(&world));
}

#[test]
fn a_port_in_time_wait_stays_with_its_owner_whatever_happens() {
    let bind = Operation::Bind(Protocol::Tcp, 80, Families::Both);
    let release = Operation::Release(Protocol::Tcp, 80, Families::Both);
    let hold = Operation::Hold(Protocol::Tcp, 80, Families::Both, 10_000);
    let mut world = World::new();
    assert_eq!(world.ask(1, hold), Err(PortError::NotOwner));
    world.ask(0, bind).unwrap();
    assert_eq!(
        world.ask(1, hold),
        Err(PortError::NotOwner),
        "not another's"
    );
    world.ask(0, hold).unwrap();
    world.ask(0, release).unwrap();
    assert_eq!(world.owner(Protocol::Tcp, 80), [1, 1]);
    assert_eq!(world.ask(0, release), Err(PortError::NotOwner));
    assert_eq!(world.ask(1, bind), Err(PortError::AddressInUse));
    assert_eq!(world.ask(1, release), Err(PortError::NotOwner));
    // Its owner binds it again at once, also in one family only, and dies.
    let one = Operation::Bind(Protocol::Tcp, 80, Families::V4);
    world.ask(0, one).unwrap();
    assert_eq!(world.ask(0, one), Err(PortError::AddressInUse));
    world.pass(4);
    let one = Returned { free: 0, held: 1 };
    assert_eq!(world.gone(&[0]), [(0, one)]);
    assert_eq!(world.ask(0, bind), Err(PortError::NotAllowed));
    assert_eq!(world.ask(1, bind), Err(PortError::AddressInUse));
    world.restart();
    assert_eq!(world.gone(&[0]), [(0, Returned::default())]);
    assert_eq!(world.ask(1, bind), Err(PortError::AddressInUse));
    assert_eq!(world.service.next_deadline(), Some(15 * SECOND));
    world.pass(5);
    assert_eq!(world.ask(1, bind), Err(PortError::AddressInUse));
    world.pass(1);
    assert_eq!(world.owner(Protocol::Tcp, 80), [0, 0]);
    world.ask(1, bind).unwrap();
    assert_eq!(world.service.next_deadline(), None);
}

#[test]
fn holds_are_bounded() {
    let mut world = World::new();
    world
        .ask(0, Operation::Bind(Protocol::Udp, 9, Families::V6))
        .unwrap();
    world
        .ask(0, Operation::Hold(Protocol::Udp, 9, Families::V6, u32::MAX))
        .unwrap();
    world.gone(&[0]);
    world.pass(119);
    assert_eq!(world.owner(Protocol::Udp, 9), [0, 1]);
    world.pass(1);
    assert_eq!(world.owner(Protocol::Udp, 9), [0, 0]);
}

#[test]
fn all_or_nothing() {
    let mut world = World::new();
    world
        .ask(1, Operation::Bind(Protocol::Tcp, 80, Families::V6))
        .unwrap();
    let both = Operation::Bind(Protocol::Tcp, 80, Families::Both);
    assert_eq!(world.ask(0, both), Err(PortError::AddressInUse));
    assert_eq!(world.owner(Protocol::Tcp, 80), [0, 2]);
    world
        .ask(0, Operation::Bind(Protocol::Tcp, 80, Families::V4))
        .unwrap();
    let both = Operation::Release(Protocol::Tcp, 80, Families::Both);
    for owner in [0, 1] {
        assert_eq!(world.ask(owner, both), Err(PortError::NotOwner));
    }
    assert_eq!(world.owner(Protocol::Tcp, 80), [1, 2]);
}

#[test]
fn a_pool_gives_each_its_own_and_gets_it_back_after_time_wait() {
    let mut world = World::new();
    let first = world.addresses(POOLED).unwrap();
    let second = world.addresses(POOLED + 1).unwrap();
    assert_eq!((first.ipv4, second.ipv4), ([10, 0, 2, 32], [10, 0, 2, 33]));
    assert_eq!((first.ipv6[15], second.mac[5]), (0x20, 1));
    assert_eq!(world.addresses(POOLED + 2), Err(PortError::NoAddress));
    assert_eq!(
        world.addresses(POOLED),
        Ok(first),
        "the same, if asked again"
    );
    let changes = Changes {
        table: true,
        owners: 0,
    };
    assert_eq!(world.service.take_changes(), changes);
    // A connection of the first is in TIME_WAIT for 60 s when it dies.
    let port = Operation::Bind(Protocol::Tcp, 80, Families::Both);
    world.ask(POOLED, port).unwrap();
    assert_eq!(
        world.owner(Protocol::Tcp, 80),
        [0, 0],
        "the table is not asked"
    );
    world
        .ask(
            POOLED,
            Operation::Hold(Protocol::Tcp, 80, Families::Both, 60_000),
        )
        .unwrap();
    world.gone(&[POOLED]);
    world.pass(59);
    assert_eq!(world.addresses(POOLED + 2), Err(PortError::NoAddress));
    // It comes back and keeps its address.
    world.gone(&[]);
    world.pass(10);
    assert_eq!(world.addresses(POOLED), Ok(first));
    world.service.take_changes();
    world
        .ask(
            POOLED,
            Operation::Hold(Protocol::Tcp, 80, Families::V6, 60_000),
        )
        .unwrap();
    world.gone(&[POOLED]);
    // The lease outlives the port map.
    world.restart();
    world.gone(&[POOLED]);
    assert_eq!(world.addresses(POOLED + 2), Err(PortError::NoAddress));
    assert_eq!(world.service.next_deadline(), Some(world.now + 60 * SECOND));
    world.pass(60);
    // Who waits is told.
    let changes = Changes {
        table: true,
        owners: 1 << POOLED | 1 << (POOLED + 2),
    };
    assert_eq!(world.service.take_changes(), changes);
    assert_eq!(world.addresses(POOLED + 2), Ok(first));
    // Without TIME_WAIT it is there at once.
    world.gone(&[POOLED, POOLED + 1]);
    assert_eq!(world.service.addresses().addresses(5), None);
}

#[test]
fn sharers_follow_what_the_dhcp_client_says() {
    let mut world = World::new();
    let lease = SharedAddress {
        address: [10, 0, 2, 40],
        prefix_length: 24,
        gateway: [10, 0, 2, 2],
        seconds: 60,
    };
    assert_eq!(world.addresses(FOLLOWER), Err(PortError::NoAddress));
    for owner in [0, POOLED, FOLLOWER, ALONE] {
        let answer = world.ask(owner, Operation::SetShared(Some(lease)));
        assert_eq!(answer, Err(PortError::NotAllowed));
    }
    let share = |world: &mut World, lease| world.ask(CLIENT, Operation::SetShared(lease));
    share(&mut world, Some(lease)).unwrap();
    let both = 1 << CLIENT | 1 << FOLLOWER;
    let changes = Changes {
        table: true,
        owners: both,
    };
    assert_eq!(world.service.take_changes(), changes);
    let addresses = world.addresses(FOLLOWER).unwrap();
    assert_eq!(
        (addresses.ipv4, addresses.gateway),
        (lease.address, lease.gateway)
    );
    assert_eq!(addresses.mac[5], 1);
    assert_eq!(
        world.addresses(0).unwrap().ipv4,
        [10, 0, 2, 15],
        "others do not"
    );
    // Renewed: nobody need be told.
    world.pass(30);
    share(&mut world, Some(lease)).unwrap();
    assert_eq!(world.service.take_changes(), Changes::default());
    world.pass(59);
    assert!(world.addresses(FOLLOWER).is_ok());
    // What belongs to others, or to nobody, is refused and changes nothing.
    for (address, error) in [
        ([10, 0, 2, 15], PortError::AddressInUse),
        ([10, 0, 2, 17], PortError::AddressInUse),
        ([10, 0, 2, 33], PortError::AddressInUse),
        ([10, 0, 2, 255], PortError::InvalidAddress),
        ([10, 0, 2, 2], PortError::InvalidAddress),
        ([127, 0, 0, 1], PortError::InvalidAddress),
    ] {
        let wrong = SharedAddress { address, ..lease };
        assert_eq!(share(&mut world, Some(wrong)), Err(error));
    }
    // It runs out even if the client is dead.
    world.gone(&[CLIENT]);
    world.restart();
    world.pass(1);
    assert_eq!(world.addresses(FOLLOWER), Err(PortError::NoAddress));
    assert_eq!(world.service.take_changes(), changes);
}

#[test]
fn a_repeated_request_is_safe_across_a_restart_of_the_port_map() {
    let world = RefCell::new(World::new());
    let calls = Cell::new(0);
    for families in [Families::V4, Families::Both] {
        let mut client = PortClient::new(|message| {
            let mut world = world.borrow_mut();
            let reply = world.message(0, &message);
            calls.set(calls.get() + 1);
            if calls.get() % 2 == 0 {
                // The port map has done its work and dies; its successor answers.
                world.restart();
                return Message {
                    label: u64::MAX,
                    ..Message::default()
                };
            }
            reply
        });
        client.release_all().unwrap();
        client.bind(Protocol::Tcp, 80, families).unwrap();
        calls.set(1);
        client.release(Protocol::Tcp, 80, families).unwrap();
        calls.set(0);
        let answer = client.release(Protocol::Tcp, 80, families);
        assert_eq!(answer, Err(PortError::NotOwner));
    }
}

/// What both regions say, but for the last requests and the number of changes.
fn essence(world: &World) -> (Vec<u8>, Vec<Option<Addresses>>, Vec<u8>) {
    let addresses = AddressReader::new(world.tables).unwrap();
    let addresses = (1..=64).map(|owner| addresses.addresses(owner));
    let mut holds = bytes(world.holds, HOLDS_SIZE);
    holds[0x300..0x1000].fill(0);
    (bytes(world.tables, TABLE_SIZE), addresses.collect(), holds)
}

/// Sends a message as a caller does whose port map dies before its `deaths[n]`-th store in life
/// n, and then does not any more: again and again, until it has an answer.
fn insist(world: &mut World, owner: usize, message: &Message, deaths: &[u64]) -> Message {
    let (owners, pools) = sample();
    for stores in deaths {
        let World {
            tables, holds, now, ..
        } = *world;
        let answered = with_death_after(*stores, || {
            // From the second life on it may die while it takes over.
            let mut service = Service::new(tables, holds, owners, pools, now)?;
            Some(service.handle(channel(owner), message, now))
        });
        if let Some(Some(answer)) = answered {
            world.restart();
            return answer;
        }
    }
    world.restart();
    world.message(owner, message)
}

/// What is asked in the next test, one after the other: whose it is, and what.
fn story() -> Vec<(usize, Operation)> {
    let both = Families::Both;
    let lease = SharedAddress {
        address: [10, 0, 2, 40],
        prefix_length: 24,
        gateway: [10, 0, 2, 2],
        seconds: 60,
    };
    let other = SharedAddress {
        address: [10, 0, 2, 41],
        ..lease
    };
    vec![
        (0, Operation::ReleaseAll),
        (0, Operation::Bind(Protocol::Tcp, 80, both)),
        (0, Operation::Bind(Protocol::Tcp, 80, both)),
        (0, Operation::BindAny(Protocol::Udp, both)),
        (0, Operation::BindAny(Protocol::Udp, Families::V6)),
        (1, Operation::Bind(Protocol::Tcp, 80, Families::V4)),
        (0, Operation::Hold(Protocol::Tcp, 80, both, 60_000)),
        (0, Operation::Release(Protocol::Tcp, 80, both)),
        (0, Operation::Bind(Protocol::Tcp, 80, Families::V6)),
        (1, Operation::Release(Protocol::Tcp, 80, both)),
        (CLIENT, Operation::SetShared(Some(lease))),
        (CLIENT, Operation::SetShared(Some(other))),
        (POOLED, Operation::Addresses),
        (POOLED, Operation::Hold(Protocol::Tcp, 80, both, 60_000)),
        (ALONE, Operation::BindAny(Protocol::Tcp, both)),
        (CLIENT, Operation::SetShared(None)),
        (0, Operation::ReleaseAll),
    ]
}

#[test]
fn a_request_is_carried_out_once_wherever_the_port_map_dies() {
    for (length, (owner, operation)) in story().into_iter().enumerate() {
        let before = || {
            let mut world = World::new();
            let requests = story().into_iter().zip(1..);
            let mut messages = requests.map(|((owner, operation), sequence)| {
                let request = Request {
                    sequence,
                    operation,
                };
                (owner, request.encode())
            });
            for (owner, message) in messages.by_ref().take(length) {
                world.message(owner, &message);
            }
            let (_, message) = messages.next().expect("there is this one");
            (world, message)
        };
        let (mut world, message) = before();
        let expected = (world.message(owner, &message), essence(&world));
        // So many stores there are at most, and once more.
        let mut stores = 0;
        loop {
            let (mut world, message) = before();
            let lives = with_death_after(stores, || world.message(owner, &message)).is_some();
            world.restart();
            let answer = world.message(owner, &message);
            // The application alone at its address has no account here.
            if owner != ALONE {
                assert_eq!(
                    (answer, essence(&world)),
                    expected,
                    "{operation:?}, {stores} stores"
                );
            }
            // Asked once more, by a caller that has not heard it either.
            world.restart();
            assert_eq!(world.message(owner, &message), answer);
            if lives {
                break;
            }
            stores += 1;
        }
        // And if the successors die as well, while they take over or later.
        for first in 0..=stores {
            for second in 0..=stores {
                let (mut world, message) = before();
                let answer = insist(&mut world, owner, &message, &[first, second, second / 2]);
                if owner != ALONE {
                    assert_eq!((answer, essence(&world)), expected, "{operation:?}");
                }
            }
        }
    }
}

#[test]
fn a_life_ends_once_wherever_the_port_map_dies() {
    let both = Families::Both;
    let before = || {
        let mut world = World::new();
        world.gone(&[]);
        for port in [80, 81] {
            world
                .ask(0, Operation::Bind(Protocol::Tcp, port, both))
                .unwrap();
        }
        let hold = Operation::Hold(Protocol::Tcp, 81, both, 60_000);
        world.ask(0, hold).unwrap();
        world
    };
    let ended = Life {
        is_gone: false,
        restarts: 1,
    };
    for stores in 0.. {
        let mut world = before();
        let lives = with_death_after(stores, || world.service.note(0, ended, world.now)).is_some();
        world.restart();
        world.service.note(0, ended, world.now);
        assert_eq!(world.owner(Protocol::Tcp, 80), [0, 0]);
        assert_eq!(world.owner(Protocol::Tcp, 81), [1, 1]);
        let other = world.ask(1, Operation::Bind(Protocol::Tcp, 81, both));
        assert_eq!(other, Err(PortError::AddressInUse));
        // The new life's first request has the number of the last one's: it is another one.
        world.sequence = 0;
        world
            .ask(0, Operation::Bind(Protocol::Tcp, 80, both))
            .unwrap();
        assert_eq!(world.owner(Protocol::Tcp, 80), [1, 1]);
        world.pass(61);
        assert_eq!(world.owner(Protocol::Tcp, 81), [0, 0]);
        if lives {
            break;
        }
    }
}

#[test]
fn time_passes_wherever_the_port_map_dies() {
    let lease = SharedAddress {
        address: [10, 0, 2, 40],
        prefix_length: 24,
        gateway: [10, 0, 2, 2],
        seconds: 60,
    };
    let both = Families::Both;
    for stores in 0.. {
        let mut world = World::new();
        world
            .ask(CLIENT, Operation::SetShared(Some(lease)))
            .unwrap();
        for operation in [
            Operation::Bind(Protocol::Tcp, 80, both),
            Operation::Hold(Protocol::Tcp, 80, both, 60_000),
            Operation::Release(Protocol::Tcp, 80, both),
        ] {
            world.ask(0, operation).unwrap();
        }
        world.now += 60 * SECOND;
        let now = world.now;
        let lives = with_death_after(stores, || world.service.expire(now)).is_some();
        world.restart();
        world.pass(0);
        assert_eq!(world.owner(Protocol::Tcp, 80), [0, 0]);
        assert_eq!(world.addresses(FOLLOWER), Err(PortError::NoAddress));
        assert_eq!(world.addresses(CLIENT), Err(PortError::NoAddress));
        assert_eq!(world.service.next_deadline(), None);
        if lives {
            break;
        }
    }
}

#[test]
fn everybody_with_leased_addresses_hears_of_a_new_port_map() {
    let mut world = World::new();
    world.service = service(world.tables, world.holds, world.now);
    let leased = (POOLED..=FOLLOWER).fold(0, |set, index| set | 1 << index);
    let changes = Changes {
        table: true,
        owners: leased,
    };
    assert_eq!(world.service.take_changes(), changes);
    assert_eq!(world.service.take_changes(), Changes::default());
}

#[test]
fn what_makes_no_sense_is_put_right_and_counted() {
    let lease = SharedAddress {
        address: [10, 0, 2, 40],
        prefix_length: 24,
        gateway: [10, 0, 2, 2],
        seconds: 60,
    };
    let both = Families::Both;
    let mut world = World::new();
    world.gone(&[]);
    world
        .ask(0, Operation::Bind(Protocol::Tcp, 80, both))
        .unwrap();
    world
        .ask(CLIENT, Operation::SetShared(Some(lease)))
        .unwrap();
    let member = world.addresses(POOLED).unwrap();
    let mut ports = PortTable::new(world.tables).unwrap();
    // Of nobody, of one who is alone at its address, of one that no table has room for.
    for (port, owner) in [(81, 10), (82, 9), (83, u16::MAX)] {
        ports
            .bind(owner, Families::V4, Protocol::Tcp, port)
            .unwrap();
    }
    // A hold without an end.
    let tcp_80 = 0x1000 + 80 * 4;
    world.holds.store32(tcp_80, u32::MAX / 2, Relaxed);
    let mut addresses = AddressTable::new(world.tables).unwrap();
    // The same member twice; one of no pool; addresses of one whose are stated; of nobody.
    addresses.set(5, Some(&member));
    let nonsense = Addresses {
        ipv4_prefix_length: 200,
        ..member
    };
    for owner in [6, 1, 64] {
        addresses.set(owner, Some(&nonsense));
    }
    // A lease of somebody who is no DHCP client, a last hold at the end of time, an incarnation
    // that is yet to come, a record of nothing.
    for word in [0, 0x100, 0x200] {
        world.holds.store32(word, u32::MAX, Relaxed);
    }
    world.holds.store64(0x300, 0x1234_5678_0000_0001, Relaxed);
    world.service = service(world.tables, world.holds, world.now);
    let repairs = Repairs {
        ports: 4,
        addresses: 4,
        records: 3,
    };
    assert_eq!(world.service.repairs(), repairs);
    assert_eq!(world.gone(&[]), [], "nobody's life has ended");
    for port in 81..84 {
        assert_eq!(world.owner(Protocol::Tcp, port), [0, 0]);
    }
    assert_eq!(world.owner(Protocol::Tcp, 80), [1, 1]);
    assert_eq!(world.addresses(POOLED), Ok(member));
    assert_ne!(world.addresses(POOLED + 1), Ok(member));
    assert_eq!(world.addresses(FOLLOWER).unwrap().ipv4, lease.address);
    world.gone(&[0]);
    world.pass(122);
    assert_eq!(world.owner(Protocol::Tcp, 80), [0, 0]);
    world.restart();
}

#[test]
fn a_shared_address_that_not_all_share_is_nobodys() {
    let lease = SharedAddress {
        address: [10, 0, 2, 40],
        prefix_length: 24,
        gateway: [10, 0, 2, 2],
        seconds: 60,
    };
    for damage in 0..3 {
        let mut world = World::new();
        world
            .ask(CLIENT, Operation::SetShared(Some(lease)))
            .unwrap();
        let mut addresses = AddressTable::new(world.tables).unwrap();
        match damage {
            // One has another one, one has none; or the lease has no end.
            0 => {
                let mut other = addresses.addresses(8).unwrap();
                other.ipv4 = [10, 0, 2, 41];
                addresses.set(8, Some(&other));
            }
            1 => addresses.set(8, None),
            _ => world.holds.store32(0x100 + CLIENT * 4, 0, Relaxed),
        }
        world.service = service(world.tables, world.holds, world.now);
        assert_eq!(world.service.repairs().records, 1, "{damage}");
        for owner in [CLIENT, FOLLOWER] {
            assert_eq!(world.addresses(owner), Err(PortError::NoAddress));
        }
        // The client hears of it, and says it once more.
        assert_ne!(world.service.take_changes().owners & 1 << CLIENT, 0);
        world
            .ask(CLIENT, Operation::SetShared(Some(lease)))
            .unwrap();
        assert_eq!(world.addresses(FOLLOWER).unwrap().ipv4, lease.address);
    }
}

#[test]
fn a_port_map_that_never_answers_is_an_error() {
    let mut calls = 0;
    let mut client = PortClient::new(|_| {
        calls += 1;
        Message {
            label: 99,
            ..Message::default()
        }
    });
    let answer = client.bind_any(Protocol::Udp, Families::Both);
    assert_eq!(answer, Err(PortError::NoAnswer));
    assert_eq!(client.addresses(), Err(PortError::NoAnswer));
    assert_eq!(calls, 6);
}

#[test]
fn a_region_that_is_too_small_holds_no_table() {
    let (owners, pools) = sample();
    let (tables, holds) = (leaked_region(REGION_SIZE), leaked_region(HOLDS_SIZE));
    let small = |region: Region| region.part(0, region.length() - 8).unwrap();
    assert!(Service::new(small(tables), holds, owners, pools, 0).is_none());
    assert!(Service::new(tables, small(holds), owners, pools, 0).is_none());
    assert!(PortReader::new(leaked_region(TABLE_SIZE - 8)).is_none());
}

#[test]
fn who_is_gone_has_no_ports_and_gets_none() {
    let mut world = World::new();
    let bind = |port| Operation::Bind(Protocol::Tcp, port, Families::V4);
    for port in [80, 81, 82] {
        assert_eq!(world.ask(0, bind(port)), Ok(port.into()));
    }
    assert_eq!(world.ask(1, bind(443)), Ok(443));
    assert_eq!(world.ask(1, bind(80)), Err(PortError::AddressInUse));
    let three = Returned { free: 3, held: 0 };
    assert_eq!(world.gone(&[0]), [(0, three)]);
    // Once is enough; and it cannot come back by itself.
    assert_eq!(world.gone(&[0]), []);
    assert_eq!(world.ask(0, bind(80)), Err(PortError::NotAllowed));
    assert_eq!(world.ask(1, bind(80)), Ok(80));
    assert_eq!(world.owner(Protocol::Tcp, 443), [2, 0]);
    // When it is there again, it is one like the others.
    assert_eq!(world.gone(&[]), []);
    assert_eq!(world.ask(0, bind(80)), Err(PortError::AddressInUse));
    assert_eq!(world.ask(0, bind(81)), Ok(81));
}

#[test]
fn a_new_incarnation_is_not_taken_for_its_predecessor() {
    let mut world = World::new();
    let bind = Operation::Bind(Protocol::Tcp, 80, Families::Both);
    world.gone(&[]);
    world.ask(0, bind).unwrap();
    let refresh = |world: &mut World, restarts| {
        let life = Life {
            is_gone: false,
            restarts,
        };
        world.service.note(0, life, world.now)
    };
    assert_eq!(refresh(&mut world, 0), None);
    // The port map is not there when the application is started anew.
    world.restart();
    let two = Returned { free: 2, held: 0 };
    assert_eq!(refresh(&mut world, 1), Some(two));
    assert_eq!(refresh(&mut world, 1), None);
    world.ask(0, bind).unwrap();
    assert_eq!(world.ask(0, bind), Err(PortError::AddressInUse));
    // The end of a life and the next one's beginning are one end, however they are noticed.
    let gone = |restarts| Life {
        is_gone: true,
        restarts,
    };
    assert_eq!(world.service.note(0, gone(4), world.now), Some(two));
    assert_eq!(world.service.note(0, gone(5), world.now), None);
    assert_eq!(refresh(&mut world, 6), None);
}
