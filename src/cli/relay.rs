//! `pouch relay`: the relay itself, and what happened there.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, Subcommand};

use crate::cli::daemon::{self, DaemonArgs};
use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::{relay_status, safe_text, time};
use crate::config::RelayConfig;
use crate::relay::{
    self, clock,
    log::{self, LogLine},
};
use crate::wire::Position;

/// Run the relay, or show what happened there
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RelayArgs {
    #[command(subcommand)]
    command: Option<RelayCommand>,
    #[command(flatten)]
    daemon: DaemonArgs,
    /// Keep no audit log: for a bench that measures what it costs
    #[arg(long, hide = true, requires = "example")]
    without_log: bool,
}

#[derive(Subcommand)]
enum RelayCommand {
    /// How the relay's machine tells the time
    #[command(subcommand)]
    Clock(ClockCommand),
    /// Print what happened, record by record: who, to whom, when and how much; the relay may be running
    Log(LogArgs),
    /// Show how a running relay stands: sessions, what waits, the journal, alarms with what to do
    Status(StatusArgs),
}

#[derive(Args)]
struct StatusArgs {
    /// The relay's folder, as `dir` in its configuration
    #[arg(long, value_name = "DIR", default_value = "/var/lib/pouch/relay")]
    dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum ClockCommand {
    /// Say that this machine's clock is right, where the relay is in doubt about it and lets nothing expire
    Accept(ClockArgs),
}

#[derive(Args)]
struct ClockArgs {
    /// The relay's folder, as `dir` in its configuration
    #[arg(long, value_name = "DIR", default_value = "/var/lib/pouch/relay")]
    dir: PathBuf,
}

#[derive(Args)]
struct LogArgs {
    /// The relay's folder, as `dir` in its configuration
    #[arg(long, value_name = "DIR", default_value = "/var/lib/pouch/relay")]
    dir: PathBuf,
    /// First position to print
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    since: u64,
    /// Print one JSON object a line, the head last
    #[arg(long)]
    json: bool,
}

/// Runs the relay until it is told to stop, or prints its log.
pub fn run(args: RelayArgs, screen: &mut Screen<'_>) -> Result<(), Failure> {
    match args.command {
        Some(RelayCommand::Log(args)) => {
            screen.json = args.json;
            return print_log(&args, screen);
        }
        Some(RelayCommand::Clock(ClockCommand::Accept(args))) => return accept_clock(&args, screen),
        Some(RelayCommand::Status(args)) => {
            screen.json = args.json;
            return relay_status::run(&args.dir, screen);
        }
        None => {}
    }
    let config: RelayConfig = args.daemon.load()?;
    daemon::run(&args.daemon, async |commands| {
        let ended = if args.without_log {
            relay::run_without_log(config, commands).await
        } else {
            relay::run(config, commands).await
        };
        ended.map_err(|error| daemon::ended(error.exit_code(), &error))
    })
}

fn accept_clock(args: &ClockArgs, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let wall_us = clock::accept(&args.dir, SystemTime::now())
        .map_err(|source| Failure::File { path: args.dir.display().to_string(), source })?;
    screen.text(&format!(
        "accepted: it is {}. A relay that runs takes this up within seconds, one that does not if it is started \
         within ten minutes.\n",
        time::seconds(wall_us)
    ))?;
    screen.next("pouch relay log --since POSITION")
}

fn print_log(args: &LogArgs, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let head = log::read(&args.dir, Position(args.since), |line| {
        if args.json { screen.object(&line) } else { screen.text(&described(&line)) }
    })?;
    if args.json {
        return screen.object(&head);
    }
    screen.text(&format!("\n{} records, root {}\n{}\n", head.size, head.root, head.standing))
}

fn described(line: &LogLine) -> String {
    let to = line.to.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let arrow = if to.is_empty() { String::new() } else { format!(" -> {to}") };
    let who = if line.party == 0 { String::new() } else { format!("{}{arrow}", line.party) };
    let text = format!(
        "{:>8}  {}  {:<11}  {who:<14}  {}  {}",
        line.position,
        time::seconds(line.log_time_us),
        line.kind,
        line.what,
        &line.hash[..12]
    );
    safe_text::line(&text) + "\n"
}
