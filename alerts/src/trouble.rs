//! When somebody is told of what is wrong with Vigil itself. Pure.

use schemas::{AlertId, Arrived, Cause, EventTime, Micros, Offset, Partition, PatientId, Priority, RuleId};
use sha2::{Digest, Sha256};
use store::episodes::{Care, Episode, State};
use store::notifications::Notification;
use store::timers::REPAGE;
use store::troubles::{Silence, Trouble};

use crate::episode::{CLEARED, PAGE, notification};
use crate::text::{self, Message};

/// What is told now of a trouble; `None`: nothing.
pub fn telling(trouble: &Trouble, again_after: Micros, now: EventTime) -> Option<&'static str> {
    match (trouble.over_at, trouble.told_at) {
        // it was over before anybody could be told
        (Some(_), None) => None,
        (Some(_), Some(_)) => Some(CLEARED),
        (None, None) => Some(PAGE),
        // somebody is at it
        (None, Some(_)) if trouble.acknowledged.as_ref().is_some_and(|(_, until)| *until > now) => None,
        (None, Some(told)) => (now - told >= again_after).then_some(REPAGE),
    }
}

/// As every channel sends it: a technical alarm of high priority, under one id from its beginning to its end.
pub fn message(trouble: &Trouble, kind: &str, dashboard_url: &str) -> Option<Message> {
    let digest = Sha256::digest(format!("{}\0{}", trouble.name, trouble.since.0));
    let alert = AlertId(digest.first_chunk().copied()?);
    let rule = format!("vigil-{}", trouble.name.split(':').next().unwrap_or_default());
    let episode = Episode {
        alert,
        patient: PatientId::parse("vigil").ok()?,
        rule: RuleId::parse(&rule).ok()?,
        rule_name: trouble.what.clone(),
        priority: Priority::High,
        state: if trouble.over_at.is_some() { State::Cleared } else { State::Open },
        raised_at: trouble.since,
        heard_at: Arrived(trouble.since.0),
        since: trouble.since,
        cleared_at: trouble.over_at,
        summary: String::new(),
        evidence: Vec::new(),
        late: false,
        brief: false,
        technical: true,
        test: false,
        acknowledged: None,
        care: Care::default(),
        version: 0,
        partition: Partition(0),
        cause: Cause { offset: Offset(0), ordinal: 0 },
    };
    let number = trouble.tellings + 1;
    let key = if kind == REPAGE { format!("{alert}_{REPAGE}_{number}") } else { format!("{alert}_{kind}") };
    let n: Notification = notification(alert, kind, &key, "", trouble.since);
    let mut message = text::message(&n, &episode, None, dashboard_url);
    message.ward = "Vigil".to_owned();
    message.link = format!("{}/", dashboard_url.trim_end_matches('/'));
    Some(message)
}

/// So many silent patients at once are one incident of what they have in common.
const AT_LEAST: u64 = 3;

/// What is silent together: everything, or what is behind a hub. By name, in words.
pub fn incidents(silences: &[Silence]) -> Vec<(String, String)> {
    let many = |silence: &&Silence, parts: u64| silence.silent >= AT_LEAST && silence.silent * 10 >= silence.patients * parts;
    let all = silences.iter().find(|silence| silence.hub.is_none()).filter(|all| many(all, 5));
    if let Some(Silence { patients, silent, .. }) = all {
        let what = format!("{silent} of {patients} patients with a device are silent: look at the gateway, the network and the broker before you look at each");
        return vec![("silence".to_owned(), what)];
    }
    let behind = silences.iter().filter(|silence| many(silence, 8));
    let incident = |silence: &Silence| {
        let hub = silence.hub.as_ref()?;
        Some((
            format!("hub:{hub}"),
            format!("{} of {} patients behind the hub {hub} are silent: look at the hub before you look at each", silence.silent, silence.patients),
        ))
    };
    behind.filter_map(incident).collect()
}

/// Too little room: less than one part in twenty and less than 20 GiB, or less than 512 MiB.
pub fn is_full(free: u64, total: u64) -> bool {
    free < 512 << 20 || (free < total / 20 && free < 20 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_is_told_when_it_begins_again_and_when_it_is_over() {
        let (again, at) = (Micros::minutes(15), EventTime(0));
        let mut trouble =
            Trouble { name: "evaluation".to_owned(), since: at, what: "w".to_owned(), told_at: None, tellings: 0, over_at: None, acknowledged: None };
        assert_eq!(telling(&trouble, again, at), Some(PAGE));
        assert_eq!(telling(&Trouble { over_at: Some(at), ..trouble.clone() }, again, at), None, "nobody knew of it");
        trouble.told_at = Some(at);
        assert_eq!(telling(&trouble, again, at + Micros::minutes(14)), None);
        assert_eq!(telling(&trouble, again, at + Micros::minutes(15)), Some(REPAGE));
        trouble.acknowledged = Some(("ito".to_owned(), at + Micros::minutes(60)));
        assert_eq!(telling(&trouble, again, at + Micros::minutes(59)), None, "somebody is at it");
        assert_eq!(telling(&trouble, again, at + Micros::minutes(60)), Some(REPAGE));
        trouble.over_at = Some(at);
        assert_eq!(telling(&trouble, again, at), Some(CLEARED));
    }

    #[test]
    fn many_who_are_silent_together_are_one_incident() {
        let of = |hub: Option<&str>, patients, silent| Silence { hub: hub.map(ToOwned::to_owned), patients, silent };
        let names = |silences: &[Silence]| incidents(silences).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&[of(None, 1000, 50)]), [""; 0], "each of them is looked at");
        assert_eq!(names(&[of(None, 1000, 499), of(Some("h1"), 40, 40), of(Some("h2"), 40, 31), of(Some("h3"), 2, 2)]), ["hub:h1"]);
        assert_eq!(names(&[of(None, 1000, 500), of(Some("h1"), 40, 40)]), ["silence"], "one, not one for each hub");
        assert_eq!(names(&[of(None, 0, 0)]), [""; 0]);
    }

    #[test]
    fn a_disk_is_full_before_it_is() {
        const G: u64 = 1 << 30;
        for (free, total, full) in
            [(G / 4, G, true), (G, 10 * G, false), (4 * G, 100 * G, true), (21 * G, 1000 * G, false), (19 * G, 1000 * G, true), (0, 0, true)]
        {
            assert_eq!(is_full(free, total), full, "{free} of {total}");
        }
    }
}
