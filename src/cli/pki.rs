//! `pouch pki`: certificates, on files.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Subcommand};

use super::safe_text;
use crate::bench;
use crate::identity::SpiffeId;
use crate::limits;
use crate::note::Note;
use crate::pki::roster_files::Entry;
use crate::pki::{self, Applicant, Ca, PkiError, Request, RequestError};
use crate::roster::{PartyNumber, RosterDraft, RosterError};
use crate::tls::TlsError;

/// Certificates: a ministry's CA, and requests of its parties
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Make a root CA and an issuing CA in a new folder
    Init(InitArgs),
    /// On the party's own box: make its keys, and a request for a certificate
    Request(RequestArgs),
    /// At the ministry: certify a request, and print the party's entry for the roster
    Issue(IssueArgs),
    /// Put a certificate's serial into the roster's draft: once signed and published, it no longer counts
    Revoke(RevokeArgs),
    /// Write the CRL of what a roster revokes, for others who trust this CA; Pouch itself reads the roster
    Crl(CrlArgs),
    /// Make a whole example at once, for trying out and for `pouch bench`: never for real traffic
    Example(ExampleArgs),
    /// Say in plain words what a certificate, request, key or roster holds
    Show(ShowArgs),
}

/// As many as a roster takes beside relay and hub.
const EXAMPLE_MISSIONS_MAX: u64 = limits::ROSTER_PARTIES_MAX as u64 - 2;

/// What `pouch pki init` takes.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Folder for the CA, made if missing; keep it off every daemon
    folder: PathBuf,
    /// Name that all parties are under, a DNS name of the ministry
    #[arg(long, value_name = "NAME")]
    trust_domain: String,
}

/// What `pouch pki request` takes.
#[derive(Debug, Args)]
pub struct RequestArgs {
    /// Folder for the party's keys, made if missing
    folder: PathBuf,
    /// Who it is: spiffe://TRUST-DOMAIN/mission/NAME, …/hub or …/relay/NAME
    #[arg(long, value_name = "SPIFFE-ID", value_parser = SpiffeId::parse)]
    id: SpiffeId,
    /// Short name that others address it by, for example IDN
    #[arg(long)]
    code: String,
    /// Full name, for example "Embassy of the Republic of Indonesia"
    #[arg(long)]
    name: String,
}

/// What `pouch pki issue` takes.
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// The party's request.toml
    request: PathBuf,
    /// Folder of the CA
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// Number of the party in the roster; without it the next one never used
    #[arg(long)]
    number: Option<u32>,
    /// Where the certificate goes; without it tls.pem beside the request
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What `pouch pki revoke` takes.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The serial, as `pouch pki show` prints it
    serial: String,
    /// Folder of the CA
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// The draft of the next roster, which is changed
    #[arg(long, value_name = "FILE")]
    draft: PathBuf,
}

/// What `pouch pki crl` takes.
#[derive(Debug, Args)]
pub struct CrlArgs {
    /// The roster: a signed note, or a draft
    roster: PathBuf,
    /// Folder of the CA
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// Where the CRL goes, in PEM
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// What `pouch pki example` takes.
#[derive(Debug, Args)]
pub struct ExampleArgs {
    /// Folder for CA, keys, roster and trust bundle, made if missing
    folder: PathBuf,
    /// How many missions the bloc has, m1 and on; a whole bench needs all of the default
    #[arg(long, value_name = "N", default_value_t = bench::SESSIONS as u64,
        value_parser = clap::value_parser!(u64).range(1..=EXAMPLE_MISSIONS_MAX))]
    missions: u64,
    /// Where the relay is to listen, as it will stand in the roster
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7443")]
    listen: SocketAddr,
}

/// What `pouch pki show` takes.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A certificate, request, private key or roster
    file: PathBuf,
}

/// Runs one `pouch pki` command; what it has to say goes to standard output.
///
/// # Errors
/// What the command meets, in words for the officer who typed it.
pub fn run(command: PkiCommand) -> Result<(), PkiError> {
    let now = SystemTime::now();
    match command {
        PkiCommand::Init(args) => {
            let ca = pki::init(&args.folder, &args.trust_domain, now)?;
            print(&format!(
                "Made a CA for {} in {}.\nGive every party {}. Lock root.key away: only a new issuing CA \
                 needs it.\n",
                ca.trust_domain(),
                args.folder.display(),
                ca.root_path().display()
            ))
        }
        PkiCommand::Request(args) => {
            let applicant = Applicant { id: args.id, code: args.code, name: args.name };
            pki::request(&args.folder, &applicant)?;
            print(&format!(
                "Send {} to the ministry, and read the sign key below to it over a telephone number that \
                 both sides knew before.\n{}",
                args.folder.join("request.toml").display(),
                pki::show(&args.folder.join("request.toml"), now)?
            ))
        }
        PkiCommand::Issue(args) => issue(args, now),
        PkiCommand::Revoke(args) => revoke(&args),
        PkiCommand::Crl(args) => crl(&args, now),
        PkiCommand::Example(args) => example(&args, now),
        PkiCommand::Show(args) => print(&pki::show(&args.file, now)?),
    }
}

/// The exit code for what `pouch pki` and `pouch roster` meet (DESIGN 11): 8 when something does not
/// verify, 2 when something was typed or written wrong, 1 when standard output cannot be written.
pub fn exit_code(error: &PkiError) -> u8 {
    const UNWRITABLE: u8 = 1;
    const USAGE: u8 = 2;
    const INTEGRITY: u8 = 8;
    match error {
        PkiError::Output(_) => UNWRITABLE,
        PkiError::Request(RequestError::Signature(_) | RequestError::Unsigned)
        | PkiError::Tls(TlsError::Root { .. })
        | PkiError::Note(_)
        | PkiError::Altered => INTEGRITY,
        PkiError::Roster(
            RosterError::Toml(_)
            | RosterError::Field { .. }
            | RosterError::TooLong { .. }
            | RosterError::Unwritable(_)
            | RosterError::InForce { .. }
            | RosterError::VersionsUsedUp,
        ) => USAGE,
        PkiError::Roster(_) => INTEGRITY,
        PkiError::Request(_)
        | PkiError::Tls(_)
        | PkiError::Key(_)
        | PkiError::File { .. }
        | PkiError::Index { .. }
        | PkiError::TrustDomain(_)
        | PkiError::OtherTrustDomain { .. }
        | PkiError::Number { .. }
        | PkiError::Entry { .. }
        | PkiError::EntryKey(_)
        | PkiError::NotRosterKey(_)
        | PkiError::NoRoster
        | PkiError::UnknownSerial(_)
        | PkiError::NotInDraft(_)
        | PkiError::Unknown(_)
        | PkiError::Certificate(_) => USAGE,
    }
}

fn issue(args: IssueArgs, now: SystemTime) -> Result<(), PkiError> {
    let request = Request::load(&args.request)?;
    let issued = Ca::open(&args.ca)?.issue(&request, args.number.map(PartyNumber), now)?;
    let out = args.out.unwrap_or_else(|| args.request.with_file_name("tls.pem"));
    pki::write_public(&out, issued.chain_pem.as_bytes())?;
    print(&format!(
        "# Certificate {} until {}, written to {}.\n{}",
        issued.serial,
        issued.expires,
        out.display(),
        Entry::new(&request, &issued).to_toml()
    ))
}

fn revoke(args: &RevokeArgs) -> Result<(), PkiError> {
    let mut draft = RosterDraft::parse(&read(&args.draft)?)?;
    let Some(id) = pki::revoke(&mut draft, &Ca::open(&args.ca)?, &args.serial)? else {
        return print("The draft revokes this certificate already.\n");
    };
    pki::write_public(&args.draft, draft.text()?.as_bytes())?;
    print(&format!(
        "The draft of version {} revokes this certificate of {id}. It counts until the roster is in force: sign it \
         (`pouch roster sign`) and publish it (`pouch roster publish`).\n",
        draft.version
    ))
}

fn crl(args: &CrlArgs, now: SystemTime) -> Result<(), PkiError> {
    let text = read(&args.roster)?;
    let signed = Note::parse(text.as_bytes()).ok();
    let draft = RosterDraft::parse(signed.as_ref().map_or(&*text, Note::text))?;
    let pem = pki::crl(&Ca::open(&args.ca)?, &draft, now)?;
    pki::write_public(&args.out, pem.as_bytes())?;
    print(&format!("Wrote the CRL of roster version {} to {}.\n", draft.version, args.out.display()))
}

fn example(args: &ExampleArgs, now: SystemTime) -> Result<(), PkiError> {
    let missions = usize::try_from(args.missions).expect("at most a roster's parties");
    let made =
        pki::make_example(&args.folder, &pki::example_bloc(missions), &[args.listen.to_string()], now)?;
    let folder = fs::canonicalize(&args.folder)
        .map_err(|source| PkiError::File { path: args.folder.clone(), source })?;
    let config = folder.join("relay.toml");
    let relay = folder.join("relay");
    let text = format!(
        "listen = \"{}\"\ndir = {:?}\npki = {relay:?}\nroster = {:?}\ntrust = {:?}\nroot = {:?}\n",
        args.listen,
        folder.join("relay-data"),
        relay.join("roster.note"),
        relay.join("trust.toml"),
        relay.join("root.pem"),
    );
    pki::write_public(&config, text.as_bytes())?;
    print(&format!(
        "Example keys of {} for a relay, a hub and {missions} missions. They were all made in one place, so \
         nothing that they protect is secret, and daemons refuse them without --example.\n\
         Start the relay:  pouch relay --example --config {config}\n\
         Measure it:       pouch bench {} --pki {folder}\n",
        made.trust.trust_domain,
        args.listen,
        config = config.display(),
        folder = folder.display(),
    ))
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::File { path: path.to_owned(), source })
}

/// Prints to standard output what may hold a peer's words.
pub(super) fn print(text: &str) -> Result<(), PkiError> {
    std::io::stdout().write_all(safe_text::body(text).as_bytes()).map_err(PkiError::Output)
}
