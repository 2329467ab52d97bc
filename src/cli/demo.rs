//! `pouch demo`: everything on this machine, and the normal commands as one of its desks.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::table::table;
use crate::cli::{DeskArgs, ack, at_desk, inbox, outbox, paint, read, reply, safe_text, send, status};
use crate::demo::stage::TRUST_FILE;
use crate::demo::{self, DESKS, DemoError, place, process};
use crate::desk::client::{ClientError, DeskClient};
use crate::desk::view::Status;

/// Run a relay, a ministry and four embassies on this machine, with throw-away keys
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DemoArgs {
    /// Play the scenario to its end, check every receipt, print the figures and exit with 0 or 1
    #[arg(long)]
    check: bool,
    /// Keep everything in this folder, which must be new or empty
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<DemoCommand>,
}

#[derive(Subcommand)]
enum DemoCommand {
    Send(Box<As<send::SendArgs>>),
    Outbox(As<outbox::OutboxArgs>),
    Inbox(As<inbox::InboxArgs>),
    Read(As<read::ReadArgs>),
    Reply(Box<As<reply::ReplyArgs>>),
    Ack(As<ack::AckArgs>),
    /// Show all desks of the running demo, or one
    Status(OverviewArgs),
    /// Change one byte of the running demo's audit log, to see `pouch audit verify` find it
    Tamper,
    /// Become a daemon that ends with the demo
    #[command(hide = true)]
    Daemon(DaemonArgs),
}

/// A normal command, at a desk of the running demo.
#[derive(Args)]
struct As<A: Args> {
    /// The desk, by code: MOD, IDN, MYS, PHL or VNM
    #[arg(long = "as", value_name = "CODE")]
    code: String,
    #[command(flatten)]
    args: A,
}

#[derive(Args)]
struct OverviewArgs {
    /// Only this desk, in full
    #[arg(long = "as", value_name = "CODE")]
    code: Option<String>,
    #[command(flatten)]
    args: status::StatusArgs,
}

#[derive(Args)]
struct DaemonArgs {
    /// Process id of the demo
    #[arg(long)]
    parent: u32,
    /// What to run
    #[arg(last = true, required = true)]
    arguments: Vec<OsString>,
}

/// Runs the demo, its check, or a command at one of its desks.
pub fn run(args: DemoArgs) -> Result<(), Failure> {
    let dir = args.dir.as_deref();
    match args.command {
        None => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(Failure::System)?;
            let mut out = std::io::stdout();
            let ended = runtime.block_on(async {
                if args.check { demo::check(dir, &mut out).await } else { demo::run(dir, &mut out).await }
            });
            Ok(ended?)
        }
        Some(command) => at_a_desk(command),
    }
}

fn at_a_desk(command: DemoCommand) -> Result<(), Failure> {
    match command {
        DemoCommand::Send(send) => {
            let As { code, mut args } = *send;
            name_socket(&mut args.desk, &code)?;
            // The demo's traffic is exercise traffic, which never mixes with the other kind.
            args.exercise = true;
            at_desk(&args.desk, async |desk, screen| send::run(&args, desk, screen).await)
        }
        DemoCommand::Outbox(As { code, mut args }) => {
            name_socket(&mut args.desk, &code)?;
            at_desk(&args.desk, async |desk, screen| outbox::run(&args, desk, screen).await)
        }
        DemoCommand::Inbox(As { code, mut args }) => {
            name_socket(&mut args.desk, &code)?;
            at_desk(&args.desk, async |desk, screen| inbox::run(&args, desk, screen).await)
        }
        DemoCommand::Read(As { code, mut args }) => {
            name_socket(&mut args.desk, &code)?;
            at_desk(&args.desk, async |desk, screen| read::run(&args, desk, screen).await)
        }
        DemoCommand::Reply(reply) => {
            let As { code, mut args } = *reply;
            name_socket(&mut args.desk, &code)?;
            at_desk(&args.desk, async |desk, screen| reply::run(&args, desk, screen).await)
        }
        DemoCommand::Ack(As { code, mut args }) => {
            name_socket(&mut args.desk, &code)?;
            at_desk(&args.desk, async |desk, screen| ack::run(&args, desk, screen).await)
        }
        DemoCommand::Status(OverviewArgs { code: Some(code), mut args }) => {
            name_socket(&mut args.desk, &code)?;
            at_desk(&args.desk, async |desk, screen| status::run(desk, screen).await)
        }
        DemoCommand::Status(OverviewArgs { code: None, args }) => {
            let folder = place::running()?;
            at_desk(&args.desk, async |_, screen| every_status(&folder, screen).await)
        }
        DemoCommand::Tamper => {
            tamper(&place::running()?, &mut Screen::new(&mut std::io::stdout(), false, paint()))
        }
        DemoCommand::Daemon(args) => {
            Err(Failure::System(process::become_daemon(args.parent, &args.arguments)))
        }
    }
}

/// Changes a byte of the running demo's log, and says how to find it.
fn tamper(folder: &Path, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let (log, copy) = (folder.join("relay").join("log"), folder.join("tampered"));
    let tampered = demo::tamper::tamper_running(&log, &copy)?;
    let (before, after) = tampered.bytes;
    let path = tampered.file.strip_prefix(&copy).unwrap_or(&tampered.file);
    screen.text(&format!(
        "changed   leaf {}: byte {} of {} was {before:02x} and is {after:02x}\n\
         in        {}, as its operator could\n\
         copied    to {}, because the relay writes a file that is not full anew with the next traffic\n",
        tampered.index,
        tampered.offset,
        path.display(),
        log.display(),
        copy.display(),
    ))?;
    screen.next(&format!(
        "pouch audit verify {} --trust {}",
        copy.display(),
        folder.join(TRUST_FILE).display()
    ))
}

/// Points a command at a desk of the running demo.
fn name_socket(desk: &mut DeskArgs, code: &str) -> Result<(), DemoError> {
    let known = DESKS.iter().find(|(known, _)| known.eq_ignore_ascii_case(code));
    let (code, _) = known.ok_or_else(|| DemoError::UnknownDesk { code: code.to_owned() })?;
    desk.socket = place::socket(&place::running()?, code);
    desk.demo = Some(code);
    Ok(())
}

/// One line for each desk; a silent one has no socket.
async fn every_status(folder: &Path, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for (code, name) in DESKS {
        match DeskClient::new(place::socket(folder, code)).status().await {
            Ok(status) if screen.json => screen.object(&status)?,
            Ok(status) => rows.push(row(code, name, Some(&status))),
            Err(ClientError::Unreachable { .. }) => rows.push(row(code, name, None)),
            Err(error) => return Err(error.into()),
        }
    }
    if screen.json {
        return Ok(());
    }
    let heading = ["DESK", "NAME", "LINK", "INBOX", "UNREAD", "TO ACKNOWLEDGE", "QUEUED", "UNDELIVERED"];
    screen.text(&table(screen.paint, heading, &rows))?;
    screen.next("pouch demo inbox --as MOD")
}

fn row(code: &str, name: &str, status: Option<&Status>) -> [String; 8] {
    let count =
        |pick: fn(&Status) -> u64| status.map_or_else(|| "-".to_owned(), |status| pick(status).to_string());
    [
        code.to_owned(),
        name.to_owned(),
        status.map_or_else(|| "silent".to_owned(), |status| safe_text::line(&status.link)),
        count(|status| status.inbox),
        count(|status| status.unread),
        count(|status| status.unacknowledged),
        count(|status| status.queued),
        count(|status| status.undelivered),
    ]
}
