//! Services lead to ebb: by themselves where they name a port, whose name has moved; else by its new number.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ports::{Forwarded, is_tcp};
use super::{INJECTED, list_at, map_at, port_number};

/// A workload of the same text, injected or not.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) title: String,
    pub(super) namespace: Option<String>,
    pub(super) labels: Map<String, Value>,
    pub(super) forwards: Vec<Forwarded>,
    /// It is native, and was not so before.
    pub(super) newly_native: bool,
    /// The ports of ebb's container.
    pub(super) own: Vec<u16>,
    /// Ports of the app that a Service leads to.
    pub(super) reached: Vec<u16>,
    /// The number of the note about it.
    pub(super) note: usize,
}

/// What the annotation on a Service keeps.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Original {
    #[serde(rename = "targetPorts")]
    target_ports: Vec<TargetPort>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not", rename = "noAnnotations")]
    no_annotations: bool,
}

/// A port that was changed.
#[derive(Debug, Serialize, Deserialize)]
struct TargetPort {
    port: Value,
    now: u16,
    /// Empty when it said none.
    was: Vec<Value>,
}

impl Selected {
    /// Whether a selector of a namespace means it. Where a namespace is left out, it is the one that the other says.
    fn is_meant(&self, namespace: Option<&str>, selector: &Map<String, Value>) -> bool {
        let same_place =
            namespace.is_none() || self.namespace.is_none() || namespace == self.namespace.as_deref();
        same_place && selector.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }

    /// Notes where a Service leads: to ebb, by the name that is ebb's now or by its number.
    fn reach(&mut self, target: &Value) {
        let (name, number) = (target.as_str(), port_number(target));
        let meant = |forward: &&Forwarded| {
            number == Some(forward.listen) || (name.is_some() && name == forward.name.as_deref())
        };
        self.reached.extend(self.forwards.iter().filter(meant).map(|forward| forward.app));
    }

    /// Whether ebb has a port of this name, for the first time in a native sidecar.
    fn newly_named(&self, name: &str) -> bool {
        self.newly_native && self.forwards.iter().any(|forward| forward.name.as_deref() == Some(name))
    }

    /// What a Service elsewhere has to say, if none here leads to a port: one with the app's number goes past ebb.
    pub(super) fn unreached(&self) -> Option<String> {
        let missing = || self.forwards.iter().filter(|forward| !self.reached.contains(&forward.app));
        let ports: Vec<String> = missing().map(|forward| forward.app.to_string()).collect();
        let instead = |forward: &Forwarded| match &forward.name {
            Some(name) => format!("{name} (not {})", forward.app),
            None => format!("{} (not {})", forward.listen, forward.app),
        };
        let targets: Vec<String> = missing().map(instead).collect();
        (!ports.is_empty()).then(|| {
            format!(
                "no Service here leads to {}: elsewhere, targetPort must be {}, or it goes past ebb",
                ports.join(", "),
                targets.join(", ")
            )
        })
    }
}

fn namespace(object: &Value) -> Option<String> {
    object.pointer("/metadata/namespace").and_then(Value::as_str).map(str::to_owned)
}

/// What a NetworkPolicy that lets clients in by the app's number does not let in any more. It is not changed: whom to let in is
/// not ours to say.
pub(super) fn policy(policy: &Value, workloads: &[Selected]) -> Option<String> {
    let none = Map::new();
    let selector =
        policy.pointer("/spec/podSelector/matchLabels").and_then(Value::as_object).unwrap_or(&none);
    let namespace = namespace(policy);
    let numbers: Vec<u16> = list_at(policy.get("spec")?, "ingress")
        .iter()
        .flat_map(|rule| list_at(rule, "ports"))
        .filter(|port| is_tcp(port))
        .filter_map(|port| port.get("port").and_then(port_number))
        .collect();
    let meant = workloads.iter().filter(|workload| workload.is_meant(namespace.as_deref(), selector));
    let mut missing: Vec<String> = meant
        .flat_map(|workload| &workload.forwards)
        .filter(|forward| numbers.contains(&forward.app) && !numbers.contains(&forward.listen))
        .map(|forward| format!("{} (for {})", forward.listen, forward.app))
        .collect();
    missing.dedup();
    (!missing.is_empty()).then(|| {
        format!("left as it is, and does not let clients in to ebb: add port {}", missing.join(", "))
    })
}

/// Leads a Service to ebb. Returns what there is to say, if anything; `dry`: as of what would be done.
///
/// # Errors
/// When an earlier change can't be read.
pub(super) fn lead(
    service: &mut Value,
    workloads: &mut [Selected],
    dry: bool,
) -> Result<Option<String>, String> {
    let selector = service.pointer("/spec/selector").and_then(Value::as_object).filter(|map| !map.is_empty());
    let Some(selector) = selector.cloned() else { return Ok(None) };
    let namespace = namespace(service);
    let selected: Vec<&mut Selected> =
        workloads.iter_mut().filter(|workload| workload.is_meant(namespace.as_deref(), &selector)).collect();
    let mut changed = service.clone();
    if selected.is_empty() {
        // What was changed before stays: the workload may be in another file.
        let by_number = take_back(&mut changed)?.is_none() && has_numbers(service);
        return Ok(by_number.then(|| {
            "left as it is: it selects nothing here, so whether its targetPort is behind ebb can't be told".to_owned()
        }));
    }
    take_back(&mut changed)?;
    let mut lead = Lead {
        selected,
        dry,
        original: Original::default(),
        notes: Vec::new(),
        order: None,
        names: Vec::new(),
    };
    let ports = changed.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    for (i, port) in ports.into_iter().flatten().enumerate().filter(|(_, port)| is_tcp(port)) {
        lead.port(port, target_at(service, i));
    }
    let headless = changed.pointer("/spec/clusterIP").and_then(Value::as_str) == Some("None");
    if lead.original.target_ports.is_empty() {
        lead.notes.extend(given_back(service, &changed, dry));
    }
    let notes = lead.told(headless);
    let leads = !lead.original.target_ports.is_empty();
    if leads {
        remember(&mut changed, lead.original)?;
    }
    let settled = leads && changed == *service;
    *service = changed;
    let note = notes.join("; ");
    Ok((!notes.is_empty()).then(|| if settled { format!("up to date: {note}") } else { note }))
}

/// One Service on its way to ebb.
struct Lead<'a> {
    /// The workloads that it selects; at least one.
    selected: Vec<&'a mut Selected>,
    dry: bool,
    original: Original,
    notes: Vec<String>,
    order: Option<Order>,
    /// Names that old clusters do not find.
    names: Vec<String>,
}

impl Lead<'_> {
    /// One of its ports, as it was before any injection. `before`: the number where it led until now.
    fn port(&mut self, port: &mut Value, before: Option<u16>) {
        let Some(target) = target(port) else { return };
        self.selected.iter_mut().for_each(|workload| workload.reach(target));
        let Some(target) = port_number(target) else {
            let name = target.as_str().unwrap_or_default();
            if self.selected.iter().any(|workload| workload.newly_named(name)) {
                self.names.push(name.to_owned());
            }
            return;
        };
        let listens: Vec<Option<u16>> =
            self.selected.iter().map(|workload| listen(workload, target)).collect();
        match listens.as_slice() {
            [Some(first), rest @ ..] if rest.iter().all(|other| other == &Some(*first)) => {
                self.change(port, target, before.unwrap_or(target), *first);
            }
            all if all.iter().any(Option::is_some) => {
                let titles: Vec<&str> =
                    self.selected.iter().map(|workload| workload.title.as_str()).collect();
                self.notes.push(format!(
                    "targetPort {target} is left as it is, past ebb: {} do not have it in the same place (a port name in all \
                     of them and in targetPort would do)",
                    titles.join(" and ")
                ));
            }
            _ => self.say_nobody_has(target),
        }
    }

    /// Leads a port from the app's to ebb's.
    fn change(&mut self, port: &mut Value, app: u16, before: u16, listen: u16) {
        let Some(port) = port.as_object_mut() else { return };
        let was = port.insert("targetPort".to_owned(), listen.into());
        if before == listen {
            self.notes.push(format!("targetPort {listen} leads to ebb"));
        } else {
            let verb = if self.dry { "would be" } else { "is now" };
            self.notes.push(format!("targetPort {before} {verb} {listen}"));
            let order = if before == app { Order::WorkloadFirst } else { Order::None };
            self.order = self.order.max(Some(order));
        }
        self.selected.iter_mut().for_each(|workload| workload.reached.push(app));
        self.original.target_ports.push(TargetPort {
            port: port.get("port").cloned().unwrap_or_default(),
            now: listen,
            was: was.into_iter().collect(),
        });
    }

    fn say_nobody_has(&mut self, target: u16) {
        let without =
            |workload: &&&mut Selected| !workload.forwards.is_empty() && !workload.own.contains(&target);
        let titles: Vec<&str> =
            self.selected.iter().filter(without).map(|workload| workload.title.as_str()).collect();
        if !titles.is_empty() {
            let have = if titles.len() == 1 { "has" } else { "have" };
            let titles = titles.join(" and ");
            self.notes.push(format!(
                "targetPort {target} is left as it is: {titles} {have} no such port behind ebb"
            ));
        }
    }

    /// Everything that there is to say.
    fn told(&mut self, headless: bool) -> Vec<String> {
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(self.order.map(|order| order.text().to_owned()));
        self.names.dedup();
        if !self.names.is_empty() {
            notes.push(format!(
                "before Kubernetes 1.33, targetPort {} is not found in a native sidecar: use --classic there \
                 (kubernetes/kubernetes#128850)",
                self.names.join(", ")
            ));
        }
        if headless && self.selected.iter().any(|workload| !workload.forwards.is_empty()) {
            notes.push("headless: clients that choose the port themselves must take ebb's".to_owned());
        }
        notes
    }
}

/// What is to be applied first, so that no client is without a pod that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    /// Pods from before do not listen where the Service leads now; the app goes on where it led.
    WorkloadFirst,
    /// Nobody listens in both places.
    None,
}

impl Order {
    fn text(self) -> &'static str {
        match self {
            Self::WorkloadFirst => {
                "pods from before do not listen there: apply the workload first, wait for its rollout, then this Service"
            }
            Self::None => {
                "neither pods from before listen there nor new ones where it led: until the rollout is over, it is without some of \
                 them in either order"
            }
        }
    }
}

/// Takes a Service out of ebb's way, and says so.
///
/// # Errors
/// When an earlier change can't be read.
pub(super) fn release(service: &mut Value, dry: bool) -> Result<Option<String>, String> {
    let before = service.clone();
    Ok(take_back(service)?.map(|()| {
        given_back(&before, service, dry).unwrap_or_else(|| {
            let verb = if dry { "would be" } else { "is" };
            format!("it was changed since, and stays; only ebb's annotation {verb} removed")
        })
    }))
}

/// Ports that lead to the app again. It listens with ebb and without, so the Service can go first, and has to: pods without ebb do not
/// listen where it led.
fn given_back(before: &Value, after: &Value, dry: bool) -> Option<String> {
    let count = after.get("spec").map_or(0, |spec| list_at(spec, "ports").len());
    let moved = (0..count).filter_map(|i| Some((target_at(before, i)?, target_at(after, i)?)));
    let moved: Vec<(u16, u16)> = moved.filter(|(was, is)| was != is).collect();
    let verb = if dry { "would be" } else { "is" };
    let all: Vec<String> =
        moved.iter().map(|(was, is)| format!("targetPort {was} {verb} {is} again")).collect();
    let gone: Vec<String> = moved.iter().map(|(was, _)| was.to_string()).collect();
    (!moved.is_empty()).then(|| {
        format!(
            "{}; pods without ebb do not listen on {}: apply this Service first, then the workload",
            all.join("; "),
            gone.join(" and ")
        )
    })
}

/// Where a port of a Service leads: to the same number when it does not say.
fn target(port: &Value) -> Option<&Value> {
    port.get("targetPort").filter(|target| !target.is_null()).or_else(|| port.get("port"))
}

fn target_at(service: &Value, i: usize) -> Option<u16> {
    list_at(service.get("spec")?, "ports").get(i).and_then(target).and_then(port_number)
}

fn listen(workload: &Selected, target: u16) -> Option<u16> {
    workload.forwards.iter().find(|forward| forward.app == target).map(|forward| forward.listen)
}

fn has_numbers(service: &Value) -> bool {
    let ports = service.get("spec").map_or(&[][..], |spec| list_at(spec, "ports"));
    let by_number = |port: &Value| {
        let target = port.get("targetPort").filter(|target| !target.is_null());
        target.is_none_or(|target| port_number(target).is_some())
    };
    ports.iter().any(|port| is_tcp(port) && by_number(port))
}

fn remember(service: &mut Value, mut original: Original) -> Result<(), String> {
    let annotations = service.pointer("/metadata/annotations");
    original.no_annotations = annotations.is_none_or(Value::is_null);
    let text = serde_json::to_string(&original).map_err(|error| error.to_string())?;
    let service = service.as_object_mut().ok_or("not a mapping")?;
    map_at(map_at(service, "metadata")?, "annotations")?.insert(INJECTED.to_owned(), text.into());
    Ok(())
}

/// Makes a Service what it was; `None` when it was not changed.
///
/// # Errors
/// When the annotation can't be read.
fn take_back(service: &mut Value) -> Result<Option<()>, String> {
    let annotations = service.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    let Some(annotations) = annotations else { return Ok(None) };
    let Some(text) = annotations.shift_remove(INJECTED) else { return Ok(None) };
    let original: Original = text
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok())
        .ok_or_else(|| format!("annotation {INJECTED} can't be read: it must stay as ebb inject wrote it"))?;
    if annotations.is_empty()
        && original.no_annotations
        && let Some(metadata) = service.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.shift_remove("annotations");
    }
    let ports = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        let changed = |change: &&TargetPort| {
            port.get("port") == Some(&change.port) && port.get("targetPort") == Some(&change.now.into())
        };
        if let Some(change) = original.target_ports.iter().find(changed) {
            match change.was.first() {
                Some(was) => port.insert("targetPort".to_owned(), was.clone()),
                None => port.shift_remove("targetPort"),
            };
        }
    }
    Ok(Some(()))
}
