//! Immutable objects under names: a local folder for now. What exists is whole and durable.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Blocking: call it off the runtime.
pub trait Objects: Send + Sync + 'static {
    /// Creates the object if there is none of that name; `false`: there was one, and it stays.
    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<bool>;
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// How many bytes it has.
    fn size(&self, name: &str) -> io::Result<u64>;
    /// `length` bytes from `from` on; fewer at its end.
    fn read_at(&self, name: &str, from: u64, length: usize) -> io::Result<Vec<u8>>;
    /// The names right under `prefix/`, of objects and of folders alike, in order; without those that are still being written.
    fn list(&self, prefix: &str) -> io::Result<Vec<String>>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Puts other bytes in the place of what is there: whoever reads it meanwhile has the one or the other. Only for what must be forgotten.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
}

/// Temporary file, fsync, link, fsync of the folder: after a crash an object is whole or absent.
#[derive(Debug)]
pub struct LocalObjects {
    root: PathBuf,
    /// Tells this process's temporary files from those of others, and from those that one left.
    token: u64,
    number: AtomicU64,
    /// Folders that are known to be durable.
    folders: Mutex<BTreeSet<PathBuf>>,
}

const PARTIAL: &str = ".partial-";

impl LocalObjects {
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root)?;
        Ok(Self { root, token: rand::random(), number: AtomicU64::new(0), folders: Mutex::default() })
    }

    /// A name never leaves the root.
    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let good = !name.is_empty() && name.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && !part.starts_with(PARTIAL));
        if good { Ok(self.root.join(name)) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` is not the name of an object"))) }
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Whole and durable, under a name that is not its own yet.
fn write(partial: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(partial)?;
    file.write_all(bytes)?;
    file.sync_all()
}

impl LocalObjects {
    fn partial(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{PARTIAL}{:016x}-{}", self.token, self.number.fetch_add(1, Ordering::Relaxed)))
    }

    /// A new folder is an entry of its parent, up to the root; who made it may have died before it was durable.
    fn folder(&self, folder: &Path) -> io::Result<()> {
        if self.folders.lock().unwrap_or_else(PoisonError::into_inner).contains(folder) {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
        folder.ancestors().skip(1).take_while(|parent| parent.starts_with(&self.root)).try_for_each(sync)?;
        self.folders.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned());
        Ok(())
    }
}

impl Objects for LocalObjects {
    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        let path = self.path(name)?;
        let folder = path.parent().unwrap_or(&self.root);
        self.folder(folder)?;
        let partial = self.partial(folder);
        let linked = write(&partial, bytes).and_then(|()| fs::hard_link(&partial, &path));
        match fs::remove_file(&partial) {
            // it was never there: why stands in `linked`
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match linked {
            Ok(()) => sync(folder).map(|()| true),
            // whoever linked it may not have come to its own sync
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => sync(folder).map(|()| false),
            Err(error) => Err(error),
        }
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(name)?)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        fs::metadata(self.path(name)?).map(|found| found.len())
    }

    fn read_at(&self, name: &str, from: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = File::open(self.path(name)?)?;
        let mut bytes = vec![0; length];
        let mut have = 0;
        while have < length {
            match file.read_at(&mut bytes[have..], from + have as u64) {
                Ok(0) => break,
                Ok(read) => have += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(have);
        Ok(bytes)
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path(prefix)?) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Some(name) = entry?.file_name().to_str().filter(|name| !name.starts_with(PARTIAL)) {
                names.push(format!("{prefix}/{name}"));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name)?)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name)?;
        let folder = path.parent().unwrap_or(&self.root);
        let partial = self.partial(folder);
        let written = write(&partial, bytes).and_then(|()| fs::rename(&partial, &path));
        if let Err(error) = written {
            drop(fs::remove_file(&partial));
            return Err(error);
        }
        sync(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_created_once_and_stays_inside() {
        let folder = tempfile::tempdir().unwrap();
        let objects = LocalObjects::open(folder.path().join("lake")).unwrap();
        assert!(objects.list("snapshots/0").unwrap().is_empty());
        assert!(objects.create("snapshots/0/7", b"seven").unwrap());
        assert!(!objects.create("snapshots/0/7", b"other").unwrap());
        assert_eq!(objects.read("snapshots/0/7").unwrap(), b"seven");
        assert_eq!(objects.size("snapshots/0/7").unwrap(), 5);
        assert_eq!(objects.read_at("snapshots/0/7", 1, 3).unwrap(), b"eve");
        assert_eq!(objects.read_at("snapshots/0/7", 3, 9).unwrap(), b"en");
        assert_eq!(objects.list("snapshots").unwrap(), ["snapshots/0"]);
        objects.create("snapshots/0/5", b"").unwrap();
        assert_eq!(objects.list("snapshots/0").unwrap(), ["snapshots/0/5", "snapshots/0/7"]);
        objects.remove("snapshots/0/5").unwrap();
        objects.replace("snapshots/0/7", b"eight").unwrap();
        assert_eq!(objects.read("snapshots/0/7").unwrap(), b"eight");
        assert_eq!(fs::read_dir(folder.path().join("lake/snapshots/0")).unwrap().count(), 1, "nothing partial is left");
        for name in ["../out", "a//b", "", "/etc/passwd", "a/../../b"] {
            assert_eq!(objects.create(name, b"x").unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }
}
