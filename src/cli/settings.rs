//! What `ebb inject` and `ebb webhook` add to a pod: the flags that both have.

use std::time::Duration;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Args, Command};

use super::proxy::ProxyArgs;
use crate::config::parse_duration;
use crate::inject::{self, Asked, Settings, Variables};

/// The flags of [`Settings`]. Each has an annotation of the same name.
#[derive(Debug, Args)]
pub(crate) struct SettingsArgs {
    /// Two ordinary containers instead of a native sidecar, for Kubernetes before 1.29
    #[arg(long, env = "EBB_INJECT_CLASSIC", value_parser = switch)]
    classic: bool,

    /// ebb's image [default: ebb:dev]
    #[arg(long, env = "EBB_INJECT_IMAGE", value_parser = inject::settings::word)]
    image: Option<String>,

    /// When the image is pulled: Always, IfNotPresent or Never
    #[arg(long, env = "EBB_INJECT_IMAGE_PULL_POLICY", value_name = "POLICY", value_parser = inject::settings::pull_policy)]
    image_pull_policy: Option<String>,

    /// A port of the app, by number or name; may be given several times [default: every TCP port that the app's containers declare]
    #[arg(
        long = "port",
        env = "EBB_INJECT_PORT",
        value_name = "[SCHEME://][LISTEN=]PORT",
        value_delimiter = ','
    )]
    ports: Vec<Asked>,

    /// A container that belongs to the app; may be given several times [default: every container]
    #[arg(long = "container", env = "EBB_INJECT_CONTAINER", value_name = "NAME", value_delimiter = ',')]
    containers: Vec<String>,

    /// Where ebb serves /drain, probes and metrics [default: 9900, or the next one that is free]
    #[arg(long, env = "EBB_INJECT_ADMIN_PORT", value_name = "PORT", value_parser = inject::settings::port)]
    admin_port: Option<u16>,

    /// The least that terminationGracePeriodSeconds is to be; what is there is never lowered [default: what the rest needs]
    #[arg(long, env = "EBB_INJECT_GRACE_PERIOD", value_name = "DURATION", value_parser = parse_duration)]
    grace_period: Option<Duration>,

    /// As of ebb proxy [default: 5s]
    #[arg(long, env = "EBB_INJECT_APP_SHUTDOWN", value_name = "DURATION", value_parser = parse_duration)]
    app_shutdown: Option<Duration>,

    /// As of ebb proxy [default: what a hook has slept until now, else 5s]
    #[arg(long, env = "EBB_INJECT_LAME_DUCK_MIN", value_name = "DURATION", value_parser = parse_duration)]
    lame_duck_min: Option<Duration>,

    /// As of ebb proxy [default: 15s, or the minimum and 10s]
    #[arg(long, env = "EBB_INJECT_LAME_DUCK_MAX", value_name = "DURATION", value_parser = parse_duration)]
    lame_duck_max: Option<Duration>,

    /// As of ebb proxy [default: 3s]
    #[arg(long, env = "EBB_INJECT_QUIET", value_name = "DURATION", value_parser = parse_duration)]
    quiet: Option<Duration>,

    /// Puts ebb's hook in the place of an app's preStop hook that does more than sleep
    #[arg(long, env = "EBB_INJECT_REPLACE_HOOK", value_parser = switch)]
    replace_hook: bool,

    /// The drain token [default: the one that is there, or a new one for each workload]
    #[arg(long, env = "EBB_INJECT_TOKEN", hide_env_values = true, value_parser = inject::settings::token)]
    token: Option<String>,

    /// Any other setting of ebb proxy, by its variable; may be given several times
    #[arg(long = "env", env = "EBB_INJECT_ENV", value_name = "NAME=VALUE", value_delimiter = '\n', value_parser = variable)]
    env: Vec<(String, String)>,

    /// What ebb's container requests [default: 10m]
    #[arg(long, env = "EBB_INJECT_CPU", value_name = "QUANTITY", value_parser = inject::settings::quantity)]
    cpu: Option<String>,

    /// What it may use at most [default: no limit]
    #[arg(long, env = "EBB_INJECT_CPU_LIMIT", value_name = "QUANTITY", value_parser = inject::settings::quantity)]
    cpu_limit: Option<String>,

    /// What ebb's container requests [default: 16Mi]
    #[arg(long, env = "EBB_INJECT_MEMORY", value_name = "QUANTITY", value_parser = inject::settings::quantity)]
    memory: Option<String>,

    /// What it may use at most [default: 128Mi]
    #[arg(long, env = "EBB_INJECT_MEMORY_LIMIT", value_name = "QUANTITY", value_parser = inject::settings::quantity)]
    memory_limit: Option<String>,

    /// The Secret (of type kubernetes.io/tls) with the certificate of https:// ports
    #[arg(long, env = "EBB_INJECT_TLS_SECRET", value_name = "NAME", value_parser = inject::settings::word)]
    tls_secret: Option<String>,
}

impl From<SettingsArgs> for Settings {
    fn from(args: SettingsArgs) -> Self {
        Self {
            classic: args.classic,
            image: args.image,
            image_pull_policy: args.image_pull_policy,
            ports: args.ports,
            containers: args.containers,
            admin_port: args.admin_port,
            grace_period: args.grace_period,
            app_shutdown: args.app_shutdown,
            lame_duck_min: args.lame_duck_min,
            lame_duck_max: args.lame_duck_max,
            quiet: args.quiet,
            replace_hook: args.replace_hook,
            token: args.token,
            env: args.env,
            variables: Variables(check_variable),
            cpu: args.cpu,
            cpu_limit: args.cpu_limit,
            memory: args.memory,
            memory_limit: args.memory_limit,
            tls_secret: args.tls_secret,
            annotated: std::collections::BTreeSet::new(),
        }
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    inject::settings::variable(text, check_variable)
}

/// Asks the command line of `ebb proxy`: a pod with a variable that it refuses would start again and again.
fn check_variable(name: &str, value: &str) -> Result<(), String> {
    let command = ProxyArgs::augment_args(Command::new("proxy"));
    let flag = command.get_arguments().find(|flag| flag.get_env().is_some_and(|env| env == name));
    let flag = flag.ok_or_else(|| format!("{name} is no variable of ebb proxy: see ebb proxy --help"))?;
    // Of the flag only how it reads a value: it may be one that takes none on the command line.
    let mut alone = Arg::new("value").long("value").num_args(1).value_parser(flag.get_value_parser().clone());
    if let Some(delimiter) = flag.get_value_delimiter() {
        alone = alone.value_delimiter(delimiter);
    }
    let read = Command::new("proxy").arg(alone).try_get_matches_from(["proxy", &format!("--value={value}")]);
    read.map(drop).map_err(|error| {
        let right = match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(values)) if !values.is_empty() => {
                format!("write {}", values.join(" or "))
            }
            _ => std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default(),
        };
        format!("{name}={value}: {right}")
    })
}

/// A variable that is there and empty is as good as none.
fn switch(text: &str) -> Result<bool, String> {
    match text {
        "" | "false" => Ok(false),
        "true" => Ok(true),
        _ => Err("write true or false".to_owned()),
    }
}

/// 128 bits that nobody can guess.
pub(crate) fn new_token() -> Result<String, String> {
    let mut bytes = [0; 16];
    let provider = rustls::crypto::ring::default_provider();
    provider.secure_random.fill(&mut bytes).map_err(|_| "the system gives no random bytes".to_owned())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
