//! Patterns of keys.

/// Whether all of `text` matches `pattern`: `*` any bytes, `?` one, `[a-z]` and `[^a-z]` one of
/// a set, `\` takes the next byte as it is. Takes time of at most the product of both lengths.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut rest, mut left) = (pattern, text);
    // Where to go on when what follows the last `*` does not match: one byte later.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', after @ ..] = rest {
            retry = Some((after, left));
            rest = after;
            continue;
        }
        let matched = match (rest, left) {
            ([], []) => return true,
            (_, []) | ([], _) => None,
            (_, [byte, after @ ..]) => one(rest, *byte).map(|rest| (rest, after)),
        };
        match (matched, retry) {
            (Some(next), _) => (rest, left) = next,
            (None, Some((after, [_, shorter @ ..]))) => {
                retry = Some((after, shorter));
                (rest, left) = (after, shorter);
            }
            (None, _) => return false,
        }
    }
}

/// If the pattern's first element matches `byte`: the pattern behind it.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', after @ ..] => Some(after),
        [b'\\', escaped, after @ ..] => (*escaped == byte).then_some(after),
        [b'[', set @ ..] => {
            let (found, after) = in_set(set, byte);
            found.then_some(after)
        }
        [literal, after @ ..] => (*literal == byte).then_some(after),
    }
}

/// Whether a set holds `byte`, and the pattern behind it. A set without an end goes to the end.
fn in_set(set: &[u8], byte: u8) -> (bool, &[u8]) {
    let (negated, mut rest) = match set {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [] => return (found != negated, rest),
            [b']', after @ ..] => return (found != negated, after),
            [b'\\', escaped, after @ ..] => {
                found |= *escaped == byte;
                after
            }
            [from, b'-', to, after @ ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                after
            }
            [literal, after @ ..] => {
                found |= *literal == byte;
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        let matching: &[(&str, &str)] = &[
            ("", ""),
            ("*", ""),
            ("*", "any"),
            ("a*c", "abbc"),
            ("a*b*c", "aXbbYc"),
            ("h?llo", "hello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-c]llo", "hbllo"),
            ("h[c-a]llo", "hbllo"),
            ("a\\*b", "a*b"),
            ("[\\]]", "]"),
            ("[a", "a"),
            ("a\\", "a\\"),
            ("**a**", "bab"),
        ];
        for (pattern, text) in matching {
            assert!(
                matches(pattern.as_bytes(), text.as_bytes()),
                "{pattern} {text}"
            );
        }
        let not: &[(&str, &str)] = &[
            ("", "a"),
            ("a", ""),
            ("a", "ab"),
            ("h?llo", "hllo"),
            ("h[^e]llo", "hello"),
            ("a\\*b", "axb"),
            ("*a", "ab"),
            ("[]", "a"),
            ("?", ""),
        ];
        for (pattern, text) in not {
            assert!(
                !matches(pattern.as_bytes(), text.as_bytes()),
                "{pattern} {text}"
            );
        }
        // Exponential if each star were tried with each other.
        let pattern = "a*".repeat(50) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(2000).as_bytes()));
    }
}
