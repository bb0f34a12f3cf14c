//! REST, server-sent events, the OpenAPI document and the web page.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
