//! Pages under SIGKILL: the process that pages is killed at random points of a page's life, in front of a receiver that is slow, refuses and hangs up.
//!
//! `dev/kill-pages` runs the long one: 200 kills.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use schemas::{CANARY_RULE, EventTime, Micros, TransitionKind};
use serde_json::Value;
use store::episodes::What;
use store::notifications::State;

use crate::driven::{ONE, PATIENCE, Serving, now};
use crate::kill::{lasts, number, record};
use crate::run::{Plan, play};

const REPAGE: Micros = Micros(4_000_000);

/// A message, and whether the receiver said that it has it.
#[derive(Clone, Debug)]
struct Message {
    key: String,
    kind: String,
    alert: String,
    taken: bool,
}

struct Receiver {
    url: String,
    messages: Arc<Mutex<Vec<Message>>>,
}

impl Receiver {
    fn start(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let messages = Arc::new(Mutex::new(Vec::new()));
        let (all, random) = (messages.clone(), Arc::new(Mutex::new(StdRng::seed_from_u64(seed))));
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (all, random) = (all.clone(), random.clone());
                // who is killed half way leaves half a request
                std::thread::spawn(move || socket.is_ok_and(|socket| answer(socket, &all, &random).is_some()));
            }
        });
        Self { url, messages }
    }

    fn messages(&self) -> Vec<Message> {
        self.messages.lock().unwrap().clone()
    }
}

fn answer(mut socket: TcpStream, all: &Mutex<Vec<Message>>, random: &Mutex<StdRng>) -> Option<()> {
    let (mut raw, mut piece) = (Vec::new(), [0; 4096]);
    let (headers, body) = loop {
        let read = socket.read(&mut piece).ok().filter(|read| *read > 0)?;
        raw.extend_from_slice(&piece[..read]);
        let Some(head) = raw.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let headers = String::from_utf8(raw[..head].to_vec()).ok()?.to_lowercase();
        let header = |name: &str| headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned()));
        let length: usize = header("content-length")?.parse().ok()?;
        if raw.len() >= head + 4 + length {
            break (header("webhook-id")?, raw[head + 4..head + 4 + length].to_vec());
        }
    };
    let body: Value = serde_json::from_slice(&body).ok()?;
    let (pause, fate) = {
        let mut random = random.lock().ok()?;
        (random.random_range(0..300), random.random_range(0..20))
    };
    // the receiver is slow: that is what it is killed against
    std::thread::sleep(Duration::from_millis(pause));
    let text = |name: &str| body["data"][name].as_str().unwrap_or_default().to_owned();
    let message = Message { key: headers, kind: text("kind"), alert: text("alert"), taken: fate > 1 };
    all.lock().ok()?.push(message);
    let status = match fate {
        0 => return None,
        1 => "503 Service Unavailable",
        _ => "200 OK",
    };
    socket.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes()).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_alert_is_paged_under_one_key_whenever_the_process_is_killed() {
    let seed = number("VIGIL_SEED", rand::random::<u32>().into());
    let (readings, kills, seconds) = (number("VIGIL_READINGS", 2_000) as usize, number("VIGIL_KILLS", 4), number("VIGIL_SECONDS", 8) as f64);
    eprintln!("VIGIL_SEED={seed} VIGIL_READINGS={readings} VIGIL_KILLS={kills} VIGIL_SECONDS={seconds}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("recording.csv");
    record(&recording, readings, &mut random);
    let receiver = Receiver::start(seed);
    let place = folder.path().join("killed");
    let plan = Plan { recording: &recording, speed: lasts(readings) / seconds, kafka: None, pager: Some((&receiver.url, REPAGE)) };
    let (mut killed, mut ready) = (0, Vec::new());
    let run = play(&place, &plan, |serving| {
        std::thread::sleep(Duration::from_secs_f64(random.random_range(0.1..1.0) * seconds / (kills + 1) as f64));
        serving.kill_and_start(0);
        ready.push(now());
        killed += 1;
        killed < kills
    })
    .await;
    let raised: BTreeSet<_> = run
        .topics
        .transitions
        .values()
        .filter(|t| t.kind == TransitionKind::Raised && t.pages && !t.technical && t.rule.as_str() != CANARY_RULE)
        .map(|t| t.alert)
        .collect();
    assert!(!raised.is_empty());
    // what was due when everything was over is still sent
    let serving = Serving::start(place.join("vigil.toml").to_str().unwrap(), ONE);
    let began = Instant::now();
    for alert in &raised {
        loop {
            let told = run.store.notifications(*alert).await.unwrap();
            if told.iter().any(|n| n.kind == "page") && told.iter().filter(|n| n.kind == "page").all(|n| n.state == State::Sent) {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{alert}: no page arrived: {told:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    serving.stop();
    let messages = receiver.messages();
    let (mut twice, mut delays) = (0, Vec::new());
    for alert in &raised {
        let mine: Vec<_> = messages.iter().filter(|message| message.alert == alert.to_string()).collect();
        let keys: BTreeSet<_> = mine.iter().filter(|message| message.kind == "page").map(|message| message.key.as_str()).collect();
        assert_eq!(keys.len(), 1, "{alert}: paged, and under one key: {mine:?}");
        assert!(mine.iter().any(|message| message.kind == "page" && message.taken), "{alert}: the receiver has a page");
        let mut by_key: BTreeMap<&str, u32> = BTreeMap::new();
        for message in mine.iter().filter(|message| message.taken) {
            *by_key.entry(&message.key).or_default() += 1;
        }
        twice += by_key.values().filter(|times| **times > 1).count();
        assert!(by_key.values().all(|times| u64::from(*times) <= 1 + kills), "{alert}: again only after a kill: {by_key:?}");
        // each repetition, from when it was due, or from when there was a process again
        let history = run.store.history(*alert).await.unwrap();
        let escalated = history.iter().filter(|entry| entry.what == What::Escalated).map(|entry| entry.at);
        let mut due = run.store.hops(*alert).await.unwrap().stored.map(|stored| stored + REPAGE);
        for at in escalated {
            let up: Option<EventTime> = ready.iter().copied().filter(|ready| *ready <= at).max();
            delays.extend(due.map(|due| (at - up.map_or(due, |up| up.max(due))).0));
            due = Some(at + REPAGE);
        }
    }
    delays.sort_unstable();
    let share = |of: usize| delays.get((delays.len() * of / 100).min(delays.len().saturating_sub(1))).map_or(0.0, |delay| *delay as f64 / 1e6);
    eprintln!(
        "{killed} SIGKILLs; {} alerts, each paged under one key; {} messages, {twice} keys heard twice; {} repetitions, late by p50 {:.2} s, p99 {:.2} s, max {:.2} s",
        raised.len(),
        messages.len(),
        delays.len(),
        share(50),
        share(99),
        share(100)
    );
}
