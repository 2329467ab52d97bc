//! `pouch roster`: who the parties are, on files that no daemon reads before they are signed.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::pki::print;
use crate::audit::LogTrust;
use crate::cli::DeskArgs;
use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::desk::client::DeskClient;
use crate::keys::SigningKey;
use crate::note::Note;
use crate::pki::PkiError;
use crate::pki::roster_files::{self, Entry};
use crate::pki::write_public;
use crate::roster::{self, Roster, RosterDraft, TrustBundle};
use crate::tls;

/// Rosters: who the parties are, signed by the ministry off every daemon
#[derive(Subcommand)]
pub enum RosterCommand {
    /// At the hub's desk: put a signed roster in force at the relay and at every desk
    Publish(PublishArgs),
    #[command(flatten)]
    Files(FileCommand),
}

/// What needs no daemon.
#[derive(Debug, Subcommand)]
pub enum FileCommand {
    /// Make roster keys in a new folder, and the draft of the first version
    Init(InitArgs),
    /// Put the entries that `pouch pki issue` printed into a draft
    Add(AddArgs),
    /// Sign a draft, or add a signature to one that others have signed
    Sign(SignArgs),
    /// Make the draft of the next version from a verified one
    Next(NextArgs),
    /// Verify rosters from the trust bundle's version to the newest
    Check(CheckArgs),
    /// Say in words what a draft or a roster holds, without verifying it
    Show(ShowArgs),
    /// Write the trust bundle of a signed roster: what each box gets by hand, once
    Trust(TrustArgs),
}

/// What `pouch roster publish` takes.
#[derive(Args)]
pub struct PublishArgs {
    /// The signed note: the version after the one in force
    file: PathBuf,
    #[command(flatten)]
    pub(super) desk: DeskArgs,
}

/// What `pouch roster init` takes.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Folder for the keys and the draft, made if missing; keep it off every daemon
    folder: PathBuf,
    /// The CA's trust domain
    #[arg(long, value_name = "NAME")]
    trust_domain: String,
    /// How many roster keys to make, each for another person
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    keys: u32,
    /// How many of them must sign each version
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    threshold: u32,
    /// Where desks find the relay; may be given several times, first choice first
    #[arg(long, value_name = "HOST:PORT")]
    relay: Vec<String>,
}

/// What `pouch roster add` takes.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The draft, which is changed
    draft: PathBuf,
    /// Entries that `pouch pki issue` printed
    #[arg(required = true)]
    entries: Vec<PathBuf>,
    /// Topics that the parties may use: ids with commas between, or "all"; without it, as in the entry
    #[arg(long, value_delimiter = ',', requires = "clearance")]
    topics: Vec<String>,
    /// Highest label that the parties may use; without it, as in the entry
    #[arg(long, value_name = "LABEL", requires = "topics")]
    clearance: Option<String>,
}

/// What `pouch roster sign` takes.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// The draft, or the note that others have signed
    draft: PathBuf,
    /// A roster key; may be given several times
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// The version before, where this one changes the roster keys and former keys sign too
    #[arg(long, value_name = "NOTE")]
    former: Option<PathBuf>,
    /// Where the note goes; without it roster.note beside the draft
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Rosters to verify.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The trust bundle
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
    /// The version that the bundle names, then each version after it
    #[arg(required = true)]
    notes: Vec<PathBuf>,
}

/// What `pouch roster next` takes.
#[derive(Debug, Args)]
pub struct NextArgs {
    #[command(flatten)]
    verified: CheckArgs,
    /// Where the draft goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// What `pouch roster show` takes.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A draft or a note
    file: PathBuf,
}

/// What `pouch roster trust` takes.
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// The signed roster
    note: PathBuf,
    /// The root CA's certificate
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// Where the bundle goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Puts a roster in force through the hub's desk, and waits until it is.
///
/// # Errors
/// [`Failure`]: 2 for a file that cannot be read, 3 without contact, 4 where the relay declines, 5 without an
/// answer, 7 at a desk that is not the hub's.
pub async fn publish(args: &PublishArgs, desk: &DeskClient, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let note = fs::read(&args.file)
        .map_err(|source| Failure::File { path: args.file.display().to_string(), source })?;
    if let Some(warning) = warning_at(desk, &note).await {
        screen.beside(&warning)?;
    }
    let in_force = desk.publish_roster(note.into()).await?;
    if screen.json {
        return screen.object(&in_force);
    }
    screen.text(&match in_force.position {
        Some(position) => format!(
            "in force at position {position}; every desk in contact has it, the others get it first\n"
        ),
        None => "this very roster is in force already\n".to_owned(),
    })?;
    screen.next("pouch status")
}

/// What `roster check` would say of a note that is to follow the roster in force here. `None` also where that cannot be
/// told: what is wrong then, with the desk or the note, stops the publishing itself, which says why.
async fn warning_at(desk: &DeskClient, note: &[u8]) -> Option<String> {
    let trust = desk.trust().await.ok()?;
    let held = desk.proven_roster(trust.roster_version).await.ok()?;
    let bundle: TrustBundle = trust.bundle.parse().ok()?;
    let former = roster::verify_first(held.note.as_bytes(), &bundle).ok()?;
    let next = roster::verify_next(note, &former).ok()?;
    let lack = lacks_witnesses(&former, &next)?;
    Some(format!("{lack} Publish a further version in which enough of them are active"))
}

/// Runs one `pouch roster` command; what it has to say goes to standard output.
///
/// # Errors
/// What the command meets, in words for the officer who typed it.
pub fn run(command: FileCommand) -> Result<(), PkiError> {
    match command {
        FileCommand::Init(args) => init(&args),
        FileCommand::Add(args) => add(args),
        FileCommand::Sign(args) => sign(&args),
        FileCommand::Next(args) => next(&args),
        FileCommand::Check(args) => check(&args),
        FileCommand::Show(args) => print(&roster_files::show(&read(&args.file)?)?),
        FileCommand::Trust(args) => trust(&args),
    }
}

fn init(args: &InitArgs) -> Result<(), PkiError> {
    let mut draft = roster_files::init(&args.folder, &args.trust_domain, args.keys, args.threshold)?;
    draft.relay_addresses.clone_from(&args.relay);
    let path = args.folder.join("roster.toml");
    write_public(&path, draft.text()?.as_bytes())?;
    print(&format!(
        "Made {} roster keys in {}, {} of which must sign. Hand each to another person.\n\
         Made the draft {}: edit topics and labels, then add parties to it.\n",
        args.keys,
        args.folder.display(),
        args.threshold,
        path.display()
    ))
}

fn add(args: AddArgs) -> Result<(), PkiError> {
    let mut draft = RosterDraft::parse(&read(&args.draft)?)?;
    let topics = match args.topics.as_slice() {
        [all] if all == "all" => draft.topics.iter().map(|topic| topic.id.clone()).collect(),
        _ => args.topics,
    };
    for path in &args.entries {
        let mut entry = Entry::load(path)?;
        if let Some(clearance) = &args.clearance {
            entry.permit(&topics, clearance);
        }
        roster_files::add(&mut draft, entry)?;
    }
    write_public(&args.draft, draft.text()?.as_bytes())?;
    print(&format!("Parties in {} now: {}.\n", args.draft.display(), draft.parties.len()))
}

fn sign(args: &SignArgs) -> Result<(), PkiError> {
    let keys = args.keys.iter().map(|path| SigningKey::load(path)).collect::<Result<Vec<_>, _>>()?;
    let former = match &args.former {
        Some(path) => RosterDraft::parse(Note::parse(read(path)?.as_bytes())?.text())?.roster.keys,
        None => Vec::new(),
    };
    let note = roster_files::sign(&read(&args.draft)?, &keys, &former)?;
    let out = args.out.clone().unwrap_or_else(|| args.draft.with_file_name("roster.note"));
    write_public(&out, &note.to_bytes())?;
    print(&format!("Signatures on {} now: {}.\n", out.display(), note.signatures().len()))
}

fn next(args: &NextArgs) -> Result<(), PkiError> {
    let draft = RosterDraft::next(&verify(&args.verified)?)?;
    write_public(&args.out, draft.text()?.as_bytes())?;
    print(&format!("Made the draft of version {} in {}.\n", draft.version, args.out.display()))
}

fn check(args: &CheckArgs) -> Result<(), PkiError> {
    let roster = verify(args)?;
    print(&format!(
        "Good: {} version {} is signed as the trust bundle demands.\n  hash {}\n  {} parties\n",
        roster.trust_domain(),
        roster.version(),
        roster.hash(),
        roster.parties().count()
    ))?;
    match args.notes.split_last() {
        Some((_, former)) if !former.is_empty() => {
            match lacks_witnesses(&verify_all(&args.trust, former)?, &roster) {
                Some(lack) => print(&format!(
                    "Do not publish it: {lack} Take fewer of them out at a time, and wait for a checkpoint between.\n"
                )),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// The first checkpoint that covers a roster needs the quorum of the one before it (FORMATS 9).
fn lacks_witnesses(former: &Roster, roster: &Roster) -> Option<String> {
    let trust = LogTrust::of(former);
    let (left, quorum) = (trust.left_under(roster), trust.quorum());
    (left < quorum).then(|| {
        format!(
            "it leaves {left} witnesses of version {} active under their former keys, and {quorum} must sign the first \
             checkpoint that covers version {}. None could be published, and nothing new proven.",
            former.version(),
            roster.version()
        )
    })
}

fn trust(args: &TrustArgs) -> Result<(), PkiError> {
    let root = tls::read_certificates(&args.root)?.swap_remove(0);
    let bundle = roster_files::trust_bundle(&read_bytes(&args.note)?, &root)?;
    write_public(&args.out, bundle.to_string().as_bytes())?;
    print(&format!(
        "Wrote the trust bundle {}. Take it to each box by hand: whoever changes it decides whom the box \
         believes.\n",
        args.out.display()
    ))
}

fn verify(args: &CheckArgs) -> Result<Roster, PkiError> {
    verify_all(&args.trust, &args.notes)
}

fn verify_all(trust: &Path, notes: &[PathBuf]) -> Result<Roster, PkiError> {
    let bundle: TrustBundle = read(trust)?.parse()?;
    let notes = notes.iter().map(|path| read_bytes(path)).collect::<Result<Vec<_>, _>>()?;
    roster_files::verify(&bundle, &notes)
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::File { path: path.to_owned(), source })
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, PkiError> {
    fs::read(path).map_err(|source| PkiError::File { path: path.to_owned(), source })
}
