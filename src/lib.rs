//! Pouch, the diplomatic bag for networks.
//!
//! The modules below stand in reading order: a module imports only from those above it
//! (`tests/tidy.rs` checks it). Follow one envelope from desk to desk by reading down to
//! [`exchange`] for what the relay decides, [`journal`] for how it lasts, [`relay`] for how it
//! runs, and [`desk`] for both ends of the journey. `docs/ARCHITECTURE.md` tells the same story
//! file by file.

// Pure: no sockets, files, clocks or randomness; of ring only digest and verification.
pub mod limits;
pub mod line;
pub mod identity;
pub mod merkle;
pub mod note;
pub mod batch;
pub mod roster;
pub mod wire;
pub mod record;
pub mod audit;
pub mod session;
pub mod router;
pub mod exchange;

// Edges: what carries the exchange's outputs out.
pub mod journal;
pub mod keys;
pub mod tls;
pub mod config;
pub mod service;
pub mod alarms;
pub mod socket;
pub mod tiles;
pub mod exposition;
pub mod probes;
pub mod relay;

// The ends: the only code that can read a dispatch.
pub mod seal;
pub mod pki;
pub mod desk;
pub mod mission;
pub mod hub;
pub mod demo;
pub mod bench;
pub mod cli;
