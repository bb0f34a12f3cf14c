//! How often somebody may try to sign in: a bucket for each name and one for each address, both small.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;

use crate::problem::Problem;

/// Attempts on one name at once, and how long until one more.
const NAME: (u32, Duration) = (5, Duration::from_secs(20));
/// Attempts from one address: a ward may share one.
const ADDRESS: (u32, Duration) = (30, Duration::from_secs(2));
/// More keys than this are not remembered: those that are full again give way first.
const KEYS: usize = 10_000;

struct Buckets<K> {
    size: u32,
    every: Duration,
    /// When the bucket is full again.
    full_at: HashMap<K, Instant>,
}

impl<K: Eq + Hash> Buckets<K> {
    fn new((size, every): (u32, Duration)) -> Self {
        Self { size, every, full_at: HashMap::new() }
    }

    /// Takes one, or says how long to wait.
    fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        if self.full_at.len() >= KEYS {
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        if self.full_at.len() >= KEYS && !self.full_at.contains_key(&key) {
            return Err(self.every);
        }
        let full_at = self.full_at.entry(key).or_insert(now);
        let after = (*full_at).max(now) + self.every;
        let most = now + self.every * self.size;
        if after > most {
            return Err(after - most);
        }
        *full_at = after;
        Ok(())
    }

    fn give_back(&mut self, key: &K) {
        let every = self.every;
        if let Some(full_at) = self.full_at.get_mut(key)
            && let Some(before) = full_at.checked_sub(every)
        {
            *full_at = before;
        }
    }
}

pub(crate) struct SignInLimits {
    names: Mutex<Buckets<String>>,
    addresses: Mutex<Buckets<IpAddr>>,
}

/// One household has a /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(|| IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))), IpAddr::V4),
    }
}

impl SignInLimits {
    pub fn new() -> Self {
        Self { names: Mutex::new(Buckets::new(NAME)), addresses: Mutex::new(Buckets::new(ADDRESS)) }
    }

    /// Before an attempt. Without a name: by link.
    pub fn take(&self, name: Option<&str>, address: IpAddr, now: Instant) -> Result<(), Problem> {
        let by_address = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).take(network(address), now);
        // who has had their turns fills no table with invented names
        let by_name = |()| name.map_or(Ok(()), |name| self.names.lock().unwrap_or_else(PoisonError::into_inner).take(name.to_owned(), now));
        by_address.and_then(by_name).map_err(|wait| {
            let seconds = wait.as_secs() + 1;
            let problem = Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "/problems/too-many-attempts",
                "Too many attempts",
                "too many attempts to sign in with this name or from this address",
                format!("wait {seconds} s, then try again"),
            );
            problem.header(RETRY_AFTER, HeaderValue::from(seconds))
        })
    }

    /// After a success: it was no guess.
    pub fn give_back(&self, name: Option<&str>, address: IpAddr) {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).give_back(&network(address));
        if let Some(name) = name {
            self.names.lock().unwrap_or_else(PoisonError::into_inner).give_back(&name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_its_size_through_and_then_one_at_a_time() {
        let start = Instant::now();
        let mut buckets = Buckets::new((3, Duration::from_secs(10)));
        for _ in 0..3 {
            assert!(buckets.take("a", start).is_ok());
        }
        assert_eq!(buckets.take("a", start), Err(Duration::from_secs(10)));
        assert!(buckets.take("b", start).is_ok(), "another key has its own bucket");
        let later = start + Duration::from_secs(10);
        assert!(buckets.take("a", later).is_ok());
        assert!(buckets.take("a", later).is_err());
        buckets.give_back(&"a");
        assert!(buckets.take("a", later).is_ok());
    }

    #[test]
    fn a_household_of_ipv6_is_one_address() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
