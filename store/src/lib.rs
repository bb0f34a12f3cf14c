//! Relational state on SQLite or PostgreSQL: patients, devices, settings, rules, episodes, users, audit.
//!
//! One set of SQL serves both (`$n`, `ON CONFLICT`, `RETURNING`; TEXT, BIGINT, DOUBLE PRECISION, bytes; times in µs since 1970).
//! Reads and writes are methods of [`Tx`]; [`Store`] offers the same methods, each in a transaction of its own. Several steps that
//! must stand or fall together go through [`Store::transaction`]:
//!
//! ```no_run
//! # async fn example(store: store::Store, topic: &str) -> Result<(), store::StoreError> {
//! use schemas::{Offset, Partition};
//! let mine = store
//!     .transaction(|tx| Box::pin(async move {
//!         if !tx.advance("alerts", topic, Partition(0), Offset(10), Offset(20)).await? {
//!             return Ok(false); // someone else did it
//!         }
//!         // episodes, notifications, timers …
//!         Ok(true)
//!     }))
//!     .await?;
//! # let _ = mine; Ok(()) }
//! ```
//!
//! **Promises.** A transaction is serializable: on PostgreSQL by isolation and retry, on SQLite by one writer connection. What
//! [`Store::transaction`] returned `Ok` for survives a crash (SQLite `synchronous=FULL`). The closure may run more than once, so it
//! does no I/O besides the transaction and changes nothing outside it.
//!
//! **Never.** It reads no clock (a `now` is an argument), keeps no password or token in the clear, and logs no name of a patient.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod db;
mod error;
mod migrate;

pub mod audit;
pub mod backtests;
pub mod episodes;
pub mod erasures;
pub mod lease;
pub mod links;
pub mod meta;
pub mod moves;
pub mod notifications;
pub mod oncall;
pub mod positions;
pub mod registry;
pub mod rule_changes;
pub mod secrets;
pub mod settings;
pub mod shifts;
pub mod timers;
pub mod troubles;
pub mod users;
pub mod wards;

pub use db::{BoxFuture, Engine, Store, Tx};
pub use error::StoreError;
