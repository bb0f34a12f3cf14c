//! Transitions in, pages out: episodes, escalation, channels, the settings relay.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
