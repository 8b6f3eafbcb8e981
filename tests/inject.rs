//! `ebb inject` as a command: files in, files out, what it says, and how it exits.
//!
//! Each file in `tests/inject` is read, and what comes out is compared with the file of the same name in `tests/inject/expected`; its
//! messages with the one that ends in `.txt`. `EBB_BLESS=1 cargo test --test inject` writes them anew: look at the difference.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

#[path = "inject/input.rs"]
mod input;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inject")
}

/// Runs `ebb inject` with something on its standard input.
fn inject(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ebb"))
        .arg("inject")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may refuse its arguments before it has read anything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What comes out when nothing is refused.
fn injected(args: &[&str], input: &str) -> String {
    let output = inject(args, input);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn compare(name: &str, actual: &str) {
    let path = folder().join("expected").join(name);
    if std::env::var_os("EBB_BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == actual, "{name} is not what it was:\n{actual}");
}

/// Injects a file; then again, and removes it. `exactly`: what is removed leaves the same bytes.
fn golden(name: &str, args: &[&str], exactly: bool) {
    let input = std::fs::read_to_string(folder().join(name)).unwrap();
    let first = inject(&[args, &["--token", "TOKEN"]].concat(), &input);
    compare(&format!("{name}.txt"), &text(&first.stderr));
    compare(name, &text(&first.stdout));
    let once = text(&first.stdout);
    assert!(injected(args, &once) == once, "{name}: the second time changes something");
    let removed = injected(&["--remove"], &once);
    if exactly {
        assert!(removed == input, "{name}: --remove leaves\n{removed}");
    }
    assert!(
        injected(&[args, &["--token", "TOKEN"]].concat(), &removed) == once,
        "{name}: removed and injected again"
    );
    assert_eq!(inject(&[args, &["--check"]].concat(), &once).status.code(), Some(0));
    assert_eq!(inject(&[args, &["--check"]].concat(), &input).status.code(), Some(1));
}

/// Guards: the native sidecar: a sleeping hook, a named port, the app's probes, comments and layout.
#[test]
fn native() {
    golden("native.yaml", &[], false);
}

/// A manifest without comments and blank lines.
fn bare(text: &str) -> String {
    let lines = text.lines().map(|line| line.split(" #").next().unwrap_or_default().trim_end());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

/// Guards: `deploy/native.yaml` and `deploy/classic.yaml`, which say that they are what becomes of `deploy/app.yaml`.
#[test]
fn examples() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let read = |name: &str| std::fs::read_to_string(deploy.join(name)).unwrap();
    let app = read("app.yaml");
    for (name, args) in [("native.yaml", &[][..]), ("classic.yaml", &["--classic"])] {
        let example = read(name);
        let made = bare(&injected(&[args, &["--token", "change-me"]].concat(), &app));
        let (same, policy) =
            bare(&example).split_at_checked(made.len()).map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert!(same == made, "{name} is not what becomes of app.yaml:\n{made}");
        assert!(policy.contains("kind: NetworkPolicy"), "{policy}");
        assert_eq!(inject(&[args, &["--check"]].concat(), &example).status.code(), Some(0), "{name}");
        let removed = bare(&injected(&["--remove"], &example));
        assert!(removed.starts_with(&bare(&app)), "{name}: --remove leaves\n{removed}");
    }
}

/// Guards: the classic sidecar, a longer grace period that stays, host ports, root, a headless Service.
#[test]
fn classic() {
    golden("classic.yaml", &["--classic"], true);
}

/// Guards: JSON and `kind: List`.
#[test]
fn list() {
    golden("list.json", &[], false);
}

/// Guards: every kind, and what is left alone.
#[test]
fn kinds() {
    golden("kinds.yaml", &[], false);
}

/// Guards: several containers and ports, names that are used twice, ports that are taken.
#[test]
fn several() {
    golden("several.yaml", &[], false);
}

/// Guards: an annotation for every setting.
#[test]
fn annotations() {
    golden("annotations.yaml", &[], true);
}

/// Guards: a chart's test pod, and what another object makes: neither is refused, and neither keeps a Service from being led to ebb.
#[test]
fn ends() {
    golden("ends.yaml", &[], true);
}

/// Guards: YAML 1.1 words and numbers, anchors, merge keys, directives, empty documents.
#[test]
fn pitfalls() {
    golden("pitfalls.yaml", &[], false);
}

/// Guards: which Services are changed, and what is said of the others.
#[test]
fn services() {
    golden("services.yaml", &[], false);
}

/// Guards: the node's network and ports, and a pod of QoS class Guaranteed.
#[test]
fn host() {
    golden("host.yaml", &[], true);
}

/// Guards: everything that is refused, with its reason; nothing is printed then, so that nothing half done is applied.
#[test]
fn refused() {
    let input = std::fs::read_to_string(folder().join("refused.yaml")).unwrap();
    let output = inject(&[], &input);
    compare("refused.yaml.txt", &text(&output.stderr));
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert_eq!(inject(&["--check"], &input).status.code(), Some(2));
}

/// Guards: what is not understood passes byte for byte, beside something that changes, also with CRLF and without a last line end.
#[test]
fn the_rest_passes_unchanged() {
    let strange = "# first\r\n\r\nkind: Secret\r\ndata: {a: 'x',   b: !!binary aGk=} # odd  \r\n---\r\n{{ if .Values.x }}\r\na: b: c\r\n...\r\n---\r\n";
    let pod = "apiVersion: v1\r\nkind: Pod\r\nmetadata:\r\n  name: one # here\r\nspec:\r\n  containers:\r\n  - name: app\r\n    ports:\r\n    - containerPort: 80";
    assert_eq!(injected(&[], strange), strange);
    assert_eq!(injected(&[], ""), "");
    let input = format!("{strange}{pod}");
    let output = injected(&[], &input);
    assert!(output.starts_with(strange));
    assert!(
        output.contains("name: one # here\r\n")
            && output.contains("    - containerPort: 80\r\n    lifecycle:\r\n")
    );
    assert_eq!(output.matches('\n').count(), output.matches("\r\n").count());
    assert_eq!(injected(&["--remove"], &output), input);
}

const NAMED: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: one\nspec:\n  containers:\n  - name: app\n    ports:\n    \
                     - name: http\n      containerPort: 80\n";

/// Guards: what a cluster or somebody has written to a port since stays, and its name comes back all the same.
#[test]
fn what_was_written_to_a_port_stays() {
    let once = injected(&["--token", "T"], NAMED);
    let edited =
        once.replacen("    - containerPort: 80\n", "    - containerPort: 80\n      protocol: TCP\n", 1);
    assert_ne!(edited, once);
    assert!(injected(&[], &edited).contains("    - name: http\n      containerPort: 10080\n"));
    assert_eq!(injected(&["--remove"], &edited), format!("{NAMED}      protocol: TCP\n"));
}

/// Guards: a name that ebb has when its port is gone, and a container with another name: what was there can't be told.
#[test]
fn what_was_taken_away_is_not_forgotten() {
    let once = injected(&[], NAMED);
    let said = |args: &[&str], input: &str| {
        let output = inject(args, input);
        (output.status.code(), text(&output.stderr))
    };
    let moved = once.replacen("- containerPort: 80\n", "- containerPort: 81\n", 1);
    let (code, error) = said(&[], &moved);
    assert!(
        code == Some(2) && error.contains("ebb has the name http of port 80, and that port is gone"),
        "{error}"
    );
    let (code, note) = said(&["--remove"], &moved);
    assert!(code == Some(0) && note.contains("the name http of port 80 is nobody's now"), "{note}");
    // Written where it belongs now, or to another container's port.
    let named = moved.replacen("- containerPort: 81\n", "- containerPort: 81\n      name: http\n", 1);
    assert_eq!(
        injected(&["--remove"], &named),
        NAMED.replacen("- name: http\n      containerPort: 80", "- containerPort: 81\n      name: http", 1)
    );
    assert!(injected(&[], &named).contains("- name: http\n      containerPort: 10081\n"));
    let (code, error) = said(&["--remove"], &once.replacen("name: app", "name: web", 1));
    assert!(code == Some(2) && error.contains("container web has ebb's hook, and another name"), "{error}");
}

/// Guards: a text of any size: what would take minutes is refused at once.
#[test]
fn more_than_can_be_meant_is_refused() {
    let ports: String = (1..=60_000).map(|n| format!("    - containerPort: {n}\n")).collect();
    let output = inject(&[], &format!("{}{ports}", &NAMED[..NAMED.find("    - name").unwrap()]));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("it has more than 10000 parts"), "{}", text(&output.stderr));
}

/// Guards: a token of its own for each workload, the same in the hook and in ebb, kept from then on.
#[test]
fn tokens() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: one}\nspec:\n  containers:\n  - name: app\n    ports: [{containerPort: 80}]\n";
    let twice = injected(&[], &format!("{pod}---\n{pod}"));
    let bearers: Vec<&str> =
        twice.lines().filter_map(|line| line.split_once("Bearer ").map(|(_, token)| token)).collect();
    assert_eq!((bearers.len(), bearers[0].len()), (2, 32));
    assert_ne!(bearers[0], bearers[1]);
    assert!(bearers.iter().all(|token| twice.matches(token).count() == 2));
    assert_eq!(injected(&[], &twice), twice);
    let changed = injected(&["--grace-period", "60s"], &twice);
    assert!(changed != twice && bearers.iter().all(|token| changed.matches(token).count() == 2));
}

/// Guards: the label that selects pods for the webhook counts here as well; "false" in either place leaves a pod as it is.
#[test]
fn labels() {
    let pod = |label: &str, annotation: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: one\n  labels: {{ebb.dev/inject: \"{label}\"}}\n  annotations: \
             {{ebb.dev/inject: \"{annotation}\"}}\nspec:\n  containers:\n  - name: app\n    ports: [{{containerPort: 80}}]\n"
        )
    };
    for (label, annotation, changes) in [
        ("true", "true", 1),
        ("false", "true", 0),
        ("true", "false", 0),
        ("false", "false", 0),
        ("maybe", "true", 2),
    ] {
        let output = inject(&["--check"], &pod(label, annotation));
        assert_eq!(output.status.code(), Some(changes), "{label} {annotation}: {}", text(&output.stderr));
    }
}

/// What it says.
fn said(args: &[&str], input: &str) -> String {
    text(&inject(args, input).stderr)
}

const SHOP: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: shop\n  labels: {app: shop}\nspec:\n  containers:\n  - name: app\n    \
                    ports:\n    - containerPort: 3000\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: shop\nspec:\n  \
                    selector: {app: shop}\n  ports:\n  - port: 80\n    targetPort: 3000\n";

/// Guards: what is to be applied first, said when a Service goes to another port, and only then.
#[test]
fn what_is_applied_first() {
    let once = injected(&[], SHOP);
    let note = said(&[], &once);
    assert!(note.contains("\nService shop: up to date: targetPort 13000 leads to ebb\n"), "{note}");
    let note = said(&["--port", "14000=3000"], &once);
    assert!(note.contains("targetPort 13000 is now 14000; neither pods from before"), "{note}");
    let back = "\nService shop: targetPort 13000 is 3000 again; pods without ebb do not listen on 13000: apply this Service \
                first, then the workload\n";
    assert!(said(&["--remove"], &once).contains(back), "{}", said(&["--remove"], &once));
    let out = once.replacen("labels: {app: shop}", "labels: {app: shop, ebb.dev/inject: \"false\"}", 1);
    assert!(said(&[], &out).contains(back), "{}", said(&[], &out));
    let by_hand = once.replacen("targetPort: 13000", "targetPort: 9999", 1);
    let note = said(&["--remove"], &by_hand);
    assert!(
        note.ends_with("\nService shop: it was changed since, and stays; only ebb's annotation is removed\n"),
        "{note}"
    );
}

/// Guards: a Service in the input with a number that its workload does not have behind ebb; and not of one that leads to ebb's own.
#[test]
fn numbers_that_lead_nowhere() {
    let service = |port: &str| SHOP.replacen("targetPort: 3000", &format!("targetPort: {port}"), 1);
    let note = said(&[], &service("5000"));
    assert!(
        note.contains(
            "\nService shop: targetPort 5000 is left as it is: Pod shop has no such port behind ebb\n"
        ),
        "{note}"
    );
    assert!(note.contains("no Service here leads to 3000"), "{note}");
    for (port, leads) in [("13000", true), ("9900", false), ("http", false)] {
        let note = said(&[], &service(port));
        assert!(!note.contains("Service shop"), "{note}");
        assert_eq!(note.contains("no Service here leads to 3000"), !leads, "{note}");
    }
    let out =
        service("5000").replacen("labels: {app: shop}", "labels: {app: shop, ebb.dev/inject: \"false\"}", 1);
    assert!(!said(&[], &out).contains("Service"), "{}", said(&[], &out));
    let named =
        service("http").replacen("- containerPort: 3000", "- name: http\n      containerPort: 3000", 1);
    assert!(!said(&[], &named).contains("no Service here"), "{}", said(&[], &named));
}

/// Guards: old clusters do not find names in native sidecars; of classic ones and of what is settled nothing is said.
#[test]
fn names_on_old_clusters() {
    let named = SHOP.replacen("- containerPort: 3000", "- name: http\n      containerPort: 3000", 1);
    let named = named.replacen("targetPort: 3000", "targetPort: http", 1);
    let once = injected(&[], &named);
    for (args, input, expected) in [
        (&[][..], &named, true),
        (&["--classic"], &named, false),
        (&[], &once, false),
        (&["--remove"], &once, false),
    ] {
        let note = said(args, input);
        let there = note.contains(
            "\nService shop: before Kubernetes 1.33, targetPort http is not found in a native sidecar",
        );
        assert_eq!(there, expected, "{note}");
    }
}

/// Guards: an injection that is changed is not called new, and what changed of the sidecar is named.
#[test]
fn updates() {
    let once = injected(&["--image", "ebb:1"], SHOP);
    let note = said(&["--image", "ebb:2", "--classic"], &once);
    let expected = "Pod shop: updated: classic sidecar instead of native; image ebb:2 instead of ebb:1; forwards 13000=3000;";
    assert!(note.starts_with(expected), "{note}");
    let note = said(&["--image", "ebb:1", "--quiet", "2s"], &once);
    assert!(note.starts_with("Pod shop: updated: native sidecar; forwards 13000=3000;"), "{note}");
    assert!(said(&["--image", "ebb:1"], &once).starts_with("Pod shop: up to date: native sidecar; forwards"));
}

/// Guards: where nothing is changed, nothing is said to be.
#[test]
fn what_would_be() {
    let once = injected(&["--token", "T"], SHOP);
    for flag in ["--check", "--diff"] {
        for (args, input, what, port) in [
            (&[flag][..], SHOP, "would be injected: ", "targetPort 3000 would be 13000;"),
            (&[flag, "--classic"], &once, "would be updated: ", "up to date: targetPort 13000 leads to ebb"),
            (
                &[flag, "--remove"],
                &once,
                "the sidecar would be removed\n",
                "targetPort 13000 would be 3000 again;",
            ),
            (&[flag], &once, "up to date: ", "up to date: targetPort 13000 leads to ebb"),
        ] {
            let note = said(args, input);
            assert!(note.starts_with(&format!("Pod shop: {what}")), "{args:?}: {note}");
            assert!(note.contains(&format!("\nService shop: {port}")), "{args:?}: {note}");
        }
    }
}

/// Guards: an ebb whose annotation is gone, which --remove must not pass over in silence.
#[test]
fn nothing_to_remove() {
    let once = injected(&[], NAMED);
    let (start, end) = (once.find("  annotations:\n").unwrap(), once.find("spec:\n").unwrap());
    let lost = format!("{}{}", &once[..start], &once[end..]);
    let output = inject(&["--remove"], &lost);
    assert_eq!(text(&output.stdout), lost);
    assert_eq!(
        text(&output.stderr),
        "Pod one: left as it is: ebb is there, but no annotation ebb.dev/injected that says what was before: take it out by hand\n"
    );
    assert_eq!(said(&["--remove"], NAMED), "Pod one: left as it is: there is nothing to remove\n");
}

/// Guards: times that do not come out, by the names that they were given: a flag's, an annotation's, the pod's own; sums in seconds.
#[test]
fn times_by_their_names() {
    let annotated =
        NAMED.replacen("name: one\n", "name: one\n  annotations: {ebb.dev/grace-period: 10s}\n", 1);
    let note = said(&["--lame-duck-max", "1m", "--app-shutdown", "5500ms"], &annotated);
    let expected = "Pod one: refused: ebb.dev/grace-period 10s is too short: --app-shutdown 5500ms + margin 1s + --lame-duck-max 60s + 1s \
                    to drain = 67500ms: raise ebb.dev/grace-period to 68s or more, or lower --lame-duck-max or --app-shutdown\n";
    assert!(note.starts_with(expected), "{note}");
    let pod = NAMED.replacen("spec:\n", "spec:\n  terminationGracePeriodSeconds: 20\n", 1);
    let note = said(&["--grace-period", "10s"], &pod);
    assert!(
        note.contains("refused: terminationGracePeriodSeconds 20s is too short: --app-shutdown 5s"),
        "{note}"
    );
    assert!(note.contains("raise --grace-period to 22s or more"), "{note}");
    let slept =
        pod.replacen("- name: app\n", "- name: app\n    lifecycle: {preStop: {sleep: {seconds: 20}}}\n", 1);
    let note = said(&["--lame-duck-max", "10s"], &slept);
    assert!(
        note.contains("refused: the hook's sleep of 20s is more than --lame-duck-max 10s: lower"),
        "{note}"
    );
    let note = said(&["--grace-period", "10s", "--app-shutdown", "18446744073709551615s"], NAMED);
    assert!(
        note.contains("= 18446744073709551615999ms: raise --grace-period to 18446744073709551615s or"),
        "{note}"
    );
    let annotated = annotated.replacen("grace-period: 10s", "lame-duck-max: 4s", 1);
    let note = said(&[], &annotated);
    assert!(
        note.contains(
            "refused: --lame-duck-min 5s is more than ebb.dev/lame-duck-max 4s: lower the one or raise"
        ),
        "{note}"
    );
}

/// Guards: --diff prints the difference and nothing else, --check beside it still exits with 1.
#[test]
fn differences() {
    let path = folder().join("host.yaml");
    let output = inject(&["--diff", "--check", path.to_str().unwrap()], "");
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        shown.starts_with("--- before\n+++ after\n@@ ") && shown.contains("\n+    - name: ebb\n"),
        "{shown}"
    );
    assert!(inject(&["--check", path.to_str().unwrap()], "").stdout.is_empty());
    // Document by document, and yet the difference of the whole.
    let several = format!("a: 1\n---\n{NAMED}--- # third\n{}", &NAMED[..NAMED.len() - 1]);
    let shown = text(&inject(&["--diff", "--token", "T"], &several).stdout);
    let patch = diffy::Patch::from_str(&shown).unwrap();
    assert_eq!(diffy::apply(&several, &patch).unwrap(), injected(&["--token", "T"], &several));
    let nothing = inject(&["--diff"], "kind: ConfigMap\n");
    assert!(nothing.stdout.is_empty() && nothing.status.success());
    assert_eq!(inject(&["no-such-file"], "").status.code(), Some(2));
}
