//! What holds for any order of orders and whatever holders write.

use std::vec;

use proptest::prelude::*;

use super::grants::{granting, start_queues};
use super::*;

/// Applications: the first half known beforehand, the others not.
const APPLICATIONS: u8 = 8;

fn address(application: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0x5e, 0x61, application]
}

fn known() -> Vec<Filter> {
    (0..APPLICATIONS / 2)
        .map(|application| filter(address(application), 0))
        .collect()
}

#[derive(Clone, Debug)]
enum Step {
    Enable(u8),
    Route(u8, u8),
    Scrub(u8),
    ResetFunction(u8),
    ResetDevice,
    Poll,
    Scribble(u8, usize, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let function = 0_u8..8;
    prop_oneof![
        function.clone().prop_map(Step::Enable),
        (0..APPLICATIONS, function.clone()).prop_map(|(who, to)| Step::Route(who, to)),
        function.clone().prop_map(Step::Scrub),
        function.clone().prop_map(Step::ResetFunction),
        Just(Step::ResetDevice),
        Just(Step::Poll),
        (function, register(), any::<u32>())
            .prop_map(|(who, at, value)| { Step::Scribble(who, at, value) }),
    ]
}

/// Registers that a holder has, most of them.
fn register() -> impl Strategy<Value = usize> {
    prop_oneof![
        prop::sample::select(vec![
            0x0000, 0x0c40, 0x0f0c, 0x1520, 0x1524, 0x1528, 0x152c, 0x1530, 0x1580, 0x1680, 0x1684,
            0x1688, 0x1700, 0x1740
        ]),
        (0_usize..16).prop_map(|word| 0x800 + 4 * word),
        (0_usize..16, 0_usize..4).prop_map(|(register, queue)| {
            [0x2800, 0x2900, 0x3800, 0x3900][queue] + 4 * register
        }),
    ]
}

/// What is expected, by the simplest means.
struct Model {
    enabled: u8,
    routes: [Option<u8>; APPLICATIONS as usize],
}

impl Model {
    fn home(application: u8) -> Option<u8> {
        (application < APPLICATIONS / 2).then_some(0)
    }

    fn carries(&self, function: u8) -> bool {
        (0b11 | self.enabled) >> function & 1 != 0
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Each address goes to the function it was routed to last and to no other, also after
    /// a reset of the device; a function that was not enabled, or was scrubbed since, neither
    /// receives nor sends.
    #[test]
    fn orders_in_any_order(steps in prop::collection::vec(step(), 1..60)) {
        let device = device();
        let (mut function, _) = granting(&device, &known());
        let mut homes: [Option<u8>; APPLICATIONS as usize] =
            core::array::from_fn(|index| Model::home(index as u8));
        let mut model = Model { enabled: 0, routes: homes };
        for step in steps {
            match step {
                Step::Enable(to) => {
                    prop_assert_eq!(function.enable(to).is_ok(), to == 4 || to == 5);
                    model.enabled |= 1 << to & 0b11_0000;
                }
                Step::Route(who, to) => {
                    let result = function.route(address(who), to);
                    prop_assert_eq!(result.is_ok(), model.carries(to));
                    if result.is_ok() {
                        model.routes[usize::from(who)] = Some(to);
                        if to < 2 {
                            homes[usize::from(who)] = Some(to);
                        }
                    }
                }
                Step::Scrub(from) => {
                    prop_assert_eq!(function.scrub(from).is_ok(), from == 4 || from == 5);
                    if from == 4 || from == 5 {
                        model.enabled &= !(1 << from);
                        for (route, home) in model.routes.iter_mut().zip(homes) {
                            if *route == Some(from) {
                                *route = home;
                            }
                        }
                    }
                }
                Step::ResetFunction(who) => device.reset_function(who.into()),
                Step::ResetDevice => {
                    function.state = State::Start;
                    function.poll(0).unwrap();
                    function.poll(10_000).unwrap();
                }
                Step::Poll => {
                    function.poll(0).unwrap();
                }
                Step::Scribble(who, at, value) => device.holder(who.into()).write32(at, value),
            }
            // Resets are dealt with at the next poll.
            function.poll(0).unwrap();
            let before = device.registers();
            for index in 0..8 {
                start_queues(&device, index);
            }
            for who in 0..APPLICATIONS {
                let route = model.routes[usize::from(who)];
                let expected = route.map_or(0, |to| 1_u8 << to);
                prop_assert_eq!(device.receivers(address(who)), expected, "{}", who);
                for from in 0..8 {
                    let may = model.carries(from)
                        && (from < 2 || route == Some(from));
                    let lets_out = device.lets_out(from.into(), address(who));
                    prop_assert!(may || !lets_out, "{} sends as {}", from, who);
                    let is_home = homes[usize::from(who)] == Some(from);
                    prop_assert!(lets_out || !is_home, "{} cannot send for {}", from, who);
                }
            }
            prop_assert_eq!(device.receivers([0xff; 6]), 0b11 | model.enabled);
            for queue in 0..16 {
                for control in [0xc028, 0xe028] {
                    let offset = control + 0x40 * queue;
                    device.set(offset, before.get(&offset).copied().unwrap_or(0));
                }
            }
        }
    }

    /// Whatever a holder does, nothing of it is left in the whole device, but for one
    /// register that only a reset clears.
    #[test]
    fn a_scrubbed_function_is_as_new(
        granted in 4_u8..6,
        words in prop::collection::vec((register(), any::<u32>()), 0..200),
        enabled in any::<bool>(),
        polls in any::<bool>(),
    ) {
        let device = device();
        let (mut function, _) = granting(&device, &known());
        let new = device.registers();
        if enabled {
            function.enable(granted).unwrap();
            function.route(address(1), granted).unwrap();
            function.route(address(7), granted).unwrap();
        }
        for (at, word) in words {
            device.holder(granted.into()).write32(at, word);
        }
        if polls {
            function.poll(0).unwrap();
        }
        function.scrub(granted).unwrap();
        function.poll(0).unwrap();
        let mut after = device.registers();
        after.insert(0x152c, new[&0x152c]);
        prop_assert_eq!(after, new);
    }
}
