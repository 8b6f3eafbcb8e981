//! A pod is deleted while clients are at work: none of them notices.

use std::time::Duration;

use crate::support::{App, Ebb, Kubelet, Order, Traffic};

const GRACE: Duration = Duration::from_secs(10);

async fn delete_under_traffic(order: Order, target: &'static str, access: &[&str]) {
    let app = App::hello();
    let forward = format!("127.0.0.1:0={}", app.addr());
    let flags = ["--forward", &forward, "--admin", "[::]:0"];
    let ebb = Ebb::start_bare(&[&flags, access].concat()).await;
    let traffic = Traffic::start(ebb.addr(), 8, 8);
    traffic.served(200).await;
    let kubelet = Kubelet { grace: GRACE, order, target };
    let (deletion, tally) = tokio::join!(kubelet.delete(app, ebb), traffic.until_refused());
    assert_eq!(tally.lost, Vec::<String>::new(), "of {}", tally.served);
    assert_eq!(tally.refused, 16);
    assert_eq!(deletion.report["outcome"], "clean", "{deletion:?}");
    assert_eq!(deletion.app_in_flight, 0, "the app was told to end while it had work");
    assert_eq!(deletion.ebb.code(), Some(0), "{deletion:?}");
    assert!(deletion.took < GRACE, "{deletion:?}");
}

/// Guards: the classic order: SIGTERM comes while the hook waits and must not cut it short.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_classic_pod_goes_away_unnoticed() {
    delete_under_traffic(Order::Classic, "//drain", &["--admin-open"]).await;
}

/// Guards: the native order: SIGTERM comes last, when ebb has been drained for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_native_pod_goes_away_unnoticed() {
    delete_under_traffic(Order::Native, "/drain", &["--admin-open"]).await;
}

/// Guards: what `ebb inject --classic` makes, on a kubelet that sends two slashes and no headers: the token is in the path, and both
/// containers wait for the same drain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_injected_classic_pod_goes_away_unnoticed() {
    let path = std::env::temp_dir().join(format!("ebb-it-{}-kubelet.token", std::process::id()));
    std::fs::write(&path, "horse").unwrap();
    let access = ["--admin-token-file", path.to_str().unwrap()];
    delete_under_traffic(Order::Injected, "//drain?token=horse", &access).await;
    std::fs::remove_file(&path).unwrap();
}

/// Guards: the budget: a request that never ends is cut by the deadline, so early that the app still has its own
/// share of the grace, and nobody has to be killed.
#[tokio::test]
async fn a_stuck_request_does_not_outlive_the_grace() {
    for order in [Order::Classic, Order::Native] {
        let mut app = App::scripted();
        let forward = format!("127.0.0.1:0={}", app.addr());
        let ebb = Ebb::start_bare(&[
            "--forward",
            &forward,
            "--admin",
            "[::]:0",
            "--admin-open",
            "--grace-period",
            "5s",
            "--app-shutdown",
            "2s",
        ])
        .await;
        let mut client = ebb.client().await;
        client.send_get("/stuck").await;
        let _stuck = app.request().await;
        let kubelet = Kubelet { grace: Duration::from_secs(5), order, target: "//drain" };
        let (deletion, response) = tokio::join!(kubelet.delete(app, ebb), client.response());
        response.assert_error(503, "drain-deadline");
        assert_eq!(deletion.report["outcome"], "forced", "{deletion:?}");
        assert!(deletion.hook <= Duration::from_secs(3), "the app's share was used up: {deletion:?}");
        assert_eq!(deletion.ebb.code(), Some(0), "{deletion:?}");
    }
}
