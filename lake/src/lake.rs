//! A lake's folder: where it is, whose it is, and who may write to it now.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use processor::objects::{LocalObjects, Objects};

use crate::error::CuratedError;

#[derive(Clone)]
pub struct Lake {
    root: PathBuf,
    objects: Arc<dyn Objects>,
}

/// Only one compaction or prune at a time; it ends with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "the lock is held as long as the file is open")] File);

impl Lake {
    /// A folder that has a lake in it, or will have; nothing is written yet.
    ///
    /// # Errors
    /// When there is no lake.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, CuratedError> {
        let root = root.into();
        if !root.join("raw").is_dir() && !root.join("curated").is_dir() {
            return Err(CuratedError::Empty);
        }
        let objects = LocalObjects::open(&root).map_err(|source| CuratedError::Io { folder: root.clone(), source })?;
        Ok(Self { root, objects: Arc::new(objects) })
    }

    /// Over objects that somebody else opened, of this folder.
    pub fn over(root: impl Into<PathBuf>, objects: Arc<dyn Objects>) -> Self {
        Self { root: root.into(), objects }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn objects(&self) -> &Arc<dyn Objects> {
        &self.objects
    }

    pub(crate) fn io(&self, source: std::io::Error) -> CuratedError {
        CuratedError::Io { folder: self.root.clone(), source }
    }

    pub(crate) fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, CuratedError> {
        self.objects.create(name, bytes).map_err(|error| self.io(error))
    }

    pub(crate) fn read(&self, name: &str) -> std::io::Result<Vec<u8>> {
        self.objects.read(name)
    }

    /// Where the file of this name lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn hold(&self) -> Result<Held, CuratedError> {
        let folder = self.root.join("curated");
        fs::create_dir_all(&folder).map_err(|error| self.io(error))?;
        let file = File::options().create(true).truncate(false).write(true).open(folder.join("lock")).map_err(|error| self.io(error))?;
        match file.try_lock() {
            Ok(()) => Ok(Held(file)),
            Err(TryLockError::WouldBlock) => Err(CuratedError::Busy),
            Err(TryLockError::Error(error)) => Err(self.io(error)),
        }
    }

    /// Every file under a folder of the lake.
    pub(crate) fn walk(&self, prefix: &str) -> Result<Vec<String>, CuratedError> {
        let (mut names, mut folders) = (Vec::new(), vec![prefix.to_owned()]);
        while let Some(folder) = folders.pop() {
            for name in self.objects.list(&folder).map_err(|error| self.io(error))? {
                if self.root.join(&name).is_dir() { folders.push(name) } else { names.push(name) }
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}
