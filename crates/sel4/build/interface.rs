//! Turns the kernel's XML interface files into Rust.

use crate::condition::Configuration;
use roxmltree::{Document, Node};
use std::error::Error;
use std::fmt::Write;

/// How a parameter travels.
enum Kind {
    /// As an extra capability.
    Capability,
    /// In so many bits of the message; the Rust type and how to make a word of it.
    Bits(u32, &'static str, Encoding),
    /// As the words of a whole structure, one message register each.
    Structure,
}

enum Encoding {
    Widen,
    Raw,
    Itself,
}

struct Parameter {
    name: String,
    kind: Kind,
}

/// Generates the system call numbers: -1 downwards, the debug ones after the rest.
pub fn system_calls(text: &str, configuration: &Configuration) -> Result<String, Box<dyn Error>> {
    let document = Document::parse(text)?;
    let mut output = String::new();
    let mut number = -1_i64;
    for group in ["api", "debug"] {
        let group = document.descendants().find(|node| node.has_tag_name(group));
        let group = group.ok_or("syscall.xml lacks a group")?;
        for config in group.children().filter(|node| node.has_tag_name("config")) {
            let kept = configuration.holds(config.attribute("condition").unwrap_or(""))?;
            for call in config
                .children()
                .filter(|node| node.has_tag_name("syscall") && kept)
            {
                let name = call.attribute("name").ok_or("a system call has no name")?;
                let constant = snake_case(name).to_uppercase();
                writeln!(
                    output,
                    "/// Number of the system call `{name}`.\npub const {constant}: i64 = {number};"
                )?;
                number -= 1;
            }
        }
    }
    Ok(output)
}

/// Generates one type for each kind of capability and one method for each
/// invocation, numbered in document order over all `texts`.
pub fn invocations(
    texts: &[String],
    configuration: &Configuration,
) -> Result<String, Box<dyn Error>> {
    let documents = texts
        .iter()
        .map(|text| Document::parse(text))
        .collect::<Result<Vec<_>, _>>()?;
    let mut output = String::new();
    let mut declared: Vec<&str> = Vec::new();
    for (name, about) in CAPABILITIES_WITHOUT_METHODS {
        declare(name, about, &mut output)?;
        declared.push(name);
    }
    let mut label = 0;
    let mut labels = String::new();
    for document in &documents {
        for interface in document
            .descendants()
            .filter(|node| node.has_tag_name("interface"))
        {
            let interface_name = interface
                .attribute("name")
                .ok_or("an interface has no name")?;
            let mut methods = String::new();
            for method in interface
                .children()
                .filter(|node| node.has_tag_name("method"))
            {
                if configuration.holds(method.attribute("condition").unwrap_or(""))? {
                    label += 1;
                    let identifier = method.attribute("id").ok_or("a method has no id")?;
                    writeln!(
                        labels,
                        "/// Label of `{identifier}`.\npub const {identifier}: Word = {label};"
                    )?;
                    write_method(&method, label, &documents, &mut methods)
                        .map_err(|error| format!("{interface_name}: {error}"))?;
                }
            }
            if methods.is_empty() {
                continue;
            }
            let name = capability(interface_name)
                .ok_or_else(|| format!("no Rust type for the interface {interface_name}"))?;
            if !declared.contains(&name) {
                declare(name, interface_name, &mut output)?;
                declared.push(name);
            }
            writeln!(output, "impl {name} {{\n{methods}}}")?;
        }
    }
    writeln!(
        output,
        "/// The invocations' labels, under the kernel's names.\n\
         #[allow(non_upper_case_globals)]\npub mod label {{\nuse crate::Word;\n{labels}}}"
    )?;
    for name in structures(&documents) {
        let rust = name.trim_start_matches("seL4_");
        if rust != "UserContext" {
            continue;
        }
        let members = members(&documents, name)?;
        writeln!(
            output,
            "/// A thread's registers, in the order of the kernel's `{name}`.\n\
             #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]\n#[repr(C)]\npub struct {rust} {{"
        )?;
        for member in &members {
            writeln!(
                output,
                "    /// The register `{member}`.\n    pub {member}: Word,"
            )?;
        }
        writeln!(
            output,
            "}}\nimpl {rust} {{\n    /// Number of registers.\n    pub const COUNT: usize = {0};\n\
             \x20   /// The registers as words.\n    pub fn words(&self) -> [Word; {0}] {{\n        [{1}]\n    }}\n\
             \x20   /// The registers from their words.\n    pub fn from_words(words: [Word; {0}]) -> Self {{\n\
             \x20       let [{2}] = words;\n        Self {{ {2} }}\n    }}\n}}",
            members.len(),
            members
                .iter()
                .map(|member| format!("self.{member}"))
                .collect::<Vec<_>>()
                .join(", "),
            members.join(", "),
        )?;
    }
    Ok(output)
}

fn declare(name: &str, about: &str, output: &mut String) -> std::fmt::Result {
    writeln!(output, "capability!(/// `{about}`.\n{name});")
}

fn write_method(
    method: &Node,
    label: u32,
    documents: &[Document],
    output: &mut String,
) -> Result<(), Box<dyn Error>> {
    let identifier = method.attribute("id").ok_or("a method has no id")?;
    let name = snake_case(method.attribute("name").ok_or("a method has no name")?);
    // A keyword of Rust.
    let name = if name == "move" {
        "move_".to_owned()
    } else {
        name
    };
    let mut inputs = Vec::new();
    let mut outputs = Vec::new();
    let mut documentation = Vec::new();
    for parameter in method.children().filter(|node| node.has_tag_name("param")) {
        let parameter_name = snake_case(parameter.attribute("name").ok_or("no parameter name")?);
        let parameter_name = if parameter_name == "type" {
            "object_type".to_owned()
        } else {
            parameter_name
        };
        let type_name = parameter
            .attribute("type")
            .ok_or("a parameter has no type")?;
        let kind =
            kind(type_name).ok_or_else(|| format!("{identifier}: no Rust type for {type_name}"))?;
        if let Some(text) = parameter.attribute("description") {
            documentation.push(format!("/// - `{parameter_name}`: {text}"));
        }
        let parameters = if parameter.attribute("dir") == Some("out") {
            &mut outputs
        } else {
            &mut inputs
        };
        parameters.push((
            Parameter {
                name: parameter_name,
                kind,
            },
            type_name,
        ));
    }

    writeln!(output, "    /// `{identifier}` (label {label}).")?;
    if !documentation.is_empty() {
        writeln!(output, "    ///")?;
    }
    for line in documentation {
        writeln!(output, "    {line}")?;
    }
    writeln!(
        output,
        "    ///\n    /// # Errors\n    ///\n    /// What the kernel refuses, see [`Error`]."
    )?;
    writeln!(
        output,
        "    #[inline]\n    #[allow(clippy::too_many_arguments, clippy::cast_lossless)]"
    )?;

    let mut arguments = String::new();
    let mut capabilities = Vec::new();
    let mut words: Vec<Vec<String>> = Vec::new();
    let mut used_bits = 0_u32;
    for (parameter, type_name) in &inputs {
        let variable = &parameter.name;
        match &parameter.kind {
            Kind::Capability => {
                write!(arguments, ", {variable}: impl Into<CPtr>")?;
                capabilities.push(format!("{variable}.into()"));
            }
            Kind::Structure => {
                write!(
                    arguments,
                    ", {variable}: &{}",
                    type_name.trim_start_matches("seL4_")
                )?;
                used_bits = used_bits.next_multiple_of(64);
                for member in members(documents, type_name)? {
                    place(&mut words, used_bits, format!("{variable}.{member}"));
                    used_bits += 64;
                }
            }
            Kind::Bits(bits, rust, encoding) => {
                write!(arguments, ", {variable}: {rust}")?;
                // The kernel's own generator aligns each parameter to its size.
                used_bits = used_bits.next_multiple_of(*bits);
                let word = match encoding {
                    Encoding::Itself => variable.clone(),
                    Encoding::Raw => format!("{variable}.raw()"),
                    Encoding::Widen => format!("({variable} as Word)"),
                };
                let shift = used_bits % 64;
                let word = if shift == 0 {
                    word
                } else {
                    format!("({word} << {shift})")
                };
                place(&mut words, used_bits, word);
                used_bits += bits;
            }
        }
    }

    let result = match &outputs[..] {
        [] => "()".to_owned(),
        [(parameter, type_name)] => match &parameter.kind {
            Kind::Structure => type_name.trim_start_matches("seL4_").to_owned(),
            Kind::Bits(_, rust, _) => (*rust).to_owned(),
            Kind::Capability => return Err("a capability as a result".into()),
        },
        several => {
            let types = several.iter().map(|(parameter, _)| match parameter.kind {
                Kind::Bits(_, rust, _) => Ok(rust),
                _ => Err("several results, not all of them words"),
            });
            format!("({})", types.collect::<Result<Vec<_>, _>>()?.join(", "))
        }
    };
    writeln!(
        output,
        "    pub fn {name}(self{arguments}) -> Result<{result}, Error> {{"
    )?;
    let words: Vec<String> = words.into_iter().map(|parts| parts.join(" | ")).collect();
    let answer = if outputs.is_empty() {
        ""
    } else {
        "let answer = "
    };
    writeln!(
        output,
        "        {answer}crate::invocation::invoke(self.cptr(), {label}, &[{}], &[{}])?;",
        capabilities.join(", "),
        words.join(", "),
    )?;
    writeln!(
        output,
        "        {}\n    }}",
        result_expression(&outputs, documents)?
    )?;
    Ok(())
}

fn place(words: &mut Vec<Vec<String>>, first_bit: u32, expression: String) {
    let index = (first_bit / 64) as usize;
    if words.len() <= index {
        words.resize_with(index + 1, Vec::new);
    }
    words[index].push(expression);
}

fn result_expression(
    outputs: &[(Parameter, &str)],
    documents: &[Document],
) -> Result<String, Box<dyn Error>> {
    let mut parts = Vec::new();
    let mut used_bits = 0_u32;
    for (parameter, type_name) in outputs {
        match &parameter.kind {
            Kind::Bits(bits, rust, _) => {
                used_bits = used_bits.next_multiple_of(*bits);
                let (index, shift) = (used_bits / 64, used_bits % 64);
                parts.push(match *rust {
                    "Word" => format!("answer.word({index})"),
                    "bool" => format!("(answer.word({index}) >> {shift}) & 1 != 0"),
                    rust if shift == 0 => format!("answer.word({index}) as {rust}"),
                    rust => format!("(answer.word({index}) >> {shift}) as {rust}"),
                });
                used_bits += bits;
            }
            _ => {
                used_bits = used_bits.next_multiple_of(64);
                let first = used_bits as usize / 64;
                let count = members(documents, type_name)?.len();
                let rust = type_name.trim_start_matches("seL4_");
                if first != 0 {
                    return Err("a structure that is not the first result".into());
                }
                parts.push(format!(
                    "{rust}::from_words(core::array::from_fn(|index| answer.word(index)))"
                ));
                used_bits += 64 * count as u32;
            }
        }
    }
    Ok(match &parts[..] {
        [] => "Ok(())".to_owned(),
        [one] => format!("Ok({one})"),
        several => format!("Ok(({}))", several.join(", ")),
    })
}

fn structures<'a>(documents: &'a [Document]) -> Vec<&'a str> {
    documents
        .iter()
        .flat_map(|document| document.descendants())
        .filter(|node| node.has_tag_name("struct"))
        .filter_map(|node| node.attribute("name"))
        .collect()
}

fn members(documents: &[Document], name: &str) -> Result<Vec<String>, String> {
    documents
        .iter()
        .flat_map(|document| document.descendants())
        .find(|node| node.has_tag_name("struct") && node.attribute("name") == Some(name))
        .map(|node| {
            node.children()
                .filter(|node| node.has_tag_name("member"))
                .filter_map(|node| node.attribute("name").map(str::to_owned))
                .collect()
        })
        .ok_or_else(|| format!("the structure {name} is not described"))
}

/// Capabilities that are passed around but have no invocations of their own.
const CAPABILITIES_WITHOUT_METHODS: [(&str, &str); 4] = [
    ("Pml4", "seL4_X64_PML4, the root of an address space"),
    ("IoSpace", "seL4_X86_IOSpace, a device's address space"),
    ("Endpoint", "seL4_Endpoint"),
    ("Notification", "seL4_Notification"),
];

/// The Rust type of a kind of capability.
fn capability(name: &str) -> Option<&'static str> {
    Some(match name {
        "seL4_CPtr" => "CPtr",
        "seL4_Untyped" => "Untyped",
        "seL4_TCB" => "Tcb",
        "seL4_CNode" => "CNode",
        "seL4_IRQControl" => "IrqControl",
        "seL4_IRQHandler" => "IrqHandler",
        "seL4_DomainSet" => "DomainSet",
        "seL4_X64_PML4" => "Pml4",
        "seL4_X86_PDPT" => "PageDirectoryPointerTable",
        "seL4_X86_PageDirectory" => "PageDirectory",
        "seL4_X86_PageTable" => "PageTable",
        "seL4_X86_IOPageTable" => "IoPageTable",
        "seL4_X86_IOSpace" => "IoSpace",
        "seL4_X86_Page" => "Page",
        "seL4_X86_ASIDControl" => "AsidControl",
        "seL4_X86_ASIDPool" => "AsidPool",
        "seL4_X86_IOPort" => "IoPort",
        _ => return None,
    })
}

fn kind(type_name: &str) -> Option<Kind> {
    // In the kernel's own generator seL4_Bool is one bit wide and CPtr a capability.
    Some(match type_name {
        "seL4_Word" | "seL4_Uint64" => Kind::Bits(64, "Word", Encoding::Itself),
        "seL4_Uint32" | "int" => Kind::Bits(32, "u32", Encoding::Widen),
        "seL4_Uint16" => Kind::Bits(16, "u16", Encoding::Widen),
        "seL4_Uint8" => Kind::Bits(8, "u8", Encoding::Widen),
        "seL4_Bool" => Kind::Bits(1, "bool", Encoding::Widen),
        "seL4_CapData_t" => Kind::Bits(64, "CapData", Encoding::Raw),
        "seL4_PrioProps_t" => Kind::Bits(64, "Priorities", Encoding::Raw),
        "seL4_CapRights_t" => Kind::Bits(64, "CapRights", Encoding::Raw),
        "seL4_X86_VMAttributes" => Kind::Bits(64, "VmAttributes", Encoding::Raw),
        "seL4_UserContext" => Kind::Structure,
        other => {
            capability(other)?;
            Kind::Capability
        }
    })
}

/// `GetIOAPIC` -> `get_ioapic`, `ReplyRecv` -> `reply_recv`, `In8` -> `in8`.
fn snake_case(name: &str) -> String {
    let characters: Vec<char> = name.chars().collect();
    let mut result = String::new();
    for (index, character) in characters.iter().enumerate() {
        let previous = index.checked_sub(1).map(|index| characters[index]);
        let next = characters.get(index + 1);
        let starts_word = character.is_ascii_uppercase()
            && previous.is_some_and(|previous| {
                previous.is_ascii_lowercase()
                    || previous.is_ascii_digit()
                    || (previous.is_ascii_uppercase() && next.is_some_and(char::is_ascii_lowercase))
            });
        if starts_word && previous != Some('_') {
            result.push('_');
        }
        result.push(character.to_ascii_lowercase());
    }
    result
}
