//! Reads enumerations and plain numeric defines from the kernel's C headers.

use crate::condition::Configuration;
use std::collections::BTreeMap;

/// Names that the headers define, with their values.
#[derive(Default)]
pub struct Constants(BTreeMap<String, u64>);

impl Constants {
    pub fn iter(&self) -> impl Iterator<Item = (&String, &u64)> {
        self.0.iter()
    }

    /// Adds what `text` defines under `configuration`.
    pub fn add(&mut self, text: &str, configuration: &Configuration) -> Result<(), String> {
        let text = active_text(&without_comments(text), configuration)?;
        for line in text.lines() {
            let mut words = line.split_whitespace();
            if words.next() != Some("#define") {
                continue;
            }
            // Function-like macros and macros that expand to code are no constants.
            if let (Some(name), Some(value), None) = (words.next(), words.next(), words.next())
                && is_name(name)
                && let Some(value) = self.value(value)
            {
                self.0.insert(name.to_owned(), value);
            }
        }
        let code: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .collect::<Vec<_>>()
            .join("\n");
        let mut rest = code.as_str();
        while let Some(start) = rest.find("enum") {
            rest = &rest[start + 4..];
            let Some(open) = rest.find('{') else { break };
            // `enum name` used as a type has something other than a name before `{`.
            if !rest[..open].trim().is_empty() && !is_name(rest[..open].trim()) {
                continue;
            }
            let close = rest[open..]
                .find('}')
                .ok_or("an enumeration is not closed")?
                + open;
            self.enumeration(&rest[open + 1..close])?;
            rest = &rest[close..];
        }
        Ok(())
    }

    fn enumeration(&mut self, body: &str) -> Result<(), String> {
        let mut next = 0_u64;
        for entry in body
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
        {
            // The last entry of some enumerations only sets the type's size.
            if entry.starts_with("SEL4_FORCE_LONG_ENUM") {
                continue;
            }
            let (name, value) = match entry.split_once('=') {
                None => (entry, next),
                Some((name, "-1")) | Some((name, " -1")) => (name.trim(), u64::MAX),
                Some((name, value)) => match self.value(value.trim()) {
                    Some(value) => (name.trim(), value),
                    // Depends on something outside these headers: leave it out.
                    None => continue,
                },
            };
            if !is_name(name) {
                return Err(format!("not the name of an enumeration's value: {name}"));
            }
            self.0.insert(name.to_owned(), value);
            next = value.wrapping_add(1);
        }
        Ok(())
    }

    fn value(&self, text: &str) -> Option<u64> {
        if let Some(digits) = text.strip_prefix("0x") {
            return u64::from_str_radix(digits, 16).ok();
        }
        text.parse().ok().or_else(|| self.0.get(text).copied())
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn without_comments(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("/*") {
        result.push_str(&rest[..start]);
        rest = rest[start..]
            .find("*/")
            .map_or("", |end| &rest[start + end + 2..]);
    }
    result.push_str(rest);
    result
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The lines that the preprocessor would keep.
fn active_text(text: &str, configuration: &Configuration) -> Result<String, String> {
    let mut result = String::new();
    // One entry a nested conditional: whether its present branch is kept.
    let mut kept: Vec<bool> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix("#ifdef") {
            kept.push(configuration.holds(&format!("defined {}", name.trim()))?);
        } else if let Some(name) = trimmed.strip_prefix("#ifndef") {
            // Also true for include guards, whose names nobody has defined yet.
            kept.push(!configuration.holds(&format!("defined {}", name.trim()))?);
        } else if let Some(condition) = trimmed.strip_prefix("#if ") {
            kept.push(configuration.holds(condition)?);
        } else if trimmed.starts_with("#else") {
            let branch = kept.last_mut().ok_or("#else without #if")?;
            *branch = !*branch;
        } else if trimmed.starts_with("#endif") {
            kept.pop().ok_or("#endif without #if")?;
        } else if kept.iter().all(|branch| *branch) {
            result.push_str(line);
            result.push('\n');
        }
    }
    Ok(result)
}
