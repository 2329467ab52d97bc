//! The ministry's daemon: a desk whose certificate is the hub's.

use tokio::sync::watch;

use crate::config::DeskConfig;
use crate::desk::run::{self, Daemon, DeskRunError};

/// Runs it until it is told to stop.
///
/// # Errors
/// As [`run::run`].
pub async fn run(config: &DeskConfig, stop: watch::Receiver<bool>) -> Result<(), DeskRunError> {
    run::run(config, Daemon::Hub, stop).await
}
