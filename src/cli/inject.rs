//! `ebb inject`: manifests from a file or standard input, with the sidecar to standard output.

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use diffy::Line;

use super::settings::{SettingsArgs, new_token};
use crate::inject::{self, Mode};

/// With --check: something would change.
const CHANGES: u8 = 1;
const REFUSED: u8 = 2;

/// The flags of `ebb inject`.
#[derive(Debug, Args)]
pub(crate) struct InjectArgs {
    /// Kubernetes manifests, YAML or JSON; none or - is standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Takes the sidecar out again: gives back what was there
    #[arg(long)]
    remove: bool,

    /// Prints what would change instead of the manifests
    #[arg(long)]
    diff: bool,

    /// Prints nothing, and exits with 1 when something would change, with 2 when that can't be told
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    settings: SettingsArgs,
}

impl InjectArgs {
    /// Prints the manifests: exit 0, or 1 when --check finds something to change, or 2 when something was
    /// refused or --check could not read it; then nothing is printed.
    pub(crate) fn run(self) -> ExitCode {
        match self.inject() {
            Ok(code) => code,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(REFUSED)
            }
        }
    }

    fn inject(self) -> Result<ExitCode, String> {
        if let Some(hint) = hint(self.file.is_some(), std::io::stdin().is_terminal()) {
            eprintln!("{hint}");
        }
        let text = read(self.file.as_deref().unwrap_or("-".as_ref()))?;
        let mode = if self.remove { Mode::Remove } else { Mode::Inject };
        let (diff, check) = (self.diff, self.check);
        let output = inject::manifests(&text, &self.settings.into(), mode, diff || check, &new_token);
        for note in &output.notes {
            eprintln!("{note}");
        }
        if output.refused > 0 {
            return Err(format!("{} refused: nothing is printed", output.refused));
        }
        if check && output.unread > 0 {
            let many =
                if output.unread == 1 { "1 document" } else { &format!("{} documents", output.unread) };
            return Err(format!("{many} can't be read: whether something would change there can't be told"));
        }
        let changes = output.text != text;
        if diff {
            if !changes {
                return Ok(ExitCode::SUCCESS);
            }
            print(&difference(&text, &output.text))?;
        } else if !check {
            print(&output.text)?;
        }
        Ok(if check && changes { ExitCode::from(CHANGES) } else { ExitCode::SUCCESS })
    }
}

/// The difference, document by document: of a long text as a whole it would take the square of its length.
fn difference(before: &str, after: &str) -> String {
    let (mut old, mut new) = (documents(before), documents(after));
    if old.len() != new.len() {
        (old, new) = (vec![before], vec![after]);
    }
    let mut shown = "--- before\n+++ after\n".to_owned();
    let (mut line, mut new_line) = (0, 0);
    for (old, new) in old.into_iter().zip(new) {
        for hunk in diffy::create_patch(old, new).hunks() {
            let (was, is) = (hunk.old_range(), hunk.new_range());
            let (start, new_start) = (line + was.start(), new_line + is.start());
            shown.push_str(&format!("@@ -{start},{} +{new_start},{} @@\n", was.len(), is.len()));
            for line in hunk.lines() {
                let (mark, text) = match line {
                    Line::Context(text) => (' ', text),
                    Line::Delete(text) => ('-', text),
                    Line::Insert(text) => ('+', text),
                };
                let end = if text.ends_with('\n') { "" } else { "\n\\ No newline at end of file\n" };
                shown.push(mark);
                shown.push_str(text);
                shown.push_str(end);
            }
        }
        line += old.matches('\n').count();
        new_line += new.matches('\n').count();
    }
    shown
}

/// A text, cut before each `---`.
fn documents(text: &str) -> Vec<&str> {
    let cuts = text.match_indices("\n---").map(|(at, _)| at + 1);
    let cuts: Vec<usize> = std::iter::once(0).chain(cuts).chain([text.len()]).collect();
    cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect()
}

/// Whoever forgot the FILE would wait for ever.
fn hint(named: bool, terminal: bool) -> Option<&'static str> {
    (!named && terminal).then_some("reading standard input: end it with Ctrl-D, or name a FILE")
}

fn read(file: &std::path::Path) -> Result<String, String> {
    if file.as_os_str() != "-" {
        let name = file.display();
        let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
        if text.is_empty() {
            return Err(format!(
                "{name} is empty: with > {name} a shell empties it before it is read; write to another file"
            ));
        }
        return Ok(text);
    }
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| format!("standard input: {error}"))?;
    Ok(text)
}

/// A reader that has gone has seen enough.
fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().lock().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("standard output: {error}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::FromArgMatches;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::proxy::ProxyArgs;
    use crate::inject::Settings;

    /// Every value under `key`, at any depth.
    fn find<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
        if let Some(object) = value.as_object() {
            found.extend(object.get(key));
            object.values().for_each(|value| find(value, key, found));
        }
        value.as_array().into_iter().flatten().for_each(|value| find(value, key, found));
    }

    /// Guards: arguments or times that `ebb proxy` would refuse when the pod starts.
    #[test]
    fn what_is_injected_starts() {
        let pod = |grace: u64, seconds: u64, port: &str| {
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "p", "annotations": {"ebb.dev/port": port, "ebb.dev/tls-secret": "s"}},
                "spec": {"terminationGracePeriodSeconds": grace, "containers": [
                    {"name": "a", "lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}}
                ]},
            })
        };
        for (grace, seconds, port) in [
            (0, 0, "80"),
            (30, 5, "tcp://65535"),
            (30, 25, "9900"),
            (600, 120, "https://8443=80"),
            (1, 3600, "1=2,3"),
        ] {
            let text = pod(grace, seconds, port).to_string();
            let output =
                inject::manifests(&text, &Settings::default(), Mode::Inject, false, &|| Ok("T".to_owned()));
            assert_eq!(output.refused, 0, "{:?}", output.notes);
            let injected: Value = serde_json::from_str(&output.text).unwrap();
            let mut args = Vec::new();
            find(&injected, "args", &mut args);
            let args: Vec<&str> = args[0].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            let matches = ProxyArgs::augment_args(clap::Command::new("proxy")).get_matches_from(&args);
            let config = ProxyArgs::from_arg_matches(&matches).unwrap().config().unwrap();
            let stated = injected["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
            assert_eq!(config.budget.grace_period(), Duration::from_secs(stated));
            assert_eq!(config.budget.lame_duck_min(), Duration::from_secs(seconds));
            assert!(stated >= grace && config.budget.lame_duck_max() >= config.budget.lame_duck_min());
        }
    }

    /// Guards: silence on a terminal, and a line that nobody needs elsewhere.
    #[test]
    fn a_terminal_is_told_that_it_is_read() {
        assert!(hint(false, true).is_some_and(|hint| hint.starts_with("reading standard input")));
        assert_eq!([hint(true, true), hint(false, false), hint(true, false)], [None; 3]);
    }

    /// Guards: a flag without an annotation, or one that is documented nowhere.
    #[test]
    fn every_flag_has_an_annotation() {
        let command = InjectArgs::augment_args(clap::Command::new("inject"));
        let guide = include_str!("../../deploy/README.md");
        let mut seen = 0;
        for name in command.get_arguments().filter_map(clap::Arg::get_long) {
            if !matches!(name, "remove" | "diff" | "check") {
                let error = Settings::default().set(name, " ").err().unwrap_or_default();
                assert!(!error.contains("no such setting"), "{name}");
                assert!(guide.contains(&format!("`--{name}`")), "deploy/README.md says nothing of --{name}");
                seen += 1;
            }
        }
        assert_eq!(seen, 19);
        assert!(Settings::default().set("no-such", "1").is_err());
    }
}
