//! `pouch read`: one dispatch, laid out as a signal on paper, and marked read.

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::table::Paint;
use crate::cli::{DeskArgs, safe_text, time};
use crate::desk::client::DeskClient;
use crate::desk::view::{IncomingWhole, Mark, Witnessed};

/// Print one dispatch and mark it read; its sender gets a signed receipt
#[derive(Args)]
pub struct ReadArgs {
    /// Short id or UUID
    #[arg(value_name = "ID")]
    id: String,
    /// Who reads it; the sender sees this
    #[arg(long, value_name = "NAME", env = "POUCH_WHO", default_value = "", hide_default_value = true)]
    who: String,
    #[command(flatten)]
    pub(super) desk: DeskArgs,
}

/// Prints first and marks then, so that a desk that cannot write any more can still be read.
pub async fn run(args: &ReadArgs, desk: &DeskClient, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let whole = desk.incoming(&args.id).await?;
    let summary = &whole.summary;
    if screen.json {
        screen.object(&whole)?;
    } else {
        screen.text(&signal(&whole, screen.paint))?;
        match summary.acknowledgement_required && summary.acknowledged_at.is_none() {
            true => screen.next(&format!("pouch ack {} -m \"remark\"", summary.short))?,
            false => screen.next(&format!("pouch reply {} \"text\"", summary.short))?,
        }
    }
    if summary.read_at.is_none() && summary.set_aside.is_none() {
        desk.read(&summary.id, &Mark { who: args.who.clone(), remark: String::new() }).await?;
    }
    Ok(())
}

fn signal(whole: &IncomingWhole, paint: Paint) -> String {
    let summary = &whole.summary;
    let mut text = String::new();
    if summary.exercise {
        text.push_str(&paint.bold("EXERCISE EXERCISE EXERCISE"));
        text.push('\n');
    }
    let precedence = safe_text::line(&summary.precedence.to_uppercase());
    let heading = format!("{precedence}   {}", safe_text::line(&summary.label));
    text.push_str(&if precedence == "FLASH" { paint.alarm(&heading) } else { paint.bold(&heading) });
    text.push_str("\n\n");

    let origin = [&summary.from, &whole.office, &whole.person];
    let origin: Vec<&str> = origin.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    let addressed = |role: &str| {
        let codes =
            whole.addressees.iter().filter(|(_, its_role)| its_role == role).map(|(code, _)| code.as_str());
        codes.collect::<Vec<_>>().join(", ")
    };
    let fields = [
        ("DTG", summary.dtg.clone()),
        ("FROM", origin.join(", ")),
        ("TO", addressed("to")),
        ("INFO", addressed("info")),
        ("XMT", whole.exempt.join(", ")),
        ("REF", summary.reference.clone()),
        ("KIND", summary.kind.clone()),
        ("TOPIC", summary.topic.clone()),
        ("ANSWERS", whole.in_reply_to.clone().unwrap_or_default()),
        ("ACTION", action(whole)),
        ("SUBJECT", summary.subject.clone()),
    ];
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{name:<8} {}\n", safe_text::line(value)));
    }
    text.push('\n');
    text.push_str(safe_text::body(&whole.body).trim_end_matches('\n'));
    text.push_str("\n\n----\n");
    text.push_str(&register(whole, paint));
    text
}

/// What is asked of whoever the dispatch is addressed to for action.
fn action(whole: &IncomingWhole) -> String {
    let by = |due: &str| format!(" by {}", time::dtg(due));
    let acknowledgement = whole.summary.acknowledgement_required.then(|| {
        format!("acknowledgement{}", whole.acknowledgement_due.as_deref().map(by).unwrap_or_default())
    });
    let answer = whole.answer_due.as_deref().map(|due| format!("answer{}", by(due)));
    let asked: Vec<String> = acknowledgement.into_iter().chain(answer).collect();
    if asked.is_empty() { String::new() } else { format!("{} required", asked.join(" and ")) }
}

/// What this desk itself adds: its own number, times and notices.
fn register(whole: &IncomingWhole, paint: Paint) -> String {
    let summary = &whole.summary;
    let mut text = format!(
        "register {}, id {}, received {}, position {} in the log, {}\n",
        summary.register,
        summary.short,
        time::dtg(&summary.received_at),
        summary.position,
        Witnessed::words(summary.witnessed),
    );
    for (word, at) in [("read", &summary.read_at), ("acknowledged", &summary.acknowledged_at)] {
        if let Some(at) = at {
            text.push_str(&format!("{word} {}\n", time::dtg(at)));
        }
    }
    for notice in summary.notices.iter().chain(&summary.set_aside) {
        text.push_str(&(paint.alarm(&format!("notice: {}", safe_text::line(notice))) + "\n"));
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::desk::view::Incoming;

    /// A FLASH from IDN to MOD, for information to MYS and PHL.
    pub(in crate::cli) fn whole() -> IncomingWhole {
        IncomingWhole {
            summary: Incoming {
                register: 17,
                id: "019ac4d4-0000-7000-8000-000000000000".into(),
                short: "K7QF".into(),
                from: "IDN".into(),
                role: "to".into(),
                reference: "IDN/2026/4\x1b[31m".into(),
                dtg: "241015ZNOV26".into(),
                subject: "Unlit vessel\u{202e}".into(),
                topic: "maritime".into(),
                precedence: "flash".into(),
                label: "BLOC RESTRICTED".into(),
                kind: "report".into(),
                exercise: true,
                acknowledgement_required: true,
                received_at: "2026-11-24T10:16:00Z".into(),
                read_at: None,
                acknowledged_at: None,
                set_aside: None,
                awaited: None,
                witnessed: None,
                notices: vec!["one dispatch before this one has not come".into()],
                position: 42,
                envelope_hash: String::new(),
            },
            addressees: vec![
                ("MOD".into(), "to".into()),
                ("MYS".into(), "info".into()),
                ("PHL".into(), "info".into()),
            ],
            exempt: vec!["VNM".into()],
            office: "Defence Section".into(),
            person: String::new(),
            language: "en".into(),
            in_reply_to: None,
            acknowledgement_due: Some("2026-11-24T11:00:00Z".into()),
            answer_due: Some("2026-11-24T12:00:00Z".into()),
            body: "Two miles east.\r\n\x1b]0;title\x07No lights.\n\n".into(),
        }
    }

    #[test]
    fn a_dispatch_is_laid_out_as_a_signal_and_moves_no_cursor() {
        let expected = "\
EXERCISE EXERCISE EXERCISE
FLASH   BLOC RESTRICTED

DTG      241015ZNOV26
FROM     IDN, Defence Section
TO       MOD
INFO     MYS, PHL
XMT      VNM
REF      IDN/2026/4␛[31m
KIND     report
TOPIC    maritime
ACTION   acknowledgement by 241100ZNOV26 and answer by 241200ZNOV26 required
SUBJECT  Unlit vessel<U+202E>

Two miles east.
␛]0;title␇No lights.

----
register 17, id K7QF, received 241016ZNOV26, position 42 in the log, not yet witnessed
notice: one dispatch before this one has not come
";
        assert_eq!(signal(&whole(), Paint::Plain), expected);
    }
}
