//! Generates the bindings' constants and invocations from the kernel's own
//! interface files and from the configuration that the kernel is built with.
//!
//! Nothing that the kernel numbers (system calls, invocation labels, object
//! types, message layouts) is written by hand: a kernel of another
//! configuration gives other bindings.

mod bitfield;
mod condition;
mod header;
mod interface;

use condition::Configuration;
use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The C headers whose enumerations and plain defines become constants, in
/// the order in which they refer to each other.
const HEADERS: [&str; 9] = [
    "libsel4/include/sel4/errors.h",
    "libsel4/include/sel4/constants.h",
    "libsel4/include/sel4/bootinfo_types.h",
    "libsel4/include/sel4/shared_types.h",
    "libsel4/include/sel4/objecttype.h",
    "libsel4/sel4_arch_include/x86_64/sel4/sel4_arch/objecttype.h",
    "libsel4/arch_include/x86/sel4/arch/objecttype.h",
    "libsel4/sel4_arch_include/x86_64/sel4/sel4_arch/constants.h",
    "libsel4/arch_include/x86/sel4/arch/types.h",
];

/// The kernel takes a CNode's guard apart with this block of its own.
const KERNEL_STRUCTURES: &str = "include/object/structures_64.bf";

/// The bit layouts that user code and kernel share.
const BITFIELDS: [&str; 3] = [
    "libsel4/include/sel4/shared_types_64.bf",
    "libsel4/arch_include/x86/sel4/arch/shared_types.bf",
    KERNEL_STRUCTURES,
];

/// The invocations, in the order in which the kernel numbers them: common,
/// then x86_64, then x86.
const INTERFACES: [&str; 3] = [
    "libsel4/include/interfaces/sel4.xml",
    "libsel4/sel4_arch_include/x86_64/interfaces/sel4arch.xml",
    "libsel4/arch_include/x86/interfaces/sel4arch.xml",
];

const SYSTEM_CALLS: &str = "libsel4/include/api/syscall.xml";

fn main() {
    println!("cargo:rerun-if-changed=build");
    if let Err(error) = generate() {
        eprintln!("error: the seL4 bindings cannot be generated: {error}");
        std::process::exit(1);
    }
}

fn generate() -> Result<(), Box<dyn Error>> {
    let source = segue_kernel::source()?;
    // Debug and release differ in the debug system calls alone; the bindings
    // have these, and callers must know whether the kernel does.
    let configuration =
        Configuration::new(segue_kernel::configuration(segue_kernel::Variant::Debug));
    let read = |path: &str| read(&source, path);
    let output = PathBuf::from(std::env::var("OUT_DIR")?);

    let mut constants = String::new();
    let mut known = header::Constants::default();
    for path in HEADERS {
        known
            .add(&read(path)?, &configuration)
            .map_err(|error| format!("{path}: {error}"))?;
    }
    for (name, value) in known.iter() {
        writeln!(
            constants,
            "/// `{name}` of the kernel's headers.\npub const {name}: Word = {value:#x};"
        )?;
    }
    for name in [
        "CONFIG_MAX_NUM_BOOTINFO_UNTYPED_CAPS",
        "CONFIG_RETYPE_FAN_OUT_LIMIT",
    ] {
        let value = configuration.number(name)?;
        writeln!(
            constants,
            "/// `{name}` of the kernel's configuration.\npub const {name}: Word = {value};"
        )?;
    }
    for path in BITFIELDS {
        let text = read(path)?;
        let wanted: &[&str] = match path {
            KERNEL_STRUCTURES => &["cnode_capdata"],
            _ => &["seL4_MessageInfo", "seL4_PrioProps", "seL4_CapRights"],
        };
        bitfield::fields(&text, wanted, &mut constants)
            .and_then(|()| bitfield::tags(&text, &configuration, &mut constants))
            .map_err(|error| format!("{path}: {error}"))?;
    }
    std::fs::write(output.join("constants.rs"), constants)?;

    let calls = interface::system_calls(&read(SYSTEM_CALLS)?, &configuration)?;
    std::fs::write(output.join("system_calls.rs"), calls)?;

    let texts = INTERFACES
        .iter()
        .map(|path| read(path))
        .collect::<Result<Vec<_>, _>>()?;
    std::fs::write(
        output.join("invocations.rs"),
        interface::invocations(&texts, &configuration)?,
    )?;
    Ok(())
}

fn read(source: &Path, path: &str) -> Result<String, Box<dyn Error>> {
    let path = source.join(path);
    std::fs::read_to_string(&path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()).into())
}
