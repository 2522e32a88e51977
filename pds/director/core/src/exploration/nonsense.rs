//! Words on the board that mean anything or nothing.

use core::fmt;
use proptest::prelude::*;

use super::world::World;
use crate::board::{
    Answer, GrantOperation, Mode, Order, Refused, RouteOperation, Shown, StageOperation,
};

fn function() -> impl Strategy<Value = u8> {
    prop_oneof![0..4u8, any::<u8>()]
}

fn order<O: Clone + fmt::Debug + 'static>(operation: O) -> BoxedStrategy<Option<Order<O>>> {
    let sequence = prop_oneof![9..12u32, 1..=u32::MAX];
    let order = sequence.prop_map(move |sequence| Order {
        sequence,
        operation: operation.clone(),
    });
    prop::option::of(order).boxed()
}

/// A word of the board that means anything or nothing.
#[derive(Clone, Debug)]
pub enum Nonsense {
    Grant(Option<Order<GrantOperation>>),
    Route(Option<Order<RouteOperation>>),
    Stage(Option<Order<StageOperation>>),
    Shown(Shown),
    Direct(u64),
    NoMac,
    Granted(Option<Answer>),
    Routed(Option<Answer>),
    Staged(Option<Answer>),
}

pub fn nonsense() -> impl Strategy<Value = Nonsense> {
    let grant = prop_oneof![
        function().prop_map(|function| GrantOperation::Grant { function }),
        Just(GrantOperation::Revoke),
    ];
    let route = (function(), 0..3).prop_map(|(function, which)| match which {
        0 => RouteOperation::Enable { function },
        1 => RouteOperation::Route { function },
        _ => RouteOperation::Scrub { function },
    });
    let stage = (function(), 0..5).prop_map(|(function, which)| match which {
        0 => StageOperation::Server,
        1 => StageOperation::Prepare { function },
        2 => StageOperation::Attach,
        3 => StageOperation::Direct,
        _ => StageOperation::Drain,
    });
    let mode = prop_oneof![
        Just(Mode::Server),
        Just(Mode::ToDirect),
        Just(Mode::Direct),
        Just(Mode::ToServer)
    ];
    let shown = (mode, prop::option::of(function()), 0..2u32);
    let shown = shown.prop_map(|(mode, function, life)| Shown {
        mode,
        function,
        life,
        ..Shown::default()
    });
    let result = prop_oneof![Just(Ok(())), Just(Err(Refused::Device))];
    let answer = (prop_oneof![9..12u32, 1..=u32::MAX], result)
        .prop_map(|(sequence, result)| Answer { sequence, result });
    let answer = prop::option::of(answer).boxed();
    prop_oneof![
        grant.prop_flat_map(order).prop_map(Nonsense::Grant),
        route.prop_flat_map(order).prop_map(Nonsense::Route),
        stage.prop_flat_map(order).prop_map(Nonsense::Stage),
        shown.prop_map(Nonsense::Shown),
        any::<u64>().prop_map(Nonsense::Direct),
        Just(Nonsense::NoMac),
        answer.clone().prop_map(Nonsense::Granted),
        answer.clone().prop_map(Nonsense::Routed),
        answer.prop_map(Nonsense::Staged),
    ]
}

impl World {
    pub fn write(&mut self, index: usize, nonsense: &Nonsense) {
        let board = &mut self.board;
        match *nonsense {
            Nonsense::Grant(order) => board.grant[index] = order,
            Nonsense::Route(order) => board.route[index] = order,
            Nonsense::Stage(order) => board.stage[index] = order,
            Nonsense::Shown(shown) => board.shown[index] = shown,
            Nonsense::Direct(applications) => board.direct = applications,
            Nonsense::NoMac => board.mac[index] = [0; 6],
            Nonsense::Granted(answer) => board.granted[index] = answer,
            Nonsense::Routed(answer) => board.routed[index] = answer,
            Nonsense::Staged(answer) => board.staged[index] = answer,
        }
    }
}
