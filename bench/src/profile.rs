//! Which parts of Segue instructions belong to.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use addr2line::Loader;
use segue_system_tests::instructions::{Profile, Program};
use segue_system_tests::paths;

use crate::machines::Counted;

/// The programs of the system, and what they are called here.
const PROGRAMS: [(&str, &str); 11] = [
    ("segue-http", "http"),
    ("segue-kv", "kv"),
    ("segue-echo-server", "echo"),
    ("segue-netserver", "netserver"),
    ("segue-timer", "timer"),
    ("segue-portmap", "portmap"),
    ("segue-igb-pf", "igb-pf"),
    ("segue-pcie", "pcie"),
    ("segue-director", "director"),
    ("segue-console", "console"),
    ("segue-init", "init"),
];
/// What is in the kernel.
const KERNEL: &str = "kernel";

/// Parts by the beginning of a function's name.
const PARTS: &[(&str, &str)] = &[
    ("smoltcp::wire::ip::checksum", "checksums"),
    ("smoltcp", "smoltcp"),
    ("segue_libos", "stack around smoltcp"),
    ("segue_frame_channel", "frame channel"),
    ("segue_shared_memory", "shared memory"),
    ("segue_igb_driver", "driver"),
    ("segue_device", "driver"),
    ("segue_netserver_core", "network server"),
    ("segue_netserver", "network server"),
    ("segue_timer", "timer"),
    ("segue_portmap", "port table"),
    ("segue_http", "application"),
    ("segue_kv", "application"),
    ("segue_echo", "application"),
    ("segue_application", "application"),
    ("segue_status", "counters"),
    ("segue_director", "director"),
    ("httparse", "application"),
    ("sel4", "system calls"),
    ("hashbrown", "hashing"),
    ("siphasher", "hashing"),
    ("talc", "allocator"),
];
/// Parts of the kernel by what a function's name holds; the first that fits. All else is the way in and out, and
/// the lookup of what is named.
const KERNEL_PARTS: &[(&str, &str)] = &[
    ("fastpath", "protected calls"),
    ("IPC", "protected calls"),
    ("Reply", "protected calls"),
    ("ignal", "notifications"),
    ("tfn", "notifications"),
    ("nterrupt", "interrupts"),
    ("apic", "interrupts"),
    ("IRQ", "interrupts"),
    ("imerTick", "interrupts"),
    ("ched", "scheduling"),
    ("switchTo", "scheduling"),
    ("setVMRoot", "scheduling"),
    ("findVSpace", "scheduling"),
];
const KERNEL_ENTRIES: &str = "entries and lookups";
/// Functions that copy.
const COPIES: [&str; 5] = ["memcpy", "memmove", "memset", "memcmp", "bcmp"];

/// The programs' symbols.
pub struct Symbols {
    /// By the root of their page tables; 0 for the kernel.
    programs: HashMap<u64, (&'static str, Loader)>,
    found: RefCell<HashMap<(u64, u64), (String, String)>>,
}

/// Instructions for a unit of work.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    functions: BTreeMap<(String, String, String), f64>,
}

impl Symbols {
    /// Of the machine's programs, which must have run.
    ///
    /// # Errors
    /// A sentence if a program cannot be read.
    pub fn read(machine: &mut Counted) -> Result<Self, String> {
        let mut programs = HashMap::new();
        for (file, name) in PROGRAMS {
            let path = paths::programs("pd").join(file);
            let program = Program::read(file);
            for root in machine.counter().spaces_of_program(&program) {
                let loader =
                    Loader::new(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                programs.insert(root, (name, loader));
            }
        }
        let kernel = paths::kernel("release").with_file_name("kernel.elf");
        if let Ok(loader) = Loader::new(&kernel) {
            programs.insert(0, (KERNEL, loader));
        }
        Ok(Self {
            programs,
            found: RefCell::default(),
        })
    }

    /// What was executed between two profiles, for each of so many units.
    pub fn parts(&self, before: &Profile, after: &Profile, units: u64) -> Parts {
        let mut parts = Parts::default();
        for (&(root, address), &count) in after {
            let count = count - before.get(&(root, address)).copied().unwrap_or(0);
            if count == 0 {
                continue;
            }
            let program = match self.programs.get(&root) {
                Some((name, _)) => *name,
                None if root == 0 => KERNEL,
                None => "?",
            };
            let (part, function) = self.place(root, address);
            let key = (program.to_owned(), part, function);
            *parts.functions.entry(key).or_default() += count as f64 / units.max(1) as f64;
        }
        parts
    }

    /// The part and the function that an address belongs to.
    fn place(&self, root: u64, address: u64) -> (String, String) {
        let mut found = self.found.borrow_mut();
        let place = found.entry((root, address)).or_insert_with(|| {
            let loader = self.programs.get(&root).map(|(_, loader)| loader);
            let names = loader.map_or(Vec::new(), |loader| frames(loader, address));
            if root == 0 {
                return kernel_part(&names);
            }
            part(&names)
        });
        place.clone()
    }
}

/// The functions at an address, the innermost one first.
fn frames(loader: &Loader, address: u64) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(mut frames) = loader.find_frames(address) {
        while let Ok(Some(frame)) = frames.next() {
            if let Some(name) = frame.function {
                names.push(name.demangle().map_or("?".into(), |name| name.into_owned()));
            }
        }
    }
    if names.is_empty()
        && let Some(symbol) = loader.find_symbol(address)
    {
        names.push(addr2line::demangle_auto(symbol.into(), None).into_owned());
    }
    names
}

/// The part of the innermost function that is of one, and that function. The language's own library belongs
/// to whoever uses it.
fn part(names: &[String]) -> (String, String) {
    for name in names {
        let plain = name.trim_start_matches(['<', '&']);
        let last = plain
            .rsplit("::")
            .find(|word| !word.starts_with('h') || word.len() != 17);
        if last.is_some_and(|last| COPIES.contains(&last)) {
            return ("copies".into(), name.clone());
        }
        if let Some((_, part)) = PARTS.iter().find(|(start, _)| plain.starts_with(start)) {
            return ((*part).into(), name.clone());
        }
    }
    ("other".into(), names.first().cloned().unwrap_or("?".into()))
}

/// The part of the kernel that the innermost function with a telling name is of, and the outermost function,
/// which is the one that the kernel's own symbols know.
fn kernel_part(names: &[String]) -> (String, String) {
    let part = names.iter().find_map(|name| {
        let mut parts = KERNEL_PARTS.iter();
        parts.find_map(|(text, part)| name.contains(text).then_some(*part))
    });
    let function = names.last().cloned().unwrap_or("?".into());
    (part.unwrap_or(KERNEL_ENTRIES).into(), function)
}

impl Parts {
    /// Instructions by program and part, the most first.
    pub fn by_part(&self) -> Vec<((String, String), f64)> {
        let entries = self.functions.iter();
        sums(entries.map(|((program, part, _), count)| ((program.clone(), part.clone()), *count)))
    }

    /// Instructions by program, part and function, the most first.
    pub fn functions(&self) -> Vec<((&str, &str, &str), f64)> {
        let entries = self.functions.iter();
        let named = entries
            .map(|((program, part, function), count)| ((&**program, &**part, &**function), *count));
        let mut all: Vec<_> = named.collect();
        all.sort_by(|one, other| other.1.total_cmp(&one.1));
        all
    }
}

/// The sums for each name, the greatest first.
fn sums(entries: impl Iterator<Item = ((String, String), f64)>) -> Vec<((String, String), f64)> {
    let mut all: BTreeMap<(String, String), f64> = BTreeMap::new();
    for (name, count) in entries {
        *all.entry(name).or_default() += count;
    }
    let mut all: Vec<_> = all.into_iter().filter(|(_, count)| *count >= 0.5).collect();
    all.sort_by(|one, other| other.1.total_cmp(&one.1));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_the_kernel_belongs_to_what_it_is_for() {
        for (names, part) in [
            (&["sendSignal", "handleInvocation"][..], "notifications"),
            (&["restore_user_context"], KERNEL_ENTRIES),
            (&["resolveAddressBits"], KERNEL_ENTRIES),
            (&["tcbSchedDequeue", "schedule"], "scheduling"),
            (&["fastpath_call"], "protected calls"),
            (&["handle_interrupt"], "interrupts"),
            (&[], KERNEL_ENTRIES),
        ] {
            let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
            assert_eq!(kernel_part(&names).0, part, "{names:?}");
        }
    }

    #[test]
    fn a_function_belongs_to_the_innermost_part() {
        let of =
            |names: &[&str]| part(&names.iter().map(|name| (*name).into()).collect::<Vec<_>>()).0;
        assert_eq!(
            of(&[
                "core::ptr::read",
                "smoltcp::wire::tcp::Packet::len",
                "segue_libos::x"
            ]),
            "smoltcp"
        );
        assert_eq!(of(&["memcpy", "segue_libos::x"]), "copies");
        assert_eq!(
            of(&["compiler_builtins::mem::memcpy::h0123456789abcdef"]),
            "copies"
        );
        assert_eq!(
            of(&["<segue_http_core::Server as core::fmt::Debug>::fmt"]),
            "application"
        );
        assert_eq!(of(&["core::ptr::read"]), "other");
        assert_eq!(of(&[]), "other");
    }
}
