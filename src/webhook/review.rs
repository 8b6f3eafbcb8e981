//! An AdmissionReview (`admission.k8s.io/v1`) in, its answer out. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::inject::{CONTAINER, Forwarded, INJECTED, Outcome as Injection, Pod, Settings};

const VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// What the kubelet puts on the API server's picture of a pod that it has from a file: nobody can change that pod any more.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// API servers cut a longer warning off (at 256), or drop one with control characters.
const WARNING_MAX: usize = 200;

/// Each part of a review costs a few hundred bytes to hold, so that one of 4 MiB could take more than a small webhook has. A pod has
/// hundreds of parts, and at most 256 KiB of annotations with commas of their own.
const MAX_COMMAS: usize = 50_000;

/// What a name may have; it is logged before anybody has looked at it.
const NAME_MAX: usize = 253;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The pod gets the sidecar.
    Injected,
    /// It is none of ours, has the sidecar, or does not want it.
    Unchanged,
    /// It was to get the sidecar and can't; it is let in as it is.
    Refused,
    /// The request makes no sense.
    Error,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Injected, Self::Unchanged, Self::Refused, Self::Error];

    /// The label's text.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Error => "error",
        }
    }
}

/// The answer to a review: the pod is allowed in any case.
#[derive(Debug)]
pub struct Answer {
    /// The AdmissionReview that goes back.
    pub body: Vec<u8>,
    /// What became of it.
    pub outcome: Outcome,
}

/// A request that can't be answered.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// No JSON.
    #[error("the body is no JSON: {0}")]
    Json(serde_json::Error),
    /// More than can be meant.
    #[error("a review may have {MAX_COMMAS} parts")]
    Parts,
    /// Something else, or another version of it.
    #[error("the body is no {KIND} of {VERSION}: the webhook's admissionReviewVersions must be [v1]")]
    Kind,
    /// Parts are missing, or of another type.
    #[error("the review's request can't be read: {0}")]
    Request(serde_json::Error),
    /// A pod is to be created, and is not there.
    #[error("the review's request has no object")]
    NoObject,
}

/// Of a review's request what matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    kind: GroupKind,
    operation: String,
    sub_resource: Option<String>,
    namespace: Option<String>,
    object: Option<Value>,
    dry_run: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct GroupKind {
    #[serde(default)]
    group: String,
    kind: String,
}

/// What is done with a pod.
enum Decision {
    Inject { after: Value, forwards: Vec<Forwarded>, done: Vec<String> },
    Leave(String),
    Refuse(String),
}

/// What is added to pods, and where it is not.
#[derive(Debug)]
pub struct Reviewer {
    settings: Settings,
    token: fn() -> Result<String, String>,
    /// The webhook's own: if it waited for itself, nothing could ever start.
    pub(super) namespace: Option<String>,
}

impl Reviewer {
    /// `token` makes a new drain token, for each pod that is injected.
    ///
    /// # Errors
    /// When no pod could be injected with these settings; the sentence says why.
    pub fn new(
        settings: Settings,
        namespace: Option<String>,
        token: fn() -> Result<String, String>,
    ) -> Result<Self, String> {
        let port = if settings.admin_port == Some(80) { 81 } else { 80 };
        let mut pod = json!({"spec": {"containers": [{"name": "app", "ports": [{"containerPort": port}]}]}});
        let anywhere = Settings { ports: Vec::new(), containers: Vec::new(), ..settings.clone() };
        if let Some(object) = pod.as_object_mut() {
            Pod { object, outer: None, completes: false }.inject(&anywhere, &|| Ok("token".to_owned()))?;
        }
        Ok(Self { settings, token, namespace })
    }

    /// Answers a review.
    ///
    /// # Errors
    /// When it is none.
    pub fn review(&self, body: &[u8]) -> Result<Answer, Malformed> {
        if body.iter().filter(|&&byte| byte == b',').count() > MAX_COMMAS {
            return Err(Malformed::Parts);
        }
        let mut review: Value = serde_json::from_slice(body).map_err(Malformed::Json)?;
        if review["apiVersion"] != VERSION || review["kind"] != KIND {
            return Err(Malformed::Kind);
        }
        let request = review.get_mut("request").map(Value::take).unwrap_or_default();
        let mut request = Request::deserialize(request).map_err(Malformed::Request)?;
        let object = request.object.take();
        if let Some(reason) = self.not_ours(&request) {
            tracing::debug!(uid = %clean(&request.uid), reason, "left as it is");
            return Ok(answer(&request.uid, None, &[], Outcome::Unchanged));
        }
        let Some(Value::Object(before)) = object else { return Err(Malformed::NoObject) };
        let (name, decision) = (name(&before), self.decide(&before));
        Ok(said(&request, &name, before, decision))
    }

    /// What the webhook's configuration should not have sent here.
    fn not_ours(&self, request: &Request) -> Option<&'static str> {
        let is_pod = request.kind.group.is_empty() && request.kind.kind == "Pod";
        if !is_pod || request.sub_resource.as_ref().is_some_and(|sub| !sub.is_empty()) {
            return Some("it is no pod");
        }
        if request.operation != "CREATE" {
            return Some("it is there already");
        }
        if self.namespace.is_some() && self.namespace == request.namespace {
            return Some("it is in the webhook's own namespace");
        }
        None
    }

    fn decide(&self, before: &Map<String, Value>) -> Decision {
        let annotation = |key| before.get("metadata").and_then(|meta| meta.get("annotations")?.get(key));
        if annotation(MIRROR).is_some() {
            return Decision::Leave("its node has it from a file".to_owned());
        }
        let spec = before.get("spec").unwrap_or(&Value::Null);
        if annotation(INJECTED).is_some() && has_ebb(spec) {
            return Decision::Leave("it is injected".to_owned());
        }
        let mut object = before.clone();
        let pod = Pod { object: &mut object, outer: None, completes: false };
        match pod.inject(&self.settings, &self.token) {
            Ok(Injection::Injected { forwards, done }) => {
                Decision::Inject { after: Value::Object(object), forwards, done }
            }
            Ok(Injection::Left(reason)) => Decision::Leave(reason),
            Ok(Injection::TakenBack(_)) => Decision::Leave("it does not want the sidecar".to_owned()),
            Err(reason) => Decision::Refuse(reason),
        }
    }
}

fn has_ebb(spec: &Value) -> bool {
    ["containers", "initContainers"].iter().any(|list| {
        let containers = spec.get(list).and_then(Value::as_array).into_iter().flatten();
        containers.filter_map(|container| container.get("name")).any(|name| name == CONTAINER)
    })
}

/// The name, or what the API server will begin it with.
fn name(pod: &Map<String, Value>) -> String {
    let meta =
        |key| pod.get("metadata").and_then(|meta| meta.get(key)?.as_str()).filter(|text| !text.is_empty());
    match (meta("name"), meta("generateName")) {
        (Some(name), _) => clean(name),
        (None, Some(start)) => clean(start) + "*",
        (None, None) => "without a name".to_owned(),
    }
}

/// Logs what was decided, and makes the answer.
fn said(request: &Request, name: &str, before: Map<String, Value>, decision: Decision) -> Answer {
    let uid = clean(&request.uid);
    let namespace = clean(request.namespace.as_deref().unwrap_or_default());
    let dry_run = request.dry_run.unwrap_or_default();
    match decision {
        Decision::Inject { after, forwards, done } => {
            let done = clean(&done.join("; "));
            tracing::info!(%uid, %namespace, pod = %name, dry_run, %done, "injected");
            let warnings: Vec<String> = forwards.iter().filter_map(unreached).collect();
            answer(&request.uid, Some((&Value::Object(before), &after)), &warnings, Outcome::Injected)
        }
        Decision::Leave(reason) => {
            tracing::debug!(%uid, %namespace, pod = %name, dry_run, reason = %clean(&reason), "left as it is");
            answer(&request.uid, None, &[], Outcome::Unchanged)
        }
        Decision::Refuse(reason) => {
            let reason = clean(&reason);
            tracing::warn!(%uid, %namespace, pod = %name, dry_run, %reason, "not injected");
            let warnings = pieces(&format!("ebb did not inject pod {name}: {reason}"));
            answer(&request.uid, None, &warnings, Outcome::Refused)
        }
    }
}

/// Services are not here to be changed: whoever uses the number goes past ebb.
fn unreached(forward: &Forwarded) -> Option<String> {
    let Forwarded { app, listen, .. } = forward;
    forward.name.is_none().then(|| {
        format!(
            "ebb: port {app} has no name, and a Service that leads to it by number goes past ebb, which listens on \
             {listen}: name the port, and use the name"
        )
    })
}

fn answer(uid: &str, change: Option<(&Value, &Value)>, warnings: &[String], outcome: Outcome) -> Answer {
    let mut response = json!({"uid": uid, "allowed": true});
    if let Some((before, after)) = change {
        // Our own types have nothing that can't be written.
        let patch = serde_json::to_vec(&json_patch::diff(before, after)).unwrap_or_default();
        response["patchType"] = "JSONPatch".into();
        response["patch"] = STANDARD.encode(patch).into();
    }
    if !warnings.is_empty() {
        response["warnings"] = warnings.into();
    }
    let review = json!({"apiVersion": VERSION, "kind": KIND, "response": response});
    Answer { body: review.to_string().into_bytes(), outcome }
}

/// Nobody has looked at what is in a pod yet: nothing in it may forge a line, or make one endless.
fn clean(text: &str) -> String {
    const MAX: usize = 8 * NAME_MAX;
    text.chars().take(MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A long text in several warnings.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word = &word[..word.floor_char_boundary(WARNING_MAX)];
        match pieces.last_mut() {
            Some(last) if last.len() + 1 + word.len() <= WARNING_MAX => {
                last.push(' ');
                last.push_str(word);
            }
            _ => pieces.push(word.to_owned()),
        }
    }
    pieces
}
