//! The admin port: probes, tokens, metrics, status.

use crate::support::{App, Client, Ebb, Hook, own_address};

/// Guards: what each probe says in each phase.
#[tokio::test]
async fn probes_follow_the_phases() {
    let mut app = App::scripted();
    let ebb = Ebb::start_with(&app, &["--lame-duck-min", "1s"]).await;
    let mut client = ebb.client().await;
    client.send_get("/held").await;
    let mut exchange = app.request().await;
    assert_eq!(probes(&ebb).await, [200, 200, 200, 200], "serving");
    let hook = ebb.drain().await;
    ebb.phase("lame-duck").await;
    assert_eq!(probes(&ebb).await, [200, 200, 200, 503], "lame-duck");
    ebb.phase("draining").await;
    assert_eq!(probes(&ebb).await, [200, 200, 503, 503], "draining");
    exchange.answer("200 OK", "").await.unwrap();
    exchange.keep();
    client.response().await;
    hook.report().await;
    ebb.phase("drained").await;
    assert_eq!(probes(&ebb).await, [200, 200, 503, 503], "drained");
}

/// The statuses of /startupz, /livez, /readyz and /lbz.
async fn probes(ebb: &Ebb) -> [u16; 4] {
    let mut statuses = [0; 4];
    for (i, path) in ["/startupz", "/livez", "/readyz", "/lbz"].into_iter().enumerate() {
        statuses[i] = ebb.admin_get(path).await.status();
    }
    statuses
}

/// Guards: `/readyz` speaks for the app too.
#[tokio::test]
async fn readiness_needs_the_app() {
    let mut app = App::hello();
    let ebb = Ebb::start(&app).await;
    assert_eq!(ebb.admin_get("/readyz").await.status(), 200);
    app.kill().await;
    assert_eq!(probes(&ebb).await, [200, 200, 503, 200]);
    app.start();
    assert_eq!(probes(&ebb).await, [200, 200, 200, 200]);
}

/// Asks the admin port from another address than loopback, with this header line; returns the status.
async fn from_elsewhere(ebb: &Ebb, request_line: &str, header: &str) -> u16 {
    let mut client = Client::connect((own_address(), ebb.admin.port()).into()).await;
    client.send(format!("{request_line} HTTP/1.1\r\nHost: ebb.test\r\n{header}\r\n")).await;
    client.response().await.status()
}

async fn with_open_admin_port(app: &App, flags: &[&str]) -> Ebb {
    let forward = format!("127.0.0.1:0={}", app.addr());
    Ebb::start_bare(&[&["--forward", &forward, "--admin", "[::]:0"], flags].concat()).await
}

/// Guards: without a token nobody but this pod may drain.
#[tokio::test]
async fn without_a_token_others_may_not_drain() {
    let app = App::hello();
    let ebb = with_open_admin_port(&app, &[]).await;
    for target in ["GET /drain", "GET //drain", "POST /drain", "POST /undrain", "GET /drain?wait=false"] {
        assert_eq!(from_elsewhere(&ebb, target, "").await, 403, "{target}");
        assert_eq!(from_elsewhere(&ebb, target, "Authorization: Bearer guess\r\n").await, 403, "{target}");
    }
    assert_eq!(from_elsewhere(&ebb, "GET /readyz", "").await, 200, "probes are for everybody");
    assert_eq!(ebb.client().await.get("/").await.status(), 200);
    assert_eq!(ebb.status().await["phase"], "serving");
}

/// Guards: the token is asked for, and compared.
#[tokio::test]
async fn with_a_token_others_may_drain() {
    let app = App::hello();
    let path = std::env::temp_dir().join(format!("ebb-it-{}.token", std::process::id()));
    std::fs::write(&path, "correct-horse\n").unwrap();
    let ebb = with_open_admin_port(&app, &["--admin-token-file", path.to_str().unwrap()]).await;
    std::fs::remove_file(&path).unwrap();
    for wrong in ["", "Authorization: Bearer correct-hors\r\n", "Authorization: Basic correct-horse\r\n"] {
        assert_eq!(from_elsewhere(&ebb, "GET /drain", wrong).await, 401, "{wrong:?}");
    }
    assert_eq!(ebb.status().await["phase"], "serving");
    let admin = (own_address(), ebb.admin.port()).into();
    let hook = Hook::call(admin, "Authorization: Bearer correct-horse\r\n").await;
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: a kubelet before 1.26 sends no headers with a hook: there the token is in the path, which has two slashes before 1.21.
#[tokio::test]
async fn the_token_may_be_in_the_query() {
    let app = App::hello();
    let ebb = with_open_admin_port(&app, &[]).await;
    assert_eq!(from_elsewhere(&ebb, "GET //drain?token=horse", "").await, 403, "there is no token");
    let path = std::env::temp_dir().join(format!("ebb-it-{}-query.token", std::process::id()));
    std::fs::write(&path, "correct&horse\n").unwrap();
    let ebb = with_open_admin_port(&app, &["--admin-token-file", path.to_str().unwrap()]).await;
    std::fs::remove_file(&path).unwrap();
    assert_eq!(from_elsewhere(&ebb, "GET //drain?token=correct&horse", "").await, 401);
    assert_eq!(ebb.status().await["phase"], "serving");
    assert_eq!(from_elsewhere(&ebb, "GET //drain?token=correct%26horse&wait=false", "").await, 202);
    ebb.phase("drained").await;
}

/// Guards: loopback needs no token, in its IPv6 and its IPv4-mapped form too.
#[tokio::test]
async fn loopback_needs_no_token() {
    let app = App::hello();
    let ebb = with_open_admin_port(&app, &[]).await;
    let hook = Hook::call(([127, 0, 0, 1], ebb.admin.port()).into(), "").await;
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: `--admin-open`.
#[tokio::test]
async fn an_open_admin_port_lets_everybody_drain() {
    let app = App::hello();
    let ebb = with_open_admin_port(&app, &["--admin-open"]).await;
    let hook = Hook::call((own_address(), ebb.admin.port()).into(), "").await;
    assert_eq!(hook.report().await["outcome"], "clean");
}

/// Guards: what there is, and what there is not.
#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    assert_eq!(ebb.admin_get("/nothing").await.status(), 404);
    for request in ["PUT /drain", "GET /undrain", "DELETE /livez"] {
        let mut client = Client::connect(ebb.admin).await;
        client.send(format!("{request} HTTP/1.1\r\nHost: ebb.test\r\n\r\n")).await;
        let response = client.response().await;
        assert_eq!(response.status(), 405, "{request}");
        assert!(response.head.get("allow").is_some(), "{}", response.head);
    }
    let page = ebb.admin_get("/").await;
    assert_eq!(page.status(), 200);
    assert!(page.head.get("content-type").unwrap().starts_with("text/html"), "{}", page.head);
    assert_eq!(ebb.status().await["phase"], "serving");
}

/// Guards: `/metrics` counts requests by what became of them, and names the phase.
#[tokio::test]
async fn metrics_count_requests() {
    let mut app = App::hello();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    app.kill().await;
    client.get("/").await.assert_error(503, "upstream-refused");
    let metrics = ebb.admin_get("/metrics").await;
    assert!(metrics.head.get("content-type").unwrap().starts_with("text/plain"), "{}", metrics.head);
    let text = metrics.text();
    for (name, labels, value) in [
        ("ebb_requests_total", &["code=\"200\""][..], "3"),
        ("ebb_requests_total", &["code=\"503\""], "1"),
        ("ebb_upstream_errors_total", &["reason=\"upstream-refused\""], "1"),
        ("ebb_connections_total", &["protocol=\"http1\""], "1"),
        ("ebb_phase", &["phase=\"serving\""], "1"),
        ("ebb_phase", &["phase=\"draining\""], "0"),
        ("process_open_fds", &[], ""),
    ] {
        let found = text.lines().any(|line| {
            line.starts_with(name) && labels.iter().all(|label| line.contains(label)) && line.ends_with(value)
        });
        assert!(found, "no {name} with {labels:?} = {value} in\n{text}");
    }
}

/// Guards: `/drain?wait=false` answers at once, and the drain goes on without it.
#[tokio::test]
async fn a_drain_may_be_started_without_waiting() {
    let mut app = App::scripted();
    let ebb = Ebb::start(&app).await;
    let mut client = ebb.client().await;
    client.send_get("/held").await;
    let mut exchange = app.request().await;
    assert_eq!(ebb.admin_get("/drain?wait=false").await.status(), 202);
    ebb.phase("draining").await;
    exchange.answer("200 OK", "").await.unwrap();
    exchange.keep();
    assert_eq!(client.response().await.status(), 200);
    ebb.phase("drained").await;
}

/// Guards: POST is as good as GET for those who mind what they do by GET.
#[tokio::test]
async fn post_drains_too() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    let mut client = Client::connect(ebb.admin).await;
    client.send("POST /drain HTTP/1.1\r\nHost: ebb.test\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.response().await.status(), 200);
    ebb.phase("drained").await;
}

/// Guards: whoever holds connections to the admin port open does not keep a hook out.
#[tokio::test]
async fn idle_admin_connections_do_not_keep_a_hook_out() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    let mut idle = Vec::new();
    for _ in 0..140 {
        idle.push(Client::connect(ebb.admin).await);
    }
    assert_eq!(ebb.drain().await.report().await["outcome"], "clean");
}

/// Guards: what only looks does not drain, and neither does a web page in somebody's browser.
#[tokio::test]
async fn a_look_or_a_web_page_does_not_drain() {
    let app = App::hello();
    let ebb = Ebb::start(&app).await;
    for (method, field, refusal) in [
        ("HEAD", "X-Nothing: 1", 405),
        ("GET", "Origin: http://elsewhere.test", 403),
        ("POST", "Origin: null", 403),
        ("GET", "Sec-Fetch-Site: cross-site", 403),
    ] {
        let mut client = Client::connect(ebb.admin).await;
        client.send(format!("{method} /drain HTTP/1.1\r\nHost: ebb.test\r\n{field}\r\n\r\n")).await;
        assert_eq!(client.response_to(method).await.status(), refusal, "{method} {field}");
        assert_eq!(ebb.status().await["phase"], "serving", "{method} {field}");
    }
}
