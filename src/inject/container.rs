//! ebb's own container.

use serde_json::{Map, Value, json};

use super::plan::Plan;
use super::ports::{ADMIN_NAME, ADMIN_PORT};
use super::resources::resources;
use super::settings::{Settings, seconds};
use super::{CONTAINER, hooks};
use crate::config::Scheme;

/// The image, as `docker build -t ebb:dev .` makes it.
const IMAGE: &str = "ebb:dev";

/// The image's own user.
const USER: u64 = 65532;

/// Where the Secret of `https://` ports is mounted.
const TLS_PATH: &str = "/tls";

/// The volume of that Secret.
pub(super) const TLS_VOLUME: &str = "ebb-tls";

/// The container. `ports` are those that it takes over, with whatever belongs to them.
///
/// # Errors
/// When its resources contradict each other.
pub(super) fn container(
    plan: &Plan,
    settings: &Settings,
    spec: &Value,
    mut ports: Vec<Value>,
) -> Result<Value, String> {
    ports.push(json!({"name": ADMIN_NAME, "containerPort": plan.admin_port}));
    let probe = |path: &str, period: u64| json!({"httpGet": {"path": path, "port": plan.admin_port}, "periodSeconds": period});
    let mut container = Map::new();
    let mut put = |key: &str, value: Value| container.insert(key.to_owned(), value);
    put("name", CONTAINER.into());
    put("image", settings.image.as_deref().unwrap_or(IMAGE).into());
    if let Some(policy) = &settings.image_pull_policy {
        put("imagePullPolicy", policy.as_str().into());
    }
    if !settings.classic {
        put("restartPolicy", "Always".into());
    }
    put("args", arguments(plan).into());
    put("env", environment(plan, settings));
    put("ports", ports.into());
    // Of these only readiness depends on the app, and it gates nothing: the app can start.
    put("startupProbe", probe("/startupz", 1));
    put("livenessProbe", probe("/livez", 10));
    // Quick, so that the pod has left its Services before lame duck ends, also when nobody deleted it (see `/readyz`).
    let mut readiness = probe("/readyz", 2);
    readiness["failureThreshold"] = 2.into();
    put("readinessProbe", readiness);
    if settings.classic {
        // Its SIGTERM would come at once: with a hook of its own it comes when the drain is over.
        put("lifecycle", json!({"preStop": hooks::drain(plan.admin_port, &plan.token, true)}));
    }
    let resources = resources(settings, spec)?;
    if !resources.is_empty() {
        put("resources", resources.into());
    }
    put("securityContext", security_context(spec));
    if has_tls(plan) {
        put("volumeMounts", json!([{"name": TLS_VOLUME, "mountPath": TLS_PATH, "readOnly": true}]));
    }
    Ok(container.into())
}

/// Whether a Secret has to be mounted.
pub(super) fn has_tls(plan: &Plan) -> bool {
    plan.forwards.iter().any(|forward| forward.scheme == Scheme::Https)
}

fn arguments(plan: &Plan) -> Vec<String> {
    let mut args = vec!["proxy".to_owned()];
    let mut put = |flag: &str, value: String| args.extend([flag.to_owned(), value]);
    for forward in &plan.forwards {
        put("--forward", forward.flag());
    }
    if has_tls(plan) {
        put("--tls-cert", format!("{TLS_PATH}/tls.crt"));
        put("--tls-key", format!("{TLS_PATH}/tls.key"));
    }
    if plan.admin_port != ADMIN_PORT {
        put("--admin", plan.admin_port.to_string());
    }
    let times = &plan.times;
    put("--grace-period", seconds(times.grace_period));
    for (flag, time) in [
        ("--app-shutdown", times.app_shutdown),
        ("--lame-duck-min", times.lame_duck_min),
        ("--lame-duck-max", times.lame_duck_max),
        ("--quiet", times.quiet),
    ] {
        if let Some(time) = time {
            put(flag, seconds(time));
        }
    }
    args
}

fn environment(plan: &Plan, settings: &Settings) -> Value {
    let token = ("EBB_ADMIN_TOKEN".to_owned(), plan.token.clone());
    let all = std::iter::once(&token).chain(&settings.env);
    all.map(|(name, value)| json!({"name": name, "value": value})).collect()
}

/// What the restricted Pod Security Standard wants, whatever the pod says for its other containers.
fn security_context(spec: &Value) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    // Inherited, root would contradict runAsNonRoot and keep the container from starting. Otherwise the user is left to the
    // image and to the cluster, which may have a range of its own for each namespace.
    if spec.pointer("/securityContext/runAsUser").and_then(Value::as_u64) == Some(0) {
        context["runAsUser"] = USER.into();
    }
    context
}
