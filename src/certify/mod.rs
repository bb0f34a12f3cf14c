//! `vigil certify`: a vendor's device against the real gateway, on a list. What is judged is pure and here; the gateway, its end and its
//! return are [`stage`]'s.

mod backlog;
mod examiner;
mod facts;
mod list;
pub mod report;
mod resend;
mod seen;
pub mod stage;
#[cfg(test)]
mod tests;

pub use examiner::{Examiner, Order, Pace};
