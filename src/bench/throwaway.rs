//! A relay that exists for one run: example keys, a journal, a process; all of it gone at the end.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use data_encoding::HEXLOWER;
use tokio::net::TcpStream;

use super::{BenchError, Target, process::Process};
use crate::{pki::Example, relay::JOURNAL_FOLDER};

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

    /// A name in it that nothing has yet.
    pub(super) fn fresh(&self, name: &str) -> PathBuf {
        let mut paths = (0..).map(|number| self.path.join(format!("{name}-{number}")));
        paths.find(|path| !path.exists()).expect("there are more numbers than files")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the bench's folder stays behind");
        }
    }
}

/// What a relay is started for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// To carry traffic.
    Traffic,
    /// To carry traffic without an audit log.
    TrafficWithoutLog,
    /// To look at its memory: its allocator gives back at once what was freed, so that the process holds what it uses.
    Memory,
}

/// The running relay. When this is dropped it is killed, and its journal goes; the rest of its folder goes at the end, for
/// ext4 without a journal of its own looks at each file removed in the last minutes before it makes a new one.
pub(super) struct Relay {
    child: Child,
    target: Target,
    folder: PathBuf,
}

impl Relay {
    /// Starts this same program as a relay with the keys of `example`, and with nothing in its journal.
    pub(super) async fn start(
        scratch: &Scratch,
        example: &Example,
        purpose: Purpose,
    ) -> Result<Relay, BenchError> {
        let address = free_address()?;
        let folder = scratch.fresh("relay");
        let pki = example.folder.join("relay");
        let config = format!(
            "listen = \"{address}\"\ndir = {:?}\npki = {pki:?}\nroster = {:?}\ntrust = {:?}\nroot = {:?}\n\
             [log]\nlevel = \"warn\"\n",
            folder,
            pki.join("roster.note"),
            pki.join("trust.toml"),
            pki.join("root.pem"),
        );
        let file = folder.with_extension("toml");
        fs::write(&file, config).map_err(BenchError::file(&file))?;
        let program = std::env::current_exe().map_err(BenchError::file(Path::new("/proc/self/exe")))?;
        let mut command = Command::new(&program);
        command.args(["relay", "--example"]);
        match purpose {
            Purpose::Traffic => {}
            Purpose::TrafficWithoutLog => drop(command.arg("--without-log")),
            Purpose::Memory => drop(command.env("MIMALLOC_PURGE_DELAY", "0")),
        }
        let child = command
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(BenchError::file(&program))?;
        let mut relay = Relay { child, target: Target { address, pki: example.folder.clone() }, folder };
        relay.await_listening().await?;
        Ok(relay)
    }

    /// Its folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn process(&self) -> Process {
        Process::new(self.child.id())
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
        let journal = self.folder.join(JOURNAL_FOLDER);
        if let Err(error) = fs::remove_dir_all(&journal) {
            tracing::warn!(path = %journal.display(), %error, "the relay's journal stays until the end");
        }
    }
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
    fn the_scratch_folder_goes_with_everything_in_it() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_owned();
        fs::write(path.join("file"), "x").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}
