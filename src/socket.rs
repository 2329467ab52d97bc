//! A daemon's unix socket: who may be there, and what was left behind.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Owner and group may use the daemon.
const MODE: u32 = 0o660;

/// Why the socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process listens there.
    #[error("{}: another daemon listens here: stop it, or set another path", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket lies there; it is left alone.
    #[error("{}: is no socket: move it away, or set another path", .0.display())]
    Occupied(PathBuf),
    /// The system refused; a path of more than 107 bytes, for one.
    #[error("{}: {source}: make its folder, or set another, shorter path", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Listens on `path`, with mode 0660 from its first moment. A socket that nobody listens on is
/// replaced; anything else that lies there is an error.
///
/// The caller holds the lock of its store or journal, so no second daemon of it is doing the same.
pub fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    make_way(path)?;
    // Made under another name and renamed: it never stands there with a wider mode.
    let new = beside(path);
    make_way(&new)?;
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => (),
    }
    let listener = std::os::unix::net::UnixListener::bind(&new).map_err(failed)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(MODE)).map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    UnixListener::from_std(listener).map_err(failed)
}

/// Checks that nothing but a deserted socket lies at `path`.
fn make_way(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(there) if !there.file_type().is_socket() => Err(SocketError::Occupied(path.to_owned())),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => Err(SocketError::InUse(path.to_owned())),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(failed(error)),
        },
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deserted_socket_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desk.sock");
        let first = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(SocketError::InUse(_))));
        drop(first);
        let _second = bind(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desk.sock");
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(bind(&path), Err(SocketError::Occupied(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn a_socket_left_half_made_by_a_crash_does_not_stop_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desk.sock");
        drop(std::os::unix::net::UnixListener::bind(beside(&path)).unwrap());
        assert!(bind(&path).is_ok());
    }
}
