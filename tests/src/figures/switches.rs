//! How long a switch between the two modes interrupts traffic, in virtual time.

use super::{Figure, rounded};
use crate::distribution::Distribution;
use crate::paths;
use crate::plot::{Series, plot};
use crate::random;
use crate::scenarios::{Interruptions, interruptions};

/// Where the picture is.
const PICTURE: &str = "docs/switch-gaps.svg";

/// Measures `count` switches of a stream and as many of a server of downloads, and draws them.
pub fn measure(count: u64) -> Vec<Figure> {
    let found = interruptions(count, random::seed());
    found.print();
    of(&found)
}

/// The figures of switches that were measured, and their picture.
pub fn of(found: &Interruptions) -> Vec<Figure> {
    let kinds = [
        ("to_direct", "frame_gap_ms", &found.to_direct),
        ("to_server", "frame_gap_ms", &found.to_server),
        ("to_direct", "tcp_stall_ms", &found.stall_to_direct),
        ("to_server", "tcp_stall_ms", &found.stall_to_server),
    ];
    let mut figures = Vec::new();
    let mut series = Vec::new();
    for (way, what, values) in kinds {
        let values = Distribution::new(values.clone());
        let about = match what {
            "frame_gap_ms" => {
                "longest time on the wire between two datagrams of an application that sends one every 0.1 ms"
            }
            _ => "longest time without new bytes of four downloads",
        };
        let mode = way.trim_start_matches("to_");
        let number = values.values().len();
        for (suffix, value) in [
            ("median", values.median()),
            ("p99", values.percentile(99.0)),
            ("max", values.maximum()),
        ] {
            figures.push(Figure::new(
                format!("switch.{way}.{what}.{suffix}"),
                rounded(value.unwrap_or(0) as f64 / 1e3, 3),
                "ms",
                format!(
                    "{about}, around a switch to {mode} mode ({suffix} of {number}); virtual time"
                ),
            ));
        }
        let name = match what {
            "frame_gap_ms" => format!("frame gap, to {mode} mode"),
            _ => format!("TCP stall, to {mode} mode"),
        };
        series.push(Series { name, values });
    }
    figures.push(Figure::new(
        "switch.frames_lost",
        found.missing as f64,
        "frames",
        format!(
            "of {} numbered datagrams sent during {} switches",
            found.sent,
            found.to_direct.len() + found.to_server.len()
        ),
    ));
    plot(
        &paths::root().join(PICTURE),
        "What a switch between the two modes interrupts",
        "microseconds of the machine's virtual time",
        &series,
    )
    .unwrap_or_else(|error| panic!("{PICTURE}: {error}"));
    figures
}
