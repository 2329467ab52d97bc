//! A relay that exists for one run: example keys, a journal, a process; all of it gone at the end.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use data_encoding::HEXLOWER;
use tokio::net::TcpStream;

use super::{BenchError, PUBLISHERS, Target};
use crate::pki::{self, Example};

/// How long the relay may take to listen; filling the first journal segments is most of it.
const START_TIME_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A folder that is removed with everything in it.
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes it where the system keeps temporary files (`TMPDIR`): that disk is measured.
    pub(super) fn new() -> Result<Scratch, BenchError> {
        let random = super::desk::random()?;
        let path = std::env::temp_dir().join(format!("pouch-bench-{}", HEXLOWER.encode(&random)));
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(BenchError::file(&path))?;
        Ok(Scratch { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the bench's folder stays behind");
        }
    }
}

/// The keys of a relay, a hub and eight missions.
pub(super) fn example(folder: &Path) -> Result<Example, BenchError> {
    let mut parties =
        vec![pki::example_party("relay/a", "RELAY", "Relay"), pki::example_party("hub", "MOD", "Consumer")];
    for number in 1..=PUBLISHERS {
        let (path, code) = (format!("mission/p{number}"), format!("P{number}"));
        parties.push(pki::example_party(&path, &code, &format!("Publisher {number}")));
    }
    Ok(pki::make_example(folder, &parties, &[], SystemTime::now())?)
}

/// The running relay. It is killed when this is dropped, before its folder goes.
pub(super) struct Relay {
    child: Child,
    target: Target,
}

impl Relay {
    /// Makes keys and configuration in `scratch`, and starts this same program as a relay.
    pub(super) async fn start(scratch: &Scratch, example: &Example) -> Result<Relay, BenchError> {
        let address = free_address()?;
        let pki = example.folder.join("relay");
        let config = format!(
            "listen = \"{address}\"\ndir = {:?}\npki = {pki:?}\nroster = {:?}\ntrust = {:?}\nroot = {:?}\n\
             [log]\nlevel = \"warn\"\n",
            scratch.path.join("relay"),
            pki.join("roster.note"),
            pki.join("trust.toml"),
            pki.join("root.pem"),
        );
        let file = scratch.path.join("relay.toml");
        fs::write(&file, config).map_err(BenchError::file(&file))?;
        let program = std::env::current_exe().map_err(BenchError::file(Path::new("/proc/self/exe")))?;
        let child = Command::new(&program)
            .args(["relay", "--example", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(BenchError::file(&program))?;
        let mut relay = Relay { child, target: Target { address, pki: example.folder.clone() } };
        relay.await_listening().await?;
        Ok(relay)
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// What its process uses.
    pub(super) fn processor(&self) -> Processor {
        Processor { pid: self.child.id() }
    }

    async fn await_listening(&mut self) -> Result<(), BenchError> {
        let address = self.target.address;
        let began = Instant::now();
        loop {
            let source = match TcpStream::connect(address).await {
                Ok(_) => return Ok(()),
                Err(source) => source,
            };
            if let Some(status) = self.child.try_wait().map_err(BenchError::file(Path::new("/proc")))? {
                return Err(BenchError::Relay(status));
            }
            if began.elapsed() > START_TIME_MAX {
                return Err(BenchError::Unreachable { address, source });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill, only to wait for.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(|_| ())) {
            tracing::warn!(%error, pid = self.child.id(), "the bench's relay could not be ended");
        }
    }
}

/// A process whose use of the processor can be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Processor {
    pid: u32,
}

impl Processor {
    /// User and system time of all its threads so far; `None` where the kernel does not tell.
    pub(super) fn used(self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let per_second = rustix::param::clock_ticks_per_second();
        Some(Duration::from_secs_f64(ticks(&stat)? as f64 / per_second as f64))
    }
}

/// Fields 14 and 15 of /proc/PID/stat, utime and stime; field 2 is a name that may hold anything (proc(5)).
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut times = after_name.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    Some(times.next()? + times.next()?)
}

/// A port that was free a moment ago.
fn free_address() -> Result<SocketAddr, BenchError> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let free = TcpListener::bind(any).and_then(|listener| listener.local_addr());
    free.map_err(|source| BenchError::Unreachable { address: any, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_a_name_with_spaces_and_brackets() {
        let stat = "42 (a ) b 9) S 1 42 42 0 -1 4194560 99 0 0 0 250 50 0 0 20 0 5 0 12345 1 2";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("42 (a) S 1"), None);
    }

    #[test]
    fn the_scratch_folder_goes_with_everything_in_it() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_owned();
        fs::write(path.join("file"), "x").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}
