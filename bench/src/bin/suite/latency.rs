//! Latency at a fixed rate, which every proxy in the table can do with ease: half of what the slowest good one can.

use std::io;

use ebb_bench::paced::{Latencies, Pace, Times};
use ebb_bench::peer::Kind;
use ebb_bench::{App, Origin};

use crate::context::Context;
use crate::cpu::{Measured, upstream};
use crate::series::Series;
use crate::workload::Workload;

/// A good peer has at least this share of the best one's requests per second.
const GOOD: f64 = 0.5;

/// One turn of one proxy, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// How late the load itself was, at worst but for one in a hundred.
    pub(crate) late: f64,
}

/// All turns with one workload.
pub(crate) struct Paced {
    pub(crate) workload: Workload,
    pub(crate) rate: f64,
    pub(crate) turns: Series<Turn>,
    /// Those that cannot answer so many.
    pub(crate) too_slow: Vec<Kind>,
}

/// Measures it, at a rate that follows from what was measured at saturation.
pub(crate) async fn measure(cx: &mut Context, saturated: &Measured) -> Option<Paced> {
    let workload = saturated.workload;
    let rates = saturated.rates();
    let rate = cx.args.rate.or_else(|| half_of_the_slowest_good(&rates))?;
    let able = |kind: &Kind| rates.iter().any(|(own, most)| own == kind && *most > rate);
    let (kinds, too_slow): (Vec<Kind>, Vec<Kind>) = cx.able(workload).into_iter().partition(able);
    let mut turns = Series::new(&kinds);
    for round in 0..cx.args.rounds() {
        for kind in Series::<Turn>::order(&kinds, round) {
            let (name, flag) = (kind.name(), workload.flag());
            let turn = turn(cx, kind, workload, rate).await;
            match &turn {
                Ok(Turn { p50, p99, p999, .. }) => eprintln!(
                    "latency of {flag}, round {}, {name}: p50 {p50:.0} us, p99 {p99:.0} us, p99.9 {p999:.0} us",
                    round + 1
                ),
                Err(error) => cx.failed(kind, &format!("latency of {flag}"), error),
            }
            turns.push(kind, turn.ok());
        }
    }
    Some(Paced { workload, rate, turns, too_slow })
}

/// Half of what the slowest good one can do. The relay is no peer: it only shows what is left out.
fn half_of_the_slowest_good(rates: &[(Kind, f64)]) -> Option<f64> {
    let rates = rates.iter().filter(|(kind, _)| *kind != Kind::Relay).map(|(_, rate)| *rate);
    let best = rates.clone().reduce(f64::max)?;
    rates.filter(|rate| *rate >= best * GOOD).reduce(f64::min).map(|slowest| slowest / 2.0)
}

async fn turn(cx: &Context, kind: Kind, workload: Workload, rate: f64) -> io::Result<Turn> {
    let origin = Origin::start(App { body: workload.body(&cx.args), ..App::default() })?;
    let peer = cx.start(kind, upstream(&origin, workload), workload.serve(&cx.identity)).await?;
    let clients = workload.clients(&cx.args, &peer, &cx.identity).await.map_err(io::Error::other)?;
    let pace = Pace { rate, warm_up: cx.args.warm_up(), length: cx.args.turn() };
    let latencies = pace.run(clients).await?;
    if latencies.unanswered > 0 || latencies.answers.count() == 0 {
        let (unanswered, all) = (latencies.unanswered, latencies.answers.count());
        return Err(io::Error::other(format!("{unanswered} of {all} requests were not answered")));
    }
    Ok(Turn::of(&latencies))
}

impl Turn {
    fn of(latencies: &Latencies) -> Self {
        let micros = |times: &Times, share| times.percentile(share).as_secs_f64() * 1e6;
        let Latencies { answers, late, .. } = latencies;
        let [p50, p99, p999] = [0.50, 0.99, 0.999].map(|share| micros(answers, share));
        Self { p50, p99, p999, late: micros(late, 0.99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_half_of_the_slowest_good_ones() {
        use Kind::{Caddy, Ebb, Haproxy, Nginx, Relay};
        let rates = [(Ebb, 30_000.0), (Nginx, 20_000.0), (Haproxy, 18_000.0), (Caddy, 9_000.0)];
        assert_eq!(half_of_the_slowest_good(&rates), Some(9_000.0));
        // The relay is neither the best nor the slowest.
        for relay in [100_000.0, 16_000.0] {
            assert_eq!(half_of_the_slowest_good(&[&rates[..], &[(Relay, relay)]].concat()), Some(9_000.0));
        }
        assert_eq!(half_of_the_slowest_good(&[]), None);
    }
}
