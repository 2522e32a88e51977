//! A QEMU plugin that counts executed guest instructions, user and kernel apart.
//!
//! `-plugin libsegue_qemu_plugin.so,socket=PATH`: whoever connects to the Unix socket PATH and
//! sends a line gets a line `<user> <kernel> <firmware>`: the totals since power-on, and how many
//! were executed before the kernel's first. A line `spaces` is answered with a line for each address
//! space that has executed anything,
//! `<root of its page tables> <instructions> <system calls> <address>:<bytes>...` (the second and the
//! third number in decimal, others in hexadecimal; what follows are instructions that it has
//! executed, by which a program can be recognised), and an empty line. With the argument `blocks=on`, a line
//! `blocks` is answered with a line for each block that was executed, `<root of its page tables> <address>
//! <instructions>`, and an empty line; the root is 0 for the kernel's, and numbers are as above. An instruction is the kernel's if bit 63 of its address
//! is set; the firmware and the kernel's first steps at low addresses count as user.
//!
//! Counting is done per translation block, by inline code on a counter of each processor, so a
//! block that an exception leaves early counts whole, and what follows an access to a device in its
//! block counts twice, since QEMU leaves the block there and begins another. System calls count once.
//!
//! Everything from QEMU is in [`api`], after `qemu-plugin.h` of API version 4 (QEMU 9.2 and later).

mod api;

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use api::Counter;

struct Counters {
    user: Counter,
    kernel: Counter,
    /// What `user` was when the first block of the kernel was translated.
    firmware: OnceLock<u64>,
    /// By the root of their page tables.
    spaces: Mutex<HashMap<u64, Space>>,
    /// Where instructions are executed, if somebody wants to know.
    blocks: Option<Mutex<Blocks>>,
}

/// Instructions by block.
struct Blocks {
    /// By the root of their page tables and their address: a block is translated again and again.
    places: HashMap<(u64, u64), usize>,
    /// [`MOST_BLOCKS`] of them; those of later blocks are missing.
    counters: Vec<Counter>,
}

/// An address space. Protection domains have no page of code in common, so that a block, which QEMU
/// keeps by physical address, belongs to one.
struct Space {
    instructions: Counter,
    system_calls: Counter,
    /// First instructions of its first blocks.
    samples: Vec<(u64, Vec<u8>)>,
}

/// Blocks whose instructions are counted one by one.
const MOST_BLOCKS: usize = 1 << 17;
/// So many blocks are kept to recognise a program by.
const SAMPLES: usize = 64;
/// The instruction `syscall`.
const SYSTEM_CALL: [u8; 2] = [0x0f, 0x05];
/// The bits of CR3 that are the root of the page tables.
const ROOT: u64 = 0x000f_ffff_ffff_f000;

static COUNTERS: OnceLock<Counters> = OnceLock::new();

/// The API version this plugin is made for; QEMU refuses to load it if it does not know it.
// SAFETY: QEMU looks this symbol up as an `int`; nothing else in the plugin or in QEMU defines it.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 4;

/// Called by QEMU once, before the machine exists. Returns 0 on success.
///
/// # Safety
/// `arguments` points to `count` strings, which QEMU guarantees.
// SAFETY: the symbol and its type are QEMU's convention; nothing else defines it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    _info: *const api::Info,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    let arguments = (0..usize::try_from(count).unwrap_or(0)).map(|index| {
        // SAFETY: by this function's contract `arguments` has `count` valid, terminated strings.
        unsafe { CStr::from_ptr(*arguments.add(index)) }.to_string_lossy()
    });
    let (mut socket, mut has_blocks) = (None, false);
    for argument in arguments {
        match argument.split_once('=') {
            Some(("socket", path)) => socket = Some(path.to_owned()),
            // QEMU makes `on` of a name alone, and leaves what it is given.
            Some(("blocks", "on")) => has_blocks = true,
            _ => {
                eprintln!(
                    "segue-qemu-plugin: unknown argument {argument}; known: socket=PATH, blocks=on"
                );
                return 1;
            }
        }
    }
    let Some(socket) = socket else {
        eprintln!("segue-qemu-plugin: the argument socket=PATH is missing");
        return 1;
    };
    let listener = match UnixListener::bind(&socket) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("segue-qemu-plugin: socket {socket}: {error}");
            return 1;
        }
    };
    COUNTERS.get_or_init(|| Counters {
        user: Counter::new(),
        kernel: Counter::new(),
        firmware: OnceLock::new(),
        spaces: Mutex::default(),
        blocks: has_blocks.then(|| {
            Mutex::new(Blocks {
                places: HashMap::new(),
                counters: Counter::many(MOST_BLOCKS),
            })
        }),
    });
    api::find_cr3(id);
    api::on_translation(id, translated);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A client that goes away is its own affair.
            thread::spawn(move || answer(client));
        }
    });
    0
}

impl Counters {
    /// Has a block outside the kernel counted in its address space, too.
    fn count_in_space(&self, block: &api::Block) {
        let Some(cr3) = api::cr3() else { return };
        self.count_block(cr3 & ROOT, block);
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        let space = spaces.entry(cr3 & ROOT).or_insert_with(|| Space {
            instructions: Counter::new(),
            system_calls: Counter::new(),
            samples: Vec::new(),
        });
        if space.samples.len() < SAMPLES {
            let sample = (block.address(), block.instruction(0));
            space.samples.push(sample);
        }
        block.add_on_execution(&space.instructions, block.instructions());
        // It ends a block.
        let last = block.instructions().saturating_sub(1) as usize;
        if block.instruction(last) == SYSTEM_CALL {
            block.count_instruction(last, &space.system_calls);
        }
    }

    /// Has a block counted by itself, too.
    fn count_block(&self, root: u64, block: &api::Block) {
        let Some(blocks) = &self.blocks else { return };
        let mut blocks = blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let next = blocks.places.len();
        let place = *blocks.places.entry((root, block.address())).or_insert(next);
        if let Some(counter) = blocks.counters.get(place) {
            block.add_on_execution(counter, block.instructions());
        }
    }

    /// The answer about blocks.
    fn blocks(&self) -> String {
        let mut text = String::new();
        if let Some(blocks) = &self.blocks {
            let blocks = blocks.lock().unwrap_or_else(PoisonError::into_inner);
            for (&(root, address), &place) in &blocks.places {
                if let Some(counter) = blocks.counters.get(place) {
                    // Writing to a String does not fail.
                    let _ = writeln!(text, "{root:x} {address:x} {}", counter.sum());
                }
            }
        }
        text
    }

    /// The answer about address spaces.
    fn spaces(&self) -> String {
        let spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (root, space) in &*spaces {
            // Writing to a String does not fail.
            let (instructions, system_calls) = (space.instructions.sum(), space.system_calls.sum());
            let _ = write!(text, "{root:x} {instructions} {system_calls}");
            for (address, bytes) in &space.samples {
                let _ = write!(text, " {address:x}:");
                for byte in bytes {
                    let _ = write!(text, "{byte:02x}");
                }
            }
            text.push('\n');
        }
        text
    }
}

extern "C" fn translated(_id: u64, block: api::Block) {
    if let Some(counters) = COUNTERS.get() {
        let counter = if block.address() >> 63 == 1 {
            counters.firmware.get_or_init(|| counters.user.sum());
            counters.count_block(0, &block);
            &counters.kernel
        } else {
            if counters.firmware.get().is_some() {
                counters.count_in_space(&block);
            }
            &counters.user
        };
        block.add_on_execution(counter, block.instructions());
    }
}

fn answer(client: UnixStream) -> std::io::Result<()> {
    let mut writer = client.try_clone()?;
    for line in BufReader::new(client).lines() {
        let line = line?;
        let Some(counters) = COUNTERS.get() else {
            continue;
        };
        if line == "spaces" {
            writeln!(writer, "{}", counters.spaces())?;
        } else if line == "blocks" {
            writeln!(writer, "{}", counters.blocks())?;
        } else {
            let (user, kernel) = (counters.user.sum(), counters.kernel.sum());
            let firmware = counters.firmware.get().unwrap_or(&user);
            writeln!(writer, "{user} {kernel} {firmware}")?;
        }
    }
    Ok(())
}
