//! `ebb webhook` as an API server meets it: the real binary, real TLS, reviews as API servers send them (in `tests/webhook`).

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::net::TcpStream;

#[allow(dead_code, unused_imports, reason = "most of it is for the sidecar's tests")]
#[path = "support/mod.rs"]
mod support;

use support::tls::{Authority, Folder, Halfway, Identity, handshake};
use support::{Client, Ebb, Response, within};

/// A webhook, its certificate, and the authority behind it.
struct Webhook {
    ebb: Ebb,
    folder: Folder,
    authority: Authority,
}

impl Webhook {
    async fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, &[]).await
    }

    async fn start_with(flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let (authority, folder) = (Authority::new(), Folder::new());
        folder.mount("first", &authority.identity());
        let (cert, key) = (folder.path("tls.crt"), folder.path("tls.key"));
        let own = [
            ["--listen", "127.0.0.1:0"],
            ["--admin", "127.0.0.1:0"],
            ["--tls-cert", cert.to_str().unwrap()],
            ["--tls-key", key.to_str().unwrap()],
            ["--tls-reload-interval", "20ms"],
        ];
        let ebb = Ebb::start_webhook(&[own.as_flattened(), flags].concat(), variables).await;
        Self { ebb, folder, authority }
    }

    /// A client that offers what an old API server would: HTTP/2 first.
    async fn client(&self) -> Client {
        let mut config = self.authority.client();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = within("a handshake", handshake(self.ebb.addr(), Arc::new(config))).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        Client::over_tls(stream)
    }

    /// The `response` to a review.
    async fn review(&self, review: &Value) -> Value {
        let answer = post(&mut self.client().await, &review.to_string()).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        response(&answer, review)
    }

    /// The pod that the API server has after a review.
    async fn injected(&self, review: &Value) -> Value {
        patched(review, &self.review(review).await)
    }

    /// That a pod is let in as it is; returns the warnings.
    async fn unchanged(&self, review: &Value) -> Vec<String> {
        let response = self.review(review).await;
        assert!(response.get("patch").is_none() && response.get("patchType").is_none(), "{response}");
        let warnings = response.get("warnings").cloned().unwrap_or(json!([]));
        serde_json::from_value(warnings).unwrap()
    }

    async fn results(&self, result: &str) -> f64 {
        self.ebb.metric(&["ebb_webhook_requests_total", result]).await
    }
}

/// Sends a review.
async fn post(client: &mut Client, body: &str) -> Response {
    client.send(request(body.len())).await;
    client.send(body).await;
    client.response().await
}

/// The head of a review's request.
fn request(len: usize) -> String {
    format!(
        "POST /mutate?timeout=10s HTTP/1.1\r\nHost: ebb-webhook.ebb.svc:443\r\nUser-Agent: kube-apiserver-admission\r\n\
         Accept: application/json, */*\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n"
    )
}

/// What API servers insist on, and the `response`.
fn response(answer: &Response, review: &Value) -> Value {
    let answer: Value = serde_json::from_slice(&answer.body.bytes).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
    assert_eq!(answer["response"]["allowed"], true);
    answer["response"].clone()
}

fn patched(review: &Value, response: &Value) -> Value {
    assert_eq!(response["patchType"], "JSONPatch", "{response}");
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let mut pod = review["request"]["object"].clone();
    json_patch::patch(&mut pod, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()).unwrap();
    pod
}

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/webhook").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The replica set's pod, with something else in it.
fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut review = golden("replicaset.json");
    change(&mut review["request"]["object"]);
    review
}

/// What `ebb inject` makes of a pod. It would leave one that belongs to a controller to that.
fn ebb_inject(pod: &Value, flags: &[&str]) -> Value {
    let mut pod = pod.clone();
    let owners = pod["metadata"].as_object_mut().unwrap().shift_remove("ownerReferences");
    let mut child = Command::new(env!("CARGO_BIN_EXE_ebb"))
        .arg("inject")
        .args(flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(pod.to_string().as_bytes()).unwrap();
    let mut injected: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    injected["metadata"]["ownerReferences"] = owners.unwrap();
    injected
}

/// Guards: the patch: a pod that was patched is what `ebb inject` makes of it, native and classic, whatever made the pod.
#[tokio::test]
async fn a_pod_is_what_ebb_inject_makes_of_it() {
    let native: &[&str] = &["--token", "TOKEN", "--image", "registry.test/ebb:1"];
    let classic = &[native, &["--classic", "--app-shutdown", "8s"]].concat()[..];
    for (flags, names) in [
        (native, &["replicaset.json", "statefulset.json", "job.json"][..]),
        (classic, &["replicaset.json", "statefulset.json"]),
    ] {
        let webhook = Webhook::start(flags).await;
        for name in names {
            let review = golden(name);
            let pod = webhook.injected(&review).await;
            assert_eq!(pod, ebb_inject(&review["request"]["object"], flags), "{name}");
            assert!(pod["spec"].to_string().contains("registry.test/ebb:1"), "{name}");
        }
        assert_eq!(webhook.results("injected").await, names.len() as f64);
    }
}

/// Guards: the variables of the settings, and that a pod's annotations count more.
#[tokio::test]
async fn settings_come_from_variables() {
    let variables = [
        ("EBB_INJECT_IMAGE", "ebb:variable"),
        ("EBB_INJECT_CLASSIC", "true"),
        ("EBB_INJECT_ENV", "EBB_ACCESS_LOG=json\nEBB_PROBE_USER_AGENT=a,b"),
        ("EBB_INJECT_CPU", "20m"),
    ];
    let webhook = Webhook::start_with(&[], &variables).await;
    let review = with(|pod| pod["metadata"]["annotations"]["ebb.dev/cpu"] = "30m".into());
    let pod = webhook.injected(&review).await;
    let ebb = &pod["spec"]["containers"][1];
    assert_eq!((ebb["name"].as_str(), ebb["image"].as_str()), (Some("ebb"), Some("ebb:variable")));
    assert_eq!(ebb["env"][1], json!({"name": "EBB_ACCESS_LOG", "value": "json"}));
    assert_eq!(ebb["env"][2], json!({"name": "EBB_PROBE_USER_AGENT", "value": "a,b"}));
    assert_eq!(ebb["resources"]["requests"]["cpu"], "30m");
}

/// Guards: a token of its own for each pod, in the hook's header and in ebb's environment.
#[tokio::test]
async fn every_pod_has_its_own_token() {
    let webhook = Webhook::start(&[]).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let pod = webhook.injected(&golden("replicaset.json")).await;
        let hook =
            &pod["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"]["httpHeaders"][0]["value"];
        let token = pod["spec"]["initContainers"][0]["env"][0]["value"].as_str().unwrap().to_owned();
        assert_eq!(hook.as_str().unwrap(), format!("Bearer {token}"));
        assert_eq!(token.len(), 32);
        seen.push(token);
    }
    assert_ne!(seen[0], seen[1]);
}

/// Guards: a pod that can't be injected is let in, with the reason in warnings that API servers pass on whole, and in the log.
#[tokio::test]
async fn what_cannot_be_injected_is_let_in() {
    let webhook = Webhook::start(&[]).await;
    let hook = |command: Value| {
        with(|pod| pod["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] = command)
    };
    let annotated = |name: &str, value: Value| with(|pod| pod["metadata"]["annotations"][name] = value);
    let recorded: Vec<Value> = (0..2000).map(|n| json!({"containerPort": n})).collect();
    let recorded = json!({"containers": {"shop": {"ports": recorded}}});
    let cases = [
        (hook(json!(["nginx", "-s", "quit"])), "--replace-hook"),
        (hook(json!(["\u{1b}[31mred\u{7}", "x".repeat(5000)])), "--replace-hook"),
        (with(|pod| pod["spec"]["containers"][0]["ports"] = json!([])), "declares a TCP port"),
        (annotated("ebb.dev/lame-duck-max", "1s".into()), "lame"),
        (annotated("ebb.dev/no-such", "1".into()), "no such setting"),
        (annotated("ebb.dev/injected", "{".into()), "can't be read"),
        (
            with(|pod| pod["metadata"]["labels"]["ebb.dev/inject"] = "maybe".into()),
            "label ebb.dev/inject: write",
        ),
        (with(|pod| pod["spec"]["containers"] = json!({"a": [1]})), "declares a TCP port"),
        (with(|pod| pod["spec"] = json!(["nonsense"])), "declares a TCP port"),
        (with(|pod| *pod = json!({})), "declares a TCP port"),
        // The API server would refuse what comes out, and the pod with it.
        (annotated("ebb.dev/memory", "lots".into()), "write a quantity"),
        (annotated("ebb.dev/grace-period", "9223372036854775808s".into()), "longer than Kubernetes can say"),
        // What would keep it busy for minutes.
        (annotated("ebb.dev/injected", "x".repeat(257 << 10).into()), "256 KiB"),
        (annotated("ebb.dev/injected", recorded.to_string().into()), "can't be read"),
        (
            annotated("ebb.dev/port", (1..=1001).map(|n| format!("{n},")).collect::<String>().into()),
            "more than 1000 ports",
        ),
        (
            with(|pod| {
                pod["spec"]["containers"][0]["ports"] =
                    (1..6000).map(|n| json!({"containerPort": n})).collect()
            }),
            "more than 10000 parts",
        ),
    ];
    let all = cases.len();
    for (review, needle) in cases {
        let warnings = webhook.unchanged(&review).await;
        let whole = warnings.join(" ");
        assert!(whole.starts_with("ebb did not inject pod ") && whole.contains(needle), "{warnings:?}");
        assert!(warnings.iter().all(|line| line.len() <= 256 && !line.contains(char::is_control)));
        assert!(whole.len() < 4096);
    }
    assert_eq!(webhook.results("refused").await, all as f64);
    let line = webhook.ebb.logged("why", |line| line["message"] == "not injected").await;
    assert_eq!((line["pod"].as_str(), line["namespace"].as_str()), (Some("shop-6d9f7c7b8d-*"), Some("shop")));
    assert!(line["reason"].as_str().unwrap().contains("nginx -s quit"), "{line}");
}

/// Guards: whoever did not ask for it, and what was injected before.
#[tokio::test]
async fn who_does_not_want_it_is_left_alone() {
    let webhook = Webhook::start_with(&[], &[("POD_NAMESPACE", "ebb-system")]).await;
    let meta = |kind: &str, name: &str, value: &str| with(|pod| pod["metadata"][kind][name] = value.into());
    let request = |name: &str, value: Value| {
        let mut review = golden("replicaset.json");
        review["request"][name] = value;
        review
    };
    let mut job = golden("job.json");
    job["request"]["object"]["spec"]["containers"][0]["ports"] = json!(null);
    let mut again = golden("replicaset.json");
    again["request"]["object"] = webhook.injected(&again).await;
    // Not even with other settings: it was complete when it came.
    again["request"]["object"]["metadata"]["annotations"]["ebb.dev/image"] = "ebb:2".into();
    let reviews = [
        again,
        job,
        meta("labels", "ebb.dev/inject", "false"),
        meta("annotations", "ebb.dev/inject", "false"),
        meta("annotations", "kubernetes.io/config.mirror", "0123"),
        with(|pod| pod["spec"]["nodeSelector"] = json!({"kubernetes.io/os": "windows"})),
        request("namespace", "ebb-system".into()),
        request("operation", "UPDATE".into()),
        request("subResource", "ephemeralcontainers".into()),
        request("kind", json!({"group": "", "version": "v1", "kind": "ConfigMap"})),
        request("kind", json!({"group": "other.test", "version": "v1", "kind": "Pod"})),
    ];
    for review in &reviews {
        assert_eq!(webhook.unchanged(review).await, [""; 0], "{review}");
    }
    assert_eq!(webhook.results("unchanged").await, reviews.len() as f64);
    assert_eq!(webhook.results("injected").await, 1.0);
}

/// Guards: a Service that leads to a number can't be changed here, so whoever creates the pod is told.
#[tokio::test]
async fn ports_without_a_name_are_warned_about() {
    let webhook = Webhook::start(&[]).await;
    let review = with(|pod| {
        pod["spec"]["containers"][0]["ports"][1].as_object_mut().unwrap().shift_remove("name");
    });
    let response = webhook.review(&review).await;
    let warnings = response["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1);
    let warning = warnings[0].as_str().unwrap();
    assert!(warning.contains("port 9102 has no name") && warning.contains("19102"), "{warning}");
    patched(&review, &response);
}

/// Guards: what is no review gets a 4xx that says why, and the connection goes on; nothing falls over.
#[tokio::test]
async fn what_makes_no_sense_is_a_4xx() {
    let webhook = Webhook::start(&[]).await;
    let mut client = webhook.client().await;
    let good = golden("replicaset.json");
    let changed = |path: &str, value: Value| {
        let mut review = golden("replicaset.json");
        *review.pointer_mut(path).unwrap() = value;
        review.to_string()
    };
    let cases = [
        (String::new(), 400, "is no JSON"),
        ("{".to_owned(), 400, "is no JSON"),
        ("[".repeat(100_000), 400, "is no JSON"),
        ("null".to_owned(), 400, "no AdmissionReview of admission.k8s.io/v1"),
        ("[1]".to_owned(), 400, "no AdmissionReview"),
        (changed("/apiVersion", "admission.k8s.io/v1beta1".into()), 400, "must be [v1]"),
        (changed("/kind", "Pod".into()), 400, "no AdmissionReview"),
        (changed("/request", Value::Null), 400, "request can't be read"),
        (changed("/request/uid", json!(7)), 400, "request can't be read"),
        (changed("/request/object", Value::Null), 400, "has no object"),
        (changed("/request/object", json!("pod")), 400, "has no object"),
        ("x".repeat((4 << 20) + 1), 413, "4 MiB"),
        (changed("/request/object", json!(vec![0; 50_001])), 400, "50000 parts"),
    ];
    let all = cases.len();
    for (body, status, needle) in cases {
        let answer = post(&mut client, &body).await;
        let shown = &body[..body.len().min(200)];
        assert_eq!(answer.status(), status, "{shown}: {}", answer.text());
        assert!(answer.text().contains(needle), "{shown}: {}", answer.text());
    }
    for (target, status) in [("/mutate", 405), ("/", 404), ("/metrics", 404)] {
        assert_eq!(client.get(target).await.status(), status);
    }
    // Large, and not too large.
    let padded = changed("/request/object/metadata/annotations", json!({"a": "x".repeat(3 << 20)}));
    assert_eq!(post(&mut client, &padded).await.status(), 200);
    response(&post(&mut client, &good.to_string()).await, &good);
    assert_eq!(webhook.results("error").await, (all + 3) as f64);
}

/// Guards: neither a handshake nor a body keeps a connection for ever. Takes the ten seconds that both may take.
#[tokio::test]
async fn slow_clients_are_given_up() {
    let webhook = Webhook::start(&[]).await;
    let halfway = Halfway::begin(webhook.ebb.addr(), webhook.authority.client()).await;
    let mut slow = webhook.client().await;
    slow.send(request(100)).await;
    slow.send("{").await;
    let answer = async {
        let answer = slow.response().await;
        assert_eq!((answer.status(), answer.closes()), (408, true));
    };
    tokio::join!(answer, halfway.expect_end());
    // A body that is cut off does not count as a pod.
    let mut cut = webhook.client().await;
    cut.send(request(100)).await;
    drop(cut);
    webhook.ebb.until_metric(&["ebb_webhook_requests_total", "error"], 2.0).await;
}

/// Guards: the Secret's files are swapped as the kubelet does it; new handshakes begin with the new ones.
#[tokio::test]
async fn certificates_are_loaded_again() {
    let webhook = Webhook::start(&[]).await;
    let ebb = &webhook.ebb;
    // What rcgen writes when it is not told: 4096-01-01.
    assert_eq!(ebb.metric(&["ebb_webhook_certificate_expiry_timestamp_seconds"]).await, 67_090_118_400.0);
    webhook.folder.mount("broken", &Identity { cert: "nonsense".into(), key: "nonsense".into() });
    ebb.until_metric(&["ebb_tls_reloads_total", "webhook", "failed"], 1.0).await;
    webhook.injected(&golden("replicaset.json")).await;
    let renewed = webhook.authority.identity();
    webhook.folder.mount("second", &renewed);
    ebb.until_metric(&["ebb_tls_reloads_total", "webhook", "loaded"], 1.0).await;
    let mut client = webhook.client().await;
    let shown = client.wire.tls().get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_eq!(shown, CertificateDer::from_pem_slice(renewed.cert.as_bytes()).unwrap());
}

/// Guards: health and metrics, in the clear and apart from reviews.
#[tokio::test]
async fn health() {
    let webhook = Webhook::start(&[]).await;
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/startupz", 200), ("/mutate", 404)] {
        assert_eq!(webhook.ebb.admin_get(path).await.status(), status, "{path}");
    }
    for result in ["injected", "unchanged", "refused", "error"] {
        let line = format!("ebb_webhook_requests_total{{result=\"{result}\"}} 0");
        let metrics = webhook.ebb.admin_get("/metrics").await;
        assert!(metrics.text().lines().any(|shown| shown == line), "{}", metrics.text());
    }
    webhook.injected(&golden("job.json")).await;
    assert_eq!(webhook.ebb.metric(&["ebb_webhook_request_duration_seconds_count"]).await, 1.0);
}

/// Guards: after SIGTERM everybody is still served for a while, and told to go elsewhere next time.
#[tokio::test]
async fn sigterm_refuses_nobody_at_first() {
    let webhook = Webhook::start(&["--shutdown-delay", "1h"]).await;
    let review = golden("replicaset.json").to_string();
    let mut idle = webhook.client().await;
    assert!(!post(&mut idle, &review).await.closes());
    webhook.ebb.signal(libc::SIGTERM);
    webhook.ebb.logged("the signal", |line| line["message"] == "received").await;
    let mut late = webhook.client().await;
    for client in [&mut idle, &mut late] {
        let answer = post(client, &review).await;
        assert_eq!((answer.status(), answer.closes()), (200, true));
    }
    assert_eq!(webhook.ebb.admin_get("/readyz").await.status(), 200);
}

/// Guards: what is under way when the port closes is answered before the end.
#[tokio::test]
async fn what_is_under_way_at_the_end_is_answered() {
    let mut webhook = Webhook::start(&["--shutdown-delay", "0s"]).await;
    let review = golden("replicaset.json").to_string();
    let mut under_way = webhook.client().await;
    under_way.send(request(review.len())).await;
    under_way.send(&review[..100]).await;
    // The next one is not accepted before what came before it has been seen.
    webhook.injected(&golden("replicaset.json")).await;
    let mut admin = Client::connect(webhook.ebb.admin).await;
    assert_eq!(admin.get("/readyz").await.status(), 200);
    webhook.ebb.signal(libc::SIGTERM);
    let refuses = async {
        // The last ones may be accepted and reset.
        let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
        while !TcpStream::connect(webhook.ebb.addr()).await.is_err_and(refused) {}
    };
    within("the port to refuse", refuses).await;
    assert_eq!(admin.get("/readyz").await.status(), 503);
    assert!(webhook.ebb.is_running());
    under_way.send(&review[100..]).await;
    let answer = under_way.response().await;
    assert_eq!((answer.status(), answer.closes()), (200, true));
    assert_eq!(webhook.ebb.exit().await.code(), Some(0));
}

/// Guards: a second Ctrl-C ends at once, and a second SIGTERM does not.
#[tokio::test]
async fn a_second_interrupt_ends_at_once() {
    let mut webhook = Webhook::start(&["--shutdown-delay", "1h"]).await;
    let received =
        |name: &'static str| move |line: &Value| line["message"] == "received" && line["signal"] == name;
    webhook.ebb.signal(libc::SIGTERM);
    webhook.ebb.logged("SIGTERM", received("sigterm")).await;
    webhook.ebb.signal(libc::SIGTERM);
    webhook.injected(&golden("replicaset.json")).await;
    webhook.ebb.signal(libc::SIGINT);
    assert_eq!(webhook.ebb.exit().await.code(), Some(130));
}

/// Guards: idle clients without a word do not keep others out.
#[tokio::test]
async fn many_idle_connections_keep_nobody_out() {
    let webhook = Webhook::start(&[]).await;
    let mut idle = Vec::new();
    for _ in 0..256 {
        idle.push(webhook.client().await);
    }
    webhook.injected(&golden("replicaset.json")).await;
    let (rest, _) = idle[0].rest().await;
    assert!(rest.is_empty());
}

/// Guards: settings with which nothing could be injected are refused at the start, as is everything else that can't work.
#[tokio::test]
async fn what_cannot_work_is_refused() {
    let (authority, folder) = (Authority::new(), Folder::new());
    folder.mount("first", &authority.identity());
    let (cert, key) = (folder.path("tls.crt"), folder.path("tls.key"));
    let files = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let cases: [(&[&str], &str); 6] = [
        (&["--tls-key", "/k"], "--tls-cert <FILE>"),
        (&["--tls-cert", "/no/such", "--tls-key", "/k"], "--tls-cert /no/such: cannot read it"),
        (&[&files[..], &["--tls-reload-interval", "0s"]].concat(), "write a duration above zero"),
        (&[&files[..], &["--lame-duck-min", "9s", "--lame-duck-max", "1s"]].concat(), "--lame-duck-max"),
        (
            &[&files[..], &["--memory", "1Gi", "--memory-limit", "1Mi"]].concat(),
            "more than --memory-limit 1Mi",
        ),
        (&[&files[..], &["--listen", "nowhere"]].concat(), "write ADDRESS:PORT"),
    ];
    for (flags, needle) in cases {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_ebb"));
        command.args(["webhook", "--admin", "127.0.0.1:0"]).args(flags).kill_on_drop(true);
        let output = within("ebb to refuse its flags", command.output()).await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
        assert!(said.contains(needle), "{flags:?}: {said}");
    }
}
