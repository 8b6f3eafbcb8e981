//! `ebb inject`: manifests from a file or standard input, with the sidecar to standard output.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use diffy::DiffOptions;

use crate::config::parse_duration;
use crate::inject::{self, Asked, Mode, Settings};

/// With --check: something would change.
const CHANGES: u8 = 1;
const REFUSED: u8 = 2;

/// The flags of `ebb inject`. Those of [`Settings`] have an annotation of the same name each.
#[derive(Debug, Args)]
pub(crate) struct InjectArgs {
    /// Kubernetes manifests, YAML or JSON; - is standard input
    #[arg(default_value = "-", value_name = "FILE")]
    file: PathBuf,

    /// Takes the sidecar out again: gives back what was there
    #[arg(long)]
    remove: bool,

    /// Prints what would change instead of the manifests
    #[arg(long)]
    diff: bool,

    /// Prints nothing, and exits with 1 when something would change
    #[arg(long)]
    check: bool,

    /// Two ordinary containers instead of a native sidecar, for Kubernetes before 1.29
    #[arg(long)]
    classic: bool,

    /// ebb's image [default: ebb:dev]
    #[arg(long, value_parser = inject::settings::word)]
    image: Option<String>,

    /// When the image is pulled: Always, IfNotPresent or Never
    #[arg(long, value_name = "POLICY", value_parser = inject::settings::pull_policy)]
    image_pull_policy: Option<String>,

    /// A port of the app, by number or name; may be given several times [default: every TCP port that the app's containers declare]
    #[arg(long = "port", value_name = "[SCHEME://][LISTEN=]PORT", value_delimiter = ',')]
    ports: Vec<Asked>,

    /// A container that belongs to the app; may be given several times [default: every container]
    #[arg(long = "container", value_name = "NAME", value_delimiter = ',')]
    containers: Vec<String>,

    /// Where ebb serves /drain, probes and metrics [default: 9900, or the next one that is free]
    #[arg(long, value_name = "PORT", value_parser = inject::settings::port)]
    admin_port: Option<u16>,

    /// The least that terminationGracePeriodSeconds is to be; what is there is never lowered [default: what the rest needs]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    grace_period: Option<Duration>,

    /// As of ebb proxy [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    app_shutdown: Option<Duration>,

    /// As of ebb proxy [default: what a hook has slept until now, else 5s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    lame_duck_min: Option<Duration>,

    /// As of ebb proxy [default: 15s, or the minimum and 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    lame_duck_max: Option<Duration>,

    /// As of ebb proxy [default: 3s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    quiet: Option<Duration>,

    /// Puts ebb's hook in the place of an app's preStop hook that does more than sleep
    #[arg(long)]
    replace_hook: bool,

    /// The drain token [default: the one that is there, or a new one for each workload]
    #[arg(long, value_parser = inject::settings::token)]
    token: Option<String>,

    /// Any other setting of ebb proxy, by its variable; may be given several times
    #[arg(long = "env", value_name = "EBB_NAME=VALUE", value_parser = inject::settings::variable)]
    env: Vec<(String, String)>,

    /// What ebb's container requests [default: 10m]
    #[arg(long, value_name = "QUANTITY", value_parser = inject::settings::word)]
    cpu: Option<String>,

    /// What it may use at most [default: no limit]
    #[arg(long, value_name = "QUANTITY", value_parser = inject::settings::word)]
    cpu_limit: Option<String>,

    /// What ebb's container requests [default: 16Mi]
    #[arg(long, value_name = "QUANTITY", value_parser = inject::settings::word)]
    memory: Option<String>,

    /// What it may use at most [default: 128Mi]
    #[arg(long, value_name = "QUANTITY", value_parser = inject::settings::word)]
    memory_limit: Option<String>,

    /// The Secret (of type kubernetes.io/tls) with the certificate of https:// ports
    #[arg(long, value_name = "NAME", value_parser = inject::settings::word)]
    tls_secret: Option<String>,
}

impl InjectArgs {
    /// Prints the manifests: exit 0, or 1 when --check finds something to change, or 2 when something was refused; then nothing is printed.
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
        let text = read(&self.file)?;
        let mode = if self.remove { Mode::Remove } else { Mode::Inject };
        let (diff, check) = (self.diff, self.check);
        let output = inject::manifests(&text, &self.settings(), mode, &new_token);
        for note in &output.notes {
            eprintln!("{note}");
        }
        if output.refused > 0 {
            return Err(format!("{} refused: nothing is printed", output.refused));
        }
        let changes = output.text != text;
        if diff {
            if !changes {
                return Ok(ExitCode::SUCCESS);
            }
            let mut options = DiffOptions::new();
            options.set_original_filename("before").set_modified_filename("after");
            print(&options.create_patch(&text, &output.text).to_string())?;
        } else if !check {
            print(&output.text)?;
        }
        Ok(if check && changes { ExitCode::from(CHANGES) } else { ExitCode::SUCCESS })
    }

    fn settings(self) -> Settings {
        Settings {
            classic: self.classic,
            image: self.image,
            image_pull_policy: self.image_pull_policy,
            ports: self.ports,
            containers: self.containers,
            admin_port: self.admin_port,
            grace_period: self.grace_period,
            app_shutdown: self.app_shutdown,
            lame_duck_min: self.lame_duck_min,
            lame_duck_max: self.lame_duck_max,
            quiet: self.quiet,
            replace_hook: self.replace_hook,
            token: self.token,
            env: self.env,
            cpu: self.cpu,
            cpu_limit: self.cpu_limit,
            memory: self.memory,
            memory_limit: self.memory_limit,
            tls_secret: self.tls_secret,
        }
    }
}

fn read(file: &std::path::Path) -> Result<String, String> {
    if file.as_os_str() != "-" {
        return std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()));
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

/// 128 bits that nobody can guess.
fn new_token() -> Result<String, String> {
    let mut bytes = [0; 16];
    let provider = rustls::crypto::ring::default_provider();
    provider.secure_random.fill(&mut bytes).map_err(|_| "the system gives no random bytes".to_owned())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::proxy::ProxyArgs;

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
            let output = inject::manifests(&text, &Settings::default(), Mode::Inject, &|| Ok("T".to_owned()));
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
