//! MQTT in, journal out: the gateway that devices connect to.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
