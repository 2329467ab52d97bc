//! `pouch watch`: each dispatch as it comes, for a person to see or a command to take, from a named cursor.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::{DeskArgs, inbox, safe_text};
use crate::desk::client::DeskClient;
use crate::desk::view::{Commit, Cursor, InboxFilter, Incoming, IncomingWhole, TakeCursor};

/// After the first failure; doubled after each further one, up to the longest.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Seconds of one long poll.
const WAIT_S: u64 = 20;
/// How long the cursor stays this reader's after it was asked for last, and how often it is.
const LEASE_S: u64 = 30;
const KEEP_EVERY: Duration = Duration::from_secs(10);
const _: () = assert!(WAIT_S < LEASE_S);

/// Print each dispatch as it comes, or hand it to a command; resumes where it stopped. Two at once need two cursors
#[derive(Args)]
pub struct WatchArgs {
    /// Run this by `sh -c` for each dispatch: JSON on standard input, ids and codes in POUCH_* variables
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// How often CMD is tried with one dispatch; then `watch` ends, and begins with it when started again
    #[arg(long, value_name = "N", default_value_t = 5, requires = "exec",
        value_parser = clap::value_parser!(u32).range(1..))]
    attempts: u32,
    /// Name of the cursor that says how far this reader has come
    #[arg(long, value_name = "NAME", default_value = "watch", visible_alias = "consumer")]
    cursor: String,
    /// End when all that is there has been taken
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    pub(super) desk: DeskArgs,
}

/// Takes one dispatch after the other, in register order, and commits each when it has been printed or
/// the command has exited with 0: none is skipped, and one may come twice after a crash. Meanwhile the cursor is
/// this reader's alone.
pub async fn run(args: &WatchArgs, desk: &DeskClient, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let lease = TakeCursor { reader: format!("watch {}", uuid::Uuid::now_v7()), lease_s: LEASE_S };
    let cursor = desk.take_cursor(&args.cursor, &lease).await?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::System)?;
    let ended = tokio::select! {
        ended = follow(args, cursor, &lease, desk, screen) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    // Given back, so that the next reader need not wait. Where that fails, the lease ends by itself.
    let given_back = desk.take_cursor(&args.cursor, &TakeCursor { lease_s: 0, ..lease }).await;
    ended.and(given_back.map(|_| ()).map_err(Failure::from))
}

async fn follow(
    args: &WatchArgs,
    mut cursor: Cursor,
    lease: &TakeCursor,
    desk: &DeskClient,
    screen: &mut Screen<'_>,
) -> Result<(), Failure> {
    loop {
        let wait_s = (!args.once).then_some(WAIT_S);
        let filter = InboxFilter { after: Some(cursor.register), wait_s, ..InboxFilter::default() };
        let new = desk.inbox(&filter).await?;
        if new.is_empty() && args.once {
            return Ok(());
        }
        cursor = desk.take_cursor(&args.cursor, lease).await?;
        for incoming in &new {
            tokio::select! {
                taken = take(args, incoming, desk, screen) => taken?,
                lost = keep(args, lease, desk) => return Err(lost),
            }
            let commit = Commit { register: incoming.register, reader: lease.reader.clone() };
            cursor = desk.commit(&args.cursor, &commit).await?;
        }
    }
}

/// Keeps the cursor while a command works; ends only where it is lost.
async fn keep(args: &WatchArgs, lease: &TakeCursor, desk: &DeskClient) -> Failure {
    loop {
        sleep(KEEP_EVERY).await;
        if let Err(error) = desk.take_cursor(&args.cursor, lease).await {
            return error.into();
        }
    }
}

async fn take(
    args: &WatchArgs,
    incoming: &Incoming,
    desk: &DeskClient,
    screen: &mut Screen<'_>,
) -> Result<(), Failure> {
    // By its short id: what was set aside may carry the id of another dispatch.
    let whole = desk.incoming(&incoming.short).await?;
    let Some(command) = &args.exec else {
        return match screen.json {
            true => screen.object(&whole),
            false => screen.text(&(inbox::row(incoming).join("  ") + "\n")),
        };
    };
    let mut wait = BACKOFF_FIRST;
    for attempt in 1.. {
        let ended = run_once(command, &whole, desk).await?;
        if ended.success() {
            break;
        }
        let (short, register) = (incoming.short.clone(), incoming.register);
        if attempt == args.attempts {
            return Err(Failure::CommandFailed { short, register, attempts: attempt, ended });
        }
        let seconds = wait.as_secs();
        writeln!(
            std::io::stderr(),
            "pouch: the command failed with {short} ({ended}), tried again in {seconds} s"
        )?;
        sleep(wait).await;
        wait = (wait * 2).min(BACKOFF_MAX);
    }
    Ok(())
}

/// Runs the command with one dispatch. It may leave its standard input unread.
async fn run_once(
    command: &str,
    whole: &IncomingWhole,
    desk: &DeskClient,
) -> Result<std::process::ExitStatus, Failure> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .envs(variables(&whole.summary))
        .env("POUCH_SOCKET", desk.socket())
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(Failure::System)?;
    let mut input = child.stdin.take().expect("standard input was asked for");
    let json = safe_text::json(whole)? + "\n";
    let write = async move {
        let written = input.write_all(json.as_bytes()).await;
        drop(input);
        written
    };
    let (written, ended) = tokio::join!(write, child.wait());
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::System(error)),
        Ok(()) | Err(_) => ended.map_err(Failure::System),
    }
}

/// Ids and codes of a dispatch. No text of a peer is among them: a shell would run it too easily.
fn variables(incoming: &Incoming) -> [(&'static str, String); 8] {
    [
        ("POUCH_ID", incoming.id.clone()),
        ("POUCH_SHORT", incoming.short.clone()),
        ("POUCH_REGISTER", incoming.register.to_string()),
        ("POUCH_FROM", incoming.from.clone()),
        ("POUCH_ROLE", incoming.role.clone()),
        ("POUCH_PRECEDENCE", incoming.precedence.clone()),
        ("POUCH_KIND", incoming.kind.clone()),
        ("POUCH_SET_ASIDE", u8::from(incoming.set_aside.is_some()).to_string()),
    ]
}
