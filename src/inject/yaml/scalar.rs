//! Scalars: what a plain one means to `kubectl`, and how a value is written so that nobody reads it otherwise.

use serde_json::{Number, Value};

/// What a plain scalar means by the rules of `kubectl`'s parser, which are those of YAML 1.1 with Go's numbers.
/// `None`: a number that JSON does not have.
pub(super) fn resolve(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Some(true.into());
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Some(false.into());
        }
        ".nan" | ".NaN" | ".NAN" => return None,
        _ => {}
    }
    let unsigned = text.trim_start_matches(['+', '-']);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return None;
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Some(text.into());
    }
    let digits = text.replace('_', "");
    Some(integer(&digits).or_else(|| float(&digits)).unwrap_or_else(|| text.into()))
}

/// An integer: decimal, `0x`, `0o`, `0b`, or octal with a leading zero.
fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    // from_str_radix would take a second sign.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative { Some(0i64.checked_sub_unsigned(magnitude)?.into()) } else { Some(magnitude.into()) }
}

/// `[0-9]*\.?[0-9]+([eE][-+][0-9]+)?`, with a sign: an exponent without one makes it a string.
fn float(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or(("", mantissa));
    let exponent_fits = exponent.is_none_or(|text| text.starts_with(['+', '-']) && digits(&text[1..]));
    if !(whole.is_empty() || digits(whole)) || !digits(fraction) || !exponent_fits {
        return None;
    }
    Number::from_f64(text.parse().ok()?).map(Value::Number)
}

/// A scalar on one line, quoted where any YAML would take it for something else.
pub(super) fn write(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        Value::Number(number) => number_text(number),
        other => other.to_string(),
    }
}

/// Without a sign in its exponent a number would be a string in YAML 1.1.
fn number_text(number: &Number) -> String {
    let text = number.to_string();
    match text.split_once('e') {
        Some((mantissa, exponent)) if !exponent.starts_with(['-', '+']) => format!("{mantissa}e+{exponent}"),
        _ => text,
    }
}

/// A scalar between braces or brackets, where older parsers stumble over a plain colon.
pub(super) fn write_in_flow(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains(':') => quoted(text),
        other => write(other),
    }
}

/// A string, plain if it can't be mistaken.
pub(super) fn string(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    quoted(text)
}

fn quoted(text: &str) -> String {
    let printable = text.bytes().all(|b| matches!(b, b' '..=b'~'));
    if printable && text.contains('"') && !text.contains('\'') {
        return format!("'{text}'");
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    for c in serde_json::Value::from(text).to_string().chars() {
        // Line breaks of YAML 1.1, and what some parsers refuse raw.
        if matches!(c, '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') {
            quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            quoted.push(c);
        }
    }
    quoted
}

/// Conservative: letters first, or a number with a unit behind it; nothing that YAML uses itself.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 10] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan"];
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_./@+=-:".contains(c);
    let inner_spaces = text.split(' ').all(|word| !word.is_empty() && !word.ends_with(':'));
    let fits = text.chars().all(|c| allowed(c) || c == ' ') && inner_spaces && !text.contains(" -");
    let is_word = WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    // A flag: a dash is only special with a blank behind it.
    let beyond = text.strip_prefix("--").or_else(|| text.strip_prefix('-')).unwrap_or(text);
    if beyond.len() < text.len() {
        return fits && beyond.starts_with(|c: char| c.is_ascii_alphabetic()) && !text.contains([':', ' ']);
    }
    match text.chars().next() {
        Some(first) if first.is_ascii_alphabetic() || first == '/' => fits && !is_word,
        // Beyond the letters of numbers in any base, so it is none; with a colon it could be base sixty or a date.
        Some(first) if first.is_ascii_digit() => {
            let unit =
                |c: char| c == '=' || matches!(c.to_ascii_lowercase(), 'g'..='n' | 'p'..='w' | 'y' | 'z');
            fits && !text.contains([':', ' ']) && text.contains(unit)
        }
        _ => false,
    }
}
