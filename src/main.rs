//! The one binary; see [`pouch::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    pouch::cli::main()
}
