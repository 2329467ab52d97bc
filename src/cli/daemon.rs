//! What `pouch relay`, `pouch mission` and `pouch hub` share: configuration, logging, signals.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

use crate::cli::failure::Failure;
use crate::config::{self, ConfigError, DeskConfig, LogConfig, LogFormat, Settings};
use crate::service::{self, Commands, Reload};
use crate::{hub, mission};

/// A daemon that was told to stop ends by itself within this, or is ended: what it answered is durable
/// either way.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

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
    run(args, async |commands| {
        mission::run(&config, commands).await.map_err(|error| ended(error.exit_code(), &error))
    })
}

/// Runs the hub until it is told to stop.
pub fn hub(args: &DaemonArgs) -> Result<(), Failure> {
    let config: DeskConfig = args.load()?;
    run(args, async |commands| {
        hub::run(&config, commands).await.map_err(|error| ended(error.exit_code(), &error))
    })
}

impl DaemonArgs {
    /// Loads the configuration, refuses keys that are no secret, and starts logging.
    pub(super) fn load<S: Settings>(&self) -> Result<S, Failure> {
        let settings: S = self.read()?;
        let trust = config::trust_bundle(settings.trust())?;
        if config::is_example(&trust.trust_domain) && !self.example {
            return Err(Failure::ExampleDomain(trust.trust_domain));
        }
        start_logging(settings.log());
        Ok(settings)
    }

    fn read<S: Settings>(&self) -> Result<S, ConfigError> {
        config::load(&self.config, |name| std::env::var(name).ok(), &self.set)
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

/// Runs a daemon on all cores until it ends by itself, or SIGTERM or SIGINT ends it. SIGHUP has its
/// configuration read again.
pub(super) fn run<S: Settings>(
    args: &DaemonArgs,
    daemon: impl AsyncFnOnce(Commands<S>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::System)?;
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::System)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::System)?;
        let hangup = signal(SignalKind::hangup()).map_err(Failure::System)?;
        let told_to_stop = async {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = interrupt.recv() => (),
            }
        };
        let (reload, reloads) = mpsc::channel(service::RELOADS_MAX);
        let daemon = async |stop| daemon(Commands { stop, reloads }).await;
        tokio::select! {
            ended = until(told_to_stop, DRAIN_TIME_MAX, daemon) => ended,
            never = pass_on(hangup, || args.read(), reload) => match never {},
        }
    });
    // A thread that still waits for a disk must not hold the process.
    runtime.shutdown_background();
    ended
}

/// Reads the configuration again for each SIGHUP, and hands it to the daemon.
async fn pass_on<S>(
    mut hangup: Signal,
    read: impl Fn() -> Result<S, ConfigError>,
    reload: mpsc::Sender<Reload<S>>,
) -> Infallible {
    while hangup.recv().await.is_some() {
        tracing::info!("told to reload");
        service::reloading();
        if reload.send(read()).await.is_err() {
            tracing::debug!("told to reload while the daemon ends");
        }
    }
    std::future::pending().await
}

async fn until(
    told_to_stop: impl Future<Output = ()>,
    drain_time_max: Duration,
    daemon: impl AsyncFnOnce(watch::Receiver<bool>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (stop, stopped) = watch::channel(false);
    let mut daemon = pin!(daemon(stopped));
    tokio::select! {
        ended = &mut daemon => return ended,
        () = told_to_stop => (),
    }
    tracing::info!("told to stop");
    service::stopping();
    stop.send_replace(true);
    match timeout(drain_time_max, daemon).await {
        Ok(ended) => ended,
        Err(_) => {
            tracing::warn!(seconds = drain_time_max.as_secs(), "ended before everything was drained");
            Ok(())
        }
    }
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
        lines.json().flatten_event(true).init();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn a_daemon_told_to_stop_ends_in_its_own_order() {
        let daemon = async |mut stopped: watch::Receiver<bool>| {
            stopped.wait_for(|stopped| *stopped).await.unwrap();
            Err(Failure::Usage("said last".to_owned()))
        };
        let ended = until(std::future::ready(()), LONG, daemon).await;
        assert!(matches!(ended, Err(Failure::Usage(last)) if last == "said last"));
    }

    #[tokio::test]
    async fn a_daemon_that_does_not_stop_is_ended() {
        let ended =
            until(std::future::ready(()), Duration::ZERO, async |_| std::future::pending().await).await;
        assert!(ended.is_ok());
    }

    #[tokio::test]
    async fn a_daemon_that_fails_by_itself_is_not_waited_for() {
        let daemon = async |_| Err(Failure::ExampleDomain("bloc.example".to_owned()));
        let ended = until(std::future::pending(), LONG, daemon).await;
        assert!(matches!(ended, Err(Failure::ExampleDomain(_))));
    }
}
