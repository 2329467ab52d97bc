//! `pouch send`: hands a dispatch to the desk, and waits for a step of its life if asked to.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::cli::failure::Failure;
use crate::cli::outbox::{self, WaitArgs};
use crate::cli::screen::Screen;
use crate::cli::{DeskArgs, safe_text, time};
use crate::desk::client::DeskClient;
use crate::desk::view::{NewDispatch, Outgoing};
use crate::limits::DISPATCH_BYTES_MAX;

/// What a person must know while `seal` is empty.
const IN_CLEAR: &str = "until sealing exists, a dispatch travels in clear inside its envelope: whoever runs the relay can read it";

/// Hand a dispatch to the desk; it is durable in the outbox when this returns
#[derive(Args)]
#[command(after_help = format!("Note: {IN_CLEAR}."))]
pub struct SendArgs {
    /// Action addressees: codes of parties, groups or offices, or ALL; MOD or MOD,IDN
    #[arg(long, value_name = "CODE", value_delimiter = ',', required = true)]
    to: Vec<String>,
    /// Information addressees, as --to
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    info: Vec<String>,
    /// XMT: whom a group or ALL shall not reach
    #[arg(long, value_name = "CODE", value_delimiter = ',', visible_alias = "xmt")]
    exempt: Vec<String>,
    /// Topic of the roster
    #[arg(long, value_name = "TOPIC")]
    topic: String,
    /// Speed of service
    #[arg(long, value_name = "PRECEDENCE", default_value = "routine", ignore_case = true,
        value_parser = PossibleValuesParser::new(["routine", "priority", "immediate", "flash"]))]
    precedence: String,
    /// Speed of service towards --info [default: as --precedence]
    #[arg(
        long,
        value_name = "PRECEDENCE",
        default_value = "",
        hide_default_value = true,
        ignore_case = true
    )]
    info_precedence: String,
    /// Label of the roster's policy [default: its lowest]
    #[arg(long, value_name = "LABEL", default_value = "", hide_default_value = true)]
    label: String,
    /// Kind of dispatch
    #[arg(long, value_name = "KIND", default_value = "report",
        value_parser = PossibleValuesParser::new(["note-verbale", "aide-memoire", "circular-note", "request",
            "report", "check-in", "contact", "cancellation"]))]
    kind: String,
    /// One line; TEXT's first line where absent
    #[arg(long, value_name = "LINE")]
    subject: Option<String>,
    /// The body from a file, or from standard input as `-`
    #[arg(long, value_name = "FILE")]
    body_file: Option<String>,
    /// The body; also the subject where it is one line and --subject is absent
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    #[command(flatten)]
    pub(super) manner: MannerArgs,
    /// The caller's own key: the same key twice queues nothing new
    #[arg(long, value_name = "KEY")]
    id: Option<String>,
    /// The dispatch that this one answers
    #[arg(long, value_name = "ID")]
    reply_to: Option<String>,
    /// Own registry number [default: the desk's next]
    #[arg(long, value_name = "REFERENCE", default_value = "", hide_default_value = true)]
    reference: String,
    /// Language, as a BCP 47 tag
    #[arg(long, value_name = "TAG", default_value = "en")]
    language: String,
    /// Mark as EXERCISE traffic
    #[arg(long)]
    pub(super) exercise: bool,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    pub(super) desk: DeskArgs,
}

/// What `send` and `reply` both ask: by when, and who writes.
#[derive(Args)]
pub struct MannerArgs {
    /// Ask a person to acknowledge, in the time of the precedence
    #[arg(long)]
    ack: bool,
    /// Ask a person to acknowledge by then, as 241200ZNOV26
    #[arg(long, value_name = "DTG", value_parser = time::from_dtg)]
    ack_by: Option<String>,
    /// Ask for an answer by then, as 241200ZNOV26
    #[arg(long, value_name = "DTG", value_parser = time::from_dtg)]
    answer_by: Option<String>,
    /// Give up delivery after this span, as 6h [default: by precedence]
    #[arg(long, value_name = "SPAN", value_parser = time::span)]
    expires: Option<Duration>,
    /// Originating office
    #[arg(long, value_name = "OFFICE", default_value = "", hide_default_value = true)]
    office: String,
    /// Originating person
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    person: String,
}

impl MannerArgs {
    /// A dispatch that says all this, and nothing else yet.
    pub(super) fn dispatch(&self) -> NewDispatch {
        NewDispatch {
            acknowledgement_required: self.ack || self.ack_by.is_some(),
            acknowledgement_due: self.ack_by.clone(),
            answer_due: self.answer_by.clone(),
            expires_s: self.expires.map(|span| span.as_secs()),
            office: self.office.clone(),
            person: self.person.clone(),
            ..NewDispatch::default()
        }
    }
}

/// Sends, says what became of it, and waits where `--wait` asks for it.
pub async fn run(args: &SendArgs, desk: &DeskClient, screen: &mut Screen<'_>) -> Result<(), Failure> {
    hand_in(&dispatch(args)?, &args.wait, desk, screen).await
}

/// Hands a dispatch in, says what became of it, and waits where asked to.
pub(super) async fn hand_in(
    new: &NewDispatch,
    wait: &WaitArgs,
    desk: &DeskClient,
    screen: &mut Screen<'_>,
) -> Result<(), Failure> {
    let outgoing = desk.send(new).await?;
    if !screen.json {
        screen.text(&queued(&outgoing))?;
    }
    screen.note(IN_CLEAR)?;
    outbox::wait(wait, outgoing, desk, screen).await
}

/// What became of a dispatch that was handed in.
fn queued(outgoing: &Outgoing) -> String {
    let state = if outgoing.duplicate { "known" } else { "queued" };
    let mut text = format!(
        "{state:<8}  {} as {}, {}",
        outgoing.short,
        safe_text::line(&outgoing.reference),
        safe_text::line(&outgoing.dtg),
    );
    for (word, role) in [("to", "to"), ("info", "info"), ("without", "exempt")] {
        let names = outbox::names(outgoing, role);
        if !names.is_empty() {
            text.push_str(&format!(", {word} {}", names.join(", ")));
        }
    }
    text.push('\n');
    if let Some(left_out) = outbox::left_out(outgoing) {
        text.push_str(&left_out);
    }
    text
}

fn dispatch(args: &SendArgs) -> Result<NewDispatch, Failure> {
    let (subject, body) = subject_and_body(args)?;
    Ok(NewDispatch {
        to: args.to.clone(),
        info: args.info.clone(),
        exempt: args.exempt.clone(),
        topic: args.topic.clone(),
        precedence: args.precedence.to_lowercase(),
        info_precedence: args.info_precedence.to_lowercase(),
        label: args.label.clone(),
        kind: args.kind.clone(),
        subject,
        body,
        language: args.language.clone(),
        reference: args.reference.clone(),
        in_reply_to: args.reply_to.clone(),
        exercise: args.exercise,
        idempotency_key: args.id.clone(),
        ..args.manner.dispatch()
    })
}

/// The subject is `--subject`, or the first line of TEXT; the body is `--body-file`, or TEXT.
fn subject_and_body(args: &SendArgs) -> Result<(String, String), Failure> {
    let first_line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    let usage = |sentence: &str| Err(Failure::Usage(sentence.to_owned()));
    match (&args.subject, &args.text, &args.body_file) {
        (Some(subject), Some(text), None) => Ok((subject.clone(), text.clone())),
        (Some(subject), None, Some(file)) => Ok((subject.clone(), body(file)?)),
        (Some(subject), None, None) => Ok((subject.clone(), String::new())),
        (None, Some(text), None) => Ok((first_line(text), text.clone())),
        (None, Some(text), Some(file)) => Ok((text.clone(), body(file)?)),
        (None, None, _) => usage("a dispatch needs a subject: add --subject \"…\""),
        (Some(_), Some(_), Some(_)) => {
            usage("both TEXT and --body-file give the body: leave one of them out")
        }
    }
}

/// The text of a file, or of standard input for `-`.
pub(super) fn body(file: &str) -> Result<String, Failure> {
    let failed = |source| Failure::File { path: file.to_owned(), source };
    let mut reader: Box<dyn Read> = match file {
        "-" => Box::new(std::io::stdin()),
        _ => Box::new(File::open(file).map_err(failed)?),
    };
    let bytes_max = u64::try_from(DISPATCH_BYTES_MAX).expect("a bound of kibibytes fits");
    let mut bytes = Vec::new();
    reader.by_ref().take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > DISPATCH_BYTES_MAX {
        return Err(Failure::Usage(format!("{file}: longer than 200 KiB: send it in parts")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        Failure::Usage(format!(
            "{file}: not UTF-8 text at byte {place}: convert it with iconv, or send it as text"
        ))
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        send: SendArgs,
    }

    fn parsed(line: &[&str]) -> Result<NewDispatch, Failure> {
        let always = ["send", "--to", "MOD", "--topic", "maritime"];
        let line = Line::try_parse_from(always.iter().chain(line));
        dispatch(&line.map_err(|error| Failure::Usage(error.to_string()))?.send)
    }

    #[test]
    fn text_alone_is_subject_and_body() {
        let new = parsed(&["Unlit vessel\n2 nm east"]).unwrap();
        assert_eq!((new.subject.as_str(), new.body.as_str()), ("Unlit vessel", "Unlit vessel\n2 nm east"));
    }

    #[test]
    fn addressees_are_repeated_or_divided_by_commas() {
        let new = parsed(&["--to", "IDN,MYS", "--info", "PHL", "--info", "VNM", "x"]).unwrap();
        assert_eq!(
            (new.to, new.info),
            (vec!["MOD".into(), "IDN".into(), "MYS".into()], vec!["PHL".into(), "VNM".into()])
        );
    }

    #[test]
    fn exempted_addressees_and_a_lower_precedence_for_info_are_said_apart() {
        let line =
            ["--info", "ACI", "--xmt", "VNM,PHL", "--precedence", "flash", "--info-precedence", "ROUTINE"];
        let new = parsed(&[&line[..], &["x"]].concat()).unwrap();
        assert_eq!((new.info, new.exempt), (vec!["ACI".into()], vec!["VNM".into(), "PHL".into()]));
        assert_eq!((new.precedence.as_str(), new.info_precedence.as_str()), ("flash", "routine"));
    }

    #[test]
    fn a_time_to_acknowledge_by_asks_for_acknowledgement() {
        let new =
            parsed(&["--ack-by", "241200ZNOV26", "--expires", "6h", "--precedence", "FLASH", "x"]).unwrap();
        assert!(new.acknowledgement_required && new.answer_due.is_none());
        let due = new.acknowledgement_due.as_deref();
        assert_eq!((due, new.expires_s), (Some("2026-11-24T12:00:00Z"), Some(21_600)));
        assert_eq!(new.precedence, "flash");
        let new = parsed(&["--answer-by", "241200ZNOV26", "x"]).unwrap();
        assert_eq!((new.answer_due.is_some(), new.acknowledgement_required), (true, false));
        let new = parsed(&["--answer-by", "251200ZNOV26", "--ack-by", "241200ZNOV26", "x"]).unwrap();
        let due = (new.acknowledgement_due.as_deref(), new.answer_due.as_deref());
        assert_eq!(due, (Some("2026-11-24T12:00:00Z"), Some("2026-11-25T12:00:00Z")));
    }

    #[test]
    fn what_cannot_be_a_dispatch_is_refused_before_the_desk_is_asked() {
        assert!(matches!(parsed(&[]), Err(Failure::Usage(_))));
        assert!(matches!(parsed(&["--subject", "s", "--body-file", "f", "t"]), Err(Failure::Usage(_))));
        assert!(matches!(parsed(&["--precedence", "urgent", "x"]), Err(Failure::Usage(_))));
        assert!(matches!(parsed(&["--timeout", "5s", "x"]), Err(Failure::Usage(_))));
        assert!(matches!(parsed(&["--subject", "s", "--body-file", "/nowhere"]), Err(Failure::File { .. })));
    }

    #[test]
    fn a_body_file_is_kept_to_the_byte_and_must_be_text_of_bounded_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("body");
        let send = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            parsed(&["--subject", "s", "--body-file", path.to_str().unwrap()])
        };
        assert_eq!(send(b"\xef\xbb\xbfa\r\n\x00\n").unwrap().body, "\u{feff}a\r\n\0\n");
        assert!(matches!(send(b"abc\xff"), Err(Failure::Usage(text)) if text.contains("at byte 3")));
        assert!(matches!(send(&[b'a'; DISPATCH_BYTES_MAX + 1]), Err(Failure::Usage(_))));
    }
}
