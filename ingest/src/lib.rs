//! MQTT in, journal out: the gateway that devices connect to, and bridges to brokers that they are connected to already (`bridge`).
//!
//! **Promises.** *I1*: a PUBACK (3.1.1 QoS 2: PUBREC) leaves only after every record of that message is durable, in the order the messages
//! came; the module `receipts` holds the one function that lets it go. *I2*: every entry of a message is appended to `inputs` or to `dead-letters`
//! before that ack. When a receipt fails, the connection ends without the ack, and the device sends again: delivery is at least once, and a
//! reading's id makes the second one harmless. QoS 0 is written all the same, and promised nothing.
//!
//! **Bounded.** Bytes between socket and receipt are taken from one budget of the process; when it is used up, or the journal is full,
//! sockets are not read, and a CONNECT is refused. A packet larger than 16 KiB that is only half here is read on when there is room for it in a part kept for such, and must be
//! whole within 60 s. At most 32 messages of a connection wait for their ack. At most [`HALF_OPEN`] connections may not have sent their
//! CONNECT yet (10 s are given for it); one more costs the oldest its place. An idle connection holds no buffer.
//!
//! **Refuses.** Sessions (Session Present is 0, whatever was asked), retained messages and Wills (MQTT 5: refused with the reason; MQTT 3.1.1
//! has no word for it: a Will is never published, a retain flag is ignored), MQTT 5 QoS 2, topic aliases, every subscription but the
//! device's own `v1/devices/{device}/verdicts`. On that one stands, at QoS 0, the server's time, and what was refused of a message:
//! MQTT 3.1.1 clients learn nowhere else what was wrong.
//!
//! **Identity.** User name = device id, password = the one that was made for it, or a certificate that is registered for it. A revoked device,
//! or one whose password was replaced, is disconnected within about a second.
//!
//! **Never.** It never takes a patient from a payload, never logs a payload or the detail of a refusal, never waits for a slow peer with
//! anything that another peer needs.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod bridge;
mod budget;
mod clocks;
mod closed;
mod connection;
mod connections;
mod conversation;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod gateway;
mod handshake;
mod hello;
mod identity;
mod link;
mod moves;
mod onlooker;
mod packets;
mod passage;
mod receipts;
mod reply;
pub mod telemetry;
mod tls;
mod turns;
mod verdict;
mod view;
mod wire;

pub use bridge::{BadFilter, Bridge, RECEIVE_MAXIMUM, TopicFilter};
pub use connections::HALF_OPEN;
pub use gateway::{Config, Gateway, GatewayError, Tls};
pub use onlooker::{Greeting, Onlooker, Published, Sight};
