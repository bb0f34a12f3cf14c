//! What takes minutes: back-tests, exports, questions to the lake. One runs at a time, each in a process of its own (`vigil job`): what holds too much
//! memory, joins for ever or crashes takes nothing with it that watches patients, and can be killed at any time.
//!
//! All of a job lies in one folder of this machine: `job.json`, written whole at every change, and `out/`, what came of it. A job that was running when
//! the dashboard ended is run again; what expired is deleted.

mod child;
mod record;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemas::{EventTime, Micros};
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(crate) use record::{File, Job, Kind, State};

use crate::auth::micros;

/// Jobs that are not over, of one person.
const OF_ONE: usize = 5;
/// Of all people.
const OF_ALL: usize = 50;
/// So often one is begun when the dashboard ends in its midst.
const ATTEMPTS: u32 = 3;
const LOOK: Duration = Duration::from_secs(60);

/// How jobs are run.
#[derive(Clone, Debug)]
pub struct Jobs {
    /// `vigil` itself.
    pub program: PathBuf,
    pub config: PathBuf,
    pub folder: PathBuf,
    /// From a job's end until it is deleted.
    pub kept: Duration,
    /// A job ends when the disk has fewer bytes free: the journal may stand on the same one.
    pub leave: u64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0} jobs that you asked for are not over")]
    TooMany(usize),
    #[error("{0} jobs are not over")]
    Full(usize),
    #[error("the job is {}: it does not wait for approval", .0.as_str())]
    NotWaiting(State),
    #[error("who asks does not approve")]
    Own,
    #[error("there is no such job")]
    Unknown,
    #[error("the folder of jobs: {0}")]
    Io(#[from] io::Error),
}

/// What is asked for.
pub(crate) struct Asked {
    pub kind: Kind,
    pub person: String,
    /// Who asked may see patients: then so do the results.
    pub identified: bool,
    pub approval: bool,
    /// As it was sent.
    pub request: Value,
    /// For `vigil`; files of the request are named as they lie in the job's folder.
    pub arguments: Vec<String>,
    pub files: Vec<(&'static str, String)>,
}

pub(crate) struct Queue {
    how: Jobs,
    jobs: Mutex<BTreeMap<String, Job>>,
    running: Mutex<Option<(String, CancellationToken)>>,
    changed: Notify,
}

impl Queue {
    /// Reads what jobs there are. Those that were running wait again.
    pub fn open(how: Jobs) -> io::Result<Self> {
        std::fs::create_dir_all(&how.folder)?;
        let mut jobs = BTreeMap::new();
        for entry in std::fs::read_dir(&how.folder)? {
            let folder = entry?.path();
            match Job::read(&folder) {
                Ok(mut job) => {
                    if job.state == State::Running {
                        job.state = State::Queued;
                        job.write(&folder)?;
                    }
                    jobs.insert(job.id.clone(), job);
                }
                // killed before it was a job: nobody was told of it
                Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => std::fs::remove_dir_all(&folder)?,
                Err(error) => tracing::warn!(folder = %folder.display(), %error, "not a job, or one of another version: left as it is"),
            }
        }
        Ok(Self { how, jobs: Mutex::new(jobs), running: Mutex::new(None), changed: Notify::new() })
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<String, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, id: &str) -> PathBuf {
        self.how.folder.join(id)
    }

    fn expiry(&self) -> EventTime {
        crate::now() + micros(self.how.kept)
    }

    /// It is on the disk when this returns. Blocking, as all that changes something.
    pub fn ask(&self, asked: Asked) -> Result<Job, Refused> {
        let mut jobs = self.jobs();
        let open = jobs.values().filter(|job| !job.state.is_over());
        let (all, mine) = open.fold((0, 0), |(all, mine), job| (all + 1, mine + usize::from(job.person == asked.person)));
        if mine >= OF_ONE {
            return Err(Refused::TooMany(mine));
        }
        if all >= OF_ALL {
            return Err(Refused::Full(all));
        }
        let job = Job {
            id: store::secrets::random_id(),
            kind: asked.kind,
            state: if asked.approval { State::Waiting } else { State::Queued },
            person: asked.person,
            identified: asked.identified,
            approved_by: None,
            created_at: crate::now(),
            started_at: None,
            ended_at: None,
            expires_at: self.expiry(),
            attempts: 0,
            error: None,
            result: Value::Null,
            files: Vec::new(),
            request: asked.request,
            arguments: asked.arguments,
            progress: None,
        };
        let folder = self.folder(&job.id);
        std::fs::create_dir(&folder)?;
        for (name, text) in &asked.files {
            std::fs::write(folder.join(name), text)?;
        }
        job.write(&folder)?;
        jobs.insert(job.id.clone(), job.clone());
        drop(jobs);
        self.changed.notify_one();
        Ok(job)
    }

    pub fn get(&self, id: &str) -> Option<Job> {
        self.jobs().get(id).cloned()
    }

    /// The newest first.
    pub fn list(&self) -> Vec<Job> {
        let mut jobs: Vec<Job> = self.jobs().values().cloned().collect();
        jobs.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        jobs
    }

    /// How many are begun before it.
    pub fn ahead(&self, job: &Job) -> usize {
        // it may have begun since it was looked at
        let before = |other: &&Job| {
            let earlier = (other.created_at, &other.id) < (job.created_at, &job.id);
            other.id != job.id && (other.state == State::Running || (other.state == State::Queued && earlier))
        };
        if job.state == State::Queued { self.jobs().values().filter(before).count() } else { 0 }
    }

    pub fn approve(&self, id: &str, person: &str) -> Result<Job, Refused> {
        let approve = |job: &mut Job| {
            if job.state != State::Waiting {
                return Err(Refused::NotWaiting(job.state));
            }
            if job.person == person {
                return Err(Refused::Own);
            }
            job.state = State::Queued;
            job.approved_by = Some(person.to_owned());
            job.arguments.push(format!("--approver={person}"));
            Ok(())
        };
        let job = self.change(id, approve)?;
        self.changed.notify_one();
        Ok(job)
    }

    /// Ends it if it runs, and deletes what came of it.
    pub fn remove(&self, id: &str) -> Result<(), Refused> {
        {
            let mut jobs = self.jobs();
            jobs.remove(id).ok_or(Refused::Unknown)?;
            // first what makes it a job, so that half a folder is none
            std::fs::remove_file(Job::path(&self.folder(id)))?;
        }
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match &*running {
            // whoever runs it deletes the rest, when nothing writes there any more
            Some((other, cancel)) if other == id => cancel.cancel(),
            _ => std::fs::remove_dir_all(self.folder(id))?,
        }
        Ok(())
    }

    /// Where a file of a job that is done lies.
    pub fn file(&self, job: &Job, name: &str) -> Option<PathBuf> {
        let found = job.files.iter().find(|file| file.name == name)?;
        Some(self.folder(&job.id).join("out").join(&found.name))
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Job) -> Result<(), Refused>) -> Result<Job, Refused> {
        let mut jobs = self.jobs();
        let known = jobs.get_mut(id).ok_or(Refused::Unknown)?;
        let mut job = known.clone();
        change(&mut job)?;
        job.write(&self.folder(id))?;
        *known = job.clone();
        Ok(job)
    }

    /// Runs them, one after the other, until `stop`.
    pub async fn run(self: Arc<Self>, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let queue = self.clone();
            let next = tokio::task::spawn_blocking(move || {
                queue.expire();
                queue.next()
            });
            match next.await {
                Ok(Some(job)) => self.work(job, stop).await,
                Ok(None) => tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.changed.notified() => {}
                    () = tokio::time::sleep(LOOK) => {}
                },
                Err(error) => {
                    tracing::error!(%error, "the next job was not found");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    fn expire(&self) {
        let over = |job: &&Job| job.expires_at < crate::now() && job.state != State::Running;
        let expired: Vec<String> = self.jobs().values().filter(over).map(|job| job.id.clone()).collect();
        for id in expired {
            match self.remove(&id) {
                Ok(()) | Err(Refused::Unknown) => tracing::info!(job = id, "a job expired"),
                Err(error) => tracing::warn!(job = id, %error, "a job that expired was not deleted"),
            }
        }
    }

    /// The oldest that waits; from now on it runs.
    fn next(&self) -> Option<(Job, CancellationToken)> {
        let queued = |job: &&Job| job.state == State::Queued;
        let id = self.jobs().values().filter(queued).min_by_key(|job| (job.created_at, job.id.clone()))?.id.clone();
        let begin = |job: &mut Job| {
            job.attempts += 1;
            job.started_at = Some(crate::now());
            job.progress = None;
            if job.attempts > ATTEMPTS {
                job.state = State::Failed;
                job.ended_at = Some(crate::now());
                job.error = Some(format!("the dashboard ended {ATTEMPTS} times while it ran: ask again"));
            } else {
                job.state = State::Running;
            }
            Ok(())
        };
        let cancel = CancellationToken::new();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match self.change(&id, begin) {
            Ok(job) if job.state == State::Running => {
                *running = Some((id, cancel.clone()));
                Some((job, cancel))
            }
            // it failed, or was removed in that moment
            Ok(_) | Err(Refused::Unknown) => None,
            Err(error) => {
                self.give_up(&id, &error);
                None
            }
        }
    }

    /// What cannot be written down is over all the same, until the dashboard is started again.
    fn give_up(&self, id: &str, error: &Refused) {
        tracing::error!(job = id, %error, "a job cannot go on");
        if let Some(job) = self.jobs().get_mut(id) {
            (job.state, job.error) = (State::Failed, Some(error.to_string()));
        }
    }

    async fn work(self: &Arc<Self>, (job, cancel): (Job, CancellationToken), stop: &CancellationToken) {
        let id = job.id.clone();
        let tell = |progress| {
            if let Some(job) = self.jobs().get_mut(&id) {
                job.progress = Some(progress);
            }
        };
        let ended = child::run(&self.how, &job, &self.folder(&id), &cancel, stop, tell).await;
        let queue = self.clone();
        let told = tokio::task::spawn_blocking(move || queue.end(&job, ended));
        if let Err(error) = told.await {
            tracing::error!(%error, "the end of a job was not kept");
        }
    }

    fn end(&self, job: &Job, ended: child::Ended) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let folder = self.folder(&job.id);
        let (state, error, result, files) = match ended {
            child::Ended::Done(result, files) => (State::Done, None, result, files),
            child::Ended::Failed(error) => (State::Failed, Some(error), Value::Null, Vec::new()),
            // the dashboard ends: it is begun again
            child::Ended::Stopped => (State::Queued, None, Value::Null, Vec::new()),
            child::Ended::Cancelled => {
                if let Err(error) = std::fs::remove_dir_all(&folder) {
                    tracing::warn!(job = job.id, %error, "what a cancelled job left was not deleted");
                }
                return;
            }
        };
        let expires_at = self.expiry();
        let end = |job: &mut Job| {
            (job.state, job.error, job.result, job.files, job.expires_at) = (state, error, result, files, expires_at);
            job.ended_at = state.is_over().then(crate::now);
            Ok(())
        };
        match self.change(&job.id, end) {
            Ok(job) => tracing::info!(job = job.id, kind = job.kind.as_str(), state = job.state.as_str(), seconds = seconds(&job), "a job ended"),
            // it was removed in that moment
            Err(Refused::Unknown) => drop(std::fs::remove_dir_all(&folder)),
            Err(error) => self.give_up(&job.id, &error),
        }
    }
}

fn seconds(job: &Job) -> i64 {
    job.started_at.zip(job.ended_at).map_or(Micros(0), |(from, to)| to - from).0 / 1_000_000
}

/// What lies in a folder, without what lies deeper.
fn listing(folder: &Path) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        if let (true, Ok(name)) = (about.is_file(), entry.file_name().into_string()) {
            files.push(File { name, bytes: about.len() });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}
