//! The kernel's configuration, and the preprocessor conditions that depend on it.

use std::collections::BTreeMap;

/// What autoconf.h defines.
pub struct Configuration(BTreeMap<String, String>);

impl Configuration {
    pub fn new<N: Into<String>>(lines: impl IntoIterator<Item = (N, String)>) -> Self {
        Self(
            lines
                .into_iter()
                .map(|(name, value)| (name.into(), value))
                .collect(),
        )
    }

    fn defined(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The value of a numeric setting.
    pub fn number(&self, name: &str) -> Result<u64, String> {
        let value = self
            .0
            .get(name)
            .ok_or_else(|| format!("{name} is not configured"))?;
        value
            .trim()
            .parse()
            .map_err(|_| format!("{name} is not a number: {value}"))
    }

    /// Decides a condition of the forms that occur in the interface files:
    /// `defined NAME`, `defined(NAME)`, `!defined(NAME)`, `NAME > number`,
    /// joined by `&&` or `||`. Anything else is an error, never a guess.
    pub fn holds(&self, condition: &str) -> Result<bool, String> {
        let condition = condition.trim();
        if condition.is_empty() {
            return Ok(true);
        }
        if let Some((left, right)) = condition.split_once("||") {
            return Ok(self.holds(left)? || self.holds(right)?);
        }
        if let Some((left, right)) = condition.split_once("&&") {
            return Ok(self.holds(left)? && self.holds(right)?);
        }
        if let Some(rest) = condition.strip_prefix('!') {
            return Ok(!self.holds(rest)?);
        }
        if let Some(rest) = condition.strip_prefix("defined") {
            let name = rest
                .trim()
                .trim_start_matches('(')
                .trim_end_matches(')')
                .trim();
            if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Ok(self.defined(name));
            }
        }
        if let Some((name, limit)) = condition.split_once('>')
            && let Ok(limit) = limit.trim().parse::<u64>()
        {
            return Ok(self.number(name.trim())? > limit);
        }
        Err(format!("unknown kind of condition: {condition}"))
    }
}
