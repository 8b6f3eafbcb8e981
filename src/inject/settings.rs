//! What can be chosen, for all workloads by flags and for each by annotations.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::{Budget, BudgetError, Scheme, parse_duration};

/// What the annotations begin with.
pub const DOMAIN: &str = "ebb.dev/";

/// What is written when nothing is chosen; those of `ebb proxy`.
const APP_SHUTDOWN: Duration = Duration::from_secs(5);
const LAME_DUCK_MIN: Duration = Duration::from_secs(5);
const LAME_DUCK_MAX: Duration = Duration::from_secs(15);
const QUIET: Duration = Duration::from_secs(3);

/// Between the shortest and the longest lame duck, and for draining after the longest: what the defaults of `ebb proxy`
/// leave in a grace period of 30 s.
const SLACK: Duration = Duration::from_secs(10);
const DRAINING: Duration = Duration::from_secs(9);

/// What Kubernetes takes when a pod says nothing.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// Whether `ebb proxy` takes a variable with a value, or what would be right.
type Check = fn(&str, &str) -> Result<(), String>;

/// See [`Settings::variables`].
#[derive(Debug, Clone, Copy)]
pub struct Variables(pub Check);

impl Default for Variables {
    fn default() -> Self {
        Self(|_, _| Ok(()))
    }
}

/// What was asked for; whatever is absent is decided by looking at the pod.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Two ordinary containers instead of a native sidecar.
    pub classic: bool,
    /// ebb's image.
    pub image: Option<String>,
    /// When it is pulled.
    pub image_pull_policy: Option<String>,
    /// The app's ports; none: every TCP port that its containers declare.
    pub ports: Vec<Asked>,
    /// The containers that make up the app; none: all of them.
    pub containers: Vec<String>,
    /// Where /drain is.
    pub admin_port: Option<u16>,
    /// At least so much for the pod's end.
    pub grace_period: Option<Duration>,
    /// Of that for the app's own shutdown.
    pub app_shutdown: Option<Duration>,
    /// The shortest lame duck.
    pub lame_duck_min: Option<Duration>,
    /// The longest lame duck.
    pub lame_duck_max: Option<Duration>,
    /// What ends lame duck between the two.
    pub quiet: Option<Duration>,
    /// A hook of the app's own that does more than sleep makes room for ebb's.
    pub replace_hook: bool,
    /// The drain token; none: the one that is there, or a new one.
    pub token: Option<String>,
    /// Settings of `ebb proxy`, by their variables.
    pub env: Vec<(String, String)>,
    /// Which of these `ebb proxy` takes: only its command line knows them.
    pub variables: Variables,
    /// The resources of ebb's container.
    pub cpu: Option<String>,
    /// See `cpu`.
    pub cpu_limit: Option<String>,
    /// See `cpu`.
    pub memory: Option<String>,
    /// See `cpu`.
    pub memory_limit: Option<String>,
    /// A Secret with the certificate and the key of `https://` ports.
    pub tls_secret: Option<String>,
    /// What an annotation has set, by the flag's name.
    pub annotated: BTreeSet<String>,
}

/// A port of the app, as it was asked for: `[SCHEME://][LISTEN=]PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What is spoken there; none: told by the port's name and probes.
    pub scheme: Option<Scheme>,
    /// Where ebb listens; none: chosen.
    pub listen: Option<u16>,
    /// The number or the name of the app's port.
    pub port: String,
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("'{text}': write [SCHEME://][LISTEN=]PORT, like 3000, http, 8080=3000 or tcp://5432");
        let (scheme, rest) = match text.split_once("://") {
            None => (None, text),
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some(("tcp", rest)) => (Some(Scheme::Tcp), rest),
            Some(_) => return Err(wrong()),
        };
        let (listen, port) = match rest.split_once('=') {
            None => (None, rest),
            Some((listen, port)) => {
                (Some(listen.parse().ok().filter(|&n: &u16| n > 0).ok_or_else(wrong)?), port)
            }
        };
        let is_name = port.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let number = port.bytes().all(|b| b.is_ascii_digit());
        if port.is_empty() || !is_name || (number && port.parse::<u16>().map_or(true, |n| n == 0)) {
            return Err(wrong());
        }
        Ok(Self { scheme, listen, port: port.to_owned() })
    }
}

impl Settings {
    /// These settings with those of an object's annotations, which count more.
    ///
    /// # Errors
    /// Names the annotation and says what would be right.
    pub fn with_annotations(&self, annotations: Option<&Map<String, Value>>) -> Result<Self, String> {
        let mut settings = self.clone();
        for (name, value) in annotations.into_iter().flatten() {
            let Some(setting) = name.strip_prefix(DOMAIN) else { continue };
            if name == super::INJECT || name == super::INJECTED {
                continue;
            }
            let text = value.as_str().ok_or_else(|| format!("annotation {name}: put the value in quotes"))?;
            settings.set(setting, text).map_err(|error| format!("annotation {name}: {error}"))?;
            settings.annotated.insert(setting.to_owned());
        }
        Ok(settings)
    }

    /// Sets what a flag is called by, from text.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        let text = text.trim();
        match name {
            "classic" => self.classic = switch(text)?,
            "replace-hook" => self.replace_hook = switch(text)?,
            "image" => self.image = Some(word(text)?),
            "image-pull-policy" => self.image_pull_policy = Some(pull_policy(text)?),
            "port" => self.ports = list(text).map(str::parse).collect::<Result<_, _>>()?,
            "container" => self.containers = list(text).map(str::to_owned).collect(),
            "admin-port" => self.admin_port = Some(port(text)?),
            "grace-period" => self.grace_period = Some(parse_duration(text)?),
            "app-shutdown" => self.app_shutdown = Some(parse_duration(text)?),
            "lame-duck-min" => self.lame_duck_min = Some(parse_duration(text)?),
            "lame-duck-max" => self.lame_duck_max = Some(parse_duration(text)?),
            "quiet" => self.quiet = Some(parse_duration(text)?),
            "token" => self.token = Some(token(text)?),
            "env" => {
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                self.env = lines.map(|line| variable(line, self.variables.0)).collect::<Result<_, _>>()?;
            }
            "cpu" => self.cpu = Some(quantity(text)?),
            "cpu-limit" => self.cpu_limit = Some(quantity(text)?),
            "memory" => self.memory = Some(quantity(text)?),
            "memory-limit" => self.memory_limit = Some(quantity(text)?),
            "tls-secret" => self.tls_secret = Some(word(text)?),
            _ => return Err("ebb knows no such setting: see deploy/README.md".to_owned()),
        }
        Ok(())
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("'{text}': write \"true\" or \"false\""))
}

/// One word of visible characters.
pub(crate) fn word(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err(format!("'{text}': write one word"))
    }
}

/// A bearer token as `ebb proxy` takes it. Of a `$` in a variable Kubernetes makes something else, and not of one in a hook.
pub(crate) fn token(text: &str) -> Result<String, String> {
    let token = word(text).ok().filter(|token| !token.contains('$'));
    token.ok_or_else(|| "the token must be one word of visible ASCII characters, without $".to_owned())
}

/// An amount of something, as Kubernetes writes it.
pub(crate) fn quantity(text: &str) -> Result<String, String> {
    match super::resources::amount(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("'{text}': write a quantity, like 100m, 0.5 or 64Mi")),
    }
}

/// A port that can be listened on.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| format!("'{text}': write a port from 1 to 65535"))
}

/// One of the three that Kubernetes knows.
pub(crate) fn pull_policy(text: &str) -> Result<String, String> {
    match text {
        "Always" | "IfNotPresent" | "Never" => Ok(text.to_owned()),
        _ => Err(format!("'{text}': write Always, IfNotPresent or Never")),
    }
}

/// `NAME=VALUE`; of `EBB_` names `check` knows more.
pub(crate) fn variable(text: &str, check: Check) -> Result<(String, String), String> {
    const OURS: [(&str, &str); 11] = [
        ("EBB_ADMIN", "admin-port"),
        ("EBB_ADMIN_TOKEN", "token"),
        ("EBB_ADMIN_TOKEN_FILE", "token"),
        ("EBB_APP_SHUTDOWN", "app-shutdown"),
        ("EBB_FORWARD", "port"),
        ("EBB_GRACE_PERIOD", "grace-period"),
        ("EBB_LAME_DUCK_MAX", "lame-duck-max"),
        ("EBB_LAME_DUCK_MIN", "lame-duck-min"),
        ("EBB_QUIET", "quiet"),
        ("EBB_TLS_CERT", "tls-secret"),
        ("EBB_TLS_KEY", "tls-secret"),
    ];
    let (name, value) = text.split_once('=').ok_or_else(|| format!("'{text}': write NAME=VALUE"))?;
    if let Some((_, flag)) = OURS.iter().find(|(ours, _)| *ours == name) {
        return Err(format!(
            "{name} has a setting of its own here: --{flag}, or the annotation {DOMAIN}{flag}"
        ));
    }
    let fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if !fits || name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(format!("'{name}' is no name of a variable: write NAME=VALUE"));
    }
    if name.starts_with("EBB_") {
        check(name, value)?;
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// The times of one pod, known to be accepted by `ebb proxy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    /// Whole seconds, as Kubernetes has it.
    pub(super) grace_period: Duration,
    pub(super) app_shutdown: Option<Duration>,
    pub(super) lame_duck_min: Option<Duration>,
    pub(super) lame_duck_max: Option<Duration>,
    pub(super) quiet: Option<Duration>,
}

impl Settings {
    /// The times for a pod that has a grace period and slept for `slept` in its hooks. What `ebb proxy` takes by itself is left out.
    ///
    /// # Errors
    /// The sum that does not come out.
    pub(super) fn times(&self, present: Option<u64>, slept: Option<Duration>) -> Result<Times, String> {
        let min = self.lame_duck_min.or(slept);
        let shortest = min.unwrap_or(LAME_DUCK_MIN);
        let slack = shortest.saturating_add(SLACK);
        let max = self.lame_duck_max.or((slack > LAME_DUCK_MAX).then_some(slack));
        let (longest, app) = (max.unwrap_or(LAME_DUCK_MAX), self.app_shutdown.unwrap_or(APP_SHUTDOWN));
        let present = present.map(Duration::from_secs);
        let grace = match self.grace_period {
            Some(asked) => asked.max(present.unwrap_or_default()),
            None => {
                let sum = [app, crate::config::MARGIN, longest, DRAINING];
                sum.into_iter()
                    .fold(Duration::ZERO, Duration::saturating_add)
                    .max(present.unwrap_or(DEFAULT_GRACE))
            }
        };
        let whole = Duration::from_secs(grace.as_secs().saturating_add(u64::from(grace.subsec_nanos() > 0)));
        if i64::try_from(whole.as_secs()).is_err() {
            let asked = self.grace_period.is_some_and(|asked| asked == grace);
            let name = if asked { self.name("grace-period") } else { "the grace period".to_owned() };
            return Err(format!("{name} is longer than Kubernetes can say: lower it"));
        }
        Budget::new(whole, app, shortest, longest, self.quiet.unwrap_or(QUIET))
            .map_err(|error| self.contradiction(&error, present.unwrap_or_default()))?;
        Ok(Times {
            grace_period: whole,
            app_shutdown: self.app_shutdown,
            lame_duck_min: min,
            lame_duck_max: max,
            quiet: self.quiet,
        })
    }
}

impl Settings {
    /// What a setting was given by: a flag, or the annotation that counts more.
    fn name(&self, flag: &str) -> String {
        if self.annotated.contains(flag) { format!("{DOMAIN}{flag}") } else { format!("--{flag}") }
    }

    /// What `ebb proxy` would say of its flags, by the names that the times were given here. `present`: the pod's own grace period.
    fn contradiction(&self, error: &BudgetError, present: Duration) -> String {
        let name = |flag: &str| self.name(flag);
        let (longest, app) = (name("lame-duck-max"), name("app-shutdown"));
        match error {
            BudgetError::LameDuck { min, max } => {
                let shortest = match self.lame_duck_min {
                    None if *min != LAME_DUCK_MIN => "the hook's sleep of".to_owned(),
                    _ => name("lame-duck-min"),
                };
                let (min, max) = (seconds(*min), seconds(*max));
                format!("{shortest} {min} is more than {longest} {max}: lower the one or raise the other")
            }
            BudgetError::Grace { grace_period, app_shutdown, lame_duck_max, needed } => {
                let asked = name("grace-period");
                let stated = match self.grace_period {
                    Some(asked) if asked < present => "terminationGracePeriodSeconds",
                    _ => &asked,
                };
                // Kubernetes has whole seconds.
                let least = needed.as_secs().saturating_add(u64::from(needed.subsec_nanos() > 0));
                format!(
                    "{stated} {} is too short: {app} {} + margin {} + {longest} {} + {} to drain = {}: raise {asked} to {least}s or \
                     more, or lower {longest} or {app}",
                    seconds(*grace_period),
                    seconds(*app_shutdown),
                    seconds(crate::config::MARGIN),
                    seconds(*lame_duck_max),
                    seconds(crate::config::DRAINING_MIN),
                    seconds(*needed),
                )
            }
        }
    }
}

/// One number and a unit, without spaces, as flags take it and Kubernetes writes it.
pub(super) fn seconds(time: Duration) -> String {
    if time.subsec_nanos() == 0 { format!("{}s", time.as_secs()) } else { format!("{}ms", time.as_millis()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grace(asked: Option<u64>, present: Option<u64>, slept: Option<u64>) -> u64 {
        let secs = |n: Option<u64>| n.map(Duration::from_secs);
        let settings = Settings { grace_period: secs(asked), ..Settings::default() };
        settings.times(present, secs(slept)).unwrap().grace_period.as_secs()
    }

    /// Guards: what is there is never lowered, whoever asks, and is raised as far as the rest needs.
    #[test]
    fn grace_periods() {
        assert_eq!(grace(None, None, None), 30);
        assert_eq!(grace(None, Some(10), None), 30);
        assert_eq!(grace(None, Some(120), Some(5)), 120);
        assert_eq!(grace(None, Some(30), Some(20)), 45);
        assert_eq!(grace(Some(40), Some(120), None), 120);
        assert_eq!(grace(Some(40), Some(30), None), 40);
        assert_eq!(grace(Some(25), None, None), 25);
    }

    /// Guards: a port that can't be meant, and one that can.
    #[test]
    fn ports() {
        let asked: Asked = "tcp://15432=5432".parse().unwrap();
        assert_eq!(
            (asked.scheme, asked.listen, asked.port.as_str()),
            (Some(Scheme::Tcp), Some(15432), "5432")
        );
        for wrong in ["", "0", "70000", "0=80", "80=", "ftp://80", "80=http=1", "a b", "HTTP"] {
            assert!(wrong.parse::<Asked>().is_err(), "{wrong}");
        }
    }
}
