//! Mistakes and warnings, each with the place in the file that it is about.

use std::fmt::Display;

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// No image can be made.
    Error,
    /// An image can be made, but perhaps not the one that was meant.
    Warning,
}

/// A mistake or a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where.
    pub position: Position,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong and what to do.
    pub message: String,
}

impl Diagnostic {
    /// The line that people see: `file:line:column: message`.
    pub fn line(&self, file: &str) -> String {
        let Position { line, column } = self.position;
        let kind = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        format!("{file}:{line}:{column}: {kind}{}", self.message)
    }
}

/// Collects diagnostics about one text.
pub(crate) struct Diagnostics<'t> {
    text: &'t str,
    line_starts: Vec<usize>,
    list: Vec<(usize, Diagnostic)>,
}

impl<'t> Diagnostics<'t> {
    /// None yet.
    pub(crate) fn new(text: &'t str) -> Self {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(index, _)| index + 1))
            .collect();
        Diagnostics {
            text,
            line_starts,
            list: Vec::new(),
        }
    }

    /// The place of the byte at `offset`.
    pub(crate) fn position(&self, offset: usize) -> Position {
        let line = self
            .line_starts
            .partition_point(|&start| start <= offset)
            .max(1);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let column = self
            .text
            .get(start..offset.min(self.text.len()))
            .map_or(0, |part| part.chars().count());
        Position {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column + 1).unwrap_or(u32::MAX),
        }
    }

    /// The line of the byte at `offset`, to point at an earlier element.
    pub(crate) fn line(&self, offset: usize) -> u32 {
        self.position(offset).line
    }

    /// Adds a mistake.
    pub(crate) fn error(&mut self, offset: usize, message: impl Display) {
        self.add(offset, Severity::Error, message);
    }

    /// Adds a warning.
    pub(crate) fn warning(&mut self, offset: usize, message: impl Display) {
        self.add(offset, Severity::Warning, message);
    }

    fn add(&mut self, offset: usize, severity: Severity, message: impl Display) {
        let diagnostic = Diagnostic {
            position: self.position(offset),
            severity,
            message: printable(&message.to_string()),
        };
        self.list.push((offset, diagnostic));
    }

    /// Whether there is a mistake.
    pub(crate) fn any_error(&self) -> bool {
        self.errors() > 0
    }

    /// Number of mistakes so far.
    pub(crate) fn errors(&self) -> usize {
        let errors = self.list.iter();
        errors
            .filter(|(_, diagnostic)| diagnostic.severity == Severity::Error)
            .count()
    }

    /// All of them, by place.
    pub(crate) fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.list.sort_by_key(|(offset, _)| *offset);
        let mut list: Vec<Diagnostic> = self.list.into_iter().map(|(_, found)| found).collect();
        list.dedup();
        list
    }
}

/// The text without anything that would change how a terminal shows it: what is
/// quoted may hold any character.
pub(crate) fn printable(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for character in text.chars() {
        // Quotes and backslashes may stay; `escape_debug` knows all others.
        if matches!(character, '"' | '\'' | '\\') {
            result.push(character);
        } else {
            result.extend(character.escape_debug());
        }
    }
    result
}

/// `: did you mean "x"?` with the closest of `known`, or `: known are ...`, or
/// nothing if there are none.
pub(crate) fn suggestion<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    // Upper and lower case count as equal, and so does what was cut short.
    let lower = wrong.to_lowercase();
    let distance = |name: &str| match lower.chars().count() >= 3 && name.starts_with(&lower) {
        true => 0,
        false => strsim::damerau_levenshtein(&lower, &name.to_lowercase()),
    };
    let best = known.iter().map(|name| (distance(name), *name)).min();
    match best {
        Some((distance, name))
            if distance <= 1 + name.chars().count() / 4 && distance < wrong.chars().count() =>
        {
            format!(": did you mean \"{name}\"?")
        }
        _ if known.is_empty() => String::new(),
        _ if known.len() <= 16 => format!(": known are {}", known.join(", ")),
        _ => String::new(),
    }
}
