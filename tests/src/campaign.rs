//! Campaigns: the scenarios of the tests at large counts.
//!
//! Results are kept in `docs/campaign.json` after every step, with the commit they hold for, so an
//! interrupted campaign goes on where it was. `docs/campaign.md` is made from it.

use std::fmt::Write as _;
use std::fs;
use std::panic;
use std::process::Command;

use serde_json::{Value, json};

use crate::{attack, connections, figures, paths, random, scenarios};

/// One step.
struct Step {
    name: &'static str,
    about: &'static str,
    /// How often, or for how long (seconds, when fuzzing).
    count: u64,
    run: fn(u64, u64),
}

const STEPS: &[Step] = &[
    Step {
        name: "load",
        about: "requests over 64 kept connections, every body compared, none failed",
        count: 1_000_000,
        run: |count, _| scenarios::load(count),
    },
    Step {
        name: "boots",
        about: "boots until the page was there",
        count: 100,
        run: |count, _| scenarios::boots(count),
    },
    Step {
        name: "large_files",
        about: "files of 64 MiB, SHA-256 compared, each from a fresh boot",
        count: 20,
        run: |count, _| (0..count).for_each(|_| scenarios::large_file()),
    },
    Step {
        name: "lossy_cable",
        about: "files of 16 MiB while 1 % of the frames each were lost, doubled, reordered",
        count: 20,
        run: |count, seed| (0..count).for_each(|number| scenarios::lossy_cable(seed + number)),
    },
    Step {
        name: "connections",
        about: "connections in a row from the same ten client ports",
        count: 20_000,
        run: scenarios::connections_from_the_same_ports,
    },
    Step {
        name: "random_frames",
        about: "frames wrong in random ways; the page loaded after every 5,000",
        count: 1_000_000,
        run: scenarios::random_frames,
    },
    Step {
        name: "forgeries",
        about: "tries of each kind of forged frame: none on the wire, all counted by cause",
        count: 10_000,
        run: |count, _| scenarios::forgeries(count),
    },
    Step {
        name: "connections_across",
        about: "connections opened and closed across 16 applications, after 2,000 at once",
        count: 20_000,
        run: |count, _| connections::across_applications(count),
    },
    Step {
        name: "switches",
        about: "switches of three applications under load: downloads with SHA-256, redis-benchmark, a UDP echo; no client noticed",
        count: 1000,
        run: scenarios::switches_under_load,
    },
    Step {
        name: "interruptions",
        about: "switches of a stream, and of a server of downloads, measured in virtual time: no frame lost",
        count: 1000,
        run: interruptions,
    },
    Step {
        name: "faults",
        about: "faults in the network server at all its fault points while 64 clients download, redis-benchmark asks, datagrams go there and back: no connection reset, no wrong byte, nobody hangs",
        count: 2000,
        run: scenarios::faults,
    },
    Step {
        name: "outages",
        about: "faults of the network server measured on a stream, and as many on downloads, in virtual time",
        count: 300,
        run: outages,
    },
    Step {
        name: "faults_of_portmap",
        about: "the same of the port map; nobody notices",
        count: 200,
        run: |count, seed| scenarios::faults_in("portmap", count, seed),
    },
    Step {
        name: "faults_of_igb_pf",
        about: "the same of the driver of the physical function; nobody notices",
        count: 200,
        run: |count, seed| scenarios::faults_in("igb-pf", count, seed),
    },
    Step {
        name: "faults_of_pcie",
        about: "the same of `pcie`; nobody notices",
        count: 200,
        run: |count, seed| scenarios::faults_in("pcie", count, seed),
    },
    Step {
        name: "faults_of_director",
        about: "the same of the director; nobody notices",
        count: 200,
        run: |count, seed| scenarios::faults_in("director", count, seed),
    },
    Step {
        name: "faults_of_timer",
        about: "the same of the timer; nobody notices",
        count: 200,
        run: |count, seed| scenarios::faults_in("timer", count, seed),
    },
    Step {
        name: "faults_of_console",
        about: "the same of the console; nobody notices",
        count: 200,
        run: |count, seed| scenarios::faults_in("console", count, seed),
    },
    Step {
        name: "faults_of_http",
        about: "the same of an application; its own clients lose their connections, nobody else anything",
        count: 200,
        run: |count, seed| scenarios::faults_in("http", count, seed),
    },
    Step {
        name: "pairs",
        about: "faults of two servers at once, or of one again while it starts; nobody notices",
        count: 500,
        run: scenarios::pairs,
    },
    Step {
        name: "given_up",
        about: "times that an application and the director faulted over and over and were given up; the rest went on",
        count: 10,
        run: |count, _| (0..count).for_each(|_| scenarios::given_up()),
    },
    Step {
        name: "corruptions",
        about: "changes of bits, words and pages of the network server's memory from outside: nobody else's memory changed, the server was back in time, nothing was lost for good",
        count: 500,
        run: scenarios::corruptions,
    },
    Step {
        name: "upgrades",
        about: "upgrades of the network server back and forth under the same load, and a fifth as many to images that fail and are taken back: nobody notices",
        count: 100,
        run: scenarios::upgrades,
    },
    Step {
        name: "floods",
        about: "windows of each flood: nine tenths of the service to others stay",
        count: 6,
        run: |count, _| {
            let least = attack::Least {
                service: 0.9,
                share: 0.9,
                share_of_all: 0.9,
            };
            attack::floods(count as usize, 250_000_000, least);
        },
    },
    Step {
        name: "fuzz",
        about: "seconds of coverage-guided fuzzing for each target, no finding",
        count: 60,
        run: |seconds, _| fuzz(seconds),
    },
];

/// Runs the steps that have no result for the present commit; if some are `wanted`, only these.
///
/// # Errors
/// A sentence; what was done until then is kept.
pub fn run(wanted: &[String]) -> Result<(), String> {
    if let Some(unknown) = wanted
        .iter()
        .find(|name| STEPS.iter().all(|step| step.name != **name))
    {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        return Err(format!(
            "there is no step {unknown}; there are: {}",
            names.join(" ")
        ));
    }
    let commit = commit()?;
    let chosen = |step: &&Step| wanted.is_empty() || wanted.iter().any(|name| name == step.name);
    for step in STEPS.iter().filter(chosen) {
        let done = read().iter().any(|result| {
            result["name"] == step.name && result["commit"] == commit && result["passed"] == true
        });
        if done {
            println!("== {}: done for commit {commit}", step.name);
            continue;
        }
        let seed = random::seed();
        println!("== {}: {} {}", step.name, step.count, step.about);
        let passed = panic::catch_unwind(|| (step.run)(step.count, seed)).is_ok();
        // Others may have added theirs meanwhile.
        let mut results = read();
        results.retain(|result| result["name"] != step.name);
        results.push(json!({
            "name": step.name,
            "about": step.about,
            "commit": commit,
            "seed": seed,
            "count": step.count,
            "passed": passed,
        }));
        write(&results)?;
        if !passed {
            return Err(format!(
                "{} failed with seed {seed}; SEGUE_SEED={seed} repeats it.",
                step.name
            ));
        }
    }
    println!("The campaign is complete; docs/campaign.md has the results.");
    Ok(())
}

/// Measures, and keeps the figures and their picture.
fn interruptions(count: u64, seed: u64) {
    let found = scenarios::interruptions(count, seed);
    found.print();
    found.judge();
    let written = figures::write(&figures::switches::of(&found), true);
    written.unwrap_or_else(|error| panic!("{error}"));
}

/// Measures, and keeps the figures and their picture.
fn outages(count: u64, seed: u64) {
    let found = scenarios::outages(count, seed);
    found.print();
    found.judge();
    let written = figures::write(&figures::recovery::of(&found), true);
    written.unwrap_or_else(|error| panic!("{error}"));
}

fn fuzz(seconds: u64) {
    let script = paths::root().join("fuzz/run");
    let listed = Command::new(&script).arg("--build").output();
    let listed = listed.expect("fuzz/run starts");
    assert!(listed.status.success(), "the fuzz targets do not compile");
    for target in String::from_utf8_lossy(&listed.stdout).lines() {
        println!("fuzzing {target}");
        let status = Command::new(&script)
            .args([target, &seconds.to_string()])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "{target}");
    }
}

/// The present commit; with changes that are not committed the results would hold for nothing.
fn commit() -> Result<String, String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(paths::root())
            .output()
            .map_err(|error| format!("git: {error}"))?;
        Ok::<_, String>(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // The results themselves are among the files.
    let changes = git(&[
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ":!docs",
    ])?;
    if changes.is_empty() {
        // Commits that change documents only leave the results valid.
        git(&["log", "-1", "--format=%h", "--abbrev=12", "--", ":!docs"])
    } else {
        Err(format!(
            "a campaign's results belong to a commit, and there are changes outside of docs/:\n{changes}"
        ))
    }
}

fn read() -> Vec<Value> {
    let text = fs::read_to_string(paths::root().join("docs/campaign.json"));
    text.ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

fn write(results: &[Value]) -> Result<(), String> {
    let folder = paths::root().join("docs");
    let text = serde_json::to_string_pretty(results).map_err(|error| error.to_string())?;
    for (name, text) in [
        ("campaign.json", text + "\n"),
        ("campaign.md", page(results)),
    ] {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn page(results: &[Value]) -> String {
    let mut page = String::from(
        "# Campaign\n\nGenerated by `make campaign`: the scenarios of the system tests at larger \
         counts.\n`SEGUE_SEED=<seed>` repeats a step.\n\n\
         | step | count | what | result | seed | commit |\n| --- | ---: | --- | --- | --- | --- |\n",
    );
    for result in results {
        let text = |key: &str| result[key].as_str().unwrap_or_default().to_owned();
        let passed = result["passed"] == true;
        // Writing to a String does not fail.
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} |",
            text("name"),
            result["count"],
            text("about"),
            if passed { "passed" } else { "failed" },
            result["seed"],
            text("commit"),
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_every_result() {
        let results = [
            json!({"name": "load", "about": "x", "commit": "abc", "seed": 7,
                              "count": 3, "passed": true}),
        ];
        let page = page(&results);
        assert!(
            page.ends_with("| load | 3 | x | passed | 7 | abc |\n"),
            "{page}"
        );
    }
}
