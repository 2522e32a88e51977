//! Counting guest instructions with the QEMU plugin.

mod program;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use segue_qemu::Machine;

pub use program::Program;

/// Executed guest instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instructions {
    /// Outside the kernel.
    pub user: u64,
    /// In the kernel.
    pub kernel: u64,
}

impl Instructions {
    /// All of them.
    pub fn total(self) -> u64 {
        self.user + self.kernel
    }

    /// Those executed since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user - earlier.user,
            kernel: self.kernel - earlier.kernel,
        }
    }
}

/// The plugin of one machine.
pub struct Counter {
    // Holds the socket, and goes away with it.
    _folder: tempfile::TempDir,
    socket: PathBuf,
    connection: Option<BufReader<UnixStream>>,
}

/// Instructions by where they are: the root of the page tables (0 for the kernel) and the address of
/// their block.
pub type Profile = HashMap<(u64, u64), u64>;

impl Counter {
    /// Adds the plugin to `machine`.
    pub fn add(machine: Machine) -> (Machine, Self) {
        Self::add_with(machine, "")
    }

    /// The same; [`Self::profile`] can be asked for.
    pub fn add_profiler(machine: Machine) -> (Machine, Self) {
        Self::add_with(machine, ",blocks=on")
    }

    fn add_with(machine: Machine, more: &str) -> (Machine, Self) {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let socket = folder.path().join("plugin");
        let argument = format!("socket={}{more}", socket.display());
        let machine = machine.plugin(&library(), &argument);
        let counter = Self {
            _folder: folder,
            socket,
            connection: None,
        };
        (machine, counter)
    }

    /// The counts since power-on. The machine must have been started.
    pub fn read(&mut self) -> Instructions {
        let [user, kernel, _] = self.numbers();
        Instructions { user, kernel }
    }

    /// Instructions that were executed before the first one of the kernel's.
    pub fn firmware(&mut self) -> u64 {
        self.numbers()[2]
    }

    /// Instructions that protection domains with this program have executed, outside the kernel,
    /// since power-on. The machine must have run it.
    pub fn of_program(&mut self, program: &Program) -> u64 {
        self.sums_of_program(program)[0]
    }

    /// System calls that protection domains with this program have made since power-on. The
    /// machine must have run it.
    pub fn system_calls_of_program(&mut self, program: &Program) -> u64 {
        self.sums_of_program(program)[1]
    }

    /// Where instructions were executed since power-on.
    pub fn profile(&mut self) -> Profile {
        let read = |line: &str| {
            let mut words = line.split(' ');
            let mut hexadecimal = || u64::from_str_radix(words.next()?, 16).ok();
            let place = (hexadecimal()?, hexadecimal()?);
            Some((place, words.next()?.parse().ok()?))
        };
        let lines = self.ask("blocks");
        let entries = lines
            .iter()
            .map(|line| read(line).unwrap_or_else(|| panic!("the QEMU plugin answered {line:?}")));
        entries.collect()
    }

    /// The roots of the page tables of protection domains with this program.
    pub fn spaces_of_program(&mut self, program: &Program) -> Vec<u64> {
        let spaces = self.spaces();
        let roots = spaces.iter().filter_map(|line| {
            let mut words = line.split(' ');
            let root = u64::from_str_radix(words.next()?, 16).ok()?;
            words
                .skip(2)
                .all(|sample| program.holds(sample))
                .then_some(root)
        });
        roots.collect()
    }

    /// Instructions and system calls.
    fn sums_of_program(&mut self, program: &Program) -> [u64; 2] {
        let answer = self.spaces();
        let (mut found, mut sums) = (0, [0; 2]);
        for line in &answer {
            let mut words = line.split(' ').skip(1);
            let counts = [(); 2].map(|()| {
                let count = words.next().and_then(|word| word.parse::<u64>().ok());
                count.unwrap_or_else(|| panic!("the QEMU plugin answered {line:?}"))
            });
            if words.all(|sample| program.holds(sample)) {
                found += 1;
                for (sum, count) in sums.iter_mut().zip(counts) {
                    *sum += count;
                }
            }
        }
        assert!(found > 0, "none of {} address spaces runs it", answer.len());
        sums
    }

    fn spaces(&mut self) -> Vec<String> {
        self.ask("spaces")
    }

    /// The lines of an answer, up to the empty one.
    fn ask(&mut self, question: &str) -> Vec<String> {
        let connection = self.connection();
        connection
            .get_mut()
            .write_all(format!("{question}\n").as_bytes())
            .expect("the plugin listens while QEMU runs");
        let lines = connection
            .lines()
            .map(|line| line.expect("the plugin answers"));
        lines.take_while(|line| !line.is_empty()).collect()
    }

    fn connection(&mut self) -> &mut BufReader<UnixStream> {
        let socket = &self.socket;
        self.connection.get_or_insert_with(|| {
            let stream = UnixStream::connect(socket);
            BufReader::new(stream.unwrap_or_else(|error| panic!("the QEMU plugin: {error}")))
        })
    }

    fn numbers(&mut self) -> [u64; 3] {
        let connection = self.connection();
        let mut line = String::new();
        connection
            .get_mut()
            .write_all(b"\n")
            .and_then(|()| connection.read_line(&mut line))
            .expect("the plugin answers while QEMU runs");
        let numbers: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[user, kernel, firmware]) => [user, kernel, firmware],
            _ => panic!("the QEMU plugin answered {line:?}"),
        }
    }
}

/// The plugin, which lies where this program's own build put it.
fn library() -> PathBuf {
    let program = std::env::current_exe().expect("a program knows its path");
    let found = program
        .ancestors()
        .map(|folder| folder.join("libsegue_qemu_plugin.so"))
        .find(|file| file.is_file());
    found.expect("`make tools` builds the QEMU plugin beside the tests")
}
