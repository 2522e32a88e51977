//! Whatever is read, the front end answers and does not panic.

mod support;

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use segue_image::diagnostics::Severity;
use segue_image::files::{Files, NoFiles};

/// Reads a description and checks what must hold for any.
fn read(text: &str, files: &dyn Files) {
    let found = match segue_image::parse(text, files) {
        Ok(parsed) => {
            let picture = segue_image::picture::draw(&parsed.system);
            assert!(picture.ends_with("</svg>\n"));
            // No box was lost.
            let boxes = picture.matches("class=\"pd\"").count();
            assert_eq!(boxes, parsed.system.protection_domains.len());
            parsed.warnings
        }
        Err(found) => {
            assert!(found.iter().any(|one| one.severity == Severity::Error));
            found
        }
    };
    // In the order of the file, and inside it.
    assert!(found.is_sorted_by_key(|one| one.position), "{found:?}");
    let lines: Vec<&str> = text.split('\n').collect();
    for one in &found {
        let line = one.position.line as usize - 1;
        assert!(one.position.column >= 1 && line < lines.len(), "{one:?}");
        let length = lines[line].chars().count();
        assert!(one.position.column as usize <= length + 1, "{one:?}");
        assert!(!one.message.contains('\n'), "{one:?}");
    }
}

/// The default system and every description of `tests/mistakes`.
fn corpus() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let mut texts: Vec<String> = paths
        .into_iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for _ in 0..20 {
        texts.push(support::DEFAULT_SYSTEM.into());
    }
    texts
}

/// Values that have hurt someone before.
const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "61",
    "62",
    "63",
    "64",
    "0x1000",
    "0x200000",
    "4096",
    "0x7fffffffd000",
    "0x7fffffffffff",
    "0x8000000000",
    "0xffffffffffffffff",
    "18446744073709551616",
    "16G",
    "1M",
    "0xfffffffffffff000",
    "0xfee00000",
    "true",
    "false",
    "rw",
    "w",
    "nic",
    "nic.vf0",
    "nic.vf",
    "nic.vf99999999999999999999",
    "nic.bar0",
    "nic.vf0.bar5",
    "nic.vf.bar0",
    ".",
    "..",
    "nic.",
    "00:00.0",
    "ff:1f.7",
    "http",
    "netserver",
    "timer",
    "portmap",
    "console",
    "netserver_io",
    "x",
    "é",
    "\u{202e}",
    "&#10;",
    "52:54:00:5e:60:00",
    "ff:ff:ff:ff:ff:ff",
    "10.0.2.15/24",
    "10.0.2.15/0",
    "10.0.2.15/32",
    "255.255.255.255",
    "symbols",
    "system_status",
];

/// A change to a text.
#[derive(Clone, Debug)]
enum Change {
    /// Gives an attribute another value.
    Value(Index, &'static str),
    /// Gives an attribute the value of another.
    Copy(Index, Index),
    /// Repeats a line.
    Repeat(Index, Index),
    /// Removes a line.
    Remove(Index),
    /// Writes over one character.
    Character(Index, char),
    /// Cuts off the end.
    Cut(Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (any::<Index>(), select(VALUES)).prop_map(|(place, value)| Change::Value(place, value)),
        4 => (any::<Index>(), any::<Index>()).prop_map(|(to, from)| Change::Copy(to, from)),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Repeat(from, to)),
        1 => any::<Index>().prop_map(Change::Remove),
        1 => (any::<Index>(), any::<char>()).prop_map(|(place, new)| Change::Character(place, new)),
        1 => any::<Index>().prop_map(Change::Cut),
    ]
}

fn apply(text: &str, change: &Change) -> String {
    // Attribute values are what stands between quotes: every second part.
    let parts = || text.split('"').map(String::from).collect::<Vec<_>>();
    let lines = || text.lines().map(String::from).collect::<Vec<_>>();
    match change {
        Change::Value(place, value) => {
            let mut parts = parts();
            if parts.len() >= 2 {
                let index = place.index(parts.len() / 2) * 2 + 1;
                parts[index] = (*value).into();
            }
            parts.join("\"")
        }
        Change::Copy(to, from) => {
            let mut parts = parts();
            if parts.len() >= 2 {
                let value = parts[from.index(parts.len() / 2) * 2 + 1].clone();
                let index = to.index(parts.len() / 2) * 2 + 1;
                parts[index] = value;
            }
            parts.join("\"")
        }
        Change::Repeat(from, to) => {
            let mut lines = lines();
            if !lines.is_empty() {
                let line = lines[from.index(lines.len())].clone();
                lines.insert(to.index(lines.len()), line);
            }
            lines.join("\n")
        }
        Change::Remove(place) => {
            let mut lines = lines();
            if !lines.is_empty() {
                lines.remove(place.index(lines.len()));
            }
            lines.join("\n")
        }
        Change::Character(place, new) => {
            let mut characters: Vec<char> = text.chars().collect();
            if !characters.is_empty() {
                let index = place.index(characters.len());
                characters[index] = *new;
            }
            characters.into_iter().collect()
        }
        Change::Cut(place) => {
            let count = text.chars().count();
            text.chars().take(place.index(count + 1)).collect()
        }
    }
}

/// A system with any channels, memory and priorities, most of them legal.
fn system() -> impl Strategy<Value = String> {
    let channels = prop::collection::vec((0..30_usize, 0..30_usize, any::<bool>()), 0..60);
    let maps = prop::collection::vec((0..30_usize, 0..8_usize, any::<bool>()), 0..40);
    (1..30_usize, channels, maps, any::<bool>()).prop_map(|(count, channels, maps, console)| {
        let mut text = String::from("<system>\n");
        if console {
            text += "<console pd='p0'/>\n";
        }
        for region in 0..8 {
            text += &format!("<memory_region name='r{region}' size='0x1000'/>\n");
        }
        for pd in 0..count {
            text += &format!("<protection_domain name='p{pd}' priority='{pd}'>");
            text += "<program_image path='segue-console'/>";
            for (index, (user, region, writes)) in maps.iter().enumerate() {
                if user % count == pd {
                    let perms = if *writes { "rw" } else { "r" };
                    text += &format!(
                        "<map mr='r{region}' vaddr='{:#x}' perms='{perms}'/>",
                        0x1000_0000 + index * 0x1000
                    );
                }
            }
            text += "</protection_domain>\n";
        }
        for (index, (one, other, call)) in channels.iter().enumerate() {
            let (one, other) = (one % count, other % count);
            let (low, high) = (one.min(other), one.max(other));
            if low != high {
                text += &format!(
                    "<channel><end pd='p{low}' id='{index}' pp='{call}'/><end pd='p{high}' id='{index}'/></channel>\n"
                );
            }
        }
        text + "</system>\n"
    })
}

/// So many cases; `SEGUE_CASES` multiplies them for a longer search.
fn cases(count: u32) -> ProptestConfig {
    let factor = std::env::var("SEGUE_CASES").ok();
    let factor = factor.and_then(|text| text.parse().ok()).unwrap_or(1);
    ProptestConfig {
        cases: count.saturating_mul(factor),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn changed_descriptions(
        text in select(corpus()),
        changes in prop::collection::vec(change(), 1..12),
    ) {
        let mut text = text;
        for change in &changes {
            text = apply(&text, change);
        }
        read(&text, &support::default_programs());
        read(&text, &NoFiles);
    }

    #[test]
    fn any_text(text in any::<String>(), body in "[<>/a-z\"'= \n&;!-]{0,200}") {
        read(&text, &NoFiles);
        read(&body, &NoFiles);
        read(&format!("<system>{body}</system>"), &NoFiles);
    }

    #[test]
    fn any_program(mut bytes in prop::collection::vec(any::<u8>(), 0..200), places in prop::collection::vec((any::<Index>(), any::<u8>()), 0..40)) {
        let text = "<system><protection_domain name='a'><program_image path='p'/></protection_domain></system>";
        let mut files = support::TestFiles::default();
        files.programs.insert("p".into(), bytes.clone());
        read(text, &files);
        bytes = support::program(&[("x", 8)]);
        // Headers and tables are where it hurts.
        let end = bytes.len();
        for (place, byte) in places {
            let index = match place.index(2) {
                0 => place.index(64 + 2 * 56),
                _ => end - 1 - place.index(4 * 64 + 300),
            };
            bytes[index] = byte;
        }
        files.programs.insert("p".into(), bytes);
        read(text, &files);
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn any_system_can_be_drawn(text in system()) {
        read(&text, &support::default_programs());
    }
}

#[test]
fn depth_does_not_matter() {
    let deep = "<a>".repeat(20_000);
    read(&format!("<system>{deep}"), &NoFiles);
    read(
        &format!("<system>{deep}{}</system>", "</a>".repeat(20_000)),
        &NoFiles,
    );
}
