//! Synthetic loads for the policy: steps, ramps, bursts, flapping, crowds.

use segue_director_core::board::Mode;
use segue_director_core::machine::Target;
use segue_director_core::policy::{Candidate, INTERVAL, Policy, Thresholds};

const DIRECT: u64 = 10_000;
const SERVER: u64 = 4_000;
const STAY: u64 = 2_000_000;

/// Applications whose switches take one interval.
struct Crowd {
    policy: Policy<16>,
    now: u64,
    functions: u8,
    candidates: Vec<Candidate>,
    /// What the policy wanted: when, who, where.
    decisions: Vec<(u64, usize, Target)>,
}

impl Crowd {
    fn new(count: usize, functions: u8) -> Self {
        let candidate = Candidate {
            allowed: functions,
            is_ready: true,
            ..Candidate::default()
        };
        let thresholds = Thresholds {
            direct_frames: DIRECT,
            server_frames: SERVER,
            stay: STAY,
        };
        Self {
            policy: Policy::new(thresholds).unwrap(),
            now: 50_000_000,
            functions,
            candidates: vec![candidate; count],
            decisions: Vec::new(),
        }
    }

    fn free(&self) -> u8 {
        let held = self.candidates.iter().filter_map(|c| c.function);
        held.fold(self.functions, |free, function| free & !(1 << function))
    }

    /// One interval with these loads, in frames a second.
    fn pass(&mut self, loads: &[u64]) {
        self.now += INTERVAL;
        for (candidate, load) in self.candidates.iter_mut().zip(loads) {
            candidate.frames = load * INTERVAL / 1_000_000;
            candidate.bytes = candidate.frames * 800;
        }
        let free = self.free();
        let mut wanted = Vec::new();
        assert_eq!(
            self.policy.next().max(self.now),
            self.now,
            "it is time to decide"
        );
        self.policy
            .decide(self.now, free, &self.candidates, |index, target| {
                wanted.push((index, target));
            });
        // Who was on the way has arrived.
        for candidate in &mut self.candidates {
            match candidate.mode {
                Mode::ToDirect => candidate.mode = Mode::Direct,
                Mode::ToServer => {
                    candidate.mode = Mode::Server;
                    candidate.function = None;
                }
                Mode::Server | Mode::Direct => {}
            }
        }
        for (index, target) in wanted {
            self.decisions.push((self.now, index, target));
            let functions = self.candidates[index].allowed & free;
            let candidate = &mut self.candidates[index];
            assert!(!candidate.is_pinned);
            match target {
                Target::Direct => {
                    assert_eq!(candidate.mode, Mode::Server);
                    let taken: Vec<_> = self.candidates.iter().filter_map(|c| c.function).collect();
                    let function = (0..8).find(|f| functions >> f & 1 != 0 && !taken.contains(f));
                    self.candidates[index].function = Some(function.expect("one is free"));
                    self.candidates[index].mode = Mode::ToDirect;
                }
                Target::Server => {
                    assert_eq!(candidate.mode, Mode::Direct);
                    candidate.mode = Mode::ToServer;
                }
            }
        }
    }

    fn pass_seconds(&mut self, seconds: u64, loads: &[u64]) {
        for _ in 0..seconds * 1_000_000 / INTERVAL {
            self.pass(loads);
        }
    }

    fn direct(&self) -> Vec<usize> {
        let all = self.candidates.iter().enumerate();
        all.filter(|(_, c)| c.mode == Mode::Direct)
            .map(|(index, _)| index)
            .collect()
    }
}

#[test]
fn a_step_up_and_down_is_followed() {
    let mut crowd = Crowd::new(1, 0b10);
    crowd.pass_seconds(5, &[1_000]);
    assert!(crowd.decisions.is_empty());
    let up = crowd.now;
    crowd.pass_seconds(5, &[50_000]);
    assert_eq!(crowd.decisions.len(), 1);
    let (when, index, target) = crowd.decisions[0];
    assert_eq!((index, target), (0, Target::Direct));
    assert!(when - up <= 500_000, "it takes {} us", when - up);
    crowd.pass_seconds(10, &[6_000]);
    assert_eq!(crowd.decisions.len(), 1, "between the thresholds it stays");
    crowd.pass_seconds(10, &[0]);
    assert_eq!(crowd.decisions.len(), 2);
    assert_eq!(crowd.decisions[1].2, Target::Server);
}

#[test]
fn a_ramp_switches_once() {
    let mut crowd = Crowd::new(1, 0b10);
    for load in (0..20_000).step_by(50) {
        crowd.pass(&[load]);
    }
    for load in (0..20_000).rev().step_by(50) {
        crowd.pass(&[load]);
    }
    let targets: Vec<_> = crowd.decisions.iter().map(|d| d.2).collect();
    assert_eq!(targets, [Target::Direct, Target::Server]);
}

#[test]
fn a_burst_switches_nobody() {
    let mut crowd = Crowd::new(1, 0b10);
    for _ in 0..50 {
        crowd.pass(&[60_000]);
        for _ in 0..20 {
            crowd.pass(&[500]);
        }
    }
    assert!(crowd.decisions.is_empty(), "{:?}", crowd.decisions);
}

#[test]
fn flapping_loads_do_not_flap_modes() {
    // Fast around one threshold: at most one switch. Slow across both: once a stay.
    let mut crowd = Crowd::new(1, 0b10);
    for turn in 0..600u64 {
        crowd.pass(&[if turn % 2 == 0 {
            DIRECT - 2_000
        } else {
            DIRECT + 3_000
        }]);
    }
    assert!(crowd.decisions.len() <= 1, "{:?}", crowd.decisions);
    let mut crowd = Crowd::new(1, 0b10);
    for turn in 0..600u64 {
        crowd.pass(&[if turn / 5 % 2 == 0 { 0 } else { 80_000 }]);
    }
    for pair in crowd.decisions.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= STAY);
    }
}

#[test]
fn the_busiest_of_twelve_get_six_functions() {
    let mut crowd = Crowd::new(12, 0b0111_1110);
    let mut loads: Vec<u64> = (0..12).map(|index| 20_000 + index * 1_000).collect();
    crowd.pass_seconds(10, &loads);
    assert_eq!(crowd.direct(), [6, 7, 8, 9, 10, 11]);
    assert_eq!(
        crowd.decisions.len(),
        6,
        "the others are not twice as busy as any"
    );
    // One of the others becomes much busier than the least busy of those in direct mode.
    loads[0] = 90_000;
    crowd.pass_seconds(5, &loads);
    assert_eq!(crowd.direct(), [0, 7, 8, 9, 10, 11]);
    assert_eq!(crowd.decisions.len(), 8, "one gave way to one");
    // All that have a function are pinned: nobody gives way.
    for index in crowd.direct() {
        crowd.candidates[index].is_pinned = true;
    }
    loads[1] = 500_000;
    crowd.pass_seconds(10, &loads);
    assert_eq!(crowd.direct(), [0, 7, 8, 9, 10, 11]);
    // One is let go, with nothing to do.
    crowd.candidates[7].is_pinned = false;
    loads[7] = 100;
    crowd.pass_seconds(10, &loads);
    assert_eq!(crowd.direct(), [0, 1, 8, 9, 10, 11]);
}

#[test]
fn who_may_not_have_the_free_function_waits() {
    let mut crowd = Crowd::new(2, 0b110);
    crowd.candidates[0].allowed = 0b010;
    crowd.candidates[1].allowed = 0b010;
    crowd.pass_seconds(5, &[30_000, 25_000]);
    assert_eq!(crowd.direct(), [0]);
    crowd.candidates[1].allowed = 0b100;
    crowd.pass_seconds(5, &[30_000, 25_000]);
    assert_eq!(crowd.direct(), [0, 1]);
}

#[test]
fn who_is_not_ready_is_left_alone() {
    let mut crowd = Crowd::new(2, 0b110);
    crowd.candidates[0].is_ready = false;
    crowd.candidates[1].is_pinned = true;
    crowd.pass_seconds(5, &[30_000, 30_000]);
    assert!(crowd.decisions.is_empty());
}

#[test]
fn nonsense_is_no_danger() {
    let mut crowd = Crowd::new(1, 0b10);
    for frames in [u64::MAX, 0, u64::MAX, 1 << 63] {
        crowd.now += 1;
        crowd.candidates[0].frames = frames;
        crowd.candidates[0].function = Some(200);
        crowd
            .policy
            .decide(crowd.now, u8::MAX, &crowd.candidates, |_, _| {});
    }
    // Time that stands still or goes back.
    crowd
        .policy
        .decide(crowd.now, 0, &crowd.candidates, |_, _| {});
    crowd.policy.decide(0, 0, &crowd.candidates, |_, _| {});
    assert!(
        Policy::<16>::new(Thresholds {
            direct_frames: 0,
            server_frames: 1,
            stay: 1,
        })
        .is_none()
    );
}

/// A day of a shop in short, frames a second, one row for three seconds: a web server, its
/// store, a mail relay, a metrics collector.
const DAY: &[[u64; 4]] = &[
    [310, 120, 40, 900],
    [280, 95, 2_200, 910],
    [1_900, 800, 60, 905],
    [6_400, 3_100, 75, 930],
    [11_800, 5_900, 80, 940],
    [14_200, 7_700, 310, 925],
    [13_100, 9_800, 90, 915],
    [17_500, 12_400, 85, 940],
    [15_900, 11_700, 12_900, 935],
    [12_300, 10_900, 30_400, 930],
    [9_700, 9_100, 28_800, 920],
    [7_200, 6_000, 1_900, 910],
    [5_100, 4_600, 130, 905],
    [2_800, 2_100, 70, 900],
    [900, 600, 45, 895],
    [350, 180, 40, 890],
];

#[test]
fn a_day_is_followed_with_few_switches() {
    let mut crowd = Crowd::new(4, 0b110);
    let mut most = 0;
    for row in DAY {
        crowd.pass_seconds(3, row);
        most = most.max(crowd.direct().len());
    }
    assert_eq!(most, 2, "both functions are used at noon");
    assert!(crowd.direct().is_empty(), "and none at night");
    assert!(crowd.decisions.len() <= 8, "{:?}", crowd.decisions);
    assert!(
        crowd.decisions.iter().all(|(_, index, _)| *index != 3),
        "the collector stays where it is"
    );
    let mail: Vec<_> = crowd.decisions.iter().filter(|d| d.1 == 2).collect();
    assert_eq!(
        mail.len(),
        2,
        "the mailing of the evening gets a function, and gives it back"
    );
}
