//! Reads bit layouts from the kernel's bitfield descriptions.

use crate::condition::Configuration;
use std::fmt::Write;

/// Writes `<BLOCK>_<FIELD>_SHIFT` and `_BITS` for each field of the `wanted`
/// one-word blocks. Fields are listed from the most significant bit down.
pub fn fields(text: &str, wanted: &[&str], output: &mut String) -> Result<(), String> {
    let text = without_comments(text);
    for block in text.split("block ").skip(1) {
        let (name, rest) = block.split_once('{').ok_or("a block has no body")?;
        let name = name.split('(').next().unwrap_or("").trim();
        if !wanted.contains(&name) {
            continue;
        }
        let body = rest.split('}').next().unwrap_or("");
        let mut words = body.split_whitespace();
        let mut entries: Vec<(Option<&str>, u32)> = Vec::new();
        while let Some(kind) = words.next() {
            let field = match kind {
                "padding" => None,
                "field" => Some(words.next().ok_or("a field has no name")?),
                other => return Err(format!("block {name}: unknown entry {other}")),
            };
            let bits = words.next().and_then(|bits| bits.parse().ok());
            entries.push((
                field,
                bits.ok_or_else(|| format!("block {name}: a size is missing"))?,
            ));
        }
        if entries.iter().map(|(_, bits)| bits).sum::<u32>() != 64 {
            return Err(format!("block {name} is not one word long"));
        }
        let mut shift = 64;
        for (field, bits) in entries {
            shift -= bits;
            if let Some(field) = field {
                let constant = format!("{name}_{field}");
                writeln!(
                    output,
                    "/// Lowest bit of `{field}` in a `{name}` word.\n\
                     pub const {constant}_SHIFT: u32 = {shift};\n\
                     /// Width of `{field}` in a `{name}` word, in bits.\n\
                     pub const {constant}_BITS: u32 = {bits};"
                )
                .map_err(|error| error.to_string())?;
            }
        }
    }
    Ok(())
}

/// Writes `seL4_Fault_<NAME>` for each tag of the union of faults.
pub fn tags(text: &str, configuration: &Configuration, output: &mut String) -> Result<(), String> {
    let text = without_comments(text);
    let Some((_, rest)) = text.split_once("tagged_union seL4_Fault ") else {
        return Ok(());
    };
    let body = rest
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    let (body, _) = body.ok_or("the union of faults has no body")?;
    let mut kept = true;
    for line in body.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["#ifdef", name] => kept = configuration.holds(&format!("defined {name}"))?,
            ["#endif"] => kept = true,
            ["tag", name, number] if kept => writeln!(
                output,
                "/// Label of a `{name}` message.\npub const seL4_Fault_{name}: Word = {number};"
            )
            .map_err(|error| error.to_string())?,
            ["tag", ..] => {}
            _ => return Err(format!("unknown entry in the union of faults: {line}")),
        }
    }
    Ok(())
}

fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| line.split("--").next().unwrap_or(""))
        .collect::<Vec<_>>()
        .join("\n")
}
