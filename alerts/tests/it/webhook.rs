//! Pages over real HTTP: signature, repetition, refusal for good, a receiver that hangs.

use alerts::{Config, Webhook};
use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use store::episodes::What;
use store::notifications::State;

use crate::receiver::{Answer, Receiver};
use crate::{LONG, P0, Running, SECRETS, arc, config, eventually, memory, now, paging, raised, say, sqlite, told};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_signed_and_keeps_its_key_through_every_attempt() {
    let fresh = sqlite().await.unwrap();
    let key = [0x5a; 32];
    let secret = format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(key));
    let receiver = Receiver::start([Answer::Status(500), Answer::Status(500)]).await;
    let webhooks = vec![Webhook::new("pager", receiver.url.parse().unwrap(), Some(&secret)).unwrap()];
    let journal = memory();
    let running = Running::start(&Config { webhooks, ..config(LONG) }, arc(&journal), &fresh.store);
    let t = raised(1);
    say(&journal, P0, std::slice::from_ref(&t)).await;
    let page = eventually("the page delivered", || async { told(&fresh.store, t.alert, "page").await.pop().filter(|n| n.state == State::Sent) }).await;
    running.stop().await;
    let received = receiver.received();
    assert_eq!((received.len(), page.attempts), (3, 3), "two failures and the one that arrived");
    for one in &received {
        assert_eq!(one.id(), page.key);
        let sent_at = &one.headers["webhook-timestamp"];
        assert!((sent_at.parse::<i64>().unwrap() - now().0 / 1_000_000).abs() < 60);
        let signature = one.headers["webhook-signature"].strip_prefix("v1,").unwrap();
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
        mac.update([one.id().as_bytes(), b".", sent_at.as_bytes(), b".", &one.body].concat().as_slice());
        mac.verify_slice(&base64::engine::general_purpose::STANDARD.decode(signature).unwrap()).unwrap();
    }
    let body = received[2].json();
    assert_eq!(body["type"], "alert.page");
    assert_eq!(body["data"]["code"], t.alert.code());
    assert_eq!(body["data"]["ward"], "Ward Seven");
    assert_eq!(body["data"]["priority"], "high");
    assert_eq!(body["data"]["link"], format!("https://vigil.example/alerts/{}", t.alert));
    let history: Vec<What> = fresh.store.history(t.alert).await.unwrap().iter().map(|entry| entry.what).collect();
    assert_eq!(history, [What::Raised, What::PageFailed, What::Paged], "one word for a failure, however often it is tried");
    for one in &received {
        let text = String::from_utf8_lossy(&one.raw).to_lowercase();
        for secret in SECRETS {
            assert!(!text.contains(&secret.to_lowercase()), "{secret} left the house: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gone_is_for_good_and_a_redirect_is_not_followed() {
    let fresh = sqlite().await.unwrap();
    let gone = Receiver::start([Answer::Status(410)]).await;
    let moved = Receiver::start([Answer::Status(307)]).await;
    let webhooks = [("gone", &gone), ("moved", &moved)].map(|(name, r)| Webhook::new(name, r.url.parse().unwrap(), None).unwrap()).to_vec();
    let journal = memory();
    let running = Running::start(&Config { webhooks, ..config(LONG) }, arc(&journal), &fresh.store);
    let t = raised(1);
    say(&journal, P0, std::slice::from_ref(&t)).await;
    let pages = eventually("both settled", || async {
        let pages = told(&fresh.store, t.alert, "page").await;
        pages.iter().all(|n| matches!(n.state, State::Sent | State::Failed)).then_some(pages).filter(|pages| pages.len() == 2)
    })
    .await;
    running.stop().await;
    for page in pages {
        match page.channel.as_str() {
            "webhook:gone" => assert_eq!((page.state, page.attempts, gone.received().len()), (State::Failed, 1, 1)),
            _ => {
                assert_eq!((page.state, moved.received().len()), (State::Sent, 2));
                assert!(moved.received().iter().all(|r| r.raw.starts_with(b"POST /hook ")), "the redirect went nowhere");
            }
        }
    }
    let history = fresh.store.history(t.alert).await.unwrap();
    assert!(history.iter().any(|entry| entry.what == What::PageFailed && entry.note.as_deref().is_some_and(|note| note.contains("given up"))));
}

/// One that hangs for 15 s must not keep the page of another: the mutant sends one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_hangs_keeps_no_page_from_the_others() {
    let fresh = sqlite().await.unwrap();
    let hangs = Receiver::start([Answer::Hang; 8]).await;
    let well = Receiver::start([]).await;
    let webhooks = [("a-hangs", &hangs), ("b-well", &well)].map(|(name, r)| Webhook::new(name, r.url.parse().unwrap(), None).unwrap()).to_vec();
    let journal = memory();
    let running = Running::start(&Config { webhooks, ..config(LONG) }, arc(&journal), &fresh.store);
    let alerts: Vec<_> = (0..4).map(raised).collect();
    say(&journal, P0, &alerts).await;
    let began = tokio::time::Instant::now();
    eventually("four pages where all is well", || async { (well.received().len() == 4).then_some(()) }).await;
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    eventually("the other one being tried", || async { (hangs.received().len() == 4).then_some(()) }).await;
    running.kill().await;
}

/// Nobody listens on the port: a page waits, and arrives when somebody does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_waits_for_its_receiver() {
    let fresh = sqlite().await.unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let journal = memory();
    let running = Running::start(&paging(LONG, &format!("http://{port}/hook")), arc(&journal), &fresh.store);
    let t = raised(1);
    say(&journal, P0, std::slice::from_ref(&t)).await;
    let page = eventually("a failed attempt", || async { told(&fresh.store, t.alert, "page").await.pop().filter(|n| n.last_error.is_some()) }).await;
    assert!(matches!(page.state, State::Due | State::Sending), "{page:?}");
    assert!(!page.last_error.unwrap().contains("/hook"), "an address may hold a token");
    running.stop().await;
    // the same channel, now where somebody listens
    let receiver = Receiver::start([]).await;
    let running = Running::start(&paging(LONG, &receiver.url), arc(&journal), &fresh.store);
    eventually("the page", || async { receiver.under(&page.key).pop() }).await;
    running.stop().await;
}
