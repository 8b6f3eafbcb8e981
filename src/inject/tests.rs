//! Whatever a pod looks like: injected twice is injected once, and what is removed leaves what was there.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::documents::split;
use super::{Mode, Output, Settings, manifests};

fn token() -> Result<String, String> {
    Ok("TOKEN".to_owned())
}

fn run(text: &str, settings: &Settings, mode: Mode) -> Output {
    manifests(text, settings, mode, false, &token)
}

fn values(text: &str) -> Vec<Value> {
    split(text).0.iter().filter_map(|document| document.value().cloned()).collect()
}

/// Names that get into each other's way.
fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["http", "https", "web", "metrics"])
}

fn port() -> impl Strategy<Value = Value> {
    let number = prop_oneof![Just(80u16), Just(3000), Just(9900), Just(13000), Just(60000), 1u16..];
    let protocol = prop::option::of(prop::sample::select(vec!["TCP", "UDP"]));
    (number, prop::option::of(name()), protocol, prop::option::of(1u16..)).prop_map(
        |(number, name, protocol, host)| {
            let mut port = json!({"containerPort": number});
            for (key, value) in [
                ("name", name.map(Value::from)),
                ("protocol", protocol.map(Value::from)),
                ("hostPort", host.map(Value::from)),
            ] {
                if let Some(value) = value {
                    port[key] = value;
                }
            }
            port
        },
    )
}

fn hook() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({"sleep": {"seconds": 4}})),
        Just(json!({"exec": {"command": ["sh", "-c", "sleep 30"]}})),
        Just(json!({"exec": {"command": ["stop", "#no", "y: z", "1e3", "0644"]}})),
        name().prop_map(|name| json!({"httpGet": {"port": name, "path": "/quit"}})),
    ]
}

fn container() -> impl Strategy<Value = Value> {
    let ports = prop::collection::vec(port(), 0..4).prop_map(|mut ports: Vec<Value>| {
        // Kubernetes takes each number once in a container.
        let mut seen = std::collections::BTreeSet::new();
        ports.retain(|port| seen.insert(port["containerPort"].to_string()));
        ports
    });
    let probe = prop::option::of(prop_oneof![
        name().prop_map(|name| json!({"httpGet": {"port": name}})),
        Just(json!({"tcpSocket": {"port": 3000}})),
    ]);
    let lifecycle = prop_oneof![Just(None), Just(Some(Value::Null)), hook().prop_map(Some)];
    (ports, probe, lifecycle, any::<bool>()).prop_map(|(ports, probe, pre_stop, post_start)| {
        let mut container = json!({"image": "app: 1"});
        if !ports.is_empty() {
            container["ports"] = ports.into();
        }
        if let Some(probe) = probe {
            container["livenessProbe"] = probe;
        }
        if let Some(pre_stop) = pre_stop {
            container["lifecycle"] = json!({});
            if !pre_stop.is_null() {
                container["lifecycle"]["preStop"] = pre_stop;
            }
            if post_start {
                container["lifecycle"]["postStart"] = json!({"exec": {"command": ["true"]}});
            }
        }
        container
    })
}

/// A Deployment and a Service for it.
fn objects() -> impl Strategy<Value = Vec<Value>> {
    let containers = prop::collection::vec(container(), 1..4);
    let inits = prop::option::of(prop::collection::vec(container(), 0..2));
    let grace = prop::option::of(0u64..200);
    let target = prop_oneof![Just(None), Just(Some(json!("http"))), Just(Some(json!(3000)))];
    (containers, inits, grace, target, any::<bool>()).prop_map(|(mut containers, mut inits, grace, target, annotated)| {
        let all = containers.iter_mut().chain(inits.iter_mut().flatten());
        all.enumerate().for_each(|(i, container)| container["name"] = format!("c{i}").into());
        let mut spec = json!({"containers": containers});
        if let Some(inits) = inits {
            spec["initContainers"] = inits.into();
        }
        if let Some(grace) = grace {
            spec["terminationGracePeriodSeconds"] = grace.into();
        }
        let mut metadata = json!({"labels": {"app": "yes"}});
        if annotated {
            metadata["annotations"] = json!({"a": "|"});
        }
        let mut port = json!({"port": 3000});
        if let Some(target) = target {
            port["targetPort"] = target;
        }
        vec![
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"metadata": metadata, "spec": spec}}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"selector": {"app": "yes"}, "ports": [port]}}),
        ]
    })
}

fn settings() -> impl Strategy<Value = Settings> {
    (any::<bool>(), any::<bool>()).prop_map(|(classic, replace_hook)| Settings {
        classic,
        replace_hook,
        ..Settings::default()
    })
}

/// In block style with this program's own writer, or as JSON.
fn text(objects: &[Value], yaml: bool) -> String {
    let write = |object: &Value| {
        if yaml { format!("---\n{}\n", super::yaml::block(object)) } else { format!("{object:#}\n") }
    };
    objects.iter().map(write).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Guards: idempotence, and --remove; the text form doesn't matter.
    #[test]
    fn there_and_back(objects in objects(), settings in settings(), yaml in any::<bool>()) {
        let before = text(&objects, yaml);
        prop_assert_eq!(&values(&before), &objects);
        let once = run(&before, &settings, Mode::Inject);
        if once.refused > 0 {
            prop_assert_eq!(&once.text, &before);
            return Ok(());
        }
        let twice = run(&once.text, &settings, Mode::Inject);
        prop_assert_eq!(&twice.text, &once.text);
        let back = run(&once.text, &settings, Mode::Remove);
        prop_assert_eq!(values(&back.text), objects.clone());
        // One setting instead of another leaves no trace of the first.
        let other = Settings { classic: !settings.classic, ..settings.clone() };
        let changed = run(&once.text, &other, Mode::Inject);
        prop_assert_eq!(values(&changed.text), values(&run(&before, &other, Mode::Inject).text));
    }

    /// Guards: no two things in an injected pod listen on one port, and each name is found once.
    #[test]
    fn ports_are_unique(objects in objects(), settings in settings()) {
        let output = run(&text(&objects, true), &settings, Mode::Inject);
        let pod = values(&output.text)[0]["spec"]["template"]["spec"].clone();
        let list = if settings.classic { "containers" } else { "initContainers" };
        let ebb = pod[list].as_array().and_then(|all| all.iter().find(|c| c["name"] == "ebb")).cloned();
        let Some(ebb) = ebb else { return Ok(()) };
        let own = ebb["ports"].as_array().unwrap();
        let others = pod["containers"].as_array().unwrap().iter().chain(pod["initContainers"].as_array().into_iter().flatten());
        let others = others.filter(|c| c["name"] != "ebb").flat_map(|c| c["ports"].as_array().cloned().unwrap_or_default());
        for other in others.filter(|port| port["protocol"] != "UDP") {
            for port in own {
                prop_assert_ne!(&port["containerPort"], &other["containerPort"]);
                prop_assert!(port["name"].is_null() || port["name"] != other["name"]);
            }
        }
        for (i, port) in own.iter().enumerate() {
            for other in &own[..i] {
                prop_assert_ne!(&port["containerPort"], &other["containerPort"]);
                prop_assert!(port["name"].is_null() || port["name"] != other["name"]);
            }
        }
    }

    /// Guards: any text at all, whatever it is, comes through without a panic; what has no workload in it, unchanged.
    #[test]
    fn any_text(text in "(?s)[-a-c:#{}\\[\\]&*!|>'\"%\n\r\t ?,0-9x]{0,60}") {
        prop_assert_eq!(run(&text, &Settings::default(), Mode::Inject).text, text);
    }
}
