//! Commands about the server and the connection.

use alloc::string::String;
use core::fmt::Write;

use crate::command::{COMMANDS, Context, Outcome, Refusal, integer, is};
use crate::glob;
use crate::parser::Arguments;

/// The release of Redis whose answers these are like.
const REDIS_VERSION: &str = "7.0.0";
/// Longest name of a client.
const CLIENT_NAME: usize = 256;

/// What `INFO` tells about the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// Clients connected.
    pub clients: usize,
    /// Clients that may be connected.
    pub maximum_clients: usize,
    /// Connections so far.
    pub connections: u64,
    /// Commands so far.
    pub commands: u64,
    /// Bytes of the clients' buffers.
    pub client_memory: usize,
    /// Clients that were shown out because buffers took too much memory.
    pub evicted_clients: u64,
    /// Seconds that a client may be silent.
    pub timeout: u64,
    /// Port that it listens on.
    pub port: u16,
    /// Milliseconds at which the server began.
    pub began: u64,
}

pub fn ping(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    match arguments.count() {
        1 => context.replies.status("PONG"),
        2 => context.replies.bulk(arguments.get(1)),
        _ => return Err(Refusal::Arity),
    }
    Ok(())
}

pub fn echo(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    context.replies.bulk(arguments.get(1));
    Ok(())
}

pub fn quit(context: &mut Context<'_>, _: Arguments<'_>) -> Outcome {
    context.session.quit = true;
    context.replies.status("OK");
    Ok(())
}

pub fn select(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    if integer(arguments.get(1))? != 0 {
        return Err(Refusal::Database);
    }
    context.replies.status("OK");
    Ok(())
}

pub fn auth(_: &mut Context<'_>, _: Arguments<'_>) -> Outcome {
    Err(Refusal::NoPassword)
}

pub fn hello(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    if arguments.count() > 1 && integer(arguments.get(1)) != Ok(2) {
        return Err(Refusal::ProtocolVersion);
    }
    let mut rest = arguments.from(2);
    while let Some(word) = rest.next() {
        if is(word, "SETNAME") {
            set_name(context, rest.next().ok_or(Refusal::Syntax)?)?;
        } else if is(word, "AUTH") {
            return Err(Refusal::NoPassword);
        } else {
            return Err(Refusal::Syntax);
        }
    }
    let number = context.session.number as i64;
    let replies = &mut *context.replies;
    replies.array(14);
    for (name, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        replies.bulk(name.as_bytes());
        replies.bulk(value.as_bytes());
    }
    for (name, value) in [("proto", 2), ("id", number)] {
        replies.bulk(name.as_bytes());
        replies.integer(value);
    }
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        replies.bulk(name.as_bytes());
        replies.bulk(value.as_bytes());
    }
    replies.bulk(b"modules");
    replies.array(0);
    Ok(())
}

fn set_name(context: &mut Context<'_>, name: &[u8]) -> Outcome {
    if name.len() > CLIENT_NAME || !name.iter().all(u8::is_ascii_graphic) {
        return Err(Refusal::ClientName);
    }
    context.session.name = name.to_vec();
    Ok(())
}

pub fn client(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let (what, count) = (arguments.get(1), arguments.count());
    if is(what, "SETNAME") && count == 3 {
        set_name(context, arguments.get(2))?;
        context.replies.status("OK");
    } else if is(what, "SETINFO") && count == 4 {
        context.replies.status("OK");
    } else if is(what, "GETNAME") && count == 2 {
        if context.session.name.is_empty() {
            context.replies.null();
        } else {
            context.replies.bulk(&context.session.name);
        }
    } else if is(what, "ID") && count == 2 {
        context.replies.integer(context.session.number as i64);
    } else {
        return Err(Refusal::Subcommand);
    }
    Ok(())
}

pub fn config(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let what = arguments.get(1);
    if is(what, "SET") {
        return Err(Refusal::Configuration);
    }
    if !is(what, "GET") || arguments.count() < 3 {
        return Err(Refusal::Subcommand);
    }
    if arguments.from(2).any(|pattern| pattern.len() > 128) {
        return Err(Refusal::Pattern);
    }
    let mut number = itoa::Buffer::new();
    let maximum_memory = number.format(context.store.limit());
    let mut number = itoa::Buffer::new();
    let timeout = number.format(context.facts.timeout);
    let mut number = itoa::Buffer::new();
    let clients = number.format(context.facts.maximum_clients);
    let mut number = itoa::Buffer::new();
    let value_bytes = number.format(context.value_bytes);
    let parameters = [
        ("appendonly", "no"),
        ("databases", "1"),
        ("maxclients", clients),
        ("maxmemory", maximum_memory),
        ("maxmemory-policy", "noeviction"),
        ("proto-max-bulk-len", value_bytes),
        ("save", ""),
        ("timeout", timeout),
    ];
    let wanted = |name: &str| {
        let mut patterns = arguments.from(2);
        patterns.any(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
    };
    let found = || parameters.iter().filter(|(name, _)| wanted(name));
    context.replies.array(2 * found().count());
    for (name, value) in found() {
        context.replies.bulk(name.as_bytes());
        context.replies.bulk(value.as_bytes());
    }
    Ok(())
}

pub fn info(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let all = arguments.from(1).all(|section| {
        ["all", "default", "everything"]
            .iter()
            .any(|word| is(section, word))
    });
    let wanted = |name: &str| all || arguments.from(1).any(|section| is(section, name));
    let (facts, store) = (context.facts, &*context.store);
    let mut text = String::new();
    let uptime = context.now.saturating_sub(facts.began) / 1000;
    let sections: [(&str, &[(&str, u64)]); 4] = [
        (
            "Clients",
            &[
                ("connected_clients", facts.clients as u64),
                ("maxclients", facts.maximum_clients as u64),
            ],
        ),
        (
            "Memory",
            &[
                ("used_memory", store.memory() as u64),
                ("maxmemory", store.limit() as u64),
                ("mem_clients_normal", facts.client_memory as u64),
            ],
        ),
        (
            "Persistence",
            &[
                ("loading", 0),
                ("rdb_changes_since_last_save", 0),
                ("aof_enabled", 0),
            ],
        ),
        (
            "Stats",
            &[
                ("total_connections_received", facts.connections),
                ("total_commands_processed", facts.commands),
                ("expired_keys", store.expired()),
                ("evicted_keys", 0),
                ("evicted_clients", facts.evicted_clients),
            ],
        ),
    ];
    // Writing to memory does not fail.
    if wanted("Server") {
        let _ = write!(
            text,
            "# Server\r\nredis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\n\
             segue_kv_version:{}\r\nos:Segue\r\ntcp_port:{}\r\nuptime_in_seconds:{uptime}\r\n",
            env!("CARGO_PKG_VERSION"),
            facts.port,
        );
    }
    for (name, fields) in sections {
        if wanted(name) {
            let between = if text.is_empty() { "" } else { "\r\n" };
            let _ = write!(text, "{between}# {name}\r\n");
            for (field, value) in fields {
                let _ = write!(text, "{field}:{value}\r\n");
            }
            if name == "Memory" {
                let _ = write!(text, "maxmemory_policy:noeviction\r\n");
            }
        }
    }
    if wanted("Replication") {
        let between = if text.is_empty() { "" } else { "\r\n" };
        let _ = write!(
            text,
            "{between}# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"
        );
    }
    if wanted("Keyspace") {
        let between = if text.is_empty() { "" } else { "\r\n" };
        let _ = write!(text, "{between}# Keyspace\r\n");
        if store.keys() > 0 {
            let (keys, expiring) = (store.keys(), store.expiring());
            let _ = write!(text, "db0:keys={keys},expires={expiring},avg_ttl=0\r\n");
        }
    }
    context.replies.bulk(text.as_bytes());
    Ok(())
}

pub fn command(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let (what, replies) = (arguments.get(1), &mut *context.replies);
    if arguments.count() == 1 {
        replies.array(COMMANDS.len());
        for command in COMMANDS {
            replies.array(6);
            replies.bulk(command.name.as_bytes());
            replies.integer(command.arity);
            replies.array(command.flags.len());
            for flag in command.flags {
                replies.status(flag);
            }
            let (first, last, step) = command.keys;
            for number in [first, last, step] {
                replies.integer(number);
            }
        }
    } else if is(what, "COUNT") && arguments.count() == 2 {
        replies.integer(COMMANDS.len() as i64);
    } else if is(what, "DOCS") {
        // There are none; redis-cli asks when it starts.
        replies.array(0);
    } else if is(what, "INFO") {
        replies.array(arguments.count() - 2);
        for _ in arguments.from(2) {
            replies.null_array();
        }
    } else {
        return Err(Refusal::Subcommand);
    }
    Ok(())
}
