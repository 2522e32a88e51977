//! Commands on keys.

use alloc::vec::Vec;

use crate::command::{Context, Outcome, Refusal, integer, is};
use crate::glob;
use crate::parser::{Arguments, number};

/// Longest pattern of keys.
const PATTERN: usize = 1024;
/// Places that one `SCAN` looks at, at most.
const SCAN: usize = 4096;
/// Steps that all comparisons of one command with a pattern may take together.
const STEPS: usize = 1 << 26;

pub fn del(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let (store, now) = (&mut *context.store, context.now);
    let removed = arguments.from(1).filter(|key| store.remove(key, now));
    let removed = removed.count();
    context.replies.integer(removed as i64);
    Ok(())
}

pub fn exists(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let (store, now) = (&mut *context.store, context.now);
    let found = arguments.from(1).filter(|key| store.contains(key, now));
    let found = found.count();
    context.replies.integer(found as i64);
    Ok(())
}

fn set_expiry(context: &mut Context<'_>, arguments: Arguments<'_>, unit: i64) -> Outcome {
    let (key, now) = (arguments.get(1), context.now);
    let amount = integer(arguments.get(2))?;
    let after = amount.checked_mul(unit).ok_or(Refusal::ExpireTime)?;
    let at = now.saturating_add_signed(after);
    if at > i64::MAX as u64 {
        return Err(Refusal::ExpireTime);
    }
    let [mut nx, mut xx, mut gt, mut lt] = [false; 4];
    for word in arguments.from(3) {
        let option = [
            ("NX", &mut nx),
            ("XX", &mut xx),
            ("GT", &mut gt),
            ("LT", &mut lt),
        ]
        .into_iter()
        .find(|(name, _)| is(word, name));
        *option.ok_or(Refusal::Syntax)?.1 = true;
    }
    if (nx && (xx || gt || lt)) || (gt && lt) {
        return Err(Refusal::ExpireOptions);
    }
    let changed = match context.store.expiry(key, now) {
        None => false,
        // A key without an expiry expires after any that has one.
        Some(before) => {
            let end = before.unwrap_or(u64::MAX);
            let wanted = !(nx && before.is_some()
                || xx && before.is_none()
                || gt && at <= end
                || lt && at >= end);
            if wanted && after <= 0 {
                context.store.remove(key, now);
            } else if wanted {
                context.store.set_expiry(key, Some(at), now);
            }
            wanted
        }
    };
    context.replies.integer(changed.into());
    Ok(())
}

pub fn expire(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    set_expiry(context, arguments, 1000)
}

pub fn pexpire(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    set_expiry(context, arguments, 1)
}

/// Milliseconds that are left: -2 without such a key, -1 without an end.
fn left(context: &mut Context<'_>, arguments: Arguments<'_>) -> i64 {
    match context.store.expiry(arguments.get(1), context.now) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => at.saturating_sub(context.now) as i64,
    }
}

pub fn ttl(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let left = left(context, arguments);
    let seconds = if left < 0 {
        left
    } else {
        left.saturating_add(500) / 1000
    };
    context.replies.integer(seconds);
    Ok(())
}

pub fn pttl(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let left = left(context, arguments);
    context.replies.integer(left);
    Ok(())
}

pub fn persist(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let key = arguments.get(1);
    let expires = matches!(context.store.expiry(key, context.now), Some(Some(_)));
    if expires {
        context.store.set_expiry(key, None, context.now);
    }
    context.replies.integer(expires.into());
    Ok(())
}

pub fn kind(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let exists = context.store.contains(arguments.get(1), context.now);
    context
        .replies
        .status(if exists { "string" } else { "none" });
    Ok(())
}

pub fn dbsize(context: &mut Context<'_>, _: Arguments<'_>) -> Outcome {
    context.replies.integer(context.store.keys() as i64);
    Ok(())
}

pub fn flush(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let known = |word| is(word, "SYNC") || is(word, "ASYNC");
    if arguments.count() > 2 || !arguments.from(1).all(known) {
        return Err(Refusal::Syntax);
    }
    context.store.clear();
    context.replies.status("OK");
    Ok(())
}

/// Places whose keys match, of `places`. Counts down what may still be done.
struct Search<'a> {
    pattern: &'a [u8],
    steps: usize,
    bytes: usize,
}

impl<'a> Search<'a> {
    fn new(pattern: &'a [u8], bytes: usize) -> Result<Self, Refusal> {
        if pattern.len() > PATTERN {
            return Err(Refusal::Pattern);
        }
        let steps = STEPS;
        Ok(Self {
            pattern,
            steps,
            bytes,
        })
    }

    /// Whether `key` matches. Refuses when it is too much.
    fn matches(&mut self, key: &[u8]) -> Result<bool, Refusal> {
        let steps = (key.len() + 1) * (self.pattern.len() + 1);
        if self.pattern != b"*" {
            self.steps = self.steps.checked_sub(steps).ok_or(Refusal::Pattern)?;
            if !glob::matches(self.pattern, key) {
                return Ok(false);
            }
        }
        let bytes = self.bytes.checked_sub(key.len() + 16);
        self.bytes = bytes.ok_or(Refusal::AnswerTooLong)?;
        Ok(true)
    }
}

pub fn keys(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let mut search = Search::new(arguments.get(1), context.answer_bytes)?;
    let mut found = Vec::new();
    for place in 0..context.store.places() {
        if let Some(key) = context.store.key_at(place, context.now)
            && search.matches(key)?
        {
            found.push(place as u32);
        }
    }
    answer(context, &found);
    Ok(())
}

fn answer(context: &mut Context<'_>, places: &[u32]) {
    context.replies.array(places.len());
    for &place in places {
        let key = context.store.key_at(place as usize, context.now);
        context.replies.bulk(key.unwrap_or_default());
    }
}

pub fn scan(context: &mut Context<'_>, arguments: Arguments<'_>) -> Outcome {
    let cursor = number(arguments.get(1)).and_then(|cursor| usize::try_from(cursor).ok());
    let mut place = cursor.ok_or(Refusal::Cursor)?;
    let (mut pattern, mut count, mut strings): (&[u8], _, _) = (b"*", 10, true);
    let mut rest = arguments.from(2);
    while let Some(word) = rest.next() {
        let value = rest.next().ok_or(Refusal::Syntax)?;
        if is(word, "MATCH") {
            pattern = value;
        } else if is(word, "TYPE") {
            strings = is(value, "string");
        } else if is(word, "COUNT") {
            count = integer(value)?;
            if count < 1 {
                return Err(Refusal::Syntax);
            }
        } else {
            return Err(Refusal::Syntax);
        }
    }
    let mut search = Search::new(pattern, context.answer_bytes)?;
    let mut found = Vec::new();
    let last = place.saturating_add((count as usize).min(SCAN));
    let last = last.min(context.store.places());
    while place < last {
        if let Some(key) = context.store.key_at(place, context.now) {
            match search.matches(key) {
                Ok(true) if strings => found.push(place as u32),
                Ok(_) => {}
                // The next call goes on here.
                Err(_) if !found.is_empty() => break,
                Err(refusal) => return Err(refusal),
            }
        }
        place += 1;
    }
    let next = if place >= context.store.places() {
        0
    } else {
        place
    };
    let mut text = itoa::Buffer::new();
    context.replies.array(2);
    context.replies.bulk(text.format(next).as_bytes());
    answer(context, &found);
    Ok(())
}
