//! The exchange input by input: exact outputs, and nothing left. [`world`] is the relay around it,
//! [`desk`] its peers.

mod checkpoints;
mod deliveries;
pub(crate) mod desk;
mod erasure;
mod expiry;
mod files;
mod orders;
mod peers;
mod publications;
mod quotas;
mod random;
mod receipts;
mod refusals;
pub(crate) mod replay;
mod rosters;
mod sessions;
mod submissions;
pub(crate) mod world;
