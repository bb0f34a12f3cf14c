//! Pages by mail: a real conversation with an SMTP server that refuses first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use alerts::{Config, Smtp};
use store::episodes::What;
use store::notifications::State;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::{LONG, P0, Running, SECRETS, arc, config, eventually, memory, raised, say, sqlite, told};

/// Answers each RCPT as told, then takes everything.
struct Server {
    port: u16,
    /// (recipient, mail)
    mails: Arc<Mutex<Vec<(String, String)>>>,
    refused: Arc<Mutex<u32>>,
}

async fn server(answers: Vec<&'static str>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (mails, refused) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let (all, no) = (mails.clone(), refused.clone());
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(converse(socket, answers.clone(), all.clone(), no.clone()));
        }
    });
    Server { port, mails, refused }
}

async fn converse(
    socket: TcpStream,
    answers: Arc<Mutex<VecDeque<&'static str>>>,
    mails: Arc<Mutex<Vec<(String, String)>>>,
    refused: Arc<Mutex<u32>>,
) -> Option<()> {
    let (read, mut write) = socket.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut to = String::new();
    write.write_all(b"220 mail.example ESMTP\r\n").await.ok()?;
    while let Some(line) = lines.next_line().await.ok()? {
        let answer = match line.split(' ').next()?.to_uppercase().as_str() {
            "EHLO" => "250 mail.example".to_owned(),
            "MAIL" => "250 ok".to_owned(),
            "RCPT" => match answers.lock().unwrap().pop_front() {
                Some(no) => {
                    *refused.lock().unwrap() += 1;
                    no.to_owned()
                }
                None => {
                    to.clone_from(&line);
                    "250 ok".to_owned()
                }
            },
            "DATA" => {
                write.write_all(b"354 go on\r\n").await.ok()?;
                let mut mail = String::new();
                loop {
                    let line = lines.next_line().await.ok()??;
                    if line == "." {
                        break;
                    }
                    mail += &line;
                    mail += "\n";
                }
                mails.lock().unwrap().push((to.clone(), mail));
                "250 taken".to_owned()
            }
            "QUIT" => "221 bye".to_owned(),
            _ => "250 ok".to_owned(),
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
    }
    Some(())
}

fn smtp(server: &Server, to: &[&str]) -> Config {
    let smtp = Smtp {
        host: "127.0.0.1".to_owned(),
        port: server.port,
        starttls: false,
        from: "Vigil <vigil@hospital.example>".to_owned(),
        to: to.iter().map(|to| (*to).to_owned()).collect(),
        user: String::new(),
        password: None,
    };
    Config { smtp: Some(smtp), ..config(LONG) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_was_put_off_arrives_under_the_same_id() {
    let fresh = sqlite().await.unwrap();
    let server = server(vec!["451 try again later"]).await;
    let journal = memory();
    let running = Running::start(&smtp(&server, &["night@hospital.example"]), arc(&journal), &fresh.store);
    let t = raised(1);
    say(&journal, P0, std::slice::from_ref(&t)).await;
    let page = eventually("the page", || async { told(&fresh.store, t.alert, "page").await.pop().filter(|n| n.state == State::Sent) }).await;
    running.stop().await;
    assert_eq!((page.channel.as_str(), page.attempts, *server.refused.lock().unwrap()), ("mail:night@hospital.example", 2, 1));
    let mails = server.mails.lock().unwrap().clone();
    assert_eq!(mails.len(), 1);
    let mail = &mails[0].1;
    assert!(mail.contains(&format!("Message-ID: <{}@hospital.example>", page.key)), "{mail}");
    assert!(mail.contains(&format!("Subject: HIGH {}, Ward Seven: Low oxygen saturation", t.alert.code())), "{mail}");
    assert!(mail.replace("=\n", "").contains(&t.alert.to_string()), "{mail}");
    for secret in SECRETS {
        assert!(!mail.to_lowercase().contains(&secret.to_lowercase()), "{secret}: {mail}");
    }
}

/// The mutant puts all addresses into one mail: then the refused one keeps the page from the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_address_is_given_up_and_the_other_gets_its_page() {
    let fresh = sqlite().await.unwrap();
    let server = server(vec!["550 no such user"]).await;
    let journal = memory();
    let running = Running::start(&smtp(&server, &["one@hospital.example", "two@hospital.example"]), arc(&journal), &fresh.store);
    let t = raised(1);
    say(&journal, P0, std::slice::from_ref(&t)).await;
    let pages = eventually("both settled", || async {
        let pages = told(&fresh.store, t.alert, "page").await;
        (pages.len() == 2 && pages.iter().all(|n| matches!(n.state, State::Sent | State::Failed))).then_some(pages)
    })
    .await;
    running.stop().await;
    assert_eq!(pages.iter().filter(|n| n.state == State::Failed && n.attempts == 1).count(), 1, "{pages:?}");
    assert_eq!(server.mails.lock().unwrap().len(), 1);
    let history = fresh.store.history(t.alert).await.unwrap();
    assert_eq!(history.iter().filter(|entry| entry.what == What::PageFailed).count(), 1, "and the alert shows it");
}
