//! Plays the scenario: hands in what each desk sends, and reads and acknowledges as its people would.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::demo::DemoError;
use crate::demo::scenario::{Scenario, Scripted};
use crate::demo::stage::{Stage, until};
use crate::desk::client::{ClientError, DeskClient};
use crate::desk::view::{InboxFilter, Incoming, IncomingWhole, LIST_MAX, Mark, Outgoing};

/// How long a step of a dispatch's life may take; a relay may be killed and started again meanwhile.
const STEP_TIME_MAX: Duration = Duration::from_secs(15);

/// How far the scenario was played: the id of each dispatch that was handed in, by its key.
#[derive(Debug)]
pub struct Play<'a> {
    scenario: &'a Scenario,
    ids: BTreeMap<&'a str, String>,
}

impl<'a> Play<'a> {
    /// A play that has not begun.
    pub fn new(scenario: &'a Scenario) -> Play<'a> {
        Play { scenario, ids: BTreeMap::new() }
    }

    /// Plays to the point where one mission falls silent, and stops its daemon when nothing is under way.
    ///
    /// # Errors
    /// Those of `Play::hand_in` and [`Play::settled`].
    pub async fn until_silence(&mut self, stage: &mut Stage) -> Result<(), DemoError> {
        let (before, _) = self.scenario.split_after(&self.scenario.silent_after);
        self.hand_in(stage, before).await?;
        self.settled(stage).await?;
        stage.silence(&self.scenario.silent).await;
        Ok(())
    }

    /// Plays what is left.
    ///
    /// # Errors
    /// Those of `Play::hand_in`.
    pub async fn rest(&mut self, stage: &Stage) -> Result<(), DemoError> {
        let left = &self.scenario.dispatches[self.ids.len()..];
        self.hand_in(stage, left).await
    }

    /// Plays from where it stands to the dispatch with this key.
    ///
    /// # Errors
    /// Those of `Play::hand_in`.
    pub async fn up_to(&mut self, stage: &Stage, key: &str) -> Result<(), DemoError> {
        let (before, _) = self.scenario.split_after(key);
        self.hand_in(stage, &before[self.ids.len()..]).await
    }

    /// Hands in dispatches at their senders' desks. Who answers one has read it first, and acknowledged it
    /// where that was asked for.
    ///
    /// # Errors
    /// [`DemoError::Late`] where what is answered does not arrive, [`DemoError::Desk`].
    async fn hand_in(&mut self, stage: &Stage, dispatches: &'a [Scripted]) -> Result<(), DemoError> {
        for scripted in dispatches {
            let desk = stage.desk(&scripted.from);
            let answers = scripted.answers.as_ref().and_then(|key| self.ids.get(key.as_str()));
            if let Some(id) = answers {
                let what =
                    format!("{} delivered to {}", scripted.answers.as_deref().unwrap_or(id), scripted.from);
                let arrived =
                    until(&what, STEP_TIME_MAX, async || arrived(&desk, &scripted.from, id).await).await?;
                take_up(&desk, &scripted.from, &arrived.summary).await?;
            }
            let new = scripted.dispatch(answers.cloned());
            let outgoing = desk.send(&new).await.map_err(DemoError::desk(&scripted.from))?;
            self.ids.insert(&scripted.key, outgoing.id);
        }
        Ok(())
    }

    /// Waits until everything handed in is accepted and delivered wherever a desk is up.
    ///
    /// # Errors
    /// [`DemoError::Late`], [`DemoError::Desk`].
    pub async fn settled(&self, stage: &Stage) -> Result<(), DemoError> {
        self.all(stage, "delivered", |outgoing| {
            let delivered = |code: &str, at: &Option<String>| at.is_some() || !stage.is_up(code);
            outgoing.addressees.iter().all(|one| delivered(&one.code, &one.delivered_at))
        })
        .await
    }

    /// Lets the people of every desk that is up read everything, and acknowledge what asks them to; returns
    /// when the senders have the receipts.
    ///
    /// # Errors
    /// [`DemoError::Late`], [`DemoError::Desk`].
    pub async fn take_up_everything(&self, stage: &Stage) -> Result<(), DemoError> {
        for (code, _) in crate::demo::DESKS.iter().filter(|(code, _)| stage.is_up(code)) {
            let desk = stage.desk(code);
            for incoming in inbox(stage, code).await? {
                take_up(&desk, code, &incoming).await?;
            }
        }
        let asked: BTreeMap<&str, bool> =
            self.sent().map(|(scripted, id)| (id, scripted.acknowledge)).collect();
        self.all(stage, "read and acknowledged", |outgoing| {
            let asked = asked.get(outgoing.id.as_str()).is_some_and(|asked| *asked);
            outgoing.addressees.iter().filter(|one| stage.is_up(&one.code)).all(|one| {
                one.read_at.is_some() && (!asked || one.role != "to" || one.acknowledged_at.is_some())
            })
        })
        .await
    }

    /// What was handed in, with its id, in order.
    pub fn sent(&self) -> impl Iterator<Item = (&'a Scripted, &str)> {
        let id = |scripted: &'a Scripted| Some((scripted, self.ids.get(scripted.key.as_str())?.as_str()));
        self.scenario.dispatches.iter().filter_map(id)
    }

    async fn all(
        &self,
        stage: &Stage,
        step: &str,
        reached: impl Fn(&Outgoing) -> bool,
    ) -> Result<(), DemoError> {
        // A desk that is down cannot be asked what became of its own dispatches.
        for (scripted, id) in self.sent().filter(|(scripted, _)| stage.is_up(&scripted.from)) {
            let desk = stage.desk(&scripted.from);
            until(&format!("{} of {} {step}", scripted.key, scripted.from), STEP_TIME_MAX, async || {
                let outgoing = desk.outgoing(id).await.map_err(DemoError::desk(&scripted.from))?;
                Ok((outgoing.state == "accepted" && reached(&outgoing)).then_some(()))
            })
            .await?;
        }
        Ok(())
    }
}

/// A desk's whole inbox, in register order.
///
/// # Errors
/// [`DemoError::Desk`].
pub async fn inbox(stage: &Stage, code: &str) -> Result<Vec<Incoming>, DemoError> {
    let filter = InboxFilter { limit: Some(LIST_MAX), ..InboxFilter::default() };
    stage.desk(code).inbox(&filter).await.map_err(DemoError::desk(code))
}

async fn arrived(desk: &DeskClient, code: &str, id: &str) -> Result<Option<IncomingWhole>, DemoError> {
    match desk.incoming(id).await {
        Ok(incoming) => Ok(Some(incoming)),
        Err(ClientError::Refused(error)) if error.code == "not-found" => Ok(None),
        Err(error) => Err(DemoError::desk(code)(error)),
    }
}

/// Reads a dispatch, and acknowledges it where it was sent TO this desk and asks for that.
async fn take_up(desk: &DeskClient, code: &str, incoming: &Incoming) -> Result<(), DemoError> {
    let mark = Mark { who: format!("Watch officer {code}"), remark: "EXERCISE: taken over".to_owned() };
    let owed = incoming.acknowledgement_required && incoming.role == "to";
    let marked = match owed {
        true => desk.acknowledge(&incoming.id, &mark).await,
        false => desk.read(&incoming.id, &Mark { remark: String::new(), ..mark }).await,
    };
    marked.map(drop).map_err(DemoError::desk(code))
}
