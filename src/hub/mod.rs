//! The ministry's daemon: a desk whose certificate is the hub's.

use crate::config::DeskConfig;
use crate::desk::run::{self, Daemon, DeskRunError};
use crate::service::Commands;

/// Runs it until it is told to stop.
///
/// # Errors
/// As [`run::run`].
pub async fn run(config: &DeskConfig, commands: impl Into<Commands<DeskConfig>>) -> Result<(), DeskRunError> {
    run::run(config, Daemon::Hub, commands).await
}
