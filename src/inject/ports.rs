//! Which ports of the app ebb fronts, what is spoken there, and where ebb listens.

use std::collections::BTreeSet;

use serde_json::Value;

use super::settings::{Asked, Settings};
use super::{list_at, port_number, text_at};
use crate::config::Scheme;

/// Where the admin port is when it can be.
pub(super) const ADMIN_PORT: u16 = 9900;

/// What it is called there.
pub(super) const ADMIN_NAME: &str = "ebb-admin";

/// So many ports are fronted at most: nobody means more, and each is looked up among all.
pub(super) const MAX_PORTS: usize = 1000;

/// How far from the app's port ebb listens, when it can.
const OFFSET: u16 = 10_000;

/// Places in a container where a port may be named.
pub(super) const PORT_USERS: [&str; 10] = [
    "/livenessProbe/httpGet/port",
    "/livenessProbe/tcpSocket/port",
    "/readinessProbe/httpGet/port",
    "/readinessProbe/tcpSocket/port",
    "/startupProbe/httpGet/port",
    "/startupProbe/tcpSocket/port",
    "/lifecycle/postStart/httpGet/port",
    "/lifecycle/postStart/tcpSocket/port",
    "/lifecycle/preStop/httpGet/port",
    "/lifecycle/preStop/tcpSocket/port",
];

/// Parts of port names that say that no HTTP in the clear is spoken there. `http` reads the first bytes, so it must not be
/// guessed; bytes can be carried whatever they are.
const NOT_HTTP: [&str; 4] = ["tcp", "tls", "https", "ssl"];

/// The same of names that do not begin with HTTP's.
const PROTOCOLS: [&str; 13] = [
    "dns",
    "mysql",
    "postgres",
    "postgresql",
    "redis",
    "mongo",
    "mongodb",
    "amqp",
    "kafka",
    "mqtt",
    "nats",
    "ldap",
    "ssh",
];

/// A port of the app that ebb fronts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// What is spoken there.
    pub scheme: Scheme,
    /// Where ebb listens.
    pub listen: u16,
    /// Where the app listens.
    pub app: u16,
    /// The name that moves to ebb.
    pub name: Option<String>,
    /// The container that listens there, by its index.
    pub(super) container: usize,
}

impl Forwarded {
    /// As `ebb proxy --forward` takes it.
    #[must_use]
    pub fn flag(&self) -> String {
        match self.scheme {
            Scheme::Http => format!("{}={}", self.listen, self.app),
            other => format!("{other}://{}={}", self.listen, self.app),
        }
    }
}

/// A port that a container declares, TCP only.
#[derive(Debug, Clone)]
struct Declared {
    container: usize,
    number: u16,
    name: Option<String>,
}

/// The ports, and where the admin port is.
///
/// # Errors
/// What can't be told from the pod, and how to say it.
pub(super) fn choose(spec: &Value, settings: &Settings) -> Result<(Vec<Forwarded>, u16), String> {
    let apps = app_containers(spec, settings)?;
    let declared = declared(spec, &apps)?;
    let asked = if settings.ports.is_empty() { every(&declared) } else { settings.ports.clone() };
    if asked.is_empty() {
        return Err(format!(
            "no container declares a TCP port: name the app's with --port (or the annotation {0}port: \"3000\"), or leave \
             this one as it is with {0}inject: \"false\"",
            super::DOMAIN
        ));
    }
    if asked.len() > MAX_PORTS {
        return Err(format!("it has more than {MAX_PORTS} ports: name those that matter with --port"));
    }
    let mut taken = taken(spec);
    taken.extend(asked.iter().filter_map(|asked| asked.port.parse::<u16>().ok()));
    // What is only probed may be meant for ebb where somebody chooses it, but is nothing to choose unasked.
    let avoided: BTreeSet<u16> = probed(spec).chain(asked.iter().filter_map(|asked| asked.listen)).collect();
    let admin = match settings.admin_port {
        Some(port) if taken.contains(&port) => return Err(in_use(port, "--admin-port")),
        Some(port) => port,
        None => free_from(ADMIN_PORT, &taken, &avoided),
    };
    taken.insert(admin);
    let mut forwards: Vec<Forwarded> = Vec::new();
    // Those that are fixed come first, so that none of them is taken by one that could be elsewhere.
    for explicit in [true, false] {
        for asked in asked.iter().filter(|asked| asked.listen.is_some() == explicit) {
            let mut forward = forward(asked, &apps, &declared, spec)?;
            if forwards.iter().any(|other| other.app == forward.app) {
                return Err(format!("--port names the app's port {} twice: name it once", forward.app));
            }
            forward.listen = match asked.listen {
                Some(port) if taken.contains(&port) => return Err(in_use(port, "--port LISTEN=PORT")),
                Some(port) => port,
                None => {
                    let near = forward.app.checked_add(OFFSET).unwrap_or_else(|| forward.app - OFFSET);
                    free_from(near, &taken, &avoided)
                }
            };
            taken.insert(forward.listen);
            forwards.push(forward);
        }
    }
    forwards.sort_by_cached_key(|forward| asked.iter().position(|asked| is(asked, forward)));
    unique_names(&mut forwards)?;
    Ok((forwards, admin))
}

fn is(asked: &Asked, forward: &Forwarded) -> bool {
    asked.port.parse() == Ok(forward.app) || Some(asked.port.as_str()) == forward.name.as_deref()
}

/// A container may have a name once only.
fn unique_names(forwards: &mut [Forwarded]) -> Result<(), String> {
    for i in 0..forwards.len() {
        let (before, rest) = forwards.split_at_mut(i);
        if rest[0].name.as_deref() == Some(ADMIN_NAME) {
            return Err(format!(
                "port {} is named {ADMIN_NAME}, as ebb's own is: give it another name",
                rest[0].app
            ));
        }
        if before.iter().any(|other| other.name.is_some() && other.name == rest[0].name) {
            rest[0].name = None;
        }
    }
    Ok(())
}

fn in_use(port: u16, flag: &str) -> String {
    format!("port {port} is taken in this pod: choose another with {flag}")
}

/// The indexes of the containers that may be fronted.
fn app_containers(spec: &Value, settings: &Settings) -> Result<Vec<usize>, String> {
    let containers = list_at(spec, "containers");
    if settings.containers.is_empty() {
        return Ok((0..containers.len()).collect());
    }
    let index = |name: &&String| {
        let position =
            containers.iter().position(|container| text_at(container, "name") == Some(name.as_str()));
        position.ok_or_else(|| format!("there is no container {name}, which --container asks for"))
    };
    let asked: BTreeSet<&String> = settings.containers.iter().collect();
    let mut all: Vec<usize> = asked.iter().map(index).collect::<Result<_, _>>()?;
    all.sort_unstable();
    Ok(all)
}

fn declared(spec: &Value, apps: &[usize]) -> Result<Vec<Declared>, String> {
    let containers = list_at(spec, "containers");
    let mut all: Vec<Declared> = Vec::new();
    for &container in apps {
        for port in list_at(&containers[container], "ports").iter().filter(|port| is_tcp(port)) {
            let Some(number) = port.get("containerPort").and_then(port_number) else { continue };
            if all.iter().any(|other| other.container == container && other.number == number) {
                return Err(format!("a container declares port {number} twice: declare it once"));
            }
            all.push(Declared { container, number, name: text_at(port, "name").map(str::to_owned) });
        }
    }
    Ok(all)
}

/// TCP is what a port is when it does not say.
pub(super) fn is_tcp(port: &Value) -> bool {
    text_at(port, "protocol").is_none_or(|protocol| protocol == "TCP")
}

/// Each declared port once.
fn every(declared: &[Declared]) -> Vec<Asked> {
    let mut seen = BTreeSet::new();
    let ask = |port: &Declared| Asked { scheme: None, listen: None, port: port.number.to_string() };
    declared.iter().filter(|port| seen.insert(port.number)).map(ask).collect()
}

/// What must not be listened on: whatever any container declares.
fn taken(spec: &Value) -> BTreeSet<u16> {
    let all = list_at(spec, "containers").iter().chain(list_at(spec, "initContainers"));
    let ports = all.flat_map(|container| list_at(container, "ports"));
    ports.filter_map(|port| port.get("containerPort").and_then(port_number)).collect()
}

/// Where something seems to listen that no container declares.
fn probed(spec: &Value) -> impl Iterator<Item = u16> {
    let containers = list_at(spec, "containers").iter();
    containers.flat_map(|container| {
        PORT_USERS.iter().filter_map(|pointer| port_number(container.pointer(pointer)?))
    })
}

fn free_from(port: u16, taken: &BTreeSet<u16>, avoided: &BTreeSet<u16>) -> u16 {
    let free = |port: &u16| !taken.contains(port) && !avoided.contains(port);
    (port..=u16::MAX).find(free).or_else(|| (1024..port).find(free)).unwrap_or(port)
}

fn forward(asked: &Asked, apps: &[usize], declared: &[Declared], spec: &Value) -> Result<Forwarded, String> {
    let number = asked.port.parse::<u16>().ok();
    let found = declared.iter().find(|port| {
        number.map_or(port.name.as_deref() == Some(&asked.port), |number| port.number == number)
    });
    let (app, container, name) = match (found, number, apps) {
        (Some(port), ..) => (port.number, port.container, port.name.clone()),
        (None, Some(number), &[only]) => (number, only, None),
        (None, Some(number), _) => {
            return Err(format!(
                "no container declares port {number}, so it can't be told which one listens there: declare it, or name the \
                 container with --container (or the annotation {}container)",
                super::DOMAIN
            ));
        }
        (None, None, _) => {
            return Err(format!(
                "no container has a port named {}: name one that is there, or its number",
                asked.port
            ));
        }
    };
    let scheme =
        asked.scheme.unwrap_or_else(|| guess(app, name.as_deref(), &list_at(spec, "containers")[container]));
    Ok(Forwarded { scheme, listen: 0, app, name, container })
}

/// HTTP unless something says otherwise; TLS that the app speaks itself is carried as it is.
fn guess(app: u16, name: Option<&str>, container: &Value) -> Scheme {
    let parts = || name.unwrap_or_default().split('-');
    let says_http = parts().next().is_some_and(|first| matches!(first, "http" | "http2" | "h2c" | "grpc"));
    let says_other =
        parts().any(|part| NOT_HTTP.contains(&part) || (!says_http && PROTOCOLS.contains(&part)));
    let https_probe = ["livenessProbe", "readinessProbe", "startupProbe"].iter().any(|probe| {
        let get = container.get(probe).and_then(|probe| probe.get("httpGet"));
        get.is_some_and(|get| {
            let port = get.get("port");
            let same = port.and_then(port_number) == Some(app)
                || (name.is_some() && port.and_then(Value::as_str) == name);
            same && text_at(get, "scheme") == Some("HTTPS")
        })
    });
    let tls_number = matches!(app, 443 | 8443) && !says_http;
    if https_probe || says_other || tls_number { Scheme::Tcp } else { Scheme::Http }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards: HTTP spoken to what is none: names as people give them.
    #[test]
    fn names_say_what_is_spoken() {
        let spoken = |app: u16, name: &str| guess(app, Some(name), &Value::Null);
        for name in ["http", "http-redis", "grpc", "web", "api", "metrics", "sshd"] {
            assert_eq!(spoken(8080, name), Scheme::Http, "{name}");
        }
        for name in ["https", "web-https", "grpc-tls", "dns-tcp", "tcp-main", "redis", "my-redis", "dns"] {
            assert_eq!(spoken(8080, name), Scheme::Tcp, "{name}");
        }
        assert_eq!((spoken(443, "web"), spoken(443, "http")), (Scheme::Tcp, Scheme::Http));
    }
}
