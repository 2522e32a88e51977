//! The commands: what each is called, takes and does.

use alloc::vec::Vec;

use crate::info::Facts;
use crate::parser::{Arguments, number};
use crate::reply::Replies;
use crate::store::Store;
use crate::{info, keys, strings};

/// What a client is to the server, apart from its bytes.
#[derive(Debug, Default)]
pub struct Session {
    /// Its number.
    pub number: u64,
    /// The name it gave itself.
    pub name: Vec<u8>,
    /// It is to be shown out after its answers.
    pub quit: bool,
}

/// What a command works with.
pub struct Context<'a> {
    /// The keys.
    pub store: &'a mut Store,
    /// Where the answer goes.
    pub replies: &'a mut Replies,
    /// Who asks.
    pub session: &'a mut Session,
    /// What `INFO` tells.
    pub facts: &'a Facts,
    /// Milliseconds.
    pub now: u64,
    /// Largest value, in bytes.
    pub value_bytes: usize,
    /// Largest answer, in bytes.
    pub answer_bytes: usize,
}

/// A refusal, in Redis' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Options that mean nothing.
    Syntax,
    /// A number that is none.
    NotInteger,
    /// A counter that leaves 64 bits.
    Overflow,
    /// An expiry that is past or too far.
    ExpireTime,
    /// No memory.
    OutOfMemory,
    /// A value that would be too long.
    TooLong,
    /// An answer that would be too long.
    AnswerTooLong,
    /// Options of `EXPIRE` that exclude each other.
    ExpireOptions,
    /// A cursor that is none.
    Cursor,
    /// A database other than 0.
    Database,
    /// A version of RESP that is not spoken.
    ProtocolVersion,
    /// A pattern that would take too long.
    Pattern,
    /// The number of arguments.
    Arity,
    /// No such subcommand.
    Subcommand,
    /// A client's name with spaces or the like.
    ClientName,
    /// `CONFIG SET` of what cannot be set.
    Configuration,
    /// `AUTH`, but there is nothing to prove.
    NoPassword,
}

/// What a command's function returns: its answer is written, or it is refused.
pub type Outcome = Result<(), Refusal>;

type Function = fn(&mut Context<'_>, Arguments<'_>) -> Outcome;

/// A command as `COMMAND` describes it.
pub struct Command {
    /// Its name in lower case.
    pub name: &'static str,
    /// Arguments with the name; negative: at least so many.
    pub arity: i64,
    /// Whether it can change keys, and more of what `COMMAND` tells.
    pub flags: &'static [&'static str],
    /// The first argument that is a key, the last (from the end if negative), and the step.
    pub keys: (i64, i64, i64),
    run: Function,
}

const READ: &[&str] = &["readonly", "fast"];
const READ_SLOW: &[&str] = &["readonly"];
const WRITE: &[&str] = &["write", "denyoom", "fast"];
const WRITE_FREE: &[&str] = &["write", "fast"];
const OTHER: &[&str] = &["fast"];
const ONE: (i64, i64, i64) = (1, 1, 1);
const ALL: (i64, i64, i64) = (1, -1, 1);
const NONE: (i64, i64, i64) = (0, 0, 0);

const fn command(
    name: &'static str,
    arity: i64,
    flags: &'static [&'static str],
    keys: (i64, i64, i64),
    run: Function,
) -> Command {
    Command {
        name,
        arity,
        flags,
        keys,
        run,
    }
}

/// All commands, frequent ones first.
pub const COMMANDS: &[Command] = &[
    command("get", 2, READ, ONE, strings::get),
    command("set", -3, WRITE, ONE, strings::set),
    command("incr", 2, WRITE, ONE, strings::incr),
    command("decr", 2, WRITE, ONE, strings::decr),
    command("incrby", 3, WRITE, ONE, strings::incrby),
    command("decrby", 3, WRITE, ONE, strings::decrby),
    command("mget", -2, READ, ALL, strings::mget),
    command("mset", -3, WRITE, (1, -1, 2), strings::mset),
    command("setnx", 3, WRITE, ONE, strings::setnx),
    command("setex", 4, WRITE, ONE, strings::setex),
    command("psetex", 4, WRITE, ONE, strings::psetex),
    command("getset", 3, WRITE, ONE, strings::getset),
    command("getdel", 2, WRITE_FREE, ONE, strings::getdel),
    command("getrange", 4, READ, ONE, strings::getrange),
    command("append", 3, WRITE, ONE, strings::append),
    command("strlen", 2, READ, ONE, strings::strlen),
    command("del", -2, WRITE_FREE, ALL, keys::del),
    command("unlink", -2, WRITE_FREE, ALL, keys::del),
    command("exists", -2, READ, ALL, keys::exists),
    command("expire", -3, WRITE_FREE, ONE, keys::expire),
    command("pexpire", -3, WRITE_FREE, ONE, keys::pexpire),
    command("ttl", 2, READ, ONE, keys::ttl),
    command("pttl", 2, READ, ONE, keys::pttl),
    command("persist", 2, WRITE_FREE, ONE, keys::persist),
    command("type", 2, READ, ONE, keys::kind),
    command("keys", 2, READ_SLOW, NONE, keys::keys),
    command("scan", -2, READ_SLOW, NONE, keys::scan),
    command("dbsize", 1, READ, NONE, keys::dbsize),
    command("flushdb", -1, WRITE_FREE, NONE, keys::flush),
    command("flushall", -1, WRITE_FREE, NONE, keys::flush),
    command("ping", -1, OTHER, NONE, info::ping),
    command("echo", 2, OTHER, NONE, info::echo),
    command("select", 2, OTHER, NONE, info::select),
    command("hello", -1, OTHER, NONE, info::hello),
    command("auth", -2, OTHER, NONE, info::auth),
    command("client", -2, OTHER, NONE, info::client),
    command("config", -2, OTHER, NONE, info::config),
    command("info", -1, OTHER, NONE, info::info),
    command("command", -1, OTHER, NONE, info::command),
    command("quit", -1, OTHER, NONE, info::quit),
];

/// Runs a command and writes its answer.
pub fn run(context: &mut Context<'_>, arguments: Arguments<'_>) {
    let name = arguments.get(0);
    let found = COMMANDS
        .iter()
        .find(|command| command.name.as_bytes().eq_ignore_ascii_case(name));
    let Some(command) = found else {
        return unknown(context.replies, arguments);
    };
    let count = arguments.count() as i64;
    let outcome = if count == command.arity || (command.arity < 0 && count >= -command.arity) {
        (command.run)(context, arguments)
    } else {
        Err(Refusal::Arity)
    };
    if let Err(refusal) = outcome {
        refuse(context.replies, command.name, arguments, refusal);
    }
}

/// At most 128 bytes, as an error shows them.
fn shown(text: &[u8]) -> impl core::fmt::Display + '_ {
    struct Text<'a>(&'a [u8]);
    impl core::fmt::Display for Text<'_> {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            self.0.utf8_chunks().try_for_each(|chunk| {
                f.write_str(chunk.valid())?;
                f.write_str(if chunk.invalid().is_empty() { "" } else { "?" })
            })
        }
    }
    Text(&text[..text.len().min(128)])
}

fn unknown(replies: &mut Replies, arguments: Arguments<'_>) {
    let name = shown(arguments.get(0));
    let mut beginning = alloc::string::String::new();
    for argument in arguments.from(1) {
        if beginning.len() >= 128 {
            break;
        }
        beginning += &alloc::format!("'{}' ", shown(argument));
    }
    replies.error(format_args!(
        "ERR unknown command '{name}', with args beginning with: {beginning}"
    ));
}

fn refuse(replies: &mut Replies, name: &str, arguments: Arguments<'_>, refusal: Refusal) {
    let text = match refusal {
        Refusal::Syntax => "ERR syntax error",
        Refusal::NotInteger => "ERR value is not an integer or out of range",
        Refusal::Overflow => "ERR increment or decrement would overflow",
        Refusal::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
        Refusal::TooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        Refusal::AnswerTooLong => "ERR the answer is too large: ask for less at once",
        Refusal::ExpireOptions => {
            "ERR NX and XX, GT or LT options at the same time are not compatible"
        }
        Refusal::Cursor => "ERR invalid cursor",
        Refusal::Database => "ERR DB index is out of range",
        Refusal::ProtocolVersion => "NOPROTO unsupported protocol version",
        Refusal::Pattern => "ERR the pattern is too long",
        Refusal::ClientName => {
            "ERR Client names cannot contain spaces, newlines or special characters."
        }
        Refusal::NoPassword => {
            "ERR AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?"
        }
        Refusal::ExpireTime => {
            return replies.error(format_args!("ERR invalid expire time in '{name}' command"));
        }
        Refusal::Arity => {
            return replies.error(format_args!(
                "ERR wrong number of arguments for '{name}' command"
            ));
        }
        Refusal::Subcommand => {
            return replies.error(format_args!(
                "ERR unknown subcommand '{}'. Try {} HELP.",
                shown(arguments.get(1)),
                name.to_ascii_uppercase()
            ));
        }
        Refusal::Configuration => {
            return replies.error(format_args!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{}'",
                shown(arguments.get(2))
            ));
        }
    };
    replies.error(format_args!("{text}"));
}

/// An argument that is a number.
pub fn integer(argument: &[u8]) -> Result<i64, Refusal> {
    number(argument).ok_or(Refusal::NotInteger)
}

/// Whether an argument is this word, in capital letters or not.
pub fn is(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}
