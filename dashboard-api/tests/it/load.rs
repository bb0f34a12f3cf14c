use crate::{Site, add_patient, now, patient, reading, stream::Events};
use schemas::Metric;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load() {
    let n = 1000usize;
    let site = Site::start().await;
    for i in 0..n {
        add_patient(&site.store, &format!("p{i}"), "PATIENT, Somebody", "w7").await;
    }
    let mut events = Events::open(&site, "/api/v1/events").await;
    let t = Instant::now();
    let snapshot = events.named("snapshot").await;
    println!("snapshot {} patients {:?}", snapshot["patients"].as_array().unwrap().len(), t.elapsed());
    let reader = tokio::spawn(async move {
        let mut lat: Vec<i64> = Vec::new();
        let mut frames = 0usize;
        let mut bytes = 0usize;
        while let Some((name, data)) = events.next().await {
            if name != "delta" {
                continue;
            }
            let seen = now();
            frames += 1;
            bytes += data.to_string().len();
            for p in data["patients"].as_array().unwrap() {
                for (_, v) in p["values"].as_object().unwrap() {
                    let at = schemas::EventTime::parse(v["received_at"].as_str().unwrap()).unwrap();
                    lat.push((seen - at).0);
                }
            }
            if lat.len() > 80_000 {
                break;
            }
        }
        lat.sort_unstable();
        println!(
            "frames {frames} bytes {bytes} values {} p50 {} us p99 {} us max {} us",
            lat.len(),
            lat[lat.len() / 2],
            lat[lat.len() * 99 / 100],
            lat[lat.len() - 1]
        );
    });
    let started = Instant::now();
    let mut sent = 0u64;
    for round in 0..100u64 {
        for part in 0..20u64 {
            for i in 0..(n as u64 / 20) {
                let id = format!("p{}", part * (n as u64 / 20) + i);
                let input = reading(&id, Metric::HeartRate, 60.0 + (round % 40) as f64, now());
                let p = patient(&id);
                let partition = schemas::partition_of(p.as_bytes(), crate::PARTITIONS);
                drop(journal::Appender::append(&site.journal, journal::Topic::Inputs, partition, p.as_bytes(), input.encode()).unwrap());
                sent += 1;
            }
            let due = started + Duration::from_millis(round * 100 + (part + 1) * 5);
            tokio::time::sleep_until(due.into()).await;
        }
    }
    println!("sent {sent} in {:?}", started.elapsed());
    drop(tokio::time::timeout(Duration::from_secs(20), reader).await);
    site.stop().await;
}
