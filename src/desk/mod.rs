//! What mission and hub share: durable outbox and inbox, the link to the relay, the local API.

pub mod view;
pub mod client;
pub mod connections;
pub mod error;
pub mod status;
mod worktime;
pub mod store;
pub mod handle;
pub mod link;
pub mod ministry;
mod events;
pub mod api;
pub mod probed;
pub mod witness;
mod reload;
pub mod run;
