//! Where a demo lives: its private folder, and the file by which a second terminal finds it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::process::geteuid;
use uuid::Uuid;

use crate::demo::{DESKS, DemoError, HUB};

/// Bytes of a unix socket's path (unix(7): 108 with the final zero), less room for the name that a desk
/// makes it under.
const SOCKET_PATH_BYTES_MAX: usize = 107 - ".new".len();
/// Bytes of the pointer file: a path.
const POINTER_BYTES_MAX: u64 = 4096;

/// The folder of one demo, mode 0700. Erased when dropped, unless the user named it.
#[derive(Debug)]
pub struct Place {
    folder: PathBuf,
    kept: bool,
}

impl Place {
    /// Makes the folder: `dir`, which must be new or empty and stays, or a temporary one.
    ///
    /// # Errors
    /// [`DemoError::File`], [`DemoError::NotEmpty`], [`DemoError::PathUnusable`].
    pub fn make(dir: Option<&Path>) -> Result<Place, DemoError> {
        let folder = match dir {
            Some(dir) => std::path::absolute(dir).map_err(DemoError::file(dir))?,
            None => std::env::temp_dir().join(format!("pouch-demo-{}", Uuid::now_v7().simple())),
        };
        let too_long =
            |(code, _): &(&str, &str)| socket(&folder, code).as_os_str().len() > SOCKET_PATH_BYTES_MAX;
        if folder.to_str().is_none() || DESKS.iter().any(too_long) {
            return Err(DemoError::PathUnusable(folder));
        }
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if dir.is_some() && error.kind() == ErrorKind::AlreadyExists => {
                let mut entries = fs::read_dir(&folder).map_err(DemoError::file(&folder))?;
                if entries.next().is_some() {
                    return Err(DemoError::NotEmpty(folder));
                }
            }
            made => made.map_err(DemoError::file(&folder))?,
        }
        Ok(Place { folder, kept: dir.is_some() })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the folder stays.
    pub fn is_kept(&self) -> bool {
        self.kept
    }

    /// Lets `pouch demo send` and the others in a second terminal find this demo, until the result is
    /// dropped. The newest demo of a user is the one they find.
    ///
    /// # Errors
    /// [`DemoError::Pointer`].
    pub fn announce(&self) -> Result<Pointer, DemoError> {
        Pointer::write(pointer_path(), &self.folder)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_dir_all(&self.folder)
        {
            complain(&self.folder, &error);
        }
    }
}

/// The folder of the demo that this user started last and that still runs.
///
/// # Errors
/// [`DemoError::NotRunning`], [`DemoError::PointerNotOurs`], [`DemoError::Pointer`].
pub fn running() -> Result<PathBuf, DemoError> {
    let folder = pointed_to(&pointer_path())?;
    // A demo that was killed leaves its pointer behind.
    let answers = UnixStream::connect(socket(&folder, HUB)).is_ok();
    if answers { Ok(folder) } else { Err(DemoError::NotRunning) }
}

/// The socket of a desk in a demo's folder.
pub fn socket(folder: &Path, code: &str) -> PathBuf {
    folder.join(code.to_lowercase()).join("desk.sock")
}

/// The file that names a running demo's folder; gone when dropped, unless another demo has taken it over.
#[derive(Debug)]
pub struct Pointer {
    path: PathBuf,
    folder: PathBuf,
}

impl Pointer {
    fn write(path: PathBuf, folder: &Path) -> Result<Pointer, DemoError> {
        let failed = |source| DemoError::Pointer { path: path.clone(), source };
        // Made new under another name: nobody else's file or link is ever written to.
        let new = path.with_extension(Uuid::now_v7().simple().to_string());
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
        file.write_all(folder.as_os_str().as_encoded_bytes()).map_err(failed)?;
        fs::rename(&new, &path).map_err(failed)?;
        Ok(Pointer { path, folder: folder.to_owned() })
    }
}

impl Drop for Pointer {
    fn drop(&mut self) {
        if pointed_to(&self.path).is_ok_and(|folder| folder == self.folder)
            && let Err(error) = fs::remove_file(&self.path)
        {
            complain(&self.path, &error);
        }
    }
}

/// Nobody is left to return an error to; where standard error is closed, nobody reads either.
fn complain(path: &Path, error: &std::io::Error) {
    writeln!(std::io::stderr(), "pouch: {}: {error}: remove it by hand", path.display()).unwrap_or_default();
}

/// In the user's runtime folder, which is theirs alone; else in /tmp under a name of their own.
fn pointer_path() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir()) {
        Some(dir) => dir.join("pouch-demo"),
        None => PathBuf::from(format!("/tmp/pouch-demo-of-{}", geteuid().as_raw())),
    }
}

/// The folder that a pointer names, where the pointer is this user's own.
fn pointed_to(path: &Path) -> Result<PathBuf, DemoError> {
    let failed = |source| DemoError::Pointer { path: path.to_owned(), source };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => fs::File::from(file),
        Err(rustix::io::Errno::NOENT) => return Err(DemoError::NotRunning),
        Err(rustix::io::Errno::LOOP) => return Err(DemoError::PointerNotOurs(path.to_owned())),
        Err(error) => return Err(failed(error.into())),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
        return Err(DemoError::PointerNotOurs(path.to_owned()));
    }
    let mut folder = Vec::new();
    file.take(POINTER_BYTES_MAX).read_to_end(&mut folder).map_err(failed)?;
    Ok(OsString::from_vec(folder).into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_temporary_folder_is_private_and_erased() {
        let place = Place::make(None).unwrap();
        let folder = place.folder().to_owned();
        fs::write(folder.join("x"), "x").unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        drop(place);
        assert!(!folder.exists());
    }

    #[test]
    fn a_named_folder_stays_and_must_be_empty() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("demo");
        drop(Place::make(Some(&folder)).unwrap());
        drop(Place::make(Some(&folder)).unwrap());
        fs::write(folder.join("x"), "x").unwrap();
        assert!(matches!(Place::make(Some(&folder)), Err(DemoError::NotEmpty(_))));
        assert!(folder.join("x").exists());
    }

    #[test]
    fn a_folder_whose_sockets_could_not_be_made_is_refused_at_once() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("x".repeat(100));
        assert!(matches!(Place::make(Some(&folder)), Err(DemoError::PathUnusable(_))));
        assert!(!folder.exists());
    }

    #[test]
    fn a_pointer_is_private_and_goes_with_its_demo_but_not_with_an_older_one() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("pouch-demo");
        let older = Pointer::write(path.clone(), Path::new("/older")).unwrap();
        let newer = Pointer::write(path.clone(), Path::new("/newer")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        drop(older);
        assert_eq!(pointed_to(&path).unwrap(), Path::new("/newer"));
        drop(newer);
        assert!(matches!(pointed_to(&path), Err(DemoError::NotRunning)));
    }

    #[test]
    fn a_pointer_that_others_may_write_or_that_is_a_link_is_not_followed() {
        let parent = tempfile::tempdir().unwrap();
        let (path, link) = (parent.path().join("pointer"), parent.path().join("link"));
        fs::write(&path, "/somewhere").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap();
        assert!(matches!(pointed_to(&path), Err(DemoError::PointerNotOurs(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(pointed_to(&path).is_ok());
        symlink(&path, &link).unwrap();
        assert!(matches!(pointed_to(&link), Err(DemoError::PointerNotOurs(_))));
    }
}
