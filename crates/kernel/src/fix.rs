//! Segue's fixes, and their strict application.
//!
//! A fix is a unified diff with a header of comment lines. A hunk is applied only if its lines
//! (context and removed ones) occur exactly once in the file, byte for byte: no fuzz, and no
//! choice among similar places. So a fix written for another source stops the build.

use std::path::Path;

use crate::Error;

/// A fix: its name, and the text of its file.
#[derive(Clone, Copy, Debug)]
pub struct Fix {
    /// File name without the extension, such as `h1-unmap-on-every-deletion`.
    pub name: &'static str,
    /// The unified diff, with its header.
    pub text: &'static str,
}

macro_rules! fixes {
    ($($name:literal),* $(,)?) => {
        &[$(Fix { name: $name, text: include_str!(concat!("../fixes/", $name, ".patch")) }),*]
    };
}

/// All fixes, in the order in which they are applied.
pub const FIXES: &[Fix] = fixes![
    "h1-unmap-on-every-deletion",
    "h2-flush-context-cache",
    "h3-clear-unmapped-io-page-table",
    "h4-align-kernel-stacks",
    "h5-restore-segment-bases",
    "h6-limit-user-addresses",
    "h7-revocable-io-space",
    "h8-clear-user-flags",
    "h9-refuse-deep-io-page-table",
    "align-untyped-at-zero",
    "count-slots-in-words",
    "derive-page-directory-pointer-table",
    "do-not-revive-deleted-threads",
    "flush-new-io-page-table",
    "read-multiboot-addresses",
    "tell-device-frames-apart",
    "whole-fault-address",
];

/// A change to one file.
struct FileChange {
    path: &'static str,
    hunks: Vec<Hunk>,
}

/// Consecutive lines, and what they become.
struct Hunk {
    old: Vec<&'static str>,
    new: Vec<&'static str>,
}

/// Applies `fix` to the source in `directory`.
///
/// # Errors
/// If it is not a well-formed diff, or if any of its hunks does not fit exactly once.
pub fn apply(fix: &Fix, directory: &Path) -> Result<(), Error> {
    for change in parse(fix)? {
        let path = directory.join(change.path);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Error::new(format!(
                "the fix {} no longer applies: cannot read {}: {error}",
                fix.name,
                path.display()
            ))
        })?;
        let fixed = apply_to_text(fix.name, &change, &text)?;
        std::fs::write(&path, fixed).map_err(|error| Error::file("write", &path, &error))?;
    }
    Ok(())
}

fn apply_to_text(name: &str, change: &FileChange, text: &str) -> Result<String, Error> {
    let mut lines: Vec<&str> = text.lines().collect();
    for (number, hunk) in change.hunks.iter().enumerate() {
        let places: Vec<usize> = lines
            .windows(hunk.old.len())
            .enumerate()
            .filter(|(_, window)| *window == hunk.old.as_slice())
            .map(|(place, _)| place)
            .collect();
        let [place] = places[..] else {
            return Err(Error::new(format!(
                "the fix {name} no longer applies: its change {} to {} fits in {} places instead of \
                 one; the kernel's source has changed, so write the fix anew for it",
                number + 1,
                change.path,
                places.len()
            )));
        };
        lines.splice(place..place + hunk.old.len(), hunk.new.iter().copied());
    }
    let mut fixed = lines.join("\n");
    fixed.push('\n');
    Ok(fixed)
}

fn parse(fix: &Fix) -> Result<Vec<FileChange>, Error> {
    let malformed =
        |line: usize, what: &str| Error::new(format!("fixes/{}.patch:{line}: {what}", fix.name));
    let mut changes: Vec<FileChange> = Vec::new();
    let mut lines = fix.text.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        if line.starts_with("--- a/") {
            let Some((_, target)) = lines.next() else {
                return Err(malformed(index + 1, "`---` without `+++`"));
            };
            let Some(path) = target.strip_prefix("+++ b/") else {
                return Err(malformed(index + 2, "expected `+++ b/<path>`"));
            };
            if Some(path) != line.strip_prefix("--- a/") {
                return Err(malformed(index + 2, "a fix may not rename a file"));
            }
            changes.push(FileChange {
                path,
                hunks: Vec::new(),
            });
        } else if line.starts_with("@@ ") {
            let (old_length, new_length) = hunk_lengths(line)
                .ok_or_else(|| malformed(index + 1, "expected `@@ -line,count +line,count @@`"))?;
            let mut hunk = Hunk {
                old: Vec::new(),
                new: Vec::new(),
            };
            while hunk.old.len() < old_length || hunk.new.len() < new_length {
                let Some((index, line)) = lines.next() else {
                    return Err(malformed(index + 1, "the change ends early"));
                };
                // An editor may have stripped the blank of an empty context line.
                let (kind, content) = line.split_at_checked(1).unwrap_or((" ", ""));
                match kind {
                    " " => {
                        hunk.old.push(content);
                        hunk.new.push(content);
                    }
                    "-" => hunk.old.push(content),
                    "+" => hunk.new.push(content),
                    _ => return Err(malformed(index + 1, "expected ` `, `-` or `+`")),
                }
            }
            if hunk.old.len() != old_length || hunk.new.len() != new_length {
                return Err(malformed(index + 1, "the counts do not match the lines"));
            }
            if hunk.old.is_empty() || hunk.old == hunk.new {
                return Err(malformed(
                    index + 1,
                    "a change needs context, and to change it",
                ));
            }
            let Some(change) = changes.last_mut() else {
                return Err(malformed(index + 1, "a change before any file name"));
            };
            change.hunks.push(hunk);
        } else if !line.starts_with('#') && !line.is_empty() {
            return Err(malformed(index + 1, "neither comment nor change"));
        }
    }
    if changes.is_empty() || changes.iter().any(|change| change.hunks.is_empty()) {
        return Err(malformed(1, "nothing to change"));
    }
    Ok(changes)
}

/// The counts of old and of new lines in `@@ -line,count +line,count @@`.
fn hunk_lengths(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split(' ').skip(1);
    let length = |word: &str, sign: char| -> Option<usize> {
        let (_, count) = word
            .strip_prefix(sign)?
            .split_once(',')
            .unwrap_or(("", "1"));
        count.parse().ok()
    };
    let old = length(words.next()?, '-')?;
    let new = length(words.next()?, '+')?;
    (words.next()? == "@@").then_some((old, new))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "int a;\nint b;\nint c;\n";
    const GOOD: &str = "# Closes nothing.\n--- a/x.c\n+++ b/x.c\n\
                        @@ -1,2 +1,2 @@\n int a;\n-int b;\n+int d;\n";

    fn try_fix(text: &'static str, source: &str) -> Result<String, Error> {
        let fix = Fix { name: "test", text };
        let directory = std::env::temp_dir().join(format!(
            "segue-kernel-fix-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("x.c"), source).unwrap();
        let result = apply(&fix, &directory);
        let fixed = std::fs::read_to_string(directory.join("x.c")).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        result.map(|()| fixed)
    }

    #[test]
    fn a_fix_that_fits_is_applied_wherever_the_lines_are() {
        assert_eq!(try_fix(GOOD, SOURCE).unwrap(), "int a;\nint d;\nint c;\n");
        assert_eq!(
            try_fix(GOOD, &format!("int z;\n{SOURCE}")).unwrap(),
            "int z;\nint a;\nint d;\nint c;\n"
        );
    }

    #[test]
    fn a_fix_that_does_not_fit_exactly_once_stops_with_its_name() {
        let spaces = "int  a;\nint b;\n";
        let twice = format!("{SOURCE}{SOURCE}");
        for source in ["", "int a;\nint c;\n", spaces, &twice] {
            let error = try_fix(GOOD, source).unwrap_err().to_string();
            assert!(error.contains("the fix test no longer applies"), "{error}");
            assert!(error.contains("x.c"), "{error}");
        }
    }

    #[test]
    fn a_malformed_fix_is_refused_with_its_line() {
        for (text, line) in [
            ("", 1),
            ("# words only\n", 1),
            ("--- a/x.c\n+++ b/y.c\n@@ -1 +1 @@\n-int a;\n+int z;\n", 2),
            ("--- a/x.c\n+++ b/x.c\n", 1),
            ("--- a/x.c\n+++ b/x.c\n@@ what @@\n", 3),
            ("--- a/x.c\n+++ b/x.c\n@@ -1,2 +1,2 @@\n int a;\n", 3),
            ("--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n int a;\n", 3),
            ("--- a/x.c\n+++ b/x.c\n@@ -0,0 +1 @@\n+int z;\n", 3),
            ("@@ -1 +1 @@\n-int a;\n+int z;\n", 1),
            ("stray\n", 1),
        ] {
            let error = try_fix(text, SOURCE).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("fixes/test.patch:{line}: ")),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn every_fix_says_its_licence_and_what_it_closes() {
        for fix in FIXES {
            let mut lines = fix.text.lines();
            assert_eq!(
                lines.next(),
                Some("# SPDX-License-Identifier: GPL-2.0-only"),
                "{}",
                fix.name
            );
            assert!(
                lines
                    .next()
                    .is_some_and(|line| line.starts_with("# Closes ")),
                "{} does not say what it closes",
                fix.name
            );
            parse(fix).unwrap();
        }
    }

    #[test]
    fn all_fixes_apply_to_the_pinned_source() {
        let source = crate::source().unwrap();
        let copy =
            std::env::temp_dir().join(format!("segue-kernel-all-fixes-{}", std::process::id()));
        for change in FIXES.iter().flat_map(|fix| parse(fix).unwrap()) {
            let target = copy.join(change.path);
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            let text = std::fs::read(source.join(change.path)).unwrap();
            std::fs::write(target, text).unwrap();
        }
        let result = FIXES.iter().try_for_each(|fix| apply(fix, &copy));
        std::fs::remove_dir_all(&copy).unwrap();
        result.unwrap();
    }

    #[test]
    fn every_file_of_a_fix_is_in_the_list() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/fixes");
        let mut files: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".patch").map(str::to_owned))
            .collect();
        files.sort();
        let mut listed: Vec<&str> = FIXES.iter().map(|fix| fix.name).collect();
        listed.sort_unstable();
        assert_eq!(files, listed);
    }
}
