//! The command line: one file per subcommand. Tables for people, one JSON object a line with
//! `--json`, and exit codes that scripts may rely on (DESIGN 11).

pub mod failure;
pub mod safe_text;
pub mod screen;
pub mod table;
pub mod time;

mod ack;
mod alarms;
mod audit;
mod audit_check;
mod audit_prove;
mod audit_trust;
mod bench;
mod config;
mod daemon;
mod demo;
mod inbox;
mod order;
mod outbox;
mod pki;
mod read;
mod relay;
mod relay_status;
mod reply;
mod roster;
mod send;
mod status;
mod watch;

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::table::Paint;
use crate::desk::client::DeskClient;

/// Durable, provable dispatch between a ministry and the missions in its capital.
#[derive(Parser)]
#[command(name = "pouch", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Relay(relay::RelayArgs),
    Mission(daemon::MissionArgs),
    Hub(daemon::HubArgs),
    Send(Box<send::SendArgs>),
    Outbox(outbox::OutboxArgs),
    Inbox(inbox::InboxArgs),
    Read(read::ReadArgs),
    Reply(Box<reply::ReplyArgs>),
    Ack(ack::AckArgs),
    Watch(watch::WatchArgs),
    Status(status::StatusArgs),
    Alarms(alarms::AlarmsArgs),
    Config(config::ConfigArgs),
    Demo(Box<demo::DemoArgs>),
    Bench(bench::BenchArgs),
    /// The audit log: whether all of it holds, and what it says
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Certificates: a ministry's CA, and requests of its parties
    #[command(subcommand)]
    Pki(pki::PkiCommand),
    Order(order::OrderArgs),
    /// Rosters: who the parties are, signed by the ministry
    #[command(subcommand)]
    Roster(roster::RosterCommand),
}

/// How a command reaches its desk and in which form it answers.
#[derive(Args)]
struct DeskArgs {
    /// Unix socket of the desk
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "POUCH_SOCKET",
        default_value = "/run/pouch/desk.sock"
    )]
    socket: PathBuf,
    /// Print one JSON object a line
    #[arg(long, global = true)]
    json: bool,
    /// The desk's code, where it is one of the running demo's
    #[arg(skip)]
    demo: Option<&'static str>,
}

/// Runs the command that the process was started with; the exit code is DESIGN 11's.
pub fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has read enough, as `head` does.
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            // Where standard error is closed, the exit code alone has to say it.
            writeln!(std::io::stderr(), "pouch: {}", failure.sentence()).unwrap_or_default();
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Relay(args) => relay::run(args, &mut Screen::new(&mut std::io::stdout(), false, paint())),
        Command::Mission(args) => daemon::mission(&args.daemon),
        Command::Hub(args) => daemon::hub(&args.daemon),
        Command::Send(args) => at_desk(&args.desk, async |desk, screen| send::run(&args, desk, screen).await),
        Command::Outbox(args) => {
            at_desk(&args.desk, async |desk, screen| outbox::run(&args, desk, screen).await)
        }
        Command::Inbox(args) => {
            at_desk(&args.desk, async |desk, screen| inbox::run(&args, desk, screen).await)
        }
        Command::Read(args) => at_desk(&args.desk, async |desk, screen| read::run(&args, desk, screen).await),
        Command::Reply(args) => {
            at_desk(&args.desk, async |desk, screen| reply::run(&args, desk, screen).await)
        }
        Command::Watch(args) => {
            at_desk(&args.desk, async |desk, screen| watch::run(&args, desk, screen).await)
        }
        Command::Ack(args) => at_desk(&args.desk, async |desk, screen| ack::run(&args, desk, screen).await),
        Command::Status(args) => at_desk(&args.desk, async |desk, screen| status::run(desk, screen).await),
        Command::Alarms(args) => {
            at_desk(&args.desk, async |desk, screen| alarms::run(&args, desk, screen).await)
        }
        Command::Demo(args) => demo::run(*args),
        Command::Config(args) => config::run(&args, &mut Screen::new(&mut std::io::stdout(), false, paint())),
        Command::Bench(args) => {
            bench::run(&args, &mut Screen::new(&mut std::io::stdout(), args.json, paint()))
        }
        Command::Audit(command) => audit::run(&command),
        Command::Pki(command) => Ok(pki::run(command)?),
        Command::Order(args) => {
            at_desk(&args.desk, async |desk, screen| order::run(&args, desk, screen).await)
        }
        Command::Roster(roster::RosterCommand::Publish(args)) => {
            at_desk(&args.desk, async |desk, screen| roster::publish(&args, desk, screen).await)
        }
        Command::Roster(roster::RosterCommand::Files(command)) => Ok(roster::run(command)?),
    }
}

/// Runs a command that talks to a desk.
fn at_desk(
    args: &DeskArgs,
    command: impl AsyncFnOnce(&DeskClient, &mut Screen<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::System)?;
    let mut out = std::io::stdout();
    let mut screen = Screen::new(&mut out, args.json, paint());
    screen.demo = args.demo;
    runtime.block_on(command(&DeskClient::new(&args.socket), &mut screen))
}

/// Colours on a terminal, unless `NO_COLOR` holds anything (no-color.org).
fn paint() -> Paint {
    if std::io::stdout().is_terminal() && colour_wanted() { Paint::Colour } else { Paint::Plain }
}

fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
