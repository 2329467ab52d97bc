//! `pouch demo --check`: the scenario to its end, over a relay killed with -9 and a mission that was away, and
//! whether all of it came out right.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::config;
use crate::demo::play::{self, Play};
use crate::demo::scenario::Scenario;
use crate::demo::stage::{RELAY, Stage, until};
use crate::demo::tamper::tamper;
use crate::demo::verify::{self, Observed};
use crate::demo::{DESKS, DemoError};
use crate::desk::view::AddresseeState;
use crate::relay::log::{self, LogError};
use crate::roster::TrustBundle;
use crate::tiles::{self, DiskFolder, Fault};
use crate::wire::Position;

/// How long the last receipts may take to reach the log.
const LOGGED_TIME_MAX: Duration = Duration::from_secs(10);

/// What a check found.
#[derive(Debug)]
pub struct Report {
    dispatches: usize,
    envelopes_to_addressees: usize,
    receipts: [(&'static str, usize); 3],
    records: u64,
    /// Of them those that the last published checkpoint covers.
    leaves: u64,
    time: Duration,
    failures: Vec<String>,
}

/// Plays everything and verifies it. Stops the stage at the end, to read the log as it lies on the disk.
///
/// # Errors
/// [`DemoError`] where the play itself could not go on; what went wrong in it stands in the report.
pub async fn play_and_verify(stage: &mut Stage) -> Result<Report, DemoError> {
    let started = Instant::now();
    let scenario = Scenario::load();
    let silent = DESKS.iter().map(|(code, _)| *code).find(|code| *code == scenario.silent);
    let silent = silent.expect("a test of the scenario checks it");
    let mut play = Play::new(&scenario);
    let mut failures = Vec::new();

    stage.start().await?;
    play.until_silence(stage).await?;
    let before: BTreeSet<String> = play.sent().map(|(scripted, _)| scripted.key.clone()).collect();
    play.up_to(stage, &scenario.relay_killed_after).await?;
    stage.kill_one(RELAY).await;
    stage.start_one(RELAY)?;
    play.rest(stage).await?;
    failures.extend(late(play.settled(stage).await)?);
    let keys = scenario.dispatches.iter().map(|scripted| scripted.key.clone());
    let after = keys.filter(|key| !before.contains(key)).collect();
    failures.extend(verify::waiting(&observed(stage, &play).await?, silent, &after));

    stage.start_one(silent)?;
    stage.in_contact(silent).await?;
    failures.extend(late(play.settled(stage).await)?);
    failures.extend(late(play.take_up_everything(stage).await)?);
    failures.extend(late(receipts_logged(stage).await)?);
    let observed = observed(stage, &play).await?;
    failures.extend(verify::finished(&observed));
    stage.stop_all().await;
    let (records, lost) = verify_log(&stage.relay_folder(), &observed)?;
    failures.extend(lost);
    let trust = config::trust_bundle(&stage.trust_file()).map_err(DemoError::Trust)?;
    let leaves = match witnessed(&stage.relay_folder().join("log"), &trust)? {
        Ok(leaves) => leaves,
        Err(failure) => {
            failures.push(format!("audit log: {failure}"));
            0
        }
    };
    Ok(report(&observed, [records, leaves], started.elapsed(), failures))
}

impl Report {
    /// Writes one line for each failed check, then the figures.
    ///
    /// # Errors
    /// [`DemoError::ChecksFailed`] when there is a failed check, [`DemoError::Output`].
    pub fn write(&self, out: &mut dyn Write) -> Result<(), DemoError> {
        let mut text = String::new();
        for failure in &self.failures {
            text.push_str(&format!("failed    {failure}\n"));
        }
        let receipts: Vec<String> =
            self.receipts.iter().map(|(step, count)| format!("{count} {step}")).collect();
        text.push_str(&format!(
            "dispatches {} to {} addressees, relay killed once, one mission away and back\n\
             receipts   {}\n\
             log        {} records, read back and chained; {} of them verified and witnessed, a changed byte found\n\
             time       {:.1} s\n",
            self.dispatches,
            self.envelopes_to_addressees,
            receipts.join(", "),
            self.records,
            self.leaves,
            self.time.as_secs_f64(),
        ));
        if self.failures.is_empty() {
            text.push_str("all checks passed\n");
        }
        out.write_all(text.as_bytes()).map_err(DemoError::Output)?;
        if self.failures.is_empty() { Ok(()) } else { Err(DemoError::ChecksFailed(self.failures.len())) }
    }
}

/// A step that came too late is a failed check and not the end of the play.
fn late(step: Result<(), DemoError>) -> Result<Option<String>, DemoError> {
    match step {
        Ok(()) => Ok(None),
        Err(DemoError::Late { what, time_max }) => {
            Ok(Some(format!("not within {} s: {what}", time_max.as_secs())))
        }
        Err(error) => Err(error),
    }
}

/// Waits until the relay has logged every receipt that the desks made.
async fn receipts_logged(stage: &Stage) -> Result<(), DemoError> {
    for (code, _) in DESKS {
        let desk = stage.desk(code);
        until(&format!("all receipts of {code} logged"), LOGGED_TIME_MAX, async || {
            let status = desk.status().await.map_err(DemoError::desk(code))?;
            Ok((status.receipts_waiting == 0).then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// Asks every desk that is up for all it has.
async fn observed(stage: &Stage, play: &Play<'_>) -> Result<Observed, DemoError> {
    let mut observed = Observed::default();
    for (scripted, id) in play.sent().filter(|(scripted, _)| stage.is_up(&scripted.from)) {
        let outgoing =
            stage.desk(&scripted.from).outgoing(id).await.map_err(DemoError::desk(&scripted.from))?;
        observed.sent.push((scripted.clone(), outgoing));
    }
    for (code, _) in DESKS.into_iter().filter(|(code, _)| stage.is_up(code)) {
        let desk = stage.desk(code);
        let mut inbox = Vec::new();
        for incoming in play::inbox(stage, code).await? {
            inbox.push(desk.incoming(&incoming.id).await.map_err(DemoError::desk(code))?);
        }
        observed.inboxes.insert(code.to_owned(), inbox);
        observed.statuses.push(desk.status().await.map_err(DemoError::desk(code))?);
    }
    Ok(observed)
}

/// Reads the stopped relay's log back: how many records it has, and which accepted envelope is not where its
/// sender was told it is.
fn verify_log(relay_folder: &Path, observed: &Observed) -> Result<(u64, Vec<String>), DemoError> {
    let mut envelopes = BTreeMap::new();
    let head = log::read(relay_folder, Position(0), |line| -> Result<(), LogError> {
        if line.kind == "envelope" {
            envelopes.insert(line.position, line.hash);
        }
        Ok(())
    })?;
    let mut failures = Vec::new();
    for (scripted, outgoing) in &observed.sent {
        let logged = outgoing.position.and_then(|position| envelopes.get(&position));
        if logged.is_none() || logged != outgoing.envelope_hash.as_ref() {
            failures.push(format!("{}: is not in the log where its sender was told", scripted.key));
        }
    }
    if envelopes.len() != observed.sent.len() {
        failures.push(format!("log: {} envelopes for {} dispatches", envelopes.len(), observed.sent.len()));
    }
    Ok((head.size, failures))
}

/// How many leaves a quorum has witnessed, and whether a changed byte is found and its leaf named. The log is left as
/// it was.
fn witnessed(log: &Path, trust: &TrustBundle) -> Result<Result<u64, String>, DemoError> {
    let verify = || tiles::verify(&DiskFolder::observe(log), trust, None);
    let leaves = match verify() {
        Ok(found) if found.is_witnessed => found.checkpoint.size,
        Ok(_) => return Ok(Err("no quorum of missions has cosigned it".to_owned())),
        Err(fault) => return Ok(Err(fault.to_string())),
    };
    let tampered = tamper(log)?;
    let found = verify();
    tampered.mend()?;
    Ok(match found {
        Err(Fault::Index { index, .. }) if index == tampered.index => Ok(leaves),
        Err(fault) => Err(format!("leaf {} was changed, and this was found: {fault}", tampered.index)),
        Ok(_) => Err(format!("leaf {} was changed, and it was not found", tampered.index)),
    })
}

fn report(observed: &Observed, [records, leaves]: [u64; 2], time: Duration, failures: Vec<String>) -> Report {
    let states = || observed.sent.iter().flat_map(|(_, outgoing)| &outgoing.addressees);
    let count =
        |step: fn(&AddresseeState) -> &Option<String>| states().filter(|one| step(one).is_some()).count();
    Report {
        dispatches: observed.sent.len(),
        envelopes_to_addressees: states().count(),
        receipts: [
            ("delivered", count(|one| &one.delivered_at)),
            ("read", count(|one| &one.read_at)),
            ("acknowledged", count(|one| &one.acknowledged_at)),
        ],
        records,
        leaves,
        time,
        failures,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(failures: &[&str]) -> Report {
        Report {
            dispatches: 2,
            envelopes_to_addressees: 3,
            receipts: [("delivered", 3), ("read", 3), ("acknowledged", 1)],
            records: 9,
            leaves: 7,
            time: Duration::from_millis(1234),
            failures: failures.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    #[test]
    fn a_report_prints_its_figures_and_passes() {
        let mut out = Vec::new();
        report(&[]).write(&mut out).unwrap();
        let expected = "\
dispatches 2 to 3 addressees, relay killed once, one mission away and back
receipts   3 delivered, 3 read, 1 acknowledged
log        9 records, read back and chained; 7 of them verified and witnessed, a changed byte found
time       1.2 s
all checks passed
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_report_with_a_failed_check_names_it_and_is_an_error() {
        let mut out = Vec::new();
        let failed = report(&["mod-opening: no receipt"]).write(&mut out);
        assert!(matches!(failed, Err(DemoError::ChecksFailed(1))));
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("failed    mod-opening: no receipt\n") && !text.contains("passed"),
            "{text}"
        );
    }
}
