//! What an operator can set wrong.

use std::path::PathBuf;

use crate::roster::RosterError;

/// What the operator set wrong. A daemon exits with 78.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is absent or not readable.
    #[error("{}: {source}: `pouch config example {daemon}` prints a file to begin with", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
        /// For which daemon it was read.
        daemon: &'static str,
    },
    /// The folder of drop-ins is there and not readable.
    #[error("{}: {source}: make it readable for the user that runs pouch, or take it away", folder.display())]
    DropIns {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no TOML, or a value is of the wrong kind.
    #[error("{}:{line}:{column}: {message}: correct it and try `pouch config check {daemon}`", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What the parser says.
        message: String,
        /// For which daemon it was read.
        daemon: &'static str,
    },
    /// A key that does not exist.
    #[error("{}:{line}:{column}: unknown key `{key}`: {hint}", file.display())]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// The key as written.
        key: String,
        /// The nearest key that exists, or where to find them all.
        hint: String,
    },
    /// A variable or a `--set` that does not fit its key.
    #[error("{origin}: {problem}")]
    Override {
        /// `POUCH_LISTEN` or `--set listen`.
        origin: String,
        /// What is wrong.
        problem: String,
    },
    /// The trust bundle cannot be used.
    #[error("{}: {source}: get it from the ministry, and set `trust` to where it lies", path.display())]
    Trust {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: TrustError,
    },
    /// A value that no desk or relay can run with.
    #[error("`{key}` {problem}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong and what to write.
        problem: String,
    },
}

/// What is wrong with a trust bundle's file.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It is absent or not readable.
    #[error(transparent)]
    Unreadable(#[from] std::io::Error),
    /// It holds no trust bundle.
    #[error(transparent)]
    Malformed(#[from] RosterError),
}
