//! What one more application costs on the path of another's frames.

use super::Figure;
use crate::cost::beside_others;
use crate::systems::{APPLICATIONS, MOST_APPLICATIONS};

/// Idle connections of each other application.
const CONNECTIONS: usize = 2;

pub(super) fn measure() -> Vec<Figure> {
    let systems = [
        ("files", 1),
        ("four", 4),
        ("many", APPLICATIONS),
        ("forty-eight", MOST_APPLICATIONS),
    ];
    let mut figures = Vec::new();
    for (system, count) in systems {
        let [idle, connected] = beside_others(system, count, CONNECTIONS);
        println!("{count} applications: {idle}, {connected} with connections");
        let mut add = |name: &str, value: u64, about: &str| {
            figures.push(Figure::new(
                format!("applications_{count:02}.{name}"),
                value as f64,
                "instructions",
                about,
            ));
        };
        add(
            "instructions_per_request",
            idle,
            &format!(
                "guest instructions for a pipelined GET of 1KB, as one of {count} behind an address"
            ),
        );
        if count > 1 {
            add(
                "instructions_per_request_all_connected",
                connected,
                &format!("the same, while each of the others has {CONNECTIONS} idle connections"),
            );
        }
    }
    figures
}
