//! `pouch reply`: answers a dispatch of the inbox under its topic and label.

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::cli::DeskArgs;
use crate::cli::failure::Failure;
use crate::cli::outbox::WaitArgs;
use crate::cli::screen::Screen;
use crate::cli::send::{self, MannerArgs};
use crate::desk::client::DeskClient;
use crate::desk::view::{IncomingWhole, NewDispatch};
use crate::seal::SUBJECT_BYTES_MAX;

/// What stands before the subject of an answer, once.
const PREFIX: &str = "Re: ";

/// Answer a dispatch: to its sender, under its topic, label and precedence
#[derive(Args)]
pub struct ReplyArgs {
    /// Short id or UUID of the dispatch to answer
    #[arg(value_name = "ID")]
    id: String,
    /// The body
    #[arg(value_name = "TEXT", required_unless_present = "body_file", conflicts_with = "body_file")]
    text: Option<String>,
    /// The body from a file, or from standard input as `-`
    #[arg(long, value_name = "FILE")]
    body_file: Option<String>,
    /// Inform everybody else to whom the dispatch went
    #[arg(long)]
    all: bool,
    /// Speed of service [default: as the dispatch]
    #[arg(long, value_name = "PRECEDENCE", ignore_case = true,
        value_parser = PossibleValuesParser::new(["routine", "priority", "immediate", "flash"]))]
    precedence: Option<String>,
    #[command(flatten)]
    manner: MannerArgs,
    /// The caller's own key: the same key twice queues nothing new
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    pub(super) desk: DeskArgs,
}

/// Answers, says what became of it, and waits where `--wait` asks for it.
pub async fn run(args: &ReplyArgs, desk: &DeskClient, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let asked = desk.incoming(&args.id).await?;
    let own = if args.all { desk.status().await?.code } else { String::new() };
    send::hand_in(&answer(args, &asked, &own)?, &args.wait, desk, screen).await
}

/// The answer to a dispatch that `own` received.
fn answer(args: &ReplyArgs, asked: &IncomingWhole, own: &str) -> Result<NewDispatch, Failure> {
    let summary = &asked.summary;
    if let Some(reason) = &summary.set_aside {
        let short = &summary.short;
        return Err(Failure::Usage(format!(
            "{short} was set aside ({reason}), so nobody vouches for its sender: write a new dispatch with `pouch send`"
        )));
    }
    let others = asked.addressees.iter().map(|(code, _)| code);
    let others = others.filter(|code| args.all && **code != own && **code != summary.from);
    let body = match (&args.text, &args.body_file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => send::body(file)?,
        (None, None) => String::new(),
    };
    Ok(NewDispatch {
        to: vec![summary.from.clone()],
        info: others.cloned().collect(),
        topic: summary.topic.clone(),
        precedence: args.precedence.as_ref().unwrap_or(&summary.precedence).to_lowercase(),
        label: summary.label.clone(),
        subject: subject(&summary.subject),
        body,
        in_reply_to: Some(summary.id.clone()),
        exercise: summary.exercise,
        idempotency_key: args.key.clone(),
        ..args.manner.dispatch()
    })
}

/// The subject of an answer, cut where it would be too long for one.
fn subject(asked: &str) -> String {
    let prefixed = asked.get(..PREFIX.len() - 1).is_some_and(|start| start.eq_ignore_ascii_case("re:"));
    let mut subject = if prefixed { asked.to_owned() } else { format!("{PREFIX}{asked}") };
    subject.truncate(subject.floor_char_boundary(SUBJECT_BYTES_MAX));
    subject
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::read::tests::whole;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        reply: ReplyArgs,
    }

    fn answered(line: &[&str], asked: &IncomingWhole) -> NewDispatch {
        let line = ["reply", "K7QF", "Noted."].iter().chain(line);
        answer(&Line::try_parse_from(line).unwrap().reply, asked, "MOD").unwrap()
    }

    #[test]
    fn an_answer_goes_to_the_sender_under_the_same_topic_label_and_exercise() {
        let asked = whole();
        let new = answered(&[], &asked);
        assert_eq!((new.to, new.info), (vec!["IDN".to_owned()], Vec::<String>::new()));
        assert_eq!((new.topic, new.label, new.exercise), ("maritime".into(), "BLOC RESTRICTED".into(), true));
        assert_eq!((new.precedence.as_str(), new.in_reply_to), ("flash", Some(asked.summary.id)));
    }

    #[test]
    fn all_informs_everybody_else_but_not_oneself() {
        let new = answered(&["--all", "--precedence", "ROUTINE"], &whole());
        assert_eq!(new.info, ["MYS", "PHL"]);
        assert_eq!(new.precedence, "routine");
    }

    #[test]
    fn a_subject_is_prefixed_once_and_stays_within_its_bound() {
        assert_eq!(subject("Unlit vessel"), "Re: Unlit vessel");
        assert_eq!(subject("RE: Unlit vessel"), "RE: Unlit vessel");
        assert_eq!(subject("é").as_str(), "Re: é");
        let long = subject(&"é".repeat(SUBJECT_BYTES_MAX / 2));
        assert_eq!(long, format!("Re: {}", "é".repeat(SUBJECT_BYTES_MAX / 2 - 2)));
    }

    #[test]
    fn what_was_set_aside_is_not_answered() {
        let mut asked = whole();
        asked.summary.set_aside = Some("signature does not fit".to_owned());
        let line = Line::try_parse_from(["reply", "K7QF", "x"]).unwrap();
        assert!(matches!(answer(&line.reply, &asked, "MOD"), Err(Failure::Usage(_))));
    }
}
