//! `pouch relay`: the relay itself, and what happened there.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::daemon::{self, DaemonArgs};
use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::{safe_text, time};
use crate::config::RelayConfig;
use crate::relay::log::{self, LogLine};
use crate::wire::Position;

/// Run the relay, or show what happened there
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RelayArgs {
    #[command(subcommand)]
    command: Option<RelayCommand>,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Subcommand)]
enum RelayCommand {
    /// Print what happened, record by record: who, to whom, when and how much; the relay may be running
    Log(LogArgs),
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
    if let Some(RelayCommand::Log(args)) = args.command {
        screen.json = args.json;
        return print_log(&args, screen);
    }
    let config: RelayConfig = args.daemon.load()?;
    daemon::run(&args.daemon, async |commands| {
        crate::relay::run(config, commands).await.map_err(|error| daemon::ended(error.exit_code(), &error))
    })
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
