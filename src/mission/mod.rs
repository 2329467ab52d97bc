//! The client daemon at an embassy: a desk whose certificate is a mission's.

use tokio::sync::watch;

use crate::config::DeskConfig;
use crate::desk::run::{self, Daemon, DeskRunError};

/// Runs it until it is told to stop.
///
/// # Errors
/// As [`run::run`].
pub async fn run(config: &DeskConfig, stop: watch::Receiver<bool>) -> Result<(), DeskRunError> {
    run::run(config, Daemon::Mission, stop).await
}
