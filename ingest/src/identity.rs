//! Which device a CONNECT is of. A certificate is registered, and costs nothing. A password costs argon2 once; who was right before is known again without it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use mqtt_protocol_core::mqtt::result_code::ConnectReasonCode;
use schemas::DeviceId;
use sha2::{Digest as _, Sha256};
use store::StoreError;
use tokio::sync::Semaphore;

use crate::hello::{Hello, Refusal};
use crate::view::View;

/// Right passwords remembered; more than this and it starts anew.
const REMEMBERED: usize = 1 << 18;
/// Guesses that may stand in line; more are refused without the work.
const GUESSES: usize = 64;
/// Passwords of one device that may stand in line: whoever guesses holds up that device and nobody else.
const OF_ONE: usize = 4;

pub(crate) struct Identity {
    salt: [u8; 32],
    /// SHA-256 of salt, device, password and the hash that it was right for: a replaced password is not remembered under the new one.
    right: Mutex<HashSet<[u8; 32]>>,
    workers: Semaphore,
    /// Guesses at names stand in a short line of their own, so that they cost as much as a wrong password and hold up nobody.
    strangers: Semaphore,
    guesses: AtomicUsize,
    /// Passwords in line, by device.
    in_line: Mutex<HashMap<DeviceId, usize>>,
}

/// A place in a device's line, free again when dropped.
struct InLine<'a>(&'a Mutex<HashMap<DeviceId, usize>>, DeviceId);

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = line.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                line.remove(&self.1);
            }
        }
    }
}

/// A device, and the credential that it came with.
pub(crate) struct Identified {
    pub device: DeviceId,
    pub credential: String,
}

impl Identity {
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let salt = rand::random();
        Self {
            salt,
            right: Mutex::default(),
            workers: Semaphore::new(cores.clamp(2, 8)),
            strangers: Semaphore::new(1),
            guesses: AtomicUsize::new(0),
            in_line: Mutex::default(),
        }
    }

    /// The device whose certificate this is. TLS has verified that the peer holds its key and that our authority signed it.
    pub fn certified(view: &View, hello: &Hello, fingerprint: &str) -> Result<Identified, Refusal> {
        let refuse = |code, label, detail| Refusal::new(hello.version, code, label, detail);
        let Some((device, credential)) = view.certified(fingerprint) else {
            return Err(refuse(ConnectReasonCode::NotAuthorized, "certificate", "this certificate is not registered, or no longer"));
        };
        if !hello.user.is_empty() && hello.user != device.as_str() {
            return Err(refuse(ConnectReasonCode::BadUserNameOrPassword, "certificate", "the certificate is another device's than the user name"));
        }
        if view.access(device).is_none_or(|access| access.revoked) {
            return Err(refuse(ConnectReasonCode::NotAuthorized, "revoked", "this device is revoked"));
        }
        Ok(Identified { device: device.clone(), credential: credential.clone() })
    }

    /// A device that was right before, without any work.
    pub fn recall(&self, view: &View, hello: &Hello) -> Option<Identified> {
        let password = std::str::from_utf8(hello.password.as_deref()?).ok()?;
        let device = DeviceId::parse(&hello.user).ok()?;
        let access = view.access(&device).filter(|access| !access.revoked)?;
        let remembered = self.remembered();
        let kept = access.passwords.iter().find(|kept| remembered.contains(&self.key(&device, password, &kept.hash)))?;
        Some(Identified { credential: kept.credential.clone(), device })
    }

    fn stand_in_line(&self, device: &DeviceId) -> Option<InLine<'_>> {
        let mut line = self.in_line.lock().unwrap_or_else(PoisonError::into_inner);
        let count = line.entry(device.clone()).or_default();
        if *count >= OF_ONE {
            return None;
        }
        *count += 1;
        Some(InLine(&self.in_line, device.clone()))
    }

    pub async fn check(&self, view: &View, hello: &Hello) -> Result<Identified, Refusal> {
        let refuse = |code, label, detail| Refusal::new(hello.version, code, label, detail);
        let wrong = || refuse(ConnectReasonCode::BadUserNameOrPassword, "password", "user name or password is wrong; the user name is the device's id");
        let unknown = |error: StoreError| {
            tracing::warn!(%error, "a password could not be verified");
            refuse(ConnectReasonCode::ServerUnavailable, "unavailable", "the password could not be verified; try again")
        };
        let Some(password) = hello.password.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()) else { return Err(wrong()) };
        let access = DeviceId::parse(&hello.user).ok().and_then(|device| Some((view.access(&device)?, device)));
        let Some((access, device)) = access.filter(|(access, _)| !access.passwords.is_empty()) else {
            self.guess(password).await.map_err(unknown)?;
            return Err(wrong());
        };
        let Some(_line) = self.stand_in_line(&device) else {
            return Err(refuse(ConnectReasonCode::ServerBusy, "busy", "too many connect as this device at once; try again"));
        };
        for kept in &access.passwords {
            if self.verify(&device, password, &kept.hash).await.map_err(unknown)? {
                if access.revoked {
                    return Err(refuse(ConnectReasonCode::NotAuthorized, "revoked", "this device is revoked"));
                }
                return Ok(Identified { device, credential: kept.credential.clone() });
            }
        }
        Err(wrong())
    }

    async fn verify(&self, device: &DeviceId, password: &str, hash: &str) -> Result<bool, StoreError> {
        let key = self.key(device, password, hash);
        if self.remembered().contains(&key) {
            return Ok(true);
        }
        // nobody closes the semaphore
        let _turn = self.workers.acquire().await.ok();
        if self.remembered().contains(&key) {
            return Ok(true);
        }
        let right = store::secrets::verify_password(password, Some(hash)).await?;
        if right {
            let mut remembered = self.remembered();
            if remembered.len() >= REMEMBERED {
                remembered.clear();
            }
            remembered.insert(key);
        }
        Ok(right)
    }

    async fn guess(&self, password: &str) -> Result<(), StoreError> {
        if self.guesses.fetch_add(1, Ordering::Relaxed) >= GUESSES {
            self.guesses.fetch_sub(1, Ordering::Relaxed);
            return Ok(());
        }
        let _turn = self.strangers.acquire().await.ok();
        self.guesses.fetch_sub(1, Ordering::Relaxed);
        store::secrets::verify_password(password, None).await.map(|_| ())
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; 32]>> {
        self.right.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, device: &DeviceId, password: &str, hash: &str) -> [u8; 32] {
        let mut sha = Sha256::new_with_prefix(self.salt);
        for part in [device.as_str(), password, hash] {
            sha.update((part.len() as u64).to_le_bytes());
            sha.update(part);
        }
        sha.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use schemas::EventTime;
    use store::registry::{Credential, CredentialKind, Device, RegistryView};

    use super::*;
    use crate::wire::Version;

    async fn view(password: &str, revoked_at: Option<EventTime>) -> View {
        let id = DeviceId::parse("ox").unwrap();
        let value = store::secrets::hash_password(password, store::secrets::Strength::Chosen).await.unwrap();
        let device = Device { id: id.clone(), model: String::new(), test: false, hub: None, created_at: EventTime(0), revoked_at, min_time: EventTime(0) };
        let credential = Credential { id: "1".to_owned(), device: id, kind: CredentialKind::Password, value, created_at: EventTime(0), revoked_at: None };
        View::new(RegistryView { version: 1, devices: vec![device], credentials: vec![credential], assignments: Vec::new() })
    }

    fn hello(user: &str, password: &str) -> Hello {
        Hello {
            version: Version::V5,
            user: user.to_owned(),
            password: Some(password.as_bytes().to_vec().into()),
            client: String::new(),
            assigned: true,
            patience: None,
            problems: true,
            max_packet: usize::MAX,
            wants_session: false,
        }
    }

    #[tokio::test]
    async fn a_right_password_is_remembered_for_its_hash_only() {
        let identity = Identity::new();
        let before = view("first", None).await;
        assert!(identity.check(&before, &hello("ox", "first")).await.is_ok());
        let started = Instant::now();
        for _ in 0..1000 {
            assert!(identity.check(&before, &hello("ox", "first")).await.is_ok());
        }
        assert!(started.elapsed().as_secs() < 5, "argon2 would take longer: {:?}", started.elapsed());
        let after = view("second", None).await;
        assert!(identity.check(&after, &hello("ox", "first")).await.is_err(), "it was replaced");
        assert!(identity.check(&after, &hello("ox", "second")).await.is_ok());
    }

    #[tokio::test]
    async fn only_who_knows_the_password_learns_that_a_device_is_revoked() {
        let identity = Identity::new();
        let view = view("first", Some(EventTime(1))).await;
        for (user, password, code) in [
            ("ox", "first", ConnectReasonCode::NotAuthorized),
            ("ox", "wrong", ConnectReasonCode::BadUserNameOrPassword),
            ("toaster", "first", ConnectReasonCode::BadUserNameOrPassword),
            ("../ox", "first", ConnectReasonCode::BadUserNameOrPassword),
        ] {
            let refused = identity.check(&view, &hello(user, password)).await.err().unwrap();
            assert_eq!(refused.code, code, "{user} {password}");
        }
    }
}
