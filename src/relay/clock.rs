//! An operator's word that the machine's clock is right: a file in the relay's folder, which only who owns the
//! folder can write, and which the relay takes away while its clock is in doubt.

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const FILE: &str = "clock-accepted";
/// An acceptance counts this long, by the very clock that was accepted: one that was left lying about does not.
const FRESH_TIME_MAX: Duration = Duration::from_secs(600);

/// Accepts the machine's clock for the relay in `dir`, and returns what it says, microseconds since 1970.
///
/// # Errors
/// Whatever the system says: no such folder, or no right to write there.
pub fn accept(dir: &Path, now: SystemTime) -> io::Result<u64> {
    let wall_us = micros(now);
    let new = dir.join(format!("{FILE}.new"));
    fs::write(&new, wall_us.to_string())?;
    fs::rename(&new, dir.join(FILE))?;
    Ok(wall_us)
}

/// Takes an acceptance away, where there is one; whether it was fresh. Where that cannot be known it waits.
pub(super) fn was_accepted(dir: &Path, wall_us: u64) -> bool {
    take(dir, wall_us).unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot look whether the clock was accepted");
        false
    })
}

/// Takes an acceptance away, where there is one; true where it is fresh.
///
/// # Errors
/// Whatever the system says but that there is none.
fn take(dir: &Path, wall_us: u64) -> io::Result<bool> {
    let path = dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    fs::remove_file(&path)?;
    let fresh_us = u64::try_from(FRESH_TIME_MAX.as_micros()).unwrap_or(u64::MAX);
    Ok(text.trim().parse::<u64>().is_ok_and(|accepted_us| accepted_us.abs_diff(wall_us) <= fresh_us))
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acceptance_counts_once_and_only_while_it_is_fresh() {
        let folder = tempfile::tempdir().unwrap();
        let at = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (later_s, fresh) in [(0, true), (600, true), (601, false)] {
            let wall_us = accept(folder.path(), at).unwrap() + later_s * 1_000_000;
            assert_eq!(take(folder.path(), wall_us).unwrap(), fresh, "after {later_s} s");
            assert!(!take(folder.path(), wall_us).unwrap(), "taken away");
        }
    }

    #[test]
    fn noise_is_no_acceptance_and_a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "yes").unwrap();
        assert!(!take(folder.path(), 0).unwrap());
        assert!(accept(&folder.path().join("absent"), UNIX_EPOCH).is_err());
    }
}
