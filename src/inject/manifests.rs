//! A whole text of manifests: every workload in it, then the Services that lead to them.

use serde_json::Value;

use super::documents;
use super::kinds::{self, Kind};
use super::pod::{self, Outcome, Pod};
use super::services::{self, Selected};
use super::settings::Settings;
use super::{INJECTED, list_at, port_number, text_at};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Add the sidecar, or bring it up to date.
    Inject,
    /// Take it out.
    Remove,
}

/// What has become of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The text; not to be used when something was refused.
    pub text: String,
    /// One line for each workload, and for whatever else there is something to say about.
    pub notes: Vec<String>,
    /// How many workloads could not be dealt with.
    pub refused: usize,
    /// How many documents could not be read; they pass as they are.
    pub unread: usize,
}

/// Deals with every object in a text of YAML documents or JSON. `token` makes a new drain token;
/// `dry`: nobody will use the text, so the notes say what would be done.
pub fn manifests(
    text: &str,
    settings: &Settings,
    mode: Mode,
    dry: bool,
    token: &dyn Fn() -> Result<String, String>,
) -> Output {
    let (documents, mut notes) = documents::split(text);
    let unread = notes.len();
    let mut work = Work { settings, mode, dry, token, workloads: Vec::new(), notes: Vec::new(), refused: 0 };
    let mut values: Vec<Option<Value>> = documents.iter().map(|document| document.value().cloned()).collect();
    for value in values.iter_mut().flatten() {
        work.visit(value, &mut Work::workload);
    }
    for value in values.iter_mut().flatten() {
        work.visit(value, &mut Work::service);
    }
    work.say_unreached();
    let mut out = String::with_capacity(text.len() + 4096);
    for (document, value) in documents.iter().zip(&values) {
        match value {
            None => out.push_str(document.text()),
            Some(value) => {
                let text = document.with(value);
                if comments(&text) < comments(document.text()) {
                    work.notes
                        .push(format!("{}: some of its comments could not be kept", kinds::title(value)));
                }
                out.push_str(&text);
            }
        }
    }
    notes.append(&mut work.notes);
    // Each workload has had its line.
    if notes.is_empty() {
        let nothing =
            if text.trim().is_empty() { "nothing to read" } else { "no workload here: nothing to do" };
        notes.push(nothing.to_owned());
    }
    Output { text: out, notes, refused: work.refused, unread }
}

fn comments(text: &str) -> usize {
    text.lines().filter(|line| line.trim_start().starts_with('#') || line.contains(" #")).count()
}

/// Whether an object's pods have to end by themselves.
fn completes(object: &Value) -> bool {
    matches!(text_at(object, "kind"), Some("Job" | "CronJob"))
}

/// What is said of a workload without its sidecar; `lost`: names of ports that are gone.
fn removed(lost: &[String], dry: bool) -> String {
    let (is, now) = if dry { ("would be", "") } else { ("is", " now") };
    if lost.is_empty() {
        return format!("the sidecar {is} removed");
    }
    let lost = lost.join(" and ");
    format!("the sidecar {is} removed; the name {lost} {is} nobody's{now}, because that port is gone")
}

/// The container that was injected into a workload.
struct Sidecar {
    container: Value,
}

impl Sidecar {
    fn of(object: &Value, path: &[&str]) -> Option<Self> {
        let pod = path.iter().try_fold(object, |value, key| value.get(*key))?;
        pod.get("metadata")?.get("annotations")?.get(INJECTED)?;
        Some(Self { container: pod::sidecar(pod.get("spec")?)?.clone() })
    }

    fn is_native(&self) -> bool {
        self.container.get("restartPolicy").is_some()
    }

    fn ports(&self) -> Vec<u16> {
        let ports = list_at(&self.container, "ports").iter();
        ports.filter_map(|port| port.get("containerPort").and_then(port_number)).collect()
    }

    /// Adds to `done`, which begins with the sidecar's kind, what it was before.
    fn say_changes(&self, before: &Self, done: &mut Vec<String>) {
        let image = |sidecar: &Self| text_at(&sidecar.container, "image").unwrap_or_default().to_owned();
        let (was, is) = (image(before), image(self));
        if was != is {
            done.insert(1.min(done.len()), format!("image {is} instead of {was}"));
        }
        if let Some(kind) = done.first_mut().filter(|_| self.is_native() != before.is_native()) {
            kind.push_str(if before.is_native() { " instead of native" } else { " instead of classic" });
        }
    }
}

struct Work<'a> {
    settings: &'a Settings,
    mode: Mode,
    dry: bool,
    token: &'a dyn Fn() -> Result<String, String>,
    workloads: Vec<Selected>,
    notes: Vec<String>,
    refused: usize,
}

impl Work<'_> {
    /// Every object, those in lists as well.
    fn visit(&mut self, object: &mut Value, each: &mut dyn FnMut(&mut Self, &mut Value, Kind)) {
        match kinds::kind(object) {
            Kind::List => {
                let items = object.get_mut("items").and_then(Value::as_array_mut);
                for item in items.into_iter().flatten() {
                    self.visit(item, each);
                }
            }
            kind => each(self, object, kind),
        }
    }

    fn workload(&mut self, object: &mut Value, kind: Kind) {
        let title = kinds::title(object);
        let Kind::Workload(path) = kind else {
            let overlooked = kinds::overlooked(object).filter(|_| kind == Kind::Other);
            self.notes.extend(overlooked.map(|reason| format!("{title}: left as it is: {reason}")));
            return;
        };
        let before = object.clone();
        let earlier = Sidecar::of(&before, path);
        let owner = kinds::owner(object);
        let outcome = match &owner {
            Some(owner) => Ok(Outcome::Left(format!("it is made by {owner}, which is what to inject"))),
            None => self.pod(object, path),
        };
        let forwards = match &outcome {
            Ok(Outcome::Injected { forwards, .. }) => forwards.clone(),
            _ => Vec::new(),
        };
        let now = Sidecar::of(object, path).filter(|_| !forwards.is_empty());
        let completes = completes(object);
        let template = kinds::at_path(object, path).filter(|pod| {
            let left = matches!(outcome, Ok(Outcome::Left(_)));
            // What somebody makes goes by its maker; and no Service leads to what just ends, like a chart's test.
            owner.is_none() && !(left && pod::only_ends(pod.get("spec").unwrap_or(&Value::Null), completes))
        });
        if let Some(pod) = template {
            let meta = pod.get("metadata");
            let labels = meta
                .and_then(|meta| meta.get("labels"))
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default();
            let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str).map(str::to_owned);
            let (note, reached) = (self.notes.len(), Vec::new());
            self.workloads.push(Selected {
                title: title.clone(),
                namespace,
                labels,
                forwards,
                newly_native: now.as_ref().is_some_and(Sidecar::is_native)
                    && !earlier.as_ref().is_some_and(Sidecar::is_native),
                own: now.as_ref().map(Sidecar::ports).unwrap_or_default(),
                reached,
                note,
            });
        }
        self.notes.push(match outcome {
            Ok(Outcome::Injected { mut done, .. }) => {
                let what = match (&earlier, now) {
                    _ if *object == before => "up to date",
                    (Some(earlier), Some(now)) => {
                        now.say_changes(earlier, &mut done);
                        if self.dry { "would be updated" } else { "updated" }
                    }
                    _ if self.dry => "would be injected",
                    _ => "injected",
                };
                format!("{title}: {what}: {}", done.join("; "))
            }
            Ok(Outcome::TakenBack(lost)) => format!("{title}: {}", removed(&lost, self.dry)),
            Ok(Outcome::Left(reason)) => format!("{title}: left as it is: {reason}"),
            Err(reason) => {
                self.refused += 1;
                format!("{title}: refused: {reason}")
            }
        });
    }

    /// Whoever leads to a port from outside this text has to be told.
    fn say_unreached(&mut self) {
        for workload in &self.workloads {
            if let Some(unreached) = workload.unreached() {
                self.notes[workload.note].push_str(&format!("; {unreached}"));
            }
        }
    }

    fn pod(&self, object: &mut Value, path: &[&str]) -> Result<Outcome, String> {
        let outer = if path.is_empty() { None } else { object.pointer("/metadata/annotations").cloned() };
        let completes = completes(object);
        let Some(template) = kinds::at_path(object, path) else {
            return Ok(Outcome::Left(format!("it has no {}", path.join("."))));
        };
        let outer = outer.as_ref().and_then(Value::as_object);
        let pod = Pod { object: template, outer, completes };
        match self.mode {
            Mode::Inject => pod.inject(self.settings, self.token),
            Mode::Remove => pod.remove(),
        }
    }

    fn service(&mut self, object: &mut Value, kind: Kind) {
        if kind == Kind::Policy && self.mode == Mode::Inject {
            let note = services::policy(object, &self.workloads);
            self.notes.extend(note.map(|note| format!("{}: {note}", kinds::title(object))));
        }
        if kind != Kind::Service {
            return;
        }
        let note = match self.mode {
            Mode::Inject => services::lead(object, &mut self.workloads, self.dry),
            Mode::Remove => services::release(object, self.dry),
        };
        match note {
            Ok(None) => {}
            Ok(Some(note)) => self.notes.push(format!("{}: {note}", kinds::title(object))),
            Err(reason) => {
                self.refused += 1;
                self.notes.push(format!("{}: refused: {reason}", kinds::title(object)));
            }
        }
    }
}
