//! Keys of projects, by which exports have pseudonyms: one file each beside the installation's other keys, made when it is first asked for. Whoever takes
//! the file away makes the pseudonyms of that project nobody's.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, bail};
use lake::export::ProjectKey;

use crate::config::Config;
use crate::exit::usage;

/// 256 bits as text.
const SHORTEST: usize = 43;

pub fn key(config: &Config, project: &str) -> anyhow::Result<ProjectKey> {
    let good = (1..=40).contains(&project.len()) && project.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    usage(good, || format!("--project {project}: a name has 1 to 40 of a–z, 0–9 and -"))?;
    let folder = config.path(std::path::Path::new("keys/projects"));
    let path = folder.join(project);
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().len() >= SHORTEST => return Ok(ProjectKey::new(text.trim())),
        Ok(_) => bail!("{} is not a key: it has fewer than {SHORTEST} characters; it was not written to its end, or by somebody else", path.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let key = store::secrets::random_token();
    // two at once: the first one's is the project's
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            file.write_all(key.as_bytes()).and_then(|()| file.sync_all()).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(ProjectKey::new(&key))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!("the project's key is being made by somebody else at this moment: try again"),
        Err(error) => Err(error).with_context(|| format!("cannot write {}", path.display())),
    }
}
