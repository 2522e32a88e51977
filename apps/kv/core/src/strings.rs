//! Commands on values.

use crate::command::{Context, Outcome, Refusal, integer, is};
use crate::parser::{Arguments, number};
use crate::store::{Expiry, Full};

impl From<Full> for Refusal {
    fn from(_: Full) -> Self {
        Self::OutOfMemory
    }
}

/// The time that an expiry option means: `amount` of `milliseconds` each from now.
pub fn from_now(now: u64, amount: i64, milliseconds: i64) -> Result<u64, Refusal> {
    let after = amount.checked_mul(milliseconds).filter(|&after| after > 0);
    after
        .and_then(|after| now.checked_add(after as u64))
        .filter(|&at| at <= i64::MAX as u64)
        .ok_or(Refusal::ExpireTime)
}

/// Answers with the value of a key, or that there is none.
fn answer(context: &mut Context<'_>, key: &[u8]) {
    match context.store.get(key, context.now) {
        Some(value) => context.replies.bulk(value),
        None => context.replies.null(),
    }
}

pub fn get(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    answer(context, arguments.get(1));
    Ok(())
}

#[derive(Default)]
struct SetOptions {
    expiry: Expiry,
    keep: bool,
    /// Only if there is such a key already (`true`), or none yet.
    only_if: Option<bool>,
    get: bool,
}

fn set_options(arguments: Arguments<'_>, now: u64) -> Result<SetOptions, Refusal> {
    let mut options = SetOptions::default();
    let mut rest = arguments.from(3);
    let mut time: Option<(&[u8], i64)> = None;
    while let Some(word) = rest.next() {
        if is(word, "NX") && options.only_if != Some(true) {
            options.only_if = Some(false);
        } else if is(word, "XX") && options.only_if != Some(false) {
            options.only_if = Some(true);
        } else if is(word, "GET") {
            options.get = true;
        } else if is(word, "KEEPTTL") && time.is_none() {
            options.keep = true;
        } else if (is(word, "EX") || is(word, "PX")) && time.is_none() && !options.keep {
            let amount = rest.next().ok_or(Refusal::Syntax)?;
            time = Some((amount, if is(word, "EX") { 1000 } else { 1 }));
        } else {
            return Err(Refusal::Syntax);
        }
    }
    if let Some((amount, milliseconds)) = time {
        options.expiry = Some(from_now(now, integer(amount)?, milliseconds)?);
    }
    Ok(options)
}

pub fn set(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let (key, value, now) = (arguments.get(1), arguments.get(2), context.now);
    if arguments.count() == 3 {
        context.store.set(key, value, None, now)?;
        context.replies.status("OK");
        return Ok(());
    }
    let options = set_options(arguments, now)?;
    let exists = context.store.contains(key, now);
    if options.only_if.is_some_and(|wanted| wanted != exists) {
        if options.get {
            answer(context, key);
        } else {
            context.replies.null();
        }
        return Ok(());
    }
    let expiry = match options.keep {
        true => context.store.expiry(key, now).flatten(),
        false => options.expiry,
    };
    if options.get {
        return exchange(context, key, value, expiry);
    }
    context.store.set(key, value, expiry, now)?;
    context.replies.status("OK");
    Ok(())
}

/// Sets a key and answers with what it was before.
fn exchange(context: &mut Context<'_>, key: &[u8], value: &[u8], expiry: Expiry) -> Outcome {
    // At most `value_bytes`, and gone at the end of the command.
    let before = match context.store.get(key, context.now) {
        Some(before) => {
            let mut copy = alloc::vec::Vec::new();
            copy.try_reserve_exact(before.len()).map_err(|_| Full)?;
            copy.extend_from_slice(before);
            Some(copy)
        }
        None => None,
    };
    context.store.set(key, value, expiry, context.now)?;
    match before {
        Some(before) => context.replies.bulk(&before),
        None => context.replies.null(),
    }
    Ok(())
}

pub fn getset(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    exchange(context, arguments.get(1), arguments.get(2), None)
}

pub fn setnx(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let (key, now) = (arguments.get(1), context.now);
    let fresh = !context.store.contains(key, now);
    if fresh {
        context.store.set(key, arguments.get(2), None, now)?;
    }
    context.replies.integer(fresh.into());
    Ok(())
}

fn set_for(context: &mut Context<'_>, arguments: Arguments<'_>, milliseconds: i64) -> Outcome {
    let expiry = from_now(context.now, integer(arguments.get(2))?, milliseconds)?;
    let (key, value) = (arguments.get(1), arguments.get(3));
    context.store.set(key, value, Some(expiry), context.now)?;
    context.replies.status("OK");
    Ok(())
}

pub fn setex(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    set_for(context, arguments, 1000)
}

pub fn psetex(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    set_for(context, arguments, 1)
}

pub fn getdel(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    answer(context, arguments.get(1));
    context.store.remove(arguments.get(1), context.now);
    Ok(())
}

pub fn getrange(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let (first, last) = (integer(arguments.get(2))?, integer(arguments.get(3))?);
    let value = context
        .store
        .get(arguments.get(1), context.now)
        .unwrap_or_default();
    let length = value.len() as i64;
    let place = |index: i64| {
        if index < 0 {
            index.saturating_add(length)
        } else {
            index
        }
    };
    let from = place(first).max(0);
    let to = place(last).max(0).min(length - 1);
    let range = if length == 0 || from > to || (first < 0 && last < 0 && first > last) {
        0..0
    } else {
        from as usize..to as usize + 1
    };
    context.replies.bulk(value.get(range).unwrap_or_default());
    Ok(())
}

pub fn mget(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let mut bytes = 0;
    for key in arguments.from(1) {
        let value = context.store.get(key, context.now);
        bytes += value.map_or(5, |value| value.len() + 16);
        if bytes > context.answer_bytes {
            return Err(Refusal::AnswerTooLong);
        }
    }
    context.replies.array(arguments.count() - 1);
    for key in arguments.from(1) {
        answer(context, key);
    }
    Ok(())
}

pub fn mset(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    if arguments.count().is_multiple_of(2) {
        return Err(Refusal::Arity);
    }
    let mut rest = arguments.from(1);
    while let (Some(key), Some(value)) = (rest.next(), rest.next()) {
        // Memory can end in the middle: those before are set then, as the error does not say.
        context.store.set(key, value, None, context.now)?;
    }
    context.replies.status("OK");
    Ok(())
}

pub fn append(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let (key, more, now) = (arguments.get(1), arguments.get(2), context.now);
    let before = context.store.get(key, now).map_or(0, <[u8]>::len);
    if before + more.len() > context.value_bytes {
        return Err(Refusal::TooLong);
    }
    let length = context.store.append(key, more, now)?;
    context.replies.integer(length as i64);
    Ok(())
}

pub fn strlen(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let value = context.store.get(arguments.get(1), context.now);
    context.replies.integer(value.map_or(0, <[u8]>::len) as i64);
    Ok(())
}

fn add(context: &mut Context<'_>, key: &[u8], change: i64) -> Outcome {
    let before = match context.store.get(key, context.now) {
        Some(value) => number(value).ok_or(Refusal::NotInteger)?,
        None => 0,
    };
    let after = before.checked_add(change).ok_or(Refusal::Overflow)?;
    let expiry = context.store.expiry(key, context.now).flatten();
    let mut text = itoa::Buffer::new();
    let value = text.format(after).as_bytes();
    context.store.set(key, value, expiry, context.now)?;
    context.replies.integer(after);
    Ok(())
}

pub fn incr(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    add(context, arguments.get(1), 1)
}

pub fn decr(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    add(context, arguments.get(1), -1)
}

pub fn incrby(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    add(context, arguments.get(1), integer(arguments.get(2))?)
}

pub fn decrby(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let change = integer(arguments.get(2))?;
    let change = change.checked_neg().ok_or(Refusal::Overflow)?;
    add(context, arguments.get(1), change)
}
