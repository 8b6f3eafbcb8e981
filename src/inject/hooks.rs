//! What an app's preStop hook does: sleep, or something that we must not take away.

use std::time::Duration;

use serde_json::{Value, json};

use super::{list_at, text_at};

/// The path of a hook that has the token in it.
const WITH_TOKEN: &str = "/drain?token=";

/// A hook that is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// It waits so long and does nothing else.
    Sleep(Duration),
    /// Anything else, in a few words.
    Other(String),
}

/// The preStop hook of a container; `None` when it has none.
pub(super) fn pre_stop(container: &Value) -> Option<Hook> {
    let hook = container.get("lifecycle")?.get("preStop").filter(|hook| !hook.is_null())?;
    if let Some(seconds) = hook.get("sleep").and_then(|sleep| sleep.get("seconds")).and_then(Value::as_u64) {
        return Some(Hook::Sleep(Duration::from_secs(seconds)));
    }
    if let Some(exec) = hook.get("exec") {
        let words: Vec<&str> = list_at(exec, "command").iter().filter_map(Value::as_str).collect();
        let shown = shortened(&words.join(" "));
        return Some(command_sleep(&words).map_or(Hook::Other(format!("exec: {shown}")), Hook::Sleep));
    }
    if let Some(get) = hook.get("httpGet") {
        return Some(Hook::Other(format!("httpGet {}", text_at(get, "path").unwrap_or("/"))));
    }
    Some(Hook::Other("an action of another kind".to_owned()))
}

/// How long a command sleeps, if it does nothing else: `sleep 5`, also in a shell.
fn command_sleep(words: &[&str]) -> Option<Duration> {
    match words {
        [program, seconds @ ..] if base(program) == "sleep" => duration(seconds.iter().copied()),
        [shell, flag, script] if is_shell(shell) && flag.starts_with('-') && flag.ends_with('c') => {
            script_sleep(script)
        }
        _ => None,
    }
}

fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

fn is_shell(program: &str) -> bool {
    matches!(base(program), "sh" | "bash" | "ash" | "dash" | "busybox" | "ksh" | "zsh")
}

fn script_sleep(script: &str) -> Option<Duration> {
    let script = script.trim().trim_end_matches(';').trim_end();
    let script = script.strip_prefix("exec ").unwrap_or(script);
    let mut words = script.split_whitespace();
    if base(words.next()?) == "sleep" { duration(words) } else { None }
}

/// The arguments of `sleep`: numbers with a unit or none, which are added up. Rounded to whole seconds, upwards.
fn duration<'a>(arguments: impl Iterator<Item = &'a str>) -> Option<Duration> {
    let mut sum = None;
    for text in arguments {
        let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
            Some(number) => (number, text.as_bytes()[number.len()]),
            None => (text, b's'),
        };
        if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return None;
        }
        let factor = match unit {
            b'm' => 60.0,
            b'h' => 3600.0,
            _ => 1.0,
        };
        *sum.get_or_insert(0.0) += number.parse::<f64>().ok()? * factor;
    }
    Duration::try_from_secs_f64(f64::ceil(sum?)).ok().filter(|sum| sum.as_secs() <= 86_400)
}

fn shortened(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > 60 { line.chars().take(57).collect::<String>() + "..." } else { line }
}

/// The hook that waits for the drain. The port by its number: a name would be looked up in the container that has the hook.
///
/// The token is in a header; for classic sidecars in the path, because they are for old clusters, too, and a kubelet before 1.26 does
/// not send a hook's headers (kubernetes/kubernetes#86139).
pub(super) fn drain(admin_port: u16, token: &str, classic: bool) -> Value {
    if classic {
        return json!({"httpGet": {"path": format!("{WITH_TOKEN}{}", encoded(token)), "port": admin_port}});
    }
    json!({
        "httpGet": {
            "path": "/drain",
            "port": admin_port,
            "httpHeaders": [{"name": "Authorization", "value": format!("Bearer {token}")}],
        }
    })
}

/// Whether a hook is one that [`drain`] makes.
pub(super) fn is_ours(hook: &Value) -> bool {
    let Some(get) = hook.get("httpGet") else { return false };
    let bearer = |header: &Value| {
        text_at(header, "name") == Some("Authorization")
            && text_at(header, "value").is_some_and(|value| value.starts_with("Bearer "))
    };
    match text_at(get, "path") {
        Some("/drain") => list_at(get, "httpHeaders").iter().any(bearer),
        Some(path) => path.starts_with(WITH_TOKEN),
        None => false,
    }
}

/// A query's value: what could mean something else there is written as its number.
fn encoded(token: &str) -> String {
    let mut text = String::new();
    for byte in token.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(pre_stop: Value) -> Option<Hook> {
        super::pre_stop(&json!({"lifecycle": {"preStop": pre_stop}}))
    }

    fn exec(command: Value) -> Option<Hook> {
        hook(json!({"exec": {"command": command}}))
    }

    /// Guards: every way to write a hook that only sleeps, with its seconds.
    #[test]
    fn sleeps() {
        let secs = |n| Some(Hook::Sleep(Duration::from_secs(n)));
        assert_eq!(hook(json!({"sleep": {"seconds": 7}})), secs(7));
        assert_eq!(exec(json!(["sleep", "5"])), secs(5));
        assert_eq!(exec(json!(["/bin/sleep", "1m", "2.5s"])), secs(63));
        assert_eq!(exec(json!(["sh", "-c", "sleep 15"])), secs(15));
        assert_eq!(exec(json!(["/bin/bash", "-ec", " exec /bin/sleep 0.2 ; "])), secs(1));
    }

    /// Guards: both hooks are known again, with any token; a hook of somebody else is not taken for ours.
    #[test]
    fn ours() {
        for classic in [false, true] {
            assert!(is_ours(&drain(9900, "a&b=%/c", classic)));
        }
        let path = |hook: Value| hook["httpGet"]["path"].clone();
        assert_eq!(path(drain(9900, "a&b=%/c~1", true)), "/drain?token=a%26b%3D%25%2Fc~1");
        for other in [json!({"path": "/drain"}), json!({"path": "/stop?token=x"}), json!({})] {
            assert!(!is_ours(&json!({"httpGet": other})), "{other}");
        }
        assert!(!is_ours(&json!({"exec": {"command": ["sleep", "5"]}})));
    }

    /// Guards: what does more than sleep, or what nobody can tell, is not taken away.
    #[test]
    fn others() {
        for command in [
            json!(["sh", "-c", "sleep 5 && nginx -s quit"]),
            json!(["sh", "-c", "sleep 5; rm /tmp/ready"]),
            json!(["sh", "-c", "sleep $DELAY"]),
            json!(["sleep"]),
            json!(["sleep", "infinity"]),
            json!(["sh", "sleep.sh"]),
            json!(["nginx", "-s", "quit"]),
            json!([]),
        ] {
            assert!(matches!(exec(command.clone()), Some(Hook::Other(_))), "{command}");
        }
        assert!(matches!(hook(json!({"httpGet": {"path": "/stop", "port": 1}})), Some(Hook::Other(_))));
        assert_eq!(hook(Value::Null), None);
        assert_eq!(super::pre_stop(&json!({"lifecycle": {}})), None);
    }
}
