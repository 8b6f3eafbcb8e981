//! The test itself, from outside: everything goes through kubectl.
//!
//! Each [`Strategy`] gets a Deployment of three pods; each [`Scenario`] is done to it as often as the flags say, each time under clients of its own
//! ([`rollout`]). [`report`] makes the tables and the verdict.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout};

mod cluster;
mod images;
mod logs;
mod report;
mod rollout;
mod scenario;
mod shop;

use cluster::Cluster;
use report::{Cell, Report};
use rollout::Rollout;
use scenario::Scenario;
use shop::{Shop, Strategy};

/// The flags of the test.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// The kubectl command, with whatever flags choose the cluster
    #[arg(long, env = "EBB_E2E_KUBECTL", default_value = "kubectl")]
    kubectl: String,

    /// Makes an image of one static program and loads it into the cluster: a command with {tag}, {binary} (a file) and {entrypoint} (its name in
    /// the image). Without it, the images must be there
    #[arg(long, env = "EBB_E2E_LOAD_IMAGE", value_name = "COMMAND")]
    load_image: Option<String>,

    /// ebb's image
    #[arg(long, default_value = "ebb:e2e", value_name = "TAG")]
    ebb_image: String,

    /// The image of this program, which is the app and the clients
    #[arg(long, default_value = "ebb-e2e:e2e", value_name = "TAG")]
    e2e_image: String,

    /// The ebb that goes into the image and makes the manifests [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    ebb: Option<PathBuf>,

    /// How often each thing is done to ebb's pods
    #[arg(long, default_value_t = 5, value_name = "N")]
    rollouts: u32,

    /// How often a rolling restart is done to those that ebb is compared with, and everything else once; 0 leaves them out
    #[arg(long, default_value_t = 3, value_name = "N")]
    compare: u32,

    /// Everything but the slowest, once, and the comparison by a rolling restart only
    #[arg(long)]
    quick: bool,

    /// Only these; may be given several times
    #[arg(long = "scenario", value_enum, value_delimiter = ',', value_name = "SCENARIO")]
    scenarios: Vec<Scenario>,

    /// Only these; may be given several times
    #[arg(long = "strategy", value_enum, value_delimiter = ',', value_name = "STRATEGY")]
    strategies: Vec<Strategy>,

    /// Where the tables go, besides standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// What the tables should say about the machine and the build
    #[arg(long, default_value = "", value_name = "TEXT")]
    note: String,

    /// Gives up after this
    #[arg(long, default_value = "70m", value_parser = humantime::parse_duration)]
    limit: Duration,

    /// Leaves the namespace behind
    #[arg(long)]
    keep: bool,
}

/// Does the test and cleans up, however it ends.
pub(crate) async fn run(args: RunArgs) -> io::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut cluster = Cluster::new(&args.kubectl)?;
    let done = tokio::select! {
        done = timeout(args.limit, test(&args, &mut cluster)) => {
            done.unwrap_or_else(|_| Err(io::Error::other(format!("not done after {:?}", args.limit))))
        }
        _ = interrupt.recv() => Err(io::Error::other("interrupted")),
        _ = terminate.recv() => Err(io::Error::other("told to end")),
    };
    cluster.clean_up(args.keep).await;
    done
}

async fn test(args: &RunArgs, cluster: &mut Cluster) -> io::Result<ExitCode> {
    let begun = Instant::now();
    let version = cluster.version().await?;
    let ebb = args.ebb.clone().map_or_else(beside, Ok)?;
    if let Some(command) = &args.load_image {
        images::load(command, &args.ebb_image, "ebb", &ebb).await?;
        images::load(command, &args.e2e_image, "ebb-e2e", &std::env::current_exe()?).await?;
    }
    cluster.begin(&args.e2e_image).await?;
    let mut report = Report::default();
    for strategy in Strategy::chosen(&args.strategies) {
        let mut scenarios = Scenario::chosen(&args.scenarios);
        scenarios.retain(|scenario| times(args, *scenario, strategy) > 0);
        if scenarios.is_empty() {
            continue;
        }
        let mut shop = Shop::open(cluster, args, &ebb, strategy).await?;
        for scenario in scenarios {
            if scenario == Scenario::IgnoresSigterm {
                shop = shop.deaf(cluster, args, &ebb).await?;
            }
            let mut cell = Cell::new(scenario, strategy);
            for n in 1..=times(args, scenario, strategy) {
                let done = Rollout::run(cluster, &shop, scenario).await?;
                tell(&format!("{}, {}, {n}: {done}", strategy.title(), scenario.title()));
                cell.rollouts.push(done);
            }
            report.cells.push(cell);
        }
        if !args.keep {
            shop.close(cluster).await?;
        }
    }
    let about = format!("Kubernetes {version}. {}", args.note);
    let failures = report.failures();
    let text = report.markdown(about.trim(), begun.elapsed(), &failures);
    print(&text)?;
    if let Some(file) = &args.output {
        std::fs::write(file, &text)?;
    }
    Ok(ExitCode::from(u8::from(!failures.is_empty())))
}

/// How often.
fn times(args: &RunArgs, scenario: Scenario, strategy: Strategy) -> u32 {
    match (args.quick, strategy, scenario) {
        (true, Strategy::Ebb, Scenario::IgnoresSigterm) => 0,
        (true, Strategy::Ebb, _) | (true, _, Scenario::Restart) => 1,
        (true, ..) => 0,
        (false, Strategy::Ebb, _) => args.rollouts,
        (false, _, Scenario::Restart) => args.compare,
        (false, ..) => args.compare.min(1),
    }
}

/// The ebb that was built together with this program.
fn beside() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("ebb"))
}

/// What happens meanwhile, on standard error.
fn tell(what: &str) {
    eprintln!("{what}");
}

fn print(text: &str) -> io::Result<()> {
    use io::Write as _;
    io::stdout().lock().write_all(text.as_bytes())
}
