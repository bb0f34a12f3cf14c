//! One partition of the lake, from its first file to its last, as inputs in the order in which they arrived.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine::Arrival;
use journal::Topic;
use schemas::{Arrived, Offset, Partition};

use super::decode::Decoder;
use super::files::OpenFile;
use super::{BacktestError, Plan, Progress};
use crate::lake::{LakeError, RawFile};
use crate::objects::Objects;

/// What was read of a partition.
#[derive(Debug)]
pub struct Read {
    pub files: u64,
    pub rows: u64,
    pub manifest: String,
    /// Of the newest record, wanted or not.
    pub last_arrived: Arrived,
    /// Everything before this was read.
    pub next: Offset,
    /// There is more, and it arrived after the period.
    pub ended: bool,
}

impl Read {
    /// Until when the clock is known to have gone.
    pub const fn clock(&self, plan: &Plan) -> Arrived {
        if self.ended { plan.to } else { self.last_arrived }
    }
}

struct Stream<'a> {
    plan: &'a Plan,
    decoder: Decoder,
    read: Read,
    hear: &'a mut dyn FnMut(Vec<Arrival>),
}

/// Hands on what is wanted, piece by piece: all of it from the warm-up on, and before that only settings, voids and rules.
pub fn stream(
    objects: &Arc<dyn Objects>,
    plan: &Plan,
    partition: Partition,
    files: &[RawFile],
    progress: &Progress,
    hear: &mut dyn FnMut(Vec<Arrival>),
) -> Result<Read, BacktestError> {
    let next = files.first().map_or(Offset(0), |file| file.first);
    let read = Read { files: 0, rows: 0, manifest: String::new(), last_arrived: Arrived::MIN, next, ended: false };
    let mut stream = Stream { plan, decoder: Decoder::new(partition, plan.patients.clone()), read, hear };
    for file in files {
        if stream.read.ended {
            break;
        }
        if file.first > stream.read.next {
            return Err(LakeError::Gap { topic: Topic::Inputs, partition, from: stream.read.next, to: file.first }.into());
        }
        stream.file(&OpenFile::open(objects, file)?, progress)?;
        progress.done.fetch_add(objects.size(&file.name)?, Ordering::Relaxed);
    }
    Ok(stream.read)
}

impl Stream<'_> {
    fn file(&mut self, file: &OpenFile, progress: &Progress) -> Result<(), BacktestError> {
        let mut used = false;
        for group in 0..file.groups() {
            let (first, last) = file.arrived(group).unwrap_or((Arrived::MIN, Arrived::MAX));
            self.read.ended = self.read.ended || first >= self.plan.to;
            if self.read.ended {
                break;
            }
            used = true;
            self.group(file, group, last < self.plan.begin(), progress)?;
        }
        if used {
            self.read.files += 1;
            self.read.rows += file.rows();
            self.read.manifest += &file.fingerprint();
        }
        if !self.read.ended {
            self.read.next = self.read.next.max(file.footer.next);
        }
        Ok(())
    }

    fn group(&mut self, file: &OpenFile, group: usize, arranged_only: bool, progress: &Progress) -> Result<(), BacktestError> {
        let places = file.arranged(group)?;
        let arranged = self.decoder.arranged(&file.records(group, &places)?).ok_or_else(|| file.damaged("its records cannot be read"))?;
        if arranged_only {
            let known = arranged.into_iter().filter(|arrival| arrival.offset >= self.read.next).collect();
            self.hear(known);
            return Ok(());
        }
        let mut arranged = arranged.into_iter();
        for batch in file.rows_of(group)? {
            if progress.is_cancelled() {
                return Err(BacktestError::Cancelled);
            }
            let batch = batch.map_err(|error| file.damaged(error))?;
            let rows = self
                .decoder
                .rows(&batch, &mut arranged, self.read.next, self.plan.to)
                .ok_or_else(|| file.damaged("a column of raw/inputs is missing or of another type"))?;
            let (clock, ended) = (rows.clock, rows.ended);
            self.hear(rows.arrivals);
            self.read.last_arrived = self.read.last_arrived.max(clock.unwrap_or(Arrived::MIN));
            if ended {
                self.read.ended = true;
                return Ok(());
            }
        }
        Ok(())
    }

    fn hear(&mut self, arrivals: Vec<Arrival>) {
        let Some(last) = arrivals.last() else { return };
        self.read.next = last.offset.next();
        self.read.last_arrived = self.read.last_arrived.max(last.arrived_at);
        (self.hear)(arrivals);
    }
}
