//! The list, played without a socket: what was seen in, orders and verdicts out.

use schemas::{DeviceId, EventTime, Metric, Micros, Reason};

use super::list::{Finding, Item, Verdict};
use super::report::{Ended, Report, Run};
use super::seen::{Connected, Entry, Mark, Message, Seen};
use super::{Examiner, Order, Pace};

const START: EventTime = EventTime(1_780_000_000_000_000);
const PACE: Pace = Pace { messages: 5, outage: Micros::seconds(60), patience: Micros::seconds(120) };
const SECOND: Micros = Micros::seconds(1);

/// A device that measures once in ten seconds and sends at once.
struct Play {
    examiner: Examiner,
    now: EventTime,
    /// How far its clock is ahead.
    ahead: Micros,
    connection: u64,
}

fn reading(at: EventTime, value: f64) -> Entry {
    Entry { mark: Some(Mark { metric: Some(Metric::Spo2), stamped_at: at, boot: None }), value: value.to_bits(), refused: None }
}

impl Play {
    fn new() -> Self {
        Self { examiner: Examiner::new(PACE), now: START, ahead: Micros::ZERO, connection: 0 }
    }

    fn see(&mut self, seen: Seen) {
        self.examiner.see(self.connection, self.now, seen);
    }

    fn connect(&mut self) {
        self.connection += 1;
        self.see(Seen::Arrived { tls: true });
        self.see(Seen::Connected(Connected { mqtt_5: true, client: Some("ox".to_owned()), keep_alive: Some(Micros::seconds(60)), certificate: false }));
    }

    fn message(&self, digest: u64, entries: Vec<Entry>) -> Message {
        Message {
            qos: 1,
            dup: false,
            digest,
            received_at: self.now,
            format: Some("json".to_owned()),
            may_be_stamped: true,
            sent_at: Some(self.now + self.ahead),
            boot: None,
            entries,
        }
    }

    /// Measured at these times by a right clock, in one message.
    fn send(&mut self, times: &[EventTime]) {
        let entries = times.iter().map(|at| reading(*at + self.ahead, 97.0)).collect();
        let message = self.message(self.now.0.unsigned_abs(), entries);
        self.see(Seen::Published(message));
    }

    fn send_and_ack(&mut self, times: &[EventTime]) {
        self.send(times);
        self.see(Seen::Acknowledged);
    }

    fn wait(&mut self, span: Micros) -> Option<Order> {
        self.now = self.now + span;
        self.examiner.next(self.now)
    }

    fn end(&mut self, reason: &'static str) {
        self.see(Seen::Ended { reason, detail: String::new() });
    }

    /// Connected, and heard: the next PUBACK is withheld.
    fn until_losing(&mut self) {
        self.connect();
        for n in 0..5 {
            let order = self.wait(Micros::seconds(10));
            assert_eq!(order, None, "after {n} messages");
            self.send_and_ack(&[self.now]);
        }
        assert_eq!(self.wait(SECOND), Some(Order::LosePuback));
        assert_eq!(self.wait(SECOND), None, "an order is given once");
    }

    /// A message without PUBACK was measured at the time that this answers.
    fn until_lost(&mut self) -> EventTime {
        self.until_losing();
        self.wait(Micros::seconds(8));
        let at = self.now;
        self.send(&[at]);
        self.end("receipt");
        at
    }

    /// The gateway was away from the first until the second, and the device is connected again.
    fn until_back(&mut self) -> (EventTime, EventTime) {
        let lost = self.until_lost();
        self.wait(SECOND);
        self.connect();
        self.send_and_ack(&[lost]);
        assert_eq!(self.wait(SECOND), None);
        assert_eq!(self.wait(SECOND), Some(Order::GoAway));
        let from = self.now;
        self.examiner.went(from);
        assert_eq!(self.wait(Micros::seconds(59)), None);
        assert_eq!(self.wait(SECOND), Some(Order::ComeBack));
        let until = self.now;
        self.examiner.came(until);
        self.now = self.now + SECOND;
        self.connect();
        (from, until)
    }

    #[track_caller]
    fn found(&self, item: Item, verdict: Verdict, says: &str) -> Finding {
        let finding = self.examiner.finding(item);
        assert!(finding.verdict == verdict && finding.saw.contains(says), "{item:?}: {finding:?}");
        finding
    }
}

/// Every ten seconds from the first to the last.
fn every_10_s(from: EventTime, until: EventTime) -> Vec<EventTime> {
    (0..).map(|n| from + Micros::seconds(10 * n)).take_while(|at| *at <= until).collect()
}

#[test]
fn a_device_that_does_everything_right_passes() {
    let mut play = Play::new();
    let (from, until) = play.until_back();
    assert_eq!(play.wait(SECOND), None, "its backlog is not here");
    // in order, in two messages; the second goes on beyond the return
    let (first, second) =
        (every_10_s(from + Micros::seconds(5), from + Micros::seconds(30)), every_10_s(from + Micros::seconds(35), until + Micros::seconds(5)));
    play.send_and_ack(&first);
    assert_eq!(play.wait(Micros::seconds(4)), None);
    play.send_and_ack(&second);
    assert_eq!(play.wait(SECOND), Some(Order::Finish));
    let findings = Item::ALL.map(|item| (item, play.examiner.finding(item)));
    for (item, finding) in findings.into_iter().filter(|(item, _)| item.required()) {
        assert_eq!(finding.verdict, Verdict::Pass, "{item:?}: {finding:?}");
    }
}

#[test]
fn a_message_without_puback_must_come_again_as_it_was() {
    let lost_of_two = |play: &mut Play| {
        play.until_losing();
        let at = play.now;
        play.send(&[at - SECOND, at]);
        play.end("receipt");
        play.wait(SECOND);
        play.connect();
        at
    };
    // its readings may be in other messages, and in another order
    let mut play = Play::new();
    let at = lost_of_two(&mut play);
    play.send(&[at, play.now]);
    assert_eq!(play.wait(SECOND), None);
    play.send(&[at - SECOND]);
    play.wait(SECOND);
    play.found(Item::Resend, Verdict::Pass, "the same");

    let mut play = Play::new();
    let at = lost_of_two(&mut play);
    play.send(&[at, play.now]);
    play.wait(PACE.patience);
    play.found(Item::Resend, Verdict::NotSeen, "");
    play.wait(SECOND);
    play.found(Item::Resend, Verdict::Fail, "1 of 1 messages without PUBACK did not come again");

    let mut play = Play::new();
    let at = lost_of_two(&mut play);
    let other = play.message(1, vec![reading(at - SECOND, 97.0), reading(at, 98.0)]);
    play.see(Seen::Published(other));
    play.wait(PACE.patience + SECOND);
    play.found(Item::Resend, Verdict::Fail, "another value under the same time");

    let mut play = Play::new();
    play.until_lost();
    play.wait(PACE.patience + SECOND);
    play.found(Item::Resend, Verdict::Fail, "did not connect again");
}

/// Readings without a time cannot be told apart: only the same bytes are the same message.
#[test]
fn a_message_without_times_comes_again_when_its_bytes_do() {
    for (digest, verdict) in [(7, Verdict::Pass), (8, Verdict::Fail)] {
        let mut play = Play::new();
        play.until_losing();
        let entry = Entry { mark: None, value: 97_f64.to_bits(), refused: None };
        play.see(Seen::Published(play.message(7, vec![entry.clone()])));
        play.end("receipt");
        play.wait(SECOND);
        play.connect();
        play.see(Seen::Published(play.message(digest, vec![entry])));
        play.wait(PACE.patience);
        play.wait(SECOND);
        play.found(Item::Resend, verdict, "");
    }
}

#[test]
fn what_is_at_qos_0_has_no_puback_to_lose() {
    let mut play = Play::new();
    play.connect();
    for _ in 0..5 {
        play.wait(Micros::seconds(10));
        let message = Message { qos: 0, ..play.message(play.now.0.unsigned_abs(), vec![reading(play.now, 97.0)]) };
        play.see(Seen::Published(message));
    }
    assert_eq!(play.wait(SECOND), None);
    assert_eq!(play.wait(SECOND), Some(Order::GoAway));
    play.found(Item::Qos, Verdict::Fail, "5 of 5 messages came at QoS 0");
    play.found(Item::Resend, Verdict::NotSeen, "nothing came at QoS 1");
}

#[test]
fn a_backlog_must_be_whole_and_in_order() {
    type Sends = fn(&mut Play, EventTime, EventTime);
    let table: [(&str, Sends, Verdict, &str); 5] = [
        ("nothing of it", |play, _, until| play.send(&[until + Micros::seconds(5)]), Verdict::Fail, "the backlog is not whole"),
        (
            "a hole in it",
            |play, from, until| {
                play.send(&[from + Micros::seconds(5), from + Micros::seconds(15)]);
                play.send(&[from + Micros::seconds(50), until + Micros::seconds(5)]);
            },
            Verdict::Fail,
            "the backlog is not whole",
        ),
        (
            "the newest first",
            |play, from, until| {
                let mut times = every_10_s(from + Micros::seconds(5), until + Micros::seconds(5));
                times.reverse();
                play.send(&times);
            },
            Verdict::Fail,
            "not in the order",
        ),
        (
            "what is new before it",
            |play, from, until| {
                play.send(&[until + Micros::seconds(5)]);
                play.send(&every_10_s(from + Micros::seconds(5), until));
            },
            Verdict::Pass,
            "6 readings of that time",
        ),
        ("only what is of before", |play, from, _| play.send(&[from]), Verdict::Fail, "nothing that was measured since has come"),
    ];
    for ahead in [Micros::ZERO, Micros::hours(1), Micros::ZERO - Micros::days(20)] {
        for (what, sends, verdict, says) in &table {
            let mut play = Play { ahead, ..Play::new() };
            let (from, until) = play.until_back();
            play.now = play.now + Micros::seconds(4);
            sends(&mut play, from, until);
            if play.wait(SECOND).is_none() {
                assert_eq!(play.wait(PACE.patience), Some(Order::Finish), "{what}, {ahead} ahead");
            }
            let found = play.examiner.finding(Item::Backlog);
            assert!(found.verdict == *verdict && found.saw.contains(says), "{what}, {ahead} ahead: {found:?}");
        }
    }
}

/// What it forgets while its PUBACK is withheld must not make it a device that measures seldom.
#[test]
fn a_device_that_forgets_twice_is_found_out() {
    let mut play = Play::new();
    let lost = play.until_lost();
    play.wait(PACE.outage);
    play.connect();
    play.send_and_ack(&[lost, play.now]);
    play.wait(SECOND);
    assert_eq!(play.wait(SECOND), Some(Order::GoAway));
    play.examiner.went(play.now);
    assert_eq!(play.wait(PACE.outage), Some(Order::ComeBack));
    play.examiner.came(play.now);
    play.now = play.now + SECOND;
    play.connect();
    play.send_and_ack(&[play.now]);
    assert_eq!(play.wait(PACE.patience + SECOND), Some(Order::Finish));
    play.found(Item::Resend, Verdict::Pass, "");
    play.found(Item::Backlog, Verdict::Fail, "the backlog is not whole");
}

/// A cuff that measures every quarter of an hour says nothing in a minute; nobody must take that for a loss.
#[test]
fn an_outage_that_is_shorter_than_its_interval_proves_nothing() {
    let mut play = Play::new();
    play.connect();
    for _ in 0..5 {
        play.wait(Micros::minutes(15));
        let message = Message { qos: 0, ..play.message(0, vec![reading(play.now, 97.0)]) };
        play.see(Seen::Published(message));
    }
    play.wait(SECOND);
    assert_eq!(play.wait(SECOND), Some(Order::GoAway));
    play.examiner.went(play.now);
    assert_eq!(play.wait(PACE.outage), Some(Order::ComeBack));
    play.examiner.came(play.now);
    play.connect();
    assert_eq!(play.wait(PACE.patience + SECOND), Some(Order::Finish));
    let finding = play.found(Item::Backlog, Verdict::NotSeen, "every 15 min, too seldom");
    assert!(finding.remedy.contains("--outage \"3605 s\""), "{finding:?}");
}

#[test]
fn attempts_are_counted_while_the_gateway_is_away() {
    for (attempts, verdict) in [(0, Verdict::Pass), (31, Verdict::Pass), (32, Verdict::Fail)] {
        let mut play = Play::new();
        let lost = play.until_lost();
        play.connect();
        play.send_and_ack(&[lost]);
        play.wait(SECOND);
        assert_eq!(play.wait(SECOND), Some(Order::GoAway));
        play.examiner.went(play.now);
        (0..attempts).for_each(|_| play.see(Seen::Arrived { tls: true }));
        assert_eq!(play.wait(PACE.outage), Some(Order::ComeBack));
        play.examiner.came(play.now);
        play.connect();
        play.found(Item::Reconnect, verdict, &format!("{attempts} attempts"));
    }
    let mut play = Play::new();
    let lost = play.until_lost();
    play.connect();
    play.send_and_ack(&[lost]);
    play.wait(SECOND);
    play.examiner.went(play.now);
    play.examiner.came(play.now + PACE.outage);
    assert_eq!(play.wait(PACE.outage + PACE.patience + SECOND), Some(Order::Finish));
    play.found(Item::Reconnect, Verdict::Fail, "did not connect again");
    play.found(Item::Backlog, Verdict::NotSeen, "did not connect again");
}

#[test]
fn a_clock_is_judged_by_its_best_message() {
    for (offsets, verdict, says, remedy) in [
        (&[0_i64, 400, 7][..], Verdict::Pass, "0.00 s", ""),
        (&[119], Verdict::Pass, "", ""),
        (&[3600, 3700], Verdict::Fail, "1 h behind", "time zone"),
        (&[-19_800], Verdict::Fail, "5 h 30 min ahead", "time zone"),
        (&[420], Verdict::Fail, "7 min behind", "NTP"),
        (&[400 * 86_400], Verdict::Fail, "400 d behind", "NTP"),
    ] {
        let mut play = Play::new();
        play.connect();
        for offset in offsets {
            play.ahead = Micros::seconds(-*offset);
            play.send(&[play.now]);
        }
        let found = play.found(Item::Clock, verdict, says);
        assert!(found.remedy.contains(remedy), "{found:?}");
        // by the device's clock its readings are not in the future, whatever ours says
        play.found(Item::MeasuredAt, Verdict::Pass, "");
    }
    let mut play = Play::new();
    play.connect();
    let repeated = Message { dup: true, ..play.message(0, vec![reading(play.now, 97.0)]) };
    play.see(Seen::Published(repeated));
    play.found(Item::Clock, Verdict::NotSeen, "");
}

#[test]
fn each_thing_that_is_wrong_is_found_under_its_own_item() {
    type Wrong = fn(&mut Play);
    let refused = |play: &Play, reason: Reason| {
        let entry = Entry { refused: Some((reason, format!("{reason}: words"))), ..reading(play.now, 97.0) };
        play.message(1, vec![entry])
    };
    let table: [(Item, Wrong, &str); 9] = [
        (Item::SentAt, |play| play.see(Seen::Published(Message { sent_at: None, ..play.message(1, vec![reading(play.now, 97.0)]) })), "1 of 2 messages"),
        (Item::MeasuredAt, |play| play.see(Seen::Published(play.message(1, vec![Entry { mark: None, ..reading(play.now, 97.0) }]))), "have no time"),
        (Item::MeasuredAt, |play| play.send(&[play.now + Micros::minutes(3)]), "3 min after it was sent"),
        (Item::KeepAlive, |play| play.end("keep_alive"), "one and a half keep alives"),
        (
            Item::KeepAlive,
            |play| {
                play.wait(Micros::seconds(63));
                play.see(Seen::Pinged);
            },
            "silent for 1 min",
        ),
        (
            Item::ReceiveMaximum,
            |play| play.see(Seen::Ended { reason: "protocol", detail: "more messages in flight than the server's Receive Maximum".to_owned() }),
            "Receive Maximum",
        ),
        (Item::Mqtt, |play| play.see(Seen::Ended { reason: "malformed", detail: "a PUBLISH with QoS 3".to_owned() }), "a PUBLISH with QoS 3"),
        (
            Item::Tls,
            |play| {
                play.connection += 1;
                play.see(Seen::Arrived { tls: false });
                play.see(Seen::Connected(Connected { mqtt_5: true, client: None, keep_alive: Some(Micros::seconds(60)), certificate: false }));
            },
            "1 of 2 connections",
        ),
        (Item::Qos, |play| play.see(Seen::Published(Message { qos: 0, ..play.message(1, vec![reading(play.now, 97.0)]) })), "1 of 2 messages"),
    ];
    let fails = |play: &Play| Item::ALL.into_iter().filter(|item| play.examiner.finding(*item).verdict == Verdict::Fail).collect::<Vec<_>>();
    let begun = || {
        let mut play = Play::new();
        play.connect();
        play.send(&[play.now]);
        assert_eq!(fails(&play), []);
        play
    };
    for (item, wrong, says) in table {
        let mut play = begun();
        wrong(&mut play);
        assert_eq!(fails(&play), [item], "{says}");
        play.found(item, Verdict::Fail, says);
    }
    for (reason, item) in [
        (Reason::UnitMismatch, Item::Decodes),
        (Reason::Implausible, Item::Decodes),
        (Reason::Malformed, Item::Decodes),
        (Reason::UnknownTopic, Item::Topic),
        (Reason::NotAllowed, Item::Topic),
        (Reason::UnknownFormat, Item::Topic),
        (Reason::BadTime, Item::MeasuredAt),
    ] {
        let mut play = begun();
        play.see(Seen::Published(refused(&play, reason)));
        assert_eq!(fails(&play), [item], "{reason}");
        play.found(item, Verdict::Fail, "words");
    }
}

#[test]
fn a_clock_that_starts_anew_needs_a_count_of_its_restarts() {
    for (boot, verdict) in [(None, Verdict::Fail), (Some(3), Verdict::Pass)] {
        let mut play = Play::new();
        play.connect();
        let message = Message { boot, ..play.message(1, vec![reading(EventTime(60_000_000), 97.0)]) };
        play.see(Seen::Published(message));
        play.found(Item::Boot, verdict, "");
        assert!(play.examiner.facts().restarted(), "then it is required");
    }
}

#[test]
fn who_does_not_come_in_learns_why() {
    let mut play = Play::new();
    play.see(Seen::Arrived { tls: true });
    play.see(Seen::Stranger { detail: "peer is incompatible".to_owned() });
    play.found(Item::Tls, Verdict::Fail, "peer is incompatible");
    play.found(Item::Credential, Verdict::NotSeen, "");
    let mut play = Play::new();
    play.see(Seen::Arrived { tls: true });
    play.see(Seen::Refused { own_name: true, detail: "user name or password is wrong" });
    play.found(Item::Credential, Verdict::Fail, "user name or password is wrong");
    play.found(Item::Qos, Verdict::NotSeen, "has not connected");
}

fn report(play: &Play) -> Report {
    let device = DeviceId::parse("ox").unwrap();
    Report::new(Run { device, model: "A|B".to_owned(), began_at: START, ended_at: play.now, ended: Ended::OutOfTime }, &PACE, &play.examiner)
}

#[test]
fn a_report_says_what_is_required_and_breaks_no_table() {
    let mut play = Play::new();
    play.connect();
    let detail = "unknown_metric: `a|<b>`\n# c".to_owned();
    let entry = Entry { refused: Some((Reason::UnknownMetric, detail)), ..reading(play.now, 97.0) };
    let senml = Message { format: Some("senml".to_owned()), may_be_stamped: false, sent_at: None, ..play.message(1, vec![entry]) };
    play.see(Seen::Published(senml));
    let told = report(&play);
    let required = |item: Item| told.items.iter().find(|line| line.item == item).unwrap().required;
    assert!(!required(Item::SentAt) && !required(Item::Boot) && !required(Item::Goodbye) && required(Item::Clock));
    assert!(!told.passed);
    assert_eq!(told.outcome(), "not passed: 1 failed, 3 not seen");
    let text = told.markdown();
    assert!(text.contains("A\\|B") && text.contains("`a\\|&lt;b>` # c"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with('#')).count(), 3, "{text}");
}
