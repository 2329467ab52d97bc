//! `pouch config`: a file to begin with, and a check of the one that is there.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::config::{self, DeskConfig, RelayConfig, Settings};

/// Check a configuration, or print one to begin with
#[derive(Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Say whether a daemon could run with a file, or name file, line, column and the key that was meant
    Check {
        /// The daemon it is for
        daemon: Daemon,
        /// The file
        #[arg(long, value_name = "FILE", env = "POUCH_CONFIG", default_value = config::FILE_DEFAULT)]
        config: PathBuf,
    },
    /// Print every key with the value that a daemon would run with
    Show {
        /// The daemon it is for
        daemon: Daemon,
        /// The file
        #[arg(long, value_name = "FILE", env = "POUCH_CONFIG", default_value = config::FILE_DEFAULT)]
        config: PathBuf,
        /// Say for each value where it was set
        #[arg(long)]
        origin: bool,
    },
    /// Print every key with its default, unit and meaning
    Example {
        /// The daemon it is for
        daemon: Daemon,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Daemon {
    Relay,
    Mission,
    Hub,
}

/// Checks or prints.
pub fn run(args: &ConfigArgs, screen: &mut Screen<'_>) -> Result<(), Failure> {
    match &args.command {
        ConfigCommand::Check { daemon: Daemon::Relay, config } => {
            check::<RelayConfig>(config, "relay", screen)
        }
        ConfigCommand::Check { daemon: Daemon::Mission, config } => {
            check::<DeskConfig>(config, "mission", screen)
        }
        ConfigCommand::Check { daemon: Daemon::Hub, config } => check::<DeskConfig>(config, "hub", screen),
        ConfigCommand::Show { daemon: Daemon::Relay, config, origin } => {
            show::<RelayConfig>(config, *origin, screen)
        }
        ConfigCommand::Show { daemon: Daemon::Mission | Daemon::Hub, config, origin } => {
            show::<DeskConfig>(config, *origin, screen)
        }
        ConfigCommand::Example { daemon: Daemon::Relay } => screen.text(&config::example::<RelayConfig>()),
        ConfigCommand::Example { daemon: Daemon::Mission | Daemon::Hub } => {
            screen.text(&config::example::<DeskConfig>())
        }
    }
}

fn check<S: Settings>(file: &Path, daemon: &str, screen: &mut Screen<'_>) -> Result<(), Failure> {
    config::load::<S>(file, |name| std::env::var(name).ok(), &[])?;
    screen.text(&format!("{} is fine\n", file.display()))?;
    screen.next(&format!("pouch {daemon} --config {}", file.display()))
}

fn show<S: Settings>(file: &Path, with_origins: bool, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let loaded = config::load_with_origins::<S>(file, |name| std::env::var(name).ok(), &[])?;
    screen.text(&config::show(&loaded, with_origins))
}
