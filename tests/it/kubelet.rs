//! A pod is deleted while clients are at work: none of them notices.

use std::time::Duration;

use crate::support::{App, Ebb, Kubelet, Order, Traffic};

const GRACE: Duration = Duration::from_secs(10);

async fn delete_under_traffic(order: Order) {
    let app = App::hello();
    let forward = format!("127.0.0.1:0={}", app.addr());
    let ebb = Ebb::start_bare(&["--forward", &forward, "--admin", "[::]:0", "--admin-open"]).await;
    let traffic = Traffic::start(ebb.addr(), 8, 8);
    traffic.served(200).await;
    let kubelet = Kubelet { grace: GRACE, order, headers: "" };
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
    delete_under_traffic(Order::Classic).await;
}

/// Guards: the native order: SIGTERM comes last, when ebb has been drained for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_native_pod_goes_away_unnoticed() {
    delete_under_traffic(Order::Native).await;
}
