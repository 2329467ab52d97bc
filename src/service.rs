//! What a daemon hears from whoever runs it, and tells a service manager: stop, reload, ready.
//!
//! The manager's side is systemd's `sd_notify` protocol: datagrams to the socket that `NOTIFY_SOCKET`
//! names. Without that variable nobody listens, and nothing is said.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{mpsc, watch};

use crate::config::ConfigError;

/// Reloads that wait while one is carried out; further signals say nothing new.
pub const RELOADS_MAX: usize = 1;

/// A configuration read again, or why it could not be.
pub type Reload<S> = Result<S, ConfigError>;

/// What a running daemon is told.
#[derive(Debug)]
pub struct Commands<S> {
    /// Turns true when the daemon is to stop.
    pub stop: watch::Receiver<bool>,
    /// One for each SIGHUP.
    pub reloads: mpsc::Receiver<Reload<S>>,
}

/// A daemon that is told to stop, and never to reload.
impl<S> From<watch::Receiver<bool>> for Commands<S> {
    fn from(stop: watch::Receiver<bool>) -> Commands<S> {
        Commands { stop, reloads: mpsc::channel(RELOADS_MAX).1 }
    }
}

/// The next reload; never, once nobody can ask for one.
pub async fn next_reload<S>(reloads: &mut mpsc::Receiver<Reload<S>>) -> Reload<S> {
    match reloads.recv().await {
        Some(reload) => reload,
        None => std::future::pending().await,
    }
}

/// Tells the manager that the daemon does its work, after its start or after a reload.
pub fn ready() {
    tell("READY=1");
}

/// Tells the manager that a reload has begun.
pub fn reloading() {
    tell("RELOADING=1");
}

/// Tells the manager that the daemon gets on with its work.
pub fn alive() {
    tell("WATCHDOG=1");
}

/// Within which time the manager wants to hear [`alive`], or it kills the daemon; `None` where it does not.
pub fn watchdog_time() -> Option<Duration> {
    let is_ours = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
    let micros = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (is_ours && micros > 0).then_some(Duration::from_micros(micros))
}

/// Tells the manager that the daemon is on its way out.
pub fn stopping() {
    tell("STOPPING=1");
}

/// Lets this process open as many files and connections as it is allowed to: the soft limit becomes the hard one.
/// Returns how many that is.
pub fn raise_descriptor_limit() -> u64 {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limits.maximum, ..limits };
    if limits.current != limits.maximum && setrlimit(Resource::Nofile, raised).is_err() {
        return limits.current.unwrap_or(u64::MAX);
    }
    limits.maximum.unwrap_or(u64::MAX)
}

fn tell(state: &str) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(socket.as_bytes(), state) {
        tracing::debug!(%error, state, "the service manager does not hear");
    }
}

/// A name that begins with `@` is one of Linux's abstract ones.
fn send(socket: &[u8], state: &str) -> io::Result<()> {
    let address = match socket {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    let datagram = UnixDatagram::unbound()?;
    // A manager that does not read must not hold the daemon up.
    datagram.set_nonblocking(true)?;
    datagram.send_to_addr(state.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(manager: &UnixDatagram) -> String {
        let mut state = [0; 64];
        let bytes = manager.recv(&mut state).unwrap();
        String::from_utf8(state[..bytes].to_vec()).unwrap()
    }

    #[test]
    fn the_manager_hears_on_a_path_and_on_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify.sock");
        let manager = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str().as_bytes(), "READY=1").unwrap();
        assert_eq!(heard(&manager), "READY=1");

        let name = format!("pouch-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        send(format!("@{name}").as_bytes(), "STOPPING=1").unwrap();
        assert_eq!(heard(&manager), "STOPPING=1");
    }

    #[test]
    fn a_process_may_open_as_many_files_as_its_hard_limit_says() {
        let limits = getrlimit(Resource::Nofile);
        let hard = limits.maximum.unwrap();
        setrlimit(Resource::Nofile, Rlimit { current: Some(hard / 2), ..limits }).unwrap();
        assert_eq!(raise_descriptor_limit(), hard);
        assert_eq!(getrlimit(Resource::Nofile).current, Some(hard));
    }

    #[test]
    fn a_manager_that_is_gone_is_an_error_and_no_more() {
        assert!(send(b"/nowhere/notify.sock", "READY=1").is_err());
    }

    #[tokio::test]
    async fn without_anybody_to_ask_a_reload_never_comes() {
        let mut commands: Commands<()> = watch::channel(false).1.into();
        let next = next_reload(&mut commands.reloads);
        assert!(tokio::time::timeout(Duration::ZERO, next).await.is_err());
    }
}
