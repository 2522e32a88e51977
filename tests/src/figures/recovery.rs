//! How long faults of the network server interrupt traffic, in virtual time.

use super::{Figure, rounded};
use crate::distribution::Distribution;
use crate::paths;
use crate::plot::{Series, plot};
use crate::random;
use crate::scenarios::{Outages, outages};

/// Where the picture is.
const PICTURE: &str = "docs/recovery-outages.svg";

/// Measures `count` faults of the server of a stream and as many of that of downloads, and draws them.
pub fn measure(count: u64) -> Vec<Figure> {
    let found = outages(count, random::seed());
    found.print();
    of(&found)
}

/// The figures of faults that were measured, and their picture.
pub fn of(found: &Outages) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (what, about, values) in [
        (
            "outage_ms",
            "longest time on the wire between two datagrams of an application that sends one every 0.1 ms",
            &found.gaps,
        ),
        (
            "tcp_stall_ms",
            "longest time without new bytes of four downloads",
            &found.stalls,
        ),
        (
            "detect_ms",
            "from the fault until init stops the network server",
            &found.detect,
        ),
        (
            "rebuild_ms",
            "from there until it is started again",
            &found.rebuild,
        ),
        (
            "reset_ms",
            "from there until it has looked at its device and its channels",
            &found.reset,
        ),
        (
            "rejoin_ms",
            "from there to the next datagram",
            &found.rejoin,
        ),
    ] {
        let values = Distribution::new(values.clone());
        let number = values.values().len();
        for (suffix, value) in [
            ("median", values.median()),
            ("p99", values.percentile(99.0)),
            ("max", values.maximum()),
        ] {
            figures.push(Figure::new(
                format!("recovery.netserver.{what}.{suffix}"),
                rounded(value.unwrap_or(0) as f64 / 1e3, 3),
                "ms",
                format!(
                    "{about}, around a fault or a hang of the network server ({suffix} of {number}); virtual time"
                ),
            ));
        }
    }
    let lost: u64 = found.lost.iter().sum();
    for (name, value, unit, about) in [
        (
            "faults",
            found.ledger.count(),
            "faults",
            "faults and hangs of the network server that were measured, at all its fault points"
                .into(),
        ),
        (
            "connections_lost",
            found.connections_lost,
            "connections",
            format!(
                "of four that download during {} of them",
                found.stalls.len()
            ),
        ),
        (
            "frames_lost",
            lost,
            "frames",
            format!(
                "of {} numbered datagrams during {} of them",
                found.sent,
                found.gaps.len()
            ),
        ),
    ] {
        let name = format!("recovery.netserver.{name}");
        figures.push(Figure::new(name, value as f64, unit, about));
    }
    let series = [
        ("outage", &found.gaps),
        ("detect: until it is stopped", &found.detect),
        ("rebuild: until it is started again", &found.rebuild),
        ("reset: until it is ready", &found.reset),
        ("rejoin: until it sends again", &found.rejoin),
        ("TCP stall", &found.stalls),
    ];
    let series = series.map(|(name, values)| Series {
        name: name.into(),
        values: Distribution::new(values.clone()),
    });
    plot(
        &paths::root().join(PICTURE),
        "What a fault of the network server interrupts",
        "microseconds of the machine's virtual time",
        &series,
    )
    .unwrap_or_else(|error| panic!("{PICTURE}: {error}"));
    figures
}
