//! What came of a drain: for the callers of `/drain`, the log and `/status`.

use std::fmt;

use serde::Serialize;
use tokio::time::Duration;

use super::Trigger;

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Everybody was done before the deadline.
    Clean,
    /// The deadline cut the rest.
    Forced,
    /// It was taken back: `/undrain`, or the app came back.
    Cancelled,
}

impl Outcome {
    /// The label's text.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Forced => "forced",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How many connections of one protocol ended in which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Ends {
    /// By themselves.
    pub finished: u64,
    /// By ebb, after they had been idle.
    pub closed_idle: u64,
    /// After a response that told them to go.
    pub told: u64,
    /// By the deadline.
    pub cut: u64,
    /// Taken out of the accept queue of a closing listener; they are in one of the others, too.
    pub rescued: u64,
}

impl Ends {
    /// What came to it since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            finished: self.finished.wrapping_sub(before.finished),
            closed_idle: self.closed_idle.wrapping_sub(before.closed_idle),
            told: self.told.wrapping_sub(before.told),
            cut: self.cut.wrapping_sub(before.cut),
            rescued: self.rescued.wrapping_sub(before.rescued),
        }
    }

    /// Connections, each once.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.finished + self.closed_idle + self.told + self.cut
    }
}

/// Counts since the start of the process, from which a drain's own are derived.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// For each protocol, by its name.
    pub ends: Vec<(&'static str, Ends)>,
    /// Idle connections whose next request was on the wire.
    pub raced: u64,
}

/// The seconds that the phases took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Seconds {
    /// Accepting still.
    #[serde(rename = "lame-duck")]
    pub lame_duck: f64,
    /// Refusing and finishing.
    pub draining: f64,
    /// From the trigger to the end.
    pub total: f64,
}

/// How far a drain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Until what is left is cut; none when no drain is under way.
    pub remaining: Option<Duration>,
    /// From the trigger to the newest connection of a real client.
    pub last_arrival: Option<Duration>,
}

/// What came of a drain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// What began it.
    #[serde(serialize_with = "trigger_name")]
    pub trigger: Trigger,
    /// How long it took.
    pub seconds: Seconds,
    /// From the trigger to the last new connection of a real client; null when none came.
    pub last_arrival_seconds: Option<f64>,
    /// For each protocol, how its connections ended.
    #[serde(serialize_with = "by_protocol")]
    pub connections: Vec<(&'static str, Ends)>,
    /// Idle connections whose next request crossed the close on the wire: the loss that HTTP/1.1 can't
    /// rule out.
    pub raced_requests: u64,
}

fn trigger_name<S: serde::Serializer>(trigger: &Trigger, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(trigger.name())
}

fn by_protocol<S: serde::Serializer>(ends: &[(&'static str, Ends)], out: S) -> Result<S::Ok, S::Error> {
    out.collect_map(ends.iter().copied())
}

/// Seconds, to the millisecond.
#[must_use]
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seconds { lame_duck, draining, total } = self.seconds;
        write!(
            f,
            "{} drain in {total:.1}s ({lame_duck:.1}s lame duck, {draining:.1}s draining)",
            self.outcome.name()
        )?;
        match self.last_arrival_seconds {
            Some(last) => write!(f, "; the last new connection came after {last:.1}s")?,
            None => write!(f, "; no new connection came")?,
        }
        let all = self.connections.iter().fold(Ends::default(), |sum, (_, ends)| Ends {
            finished: sum.finished + ends.finished,
            closed_idle: sum.closed_idle + ends.closed_idle,
            told: sum.told + ends.told,
            cut: sum.cut + ends.cut,
            rescued: sum.rescued + ends.rescued,
        });
        write!(
            f,
            "; {} connections: {} finished, {} told to go, {} closed idle, {} cut; {} rescued from the accept queue",
            all.total(),
            all.finished,
            all.told,
            all.closed_idle,
            all.cut,
            all.rescued
        )?;
        if self.raced_requests > 0 {
            write!(f, "; {} requests crossed an idle close on the wire", self.raced_requests)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let ends = Ends { finished: 3, closed_idle: 4, told: 200, cut: 0, rescued: 12 };
        Report {
            outcome: Outcome::Clean,
            trigger: Trigger::Drain,
            seconds: Seconds { lame_duck: 5.25, draining: 0.5, total: 5.75 },
            last_arrival_seconds: Some(1.5),
            connections: vec![("http1", ends)],
            raced_requests: 0,
        }
    }

    #[test]
    fn machines_and_people_can_read_it() {
        let json: serde_json::Value = serde_json::to_value(report()).unwrap();
        assert_eq!(json["outcome"], "clean");
        assert_eq!(json["seconds"]["lame-duck"], 5.25);
        assert_eq!(json["connections"]["http1"]["told"], 200);
        assert_eq!(
            report().to_string(),
            "clean drain in 5.8s (5.2s lame duck, 0.5s draining); the last new connection came after 1.5s; \
             207 connections: 3 finished, 200 told to go, 4 closed idle, 0 cut; 12 rescued from the accept queue"
        );
    }
}
