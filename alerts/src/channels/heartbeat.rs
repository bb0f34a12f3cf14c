//! The call by which somebody outside knows that patients are watched.

use reqwest::Client;
use url::Url;

use super::{Undelivered, http};
use crate::AlertsError;

pub(crate) fn client() -> Result<Client, AlertsError> {
    http::client()
}

pub(crate) async fn call(client: &Client, url: &Url) -> Result<(), Undelivered> {
    http::send(client.get(url.clone())).await.map(drop)
}
