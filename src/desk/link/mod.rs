//! The desk's link to the relay: one TLS session, opened again whenever it ends.
//!
//! [`machine`] decides, [`shell`] carries out. The machine asks the store for one thing at a time and
//! gathers what comes meanwhile. It verifies whatever the relay says before the store learns of it:
//! roster, Welcome, envelopes, receipts and refusals.

mod backoff;
mod coverage;
mod dial;
pub mod end;
mod greeting;
mod inbound;
pub mod jobs;
mod known;
mod line;
pub mod machine;
mod proving;
mod pulse;
pub mod requests;
mod rosters;
mod session;
pub mod shell;
mod submissions;
pub mod verify;
mod watch;
mod watching;

pub(in crate::desk) use watch::forked;

#[cfg(test)]
mod tests;
