//! Every connection there is: those that have not sent their CONNECT, and those that are open. Each has a signal, by which it is told to end.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use schemas::DeviceId;

use crate::view::View;

/// Connections that may be without CONNECT at the same time; one more costs the oldest its place.
pub const HALF_OPEN: usize = 4096;
/// Open connections of one device, each of another client id: one more costs the oldest its place.
const OF_ONE: usize = 16;

/// Why a connection is to end. The higher one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Notice {
    /// Reads nothing more, acks what was read.
    Stop = 1,
    TakenOver,
    Revoked,
    /// Its place among the half-open is needed.
    Evicted,
    /// The time for an orderly end is over.
    Kill,
}

#[derive(Debug, Default)]
pub(crate) struct Signal {
    notice: AtomicU8,
    waker: AtomicWaker,
}

impl Signal {
    pub fn send(&self, notice: Notice) {
        self.notice.fetch_max(notice as u8, Ordering::AcqRel);
        self.waker.wake();
    }

    fn get(&self) -> Option<Notice> {
        match self.notice.load(Ordering::Acquire) {
            1 => Some(Notice::Stop),
            2 => Some(Notice::TakenOver),
            3 => Some(Notice::Revoked),
            4 => Some(Notice::Evicted),
            5 => Some(Notice::Kill),
            _ => None,
        }
    }

    /// What was sent, as often as it is asked; wakes when something new comes.
    pub fn look(&self, context: &mut Context<'_>) -> Option<Notice> {
        self.waker.register(context.waker());
        self.get()
    }

    pub async fn any(&self) -> Notice {
        std::future::poll_fn(|context| self.look(context).map_or(Poll::Pending, Poll::Ready)).await
    }
}

#[derive(Default)]
struct Tables {
    next: u64,
    stopping: bool,
    half_open: BTreeMap<u64, Arc<Signal>>,
    /// By device, the oldest first: a second one of the same client id takes over from the first.
    open: HashMap<DeviceId, Vec<Open>>,
}

struct Open {
    id: u64,
    client: String,
    credential: String,
    signal: Arc<Signal>,
}

#[derive(Default)]
pub(crate) struct Connections(Mutex<Tables>);

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection, half-open until its CONNECT is here.
    pub fn enter(self: &Arc<Self>) -> Place {
        let signal = Arc::<Signal>::default();
        let mut tables = self.lock();
        let id = tables.next;
        tables.next += 1;
        if tables.half_open.len() >= HALF_OPEN
            && let Some((_, oldest)) = tables.half_open.pop_first()
        {
            oldest.send(Notice::Evicted);
        }
        if tables.stopping {
            signal.send(Notice::Stop);
        }
        tables.half_open.insert(id, signal.clone());
        drop(tables);
        Place { connections: self.clone(), id, signal, device: None }
    }

    /// Makes room, such as for want of file descriptors.
    pub fn evict_oldest(&self) {
        if let Some((_, oldest)) = self.lock().half_open.pop_first() {
            oldest.send(Notice::Evicted);
        }
    }

    /// Ends those that the registry no longer admits.
    pub fn sweep(&self, view: &View) {
        let tables = self.lock();
        for (device, all) in &tables.open {
            for open in all.iter().filter(|open| !view.admits(device, &open.credential)) {
                open.signal.send(Notice::Revoked);
            }
        }
    }

    /// Tells all, and those still to come.
    pub fn end_all(&self, notice: Notice) {
        let mut tables = self.lock();
        tables.stopping = true;
        let open = tables.open.values().flatten().map(|open| &open.signal);
        for signal in tables.half_open.values().chain(open) {
            signal.send(notice);
        }
    }

    /// Open connections.
    pub fn open(&self) -> usize {
        self.lock().open.values().map(Vec::len).sum()
    }
}

/// A connection's place in the tables, free again when dropped.
pub(crate) struct Place {
    connections: Arc<Connections>,
    pub id: u64,
    pub signal: Arc<Signal>,
    device: Option<DeviceId>,
}

impl Place {
    /// The device is who it says. An older connection of the same device and client id ends, and the oldest of the device when there are too many.
    pub fn open(&mut self, device: &DeviceId, client: &str, credential: &str) {
        let open = Open { id: self.id, client: client.to_owned(), credential: credential.to_owned(), signal: self.signal.clone() };
        let mut tables = self.connections.lock();
        tables.half_open.remove(&self.id);
        let all = tables.open.entry(device.clone()).or_default();
        let before = all.iter().position(|before| before.client == client).or((all.len() >= OF_ONE).then_some(0));
        if let Some(before) = before {
            all.remove(before).signal.send(Notice::TakenOver);
        }
        all.push(open);
        drop(tables);
        self.device = Some(device.clone());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut tables = self.connections.lock();
        tables.half_open.remove(&self.id);
        if let Some(device) = &self.device
            && let Some(all) = tables.open.get_mut(device)
        {
            all.retain(|open| open.id != self.id);
            if all.is_empty() {
                tables.open.remove(device);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_costs_the_oldest_its_place() {
        let connections = Arc::<Connections>::default();
        let mut places: Vec<_> = (0..HALF_OPEN).map(|_| connections.enter()).collect();
        places[1].open(&DeviceId::parse("ox").unwrap(), "c", "1");
        let _one = connections.enter();
        assert_eq!(places[0].signal.get(), None, "there was room again");
        let _two = connections.enter();
        assert_eq!([0, 1, 2].map(|i| places[i].signal.get()), [Some(Notice::Evicted), None, None]);
    }

    #[test]
    fn a_second_connection_takes_over_and_only_the_newest_leaves_the_table() {
        let connections = Arc::<Connections>::default();
        let device = DeviceId::parse("ox").unwrap();
        let mut first = connections.enter();
        first.open(&device, "c", "1");
        let mut second = connections.enter();
        second.open(&device, "c", "1");
        assert_eq!((first.signal.get(), second.signal.get()), (Some(Notice::TakenOver), None));
        drop(first);
        assert_eq!(connections.open(), 1);
        connections.end_all(Notice::Stop);
        assert_eq!(second.signal.get(), Some(Notice::Stop));
        assert_eq!(connections.enter().signal.get(), Some(Notice::Stop), "who comes late is told as well");
    }

    #[test]
    fn a_device_has_so_many_connections_and_no_more() {
        let connections = Arc::<Connections>::default();
        let (device, other) = (DeviceId::parse("ox").unwrap(), DeviceId::parse("cuff").unwrap());
        let mut elsewhere = connections.enter();
        elsewhere.open(&other, "c", "1");
        let mut places: Vec<_> = (0..=OF_ONE).map(|_| connections.enter()).collect();
        for (n, place) in places.iter_mut().enumerate() {
            place.open(&device, &format!("c{n}"), "1");
        }
        let told: Vec<_> = places.iter().map(|place| place.signal.get()).collect();
        assert_eq!((told[0], told[1], told[OF_ONE]), (Some(Notice::TakenOver), None, None));
        assert_eq!(elsewhere.signal.get(), None, "another device's");
        assert_eq!(connections.open(), OF_ONE + 1);
        drop(places);
        assert_eq!(connections.open(), 1);
    }
}
