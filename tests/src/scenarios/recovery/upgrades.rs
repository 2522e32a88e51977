//! Upgrades of the network server, back and forth, and to images that fail.

use std::time::Duration;

use super::{Session, is_possible};
use crate::distribution::Distribution;
use crate::instructions::Program;
use crate::random::Random;
use crate::recovery::said;
use crate::switching::Terminal;
use crate::systems::{FAILING_IMAGES, NEXT_IMAGE, UPGRADED};

const SERVER: &str = "netserver";
/// The name of the image that it starts with.
const FIRST_IMAGE: &str = "segue-netserver";
/// For each so many upgrades one to an image that fails.
const FAILING_EVERY: u64 = 5;
/// How long an upgrade may take. It takes far less; this long only if it never ends.
const LIMIT: Duration = Duration::from_secs(120);

/// Upgrades the network server `count` times, back and forth between two images, and in between a fifth as
/// often to one that fails and is taken back by itself, while 64 clients download, `redis-benchmark` asks,
/// and datagrams go there and back. Nobody may notice.
pub fn upgrades(count: u64, seed: u64) {
    if !is_possible() {
        return;
    }
    let mut random = Random::new(seed);
    let mut session = Session::boot_system(UPGRADED, Program::read);
    let load = session.load();
    let mut outages = Vec::new();
    let mut failed = 0;
    for number in 0..count {
        let image = [NEXT_IMAGE, FIRST_IMAGE][(number % 2) as usize];
        let line = order(&mut session, image, "was upgraded to");
        let outage = line.rsplit_once(", ").and_then(|(_, outage)| {
            let milliseconds: f64 = outage.strip_suffix(" ms.")?.parse().ok()?;
            Some((milliseconds * 1e3).round() as u64)
        });
        outages.push(outage.unwrap_or_else(|| panic!("the console says \"{line}\"")));
        session.expect_progress(&load, &line);
        if number % FAILING_EVERY == FAILING_EVERY - 1 {
            let image = FAILING_IMAGES[random.below(FAILING_IMAGES.len())];
            let line = order(&mut session, image, "was rolled back from");
            session.expect_progress(&load, &line);
            failed += 1;
        }
    }
    let served = session.end(load);
    println!(
        "{count} upgrades: {}, in microseconds of the machine; {failed} taken back\n{served}",
        Distribution::new(outages)
    );
    served.judge();
    // An image that fails faults in the server's name.
    session.judge_but_for(SERVER);
}

/// Orders another image and waits for the line that says what has become of it.
fn order(session: &mut Session, image: &str, end: &str) -> String {
    let machine = session.machine();
    let position = Terminal::position(machine);
    let command = format!("upgrade {SERVER} {image}");
    let typed = machine.type_in(format!("{command}\r").as_bytes());
    typed.expect("the machine runs");
    let awaited = format!("{SERVER} {end} {image}");
    let line = Terminal::wait_for_after(machine, position, &awaited, LIMIT);
    let line = line.unwrap_or_else(|error| panic!("{command}: {error}"));
    said(&line).to_owned()
}
