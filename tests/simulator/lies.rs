//! Planted bugs. Each is a lie of the harness towards the product: the product has no branch for it.

use super::disk::DiskLie;

/// What the harness does wrong, to see that the checker notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The exchange hears Durable before the batch is written.
    DurableBeforeSync,
    /// The disk breaks a promise of its own.
    OnDisk(DiskLie),
    /// The exchange hears Durable although the write or the sync failed.
    DurableAfterFailure,
    /// The log time of a start is set back.
    LogTimeGoesBack,
    /// The base that a journal begins with is not replayed to the exchange.
    BaseNotReplayed,
    /// A damaged segment and all after it are removed, and the relay starts with what is left.
    RecoveryTruncates,
    /// The last batch, which start-up writes again, is not replayed to the exchange.
    LastBatchNotReplayed,
    /// A desk's store forgets in a crash what it had told as stored.
    StoredBeforeCommit,
    /// The desk is told of one submission of credit more than the relay granted.
    WindowOffByOne,
    /// The relay is told of more credit than the desk granted.
    CreditIgnored,
    /// New rosters do not reach the desks.
    RosterWithheld,
    /// Two deliveries of one stream swap places.
    DeliveriesSwapped,
    /// A suspended party's session is not closed.
    SuspensionIgnored,
    /// An inbox shows a dispatch twice.
    DuplicateInboxEntry,
    /// An inbox names another sender than the one that wrote.
    SenderForged,
    /// A desk says that it stored an envelope which was never in its store.
    ReceiptForAnothers,
    /// A checkpoint is signed over a record that is not durable yet.
    CheckpointBeforeDurable,
    /// A leaf of the audit log is another one when it is fetched.
    LeafChanged,
    /// Desks are asked to cosign a checkpoint of another history.
    CheckpointForked,
    /// A durable record's leaf does not get into the audit log's tree.
    LeafLost,
    /// A checkpoint is signed over tiles that were not written.
    TilesNotWritten,
    /// A checkpoint is published before witnesses have cosigned it.
    PublishedUnwitnessed,
    /// Desks are told of a published checkpoint that a restart would not find.
    ToldBeforePublished,
    /// The relay's answer names the position of another record.
    AcceptedElsewhere,
    /// The relay erases openings long before they are past their time.
    ErasedTooEarly,
    /// The journal erases openings, and no leaf says so.
    ErasedWithoutLeaf,
    /// The journal says that openings are erased, and its archives still hold them.
    ArchiveNotErased,
}

impl Lie {
    /// Whether it shows only in a run in which openings are erased.
    pub fn is_about_erasure(self) -> bool {
        matches!(self, Lie::ErasedTooEarly | Lie::ErasedWithoutLeaf | Lie::ArchiveNotErased)
    }
}
