//! Both ends of the protocol: what a peer may say now, and how much.
//!
//! [`hello`] opens a session on either end, [`window`] counts credit on either end, [`queue`] what has not left
//! yet; [`pace`] says how fast frames must come; [`inbound`] and [`outbound`] are what the relay hears and says, in
//! types that only checks can make.

pub mod hello;
pub mod inbound;
pub mod outbound;
pub mod pace;
pub mod queue;
pub mod window;
