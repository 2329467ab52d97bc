//! What `pouch relay`, `pouch mission` and `pouch hub` share: configuration, logging, signals.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::cli::failure::Failure;
use crate::config::{self, DeskConfig, LogConfig, LogFormat, Settings};
use crate::{hub, mission};

/// How a daemon is started.
#[derive(Args)]
pub struct DaemonArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "POUCH_CONFIG", default_value = config::FILE_DEFAULT)]
    config: PathBuf,
    /// Set one key for this run, as `log.level=debug`; may be given more than once
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
    /// Run with example keys, which others may have too: for demo, bench and tests
    #[arg(long, hide = true)]
    example: bool,
}

/// Run the desk of an embassy
#[derive(Args)]
pub struct MissionArgs {
    #[command(flatten)]
    pub(super) daemon: DaemonArgs,
}

/// Run the desk of the ministry
#[derive(Args)]
pub struct HubArgs {
    #[command(flatten)]
    pub(super) daemon: DaemonArgs,
}

/// Runs a mission until it is told to stop.
pub fn mission(args: &DaemonArgs) -> Result<(), Failure> {
    let config: DeskConfig = args.load()?;
    run(async |stop| mission::run(&config, stop).await.map_err(|error| ended(error.exit_code(), &error)))
}

/// Runs the hub until it is told to stop.
pub fn hub(args: &DaemonArgs) -> Result<(), Failure> {
    let config: DeskConfig = args.load()?;
    run(async |stop| hub::run(&config, stop).await.map_err(|error| ended(error.exit_code(), &error)))
}

impl DaemonArgs {
    /// Loads the configuration, refuses keys that are no secret, and starts logging.
    pub(super) fn load<S: Settings>(&self) -> Result<S, Failure> {
        let settings: S = config::load(&self.config, |name| std::env::var(name).ok(), &self.set)?;
        let trust = config::trust_bundle(settings.trust())?;
        if config::is_example(&trust.trust_domain) && !self.example {
            return Err(Failure::ExampleDomain(trust.trust_domain));
        }
        start_logging(settings.log());
        Ok(settings)
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| format!("`{text}` is no setting: write KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A daemon's own end, as the command's failure.
pub(super) fn ended(exit_code: u8, error: &dyn std::error::Error) -> Failure {
    Failure::Daemon { exit_code, sentence: error.to_string() }
}

/// Runs a daemon on all cores; SIGTERM and SIGINT tell it to stop in order.
pub(super) fn run(
    daemon: impl AsyncFnOnce(watch::Receiver<bool>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::System)?;
    runtime.block_on(async {
        let (tell, told) = watch::channel(false);
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::System)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::System)?;
        let waiting = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tell.send_replace(true);
            std::future::pending().await
        };
        tokio::select! {
            ended = daemon(told) => ended,
            () = waiting => unreachable!("it waits for ever once it has told the daemon"),
        }
    })
}

fn start_logging(config: &LogConfig) {
    let filter = EnvFilter::builder().parse_lossy(&config.level);
    let text = match config.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if text {
        lines.with_ansi(super::colour_wanted() && std::io::stderr().is_terminal()).init();
    } else {
        lines.json().init();
    }
}
