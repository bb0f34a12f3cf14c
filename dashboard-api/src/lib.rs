//! REST, server-sent events, the OpenAPI document and the web page.
