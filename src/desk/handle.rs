//! The desk's one API: the HTTP face, the drop folders and every other face call these methods.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

pub use crate::desk::error::DeskError;

use crate::alarms::{self, Alarms};
use crate::desk::{
    link::requests::Asked,
    status::LinkStatus,
    store::StoreThread,
    view::{
        Alarm, Commit, Cursor, Evidence, InboxFilter, Incoming, IncomingWhole, Mark, NewDispatch, Outgoing,
        ProvenRoster, Status, TakeCursor, Trust,
    },
};
use crate::roster::TrustBundle;

/// A handle to one desk; clones share it. Whatever a method changed is durable when it returns. A dropped
/// future may have changed it all the same: repeat with the same idempotency key.
#[derive(Clone, Debug)]
pub struct DeskHandle {
    store: StoreThread,
    link: watch::Receiver<LinkStatus>,
    requests: Option<mpsc::Sender<Asked>>,
    alarms: Alarms,
    trust: Option<Arc<TrustBundle>>,
}

impl DeskHandle {
    /// A desk of this store, whose link reports to `link`.
    pub fn new(store: StoreThread, link: watch::Receiver<LinkStatus>) -> DeskHandle {
        DeskHandle { store, link, requests: None, alarms: Alarms::default(), trust: None }
    }

    /// The same desk, with a way to ask the relay for something through its link.
    pub fn with_requests(self, requests: mpsc::Sender<Asked>) -> DeskHandle {
        DeskHandle { requests: Some(requests), ..self }
    }

    pub(super) fn store(&self) -> &StoreThread {
        &self.store
    }

    /// How the link stands.
    pub(super) fn link(&self) -> LinkStatus {
        self.link.borrow().clone()
    }

    pub(super) fn link_requests(&self) -> Option<&mpsc::Sender<Asked>> {
        self.requests.as_ref()
    }

    /// The same, with the standing alarms of the daemon in its status.
    pub fn with_alarms(self, alarms: Alarms) -> DeskHandle {
        DeskHandle { alarms, ..self }
    }

    /// The same, with the trust bundle that it was given.
    pub fn with_trust(self, trust: TrustBundle) -> DeskHandle {
        DeskHandle { trust: Some(Arc::new(trust)), ..self }
    }

    /// Takes a dispatch into the outbox; offline is as good as online.
    ///
    /// # Errors
    /// [`DeskError`] says what to change; nothing was queued.
    pub async fn send(&self, new: NewDispatch) -> Result<Outgoing, DeskError> {
        self.store.ask(move |store| store.enqueue(new, Timestamp::now())).await
    }

    /// The newest `limit` dispatches of the outbox, newest first.
    ///
    /// # Errors
    /// [`DeskError::Store`].
    pub async fn outbox(&self, limit: u32) -> Result<Vec<Outgoing>, DeskError> {
        self.store.ask(move |store| store.outbox(limit)).await
    }

    /// One dispatch of the outbox, by UUID or short id.
    ///
    /// # Errors
    /// [`DeskError::NotFound`].
    pub async fn outgoing(&self, id: String) -> Result<Outgoing, DeskError> {
        self.store.ask(move |store| store.outgoing(&id)).await
    }

    /// The inbox in register order.
    ///
    /// # Errors
    /// [`DeskError::Store`].
    pub async fn inbox(&self, filter: InboxFilter) -> Result<Vec<Incoming>, DeskError> {
        self.store.ask(move |store| store.inbox(&filter)).await
    }

    /// One dispatch of the inbox with its text, by UUID or short id.
    ///
    /// # Errors
    /// [`DeskError::NotFound`].
    pub async fn incoming(&self, id: String) -> Result<IncomingWhole, DeskError> {
        self.store.ask(move |store| store.incoming(&id)).await
    }

    /// All that the desk can prove of a dispatch that it sent or received.
    ///
    /// # Errors
    /// [`DeskError::NotFound`], also for what the relay has not accepted.
    pub async fn evidence(&self, id: String) -> Result<Evidence, DeskError> {
        self.store.ask(move |store| store.exhibits(&id)).await
    }

    /// A roster version that the desk holds, and that the log has it.
    ///
    /// # Errors
    /// [`DeskError::NotFound`].
    pub async fn proven_roster(&self, version: u32) -> Result<ProvenRoster, DeskError> {
        self.store.ask(move |store| store.proven_roster(version)).await
    }

    /// A person has read a dispatch: its sender gets a receipt, once.
    ///
    /// # Errors
    /// [`DeskError::NotFound`], [`DeskError::Invalid`] for what was set aside, [`DeskError::TooLarge`].
    pub async fn read(&self, id: String, mark: Mark) -> Result<Incoming, DeskError> {
        self.store.ask(move |store| store.mark_read(&id, &mark, Timestamp::now())).await
    }

    /// A person has acknowledged a dispatch: its sender gets a receipt, once.
    ///
    /// # Errors
    /// As [`DeskHandle::read`].
    pub async fn acknowledge(&self, id: String, mark: Mark) -> Result<Incoming, DeskError> {
        self.store.ask(move |store| store.acknowledge(&id, &mark, Timestamp::now())).await
    }

    /// Where a named reader stands.
    ///
    /// # Errors
    /// [`DeskError::Invalid`] for a bad name.
    pub async fn cursor(&self, name: String) -> Result<Cursor, DeskError> {
        self.store.ask(move |store| store.cursor(&name)).await
    }

    /// Moves a named reader.
    ///
    /// # Errors
    /// [`DeskError::Invalid`] beyond the register's end or for a bad name, [`DeskError::CursorTaken`].
    pub async fn commit(&self, name: String, commit: Commit) -> Result<Cursor, DeskError> {
        self.store.ask(move |store| store.commit(&name, &commit, Timestamp::now())).await
    }

    /// Gives a reader the cursor for a while.
    ///
    /// # Errors
    /// [`DeskError::CursorTaken`] where another reader has it, [`DeskError::Invalid`].
    pub async fn take_cursor(&self, name: String, take: TakeCursor) -> Result<Cursor, DeskError> {
        self.store.ask(move |store| store.take_cursor(&name, &take, Timestamp::now())).await
    }

    /// The highest register number, 0 for an empty inbox.
    ///
    /// # Errors
    /// [`DeskError::Store`].
    pub async fn last_register(&self) -> Result<u64, DeskError> {
        self.store.ask(|store| store.last_register()).await
    }

    /// How the desk and its link stand.
    ///
    /// # Errors
    /// [`DeskError::Store`].
    pub async fn status(&self) -> Result<Status, DeskError> {
        let link = self.link.borrow().clone();
        let mut status = self.store.ask(move |store| Ok(store.status(&link, Timestamp::now())?)).await?;
        let words = |alarm: alarms::Alarm| format!("{}; {}", alarm.sentence, alarm.kind.advice());
        status.alarms.extend(self.alarms.all().into_iter().map(words));
        Ok(status)
    }

    /// The trust bundle that names the roster in force: for whoever is to check this desk's proofs.
    ///
    /// # Errors
    /// [`DeskError::NoRoster`] before the first one came.
    pub async fn trust(&self) -> Result<Trust, DeskError> {
        let roster = self.store.ask(|store| Ok(store.facts()?.roster)).await?;
        let (Some(roster), Some(trust)) = (roster, &self.trust) else { return Err(DeskError::NoRoster) };
        let bundle = TrustBundle::naming(&roster, trust.root_key_sha256);
        Ok(Trust { roster_version: bundle.roster_version, bundle: bundle.to_string() })
    }

    /// All alarms that the desk keeps, oldest first.
    ///
    /// # Errors
    /// [`DeskError::Store`].
    pub async fn alarms(&self) -> Result<Vec<Alarm>, DeskError> {
        self.store.ask(|store| store.alarms()).await
    }

    /// Somebody looks after an alarm.
    ///
    /// # Errors
    /// [`DeskError::UnknownAlarm`], [`DeskError::TooLarge`].
    pub async fn take_alarm(&self, key: String, mark: Mark) -> Result<Alarm, DeskError> {
        self.store.ask(move |store| store.take_alarm(&key, &mark.who, Timestamp::now())).await
    }

    /// An alarm is over, by somebody's word.
    ///
    /// # Errors
    /// [`DeskError::UnknownAlarm`], [`DeskError::TooLarge`].
    pub async fn close_alarm(&self, key: String, mark: Mark) -> Result<Alarm, DeskError> {
        self.store.ask(move |store| store.close_alarm(&key, &mark.who, Timestamp::now())).await
    }

    /// A counter that rises with every change of the store; it only wakes readers up.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.store.changes()
    }
}
