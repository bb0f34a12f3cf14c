//! Mail by SMTP: one message per address, so that a refused one keeps no page from the others.

use std::sync::Arc;

use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::response::Code;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use tokio::sync::Semaphore;

use super::{CONNECT, Delivered, Undelivered};
use crate::text::Message;
use crate::{AlertsError, Smtp};

/// Conversations at once: mail servers refuse who opens many.
const AT_ONCE: usize = 8;
/// TLS from the first byte.
const SUBMISSIONS: u16 = 465;

pub(super) struct Mail {
    from: Mailbox,
    to: Mailbox,
    transport: AsyncSmtpTransport<Tokio1Executor>,
    turns: Arc<Semaphore>,
}

impl Mail {
    pub fn all(smtp: &Smtp) -> Result<Vec<Self>, AlertsError> {
        let wrong = |why: String| AlertsError::Channel { channel: format!("mail by {}", smtp.host), why };
        let mailbox = |key: &str, text: &str| text.parse::<Mailbox>().map_err(|error| wrong(format!("{key} = {text}: {error}")));
        let from = mailbox("alerts.smtp.from", &smtp.from)?;
        let tls = || TlsParameters::new(smtp.host.clone()).map_err(|error| wrong(error.to_string()));
        let tls = match (smtp.starttls, smtp.port) {
            (false, _) => Tls::None,
            (true, SUBMISSIONS) => Tls::Wrapper(tls()?),
            (true, _) => Tls::Required(tls()?),
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&smtp.host).port(smtp.port).timeout(Some(CONNECT)).tls(tls);
        if !smtp.user.is_empty() {
            let password = smtp.password.as_ref().ok_or_else(|| wrong("alerts.smtp.user needs alerts.smtp.password_file".to_owned()))?;
            if !smtp.starttls {
                tracing::warn!(host = %smtp.host, "alerts.smtp.starttls = false: the password is sent in the clear");
            }
            transport = transport.credentials(Credentials::new(smtp.user.clone(), password.as_str().to_owned()));
        }
        let transport = transport.build::<Tokio1Executor>();
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mail = |to: &String| Ok(Self { from: from.clone(), to: mailbox("alerts.smtp.to", to)?, transport: transport.clone(), turns: turns.clone() });
        smtp.to.iter().map(mail).collect()
    }

    pub fn to(&self) -> &lettre::Address {
        &self.to.email
    }

    pub async fn deliver(&self, message: &Message) -> Delivered {
        let mail = self.write(message).map_err(|error| Undelivered::for_good(error.to_string()))?;
        let _turn = self.turns.acquire().await.map_err(|_| Undelivered::now("this process is ending"))?;
        match self.transport.send(mail).await {
            Ok(answer) => Ok(Some(answer.message().collect::<Vec<_>>().join(" "))),
            Err(error) if error.is_permanent() && !error.status().is_some_and(about_us) => Err(Undelivered::for_good(error.to_string())),
            Err(error) => Err(Undelivered::now(error.to_string())),
        }
    }

    fn write(&self, message: &Message) -> Result<lettre::Message, lettre::error::Error> {
        let id = |key: &str| format!("<{key}@{}>", self.from.email.domain());
        let mut mail = lettre::Message::builder()
            .from(self.from.clone())
            .to(self.to.clone())
            .subject(message.title())
            .message_id(Some(id(&message.key)))
            .date_now()
            .header(ContentType::TEXT_PLAIN)
            // no holiday reply to a page
            .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()));
        if message.key != message.page_key {
            let page = id(&message.page_key);
            mail = mail.in_reply_to(page.clone()).references(page);
        }
        mail.body(message.body())
    }
}

/// A refusal of our sign-in, not of the mail: an operator can mend it, and then the page still arrives.
fn about_us(code: Code) -> bool {
    matches!(u16::from(code), 530 | 534 | 535 | 538)
}
