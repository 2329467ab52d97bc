//! The one binary; see [`pouch::cli`].

use std::process::ExitCode;

/// The relay's connections make envelopes that its engine frees: what glibc's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pouch::cli::main()
}
