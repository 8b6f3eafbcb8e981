//! What `ebb inject` reads, and what it says when there is nothing in it.

use super::{NAMED, inject, injected, text};

fn said(args: &[&str], input: &str) -> (Option<i32>, String) {
    let output = inject(args, input);
    (output.status.code(), text(&output.stderr))
}

/// A folder with files, gone with it.
struct Files(std::path::PathBuf);

impl Files {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("ebb-inject-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        for (name, text) in files {
            std::fs::write(path.join(name), text).unwrap();
        }
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Guards: --check that finds everything in order because it could not read it.
#[test]
fn check_refuses_what_it_cannot_read() {
    let once = injected(&["--token", "T"], NAMED);
    for strange in ["{{ if .Values.x }}\na: b\n", "a: b: c\n", "kind: Pod\nkind: Pod\n"] {
        let input = format!("{once}---\n{strange}");
        let (code, error) = said(&["--check"], &input);
        assert_eq!(code, Some(2), "{strange}");
        assert!(error.contains("error: 1 document can't be read"), "{error}");
        assert_eq!(said(&["--check"], &once).0, Some(0));
        assert_eq!(injected(&[], &input), input);
    }
    let (_, note) = said(&[], &format!("{NAMED}{NAMED}"));
    assert!(note.contains("the key apiVersion for the second time; is a --- missing before it?"), "{note}");
    let (_, note) = said(&[], "a:\n  b: 1\n  b: 2\n");
    assert!(note.contains("line 3: the key b for the second time)"), "{note}");
}

/// Guards: silence about an input in which nobody finds a workload.
#[test]
fn nothing_to_do_is_said() {
    for (input, expected) in [
        ("", "nothing to read\n"),
        (" \n\n", "nothing to read\n"),
        ("# only this\n", "no workload here: nothing to do\n"),
        ("hello\n", "no workload here: nothing to do\n"),
        ("replicaCount: 1\nimage: {tag: x}\n", "no workload here: nothing to do\n"),
        ("{\"kind\": \"ConfigMap\", \"apiVersion\": \"v1\"}", "no workload here: nothing to do\n"),
    ] {
        let output = inject(&[], input);
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), expected), "{input}");
        assert_eq!(text(&output.stdout), input);
    }
    assert!(!said(&[], NAMED).1.contains("nothing to do"));
}

/// Guards: a file that the shell has emptied before it was read.
#[test]
fn an_empty_file_is_an_error() {
    let files = Files::new("empty", &[("x.yaml", "")]);
    let (code, error) = said(&[&files.path("x.yaml")], "");
    assert_eq!(code, Some(2));
    assert!(error.contains("x.yaml a shell empties it before it is read"), "{error}");
}

/// Guards: a workload of a kind that is not known, or not written as Kubernetes has it, and no word about it.
#[test]
fn a_kind_that_is_not_known_is_said() {
    let pods = "metadata: {name: web}\nspec:\n  template:\n    spec:\n      containers:\n      - {name: app, ports: [{containerPort: 80}]}\n";
    for (head, expected) in [
        (
            "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\n",
            "Rollout web: left as it is: ebb inject does not know this kind of object; ebb webhook can inject its pods\n",
        ),
        (
            "apiVersion: apps/v1\nkind: deployment\n",
            "deployment web: left as it is: Kubernetes knows no such kind: write Deployment\n",
        ),
        ("kind: Deployment\n", "Deployment web: left as it is: it has no apiVersion: write apps/v1\n"),
        (
            "apiVersion: v1\nkind: Deployment\n",
            "Deployment web: left as it is: its apiVersion is v1: write apps/v1\n",
        ),
        ("apiVersion: apps/v1\n", "object web: left as it is: it has no kind\n"),
    ] {
        let input = format!("{head}{pods}");
        let output = inject(&[], &input);
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), expected));
        assert_eq!(text(&output.stdout), input);
        let listed =
            format!("apiVersion: v1\nkind: List\nitems:\n- {}", input.replace('\n', "\n  ").trim_end());
        assert_eq!(said(&[], &format!("{listed}\n---\n{NAMED}")).1.matches(expected).count(), 1);
    }
}

/// Guards: variables that `ebb proxy` does not have, or not with such a value: the pod would start again and again.
#[test]
fn variables_that_ebb_proxy_would_refuse() {
    for (variable, expected) in [
        ("EBB_NOPE=1", "EBB_NOPE is no variable of ebb proxy: see ebb proxy --help"),
        ("EBB_ACCESS_LOG=xml", "EBB_ACCESS_LOG=xml: write off or json or text"),
        ("EBB_IDLE_TIMEOUT=soon", "EBB_IDLE_TIMEOUT=soon: "),
        ("EBB_IDLE_TIMEOUT=0s", "EBB_IDLE_TIMEOUT=0s: write a duration above zero"),
        ("EBB_MAX_CONNECTIONS=0", "EBB_MAX_CONNECTIONS=0: "),
        ("EBB_ACCEPT_PROXY=yes", "EBB_ACCEPT_PROXY=yes: write true or false"),
        (
            "EBB_ADMIN_TOKEN=x",
            "EBB_ADMIN_TOKEN has a setting of its own here: --token, or the annotation ebb.dev/token",
        ),
        ("EBB_FORWARD=1=2", "EBB_FORWARD has a setting of its own here: --port, or"),
        ("EBB_TLS_CERT=/x", "EBB_TLS_CERT has a setting of its own here: --tls-secret, or"),
        ("a b=1", "'a b' is no name of a variable"),
    ] {
        let (code, error) = said(&["--env", variable], NAMED);
        assert!(code == Some(2) && error.contains(expected), "{error}");
        let metadata = format!("metadata:\n  annotations: {{ebb.dev/env: \"{variable}\"}}\n");
        let (code, error) = said(&[], &NAMED.replace("metadata:\n", &metadata));
        assert!(code == Some(2) && error.contains(&format!("annotation ebb.dev/env: {expected}")), "{error}");
    }
    for variable in
        ["EBB_ACCESS_LOG=json", "EBB_ACCEPT_PROXY=true", "EBB_WORKERS=1", "RUST_BACKTRACE=1", "TZ="]
    {
        let shown = injected(&["--env", variable], NAMED);
        assert!(shown.contains(&format!("name: {}\n", variable.split('=').next().unwrap())), "{shown}");
    }
}

/// Guards: a variable that a manifest leaves empty, taken for a wrong value.
#[test]
fn an_empty_switch_is_none() {
    let run = |value: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ebb"));
        let command = command.args(["inject", "--check"]).env("EBB_INJECT_CLASSIC", value);
        command.stdin(std::process::Stdio::null()).output().unwrap().status.code()
    };
    assert_eq!(["", "false", "true", "maybe"].map(run), [Some(0), Some(0), Some(0), Some(2)]);
}
