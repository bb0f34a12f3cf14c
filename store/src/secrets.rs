//! Passwords and tokens: made, hashed, compared. Nothing here is stored in the clear.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::StoreError;

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // the operating system's generator; without it there is nothing safe to go on with, and ThreadRng seeds itself from it
    if rand::rngs::SysRng.try_fill_bytes(&mut bytes).is_err() {
        rand::fill(&mut bytes);
    }
    bytes
}

/// 256 random bits, for a session, a link or an API token: 43 characters of base64url.
pub fn random_token() -> Zeroizing<String> {
    Zeroizing::new(URL_SAFE_NO_PAD.encode(random::<32>()))
}

/// A device's password: 192 random bits, 32 characters of base64url. It is typed after options such as `--password` and `-P`: none begins with a
/// hyphen, which the next program could take for an option.
pub fn random_password() -> Zeroizing<String> {
    loop {
        let password = Zeroizing::new(URL_SAFE_NO_PAD.encode(random::<24>()));
        if !password.starts_with('-') {
            return password;
        }
    }
}

/// An id that names nothing: 32 hexadecimal digits.
pub fn random_id() -> String {
    hexadecimal(&random::<16>())
}

/// SHA-256 of a token of ours: enough, because it has 256 random bits.
pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// How a device's password is kept. SHA-256 is enough: it has 192 random bits, and nobody can choose one.
pub fn device_hash(password: &[u8]) -> String {
    let digest = Sha256::digest(password);
    format!("sha256:{}", hexadecimal(&digest))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How a certificate (DER) is registered: its SHA-256, 64 hexadecimal digits.
pub fn fingerprint(certificate: &[u8]) -> String {
    hexadecimal(&Sha256::digest(certificate))
}

/// Compares without telling by its time where they differ.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// The PHC string to store of a password that a person chose: argon2id with 19 MiB and 2 passes (OWASP's figures). Takes tens of milliseconds, on a
/// blocking thread.
pub async fn hash_password(password: &str) -> Result<String, StoreError> {
    let password = Zeroizing::new(password.to_owned());
    tokio::task::spawn_blocking(move || {
        let params = Params::new(19 * 1024, 2, 1, None).map_err(|_| StoreError::Secrets("argon2 parameters"))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hash = argon2.hash_password(password.as_bytes()).map_err(|_| StoreError::Secrets("argon2"))?;
        Ok(hash.to_string())
    })
    .await
    .map_err(|_| StoreError::Secrets("worker thread"))?
}

/// Whether `password` is the one behind the PHC string, on a blocking thread. `None` as `hash` (no such user) costs as much
/// as a wrong password, and is never right.
pub async fn verify_password(password: &str, hash: Option<&str>) -> Result<bool, StoreError> {
    /// Of a random password that nobody has.
    const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5LWhhcy10aGlz$Wm5vYm9keSBoYXMgdGhpcyBwYXNzd29yZCBoZXJlISE";
    let password = Zeroizing::new(password.to_owned());
    let known = hash.is_some();
    let hash = hash.unwrap_or(NOBODY).to_owned();
    let right = tokio::task::spawn_blocking(move || verify_blocking(&password, &hash)).await.map_err(|_| StoreError::Secrets("worker thread"))?;
    Ok(right && known)
}

fn verify_blocking(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_right_or_wrong_and_nobody_has_none() {
        let hash = hash_password("correct horse").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(verify_password("correct horse", Some(&hash)).await.unwrap());
        assert!(!verify_password("battery staple", Some(&hash)).await.unwrap());
        assert!(!verify_password("", None).await.unwrap());
        assert!(!verify_password("x", Some("not a hash")).await.unwrap());
    }

    #[test]
    fn nobodys_hash_is_well_formed_so_that_it_costs_the_same() {
        assert!(PasswordHash::new("$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5LWhhcy10aGlz$Wm5vYm9keSBoYXMgdGhpcyBwYXNzd29yZCBoZXJlISE").is_ok());
    }

    #[test]
    fn no_password_looks_like_an_option() {
        // of those drawn at random one in 64 does
        let passwords: Vec<_> = (0..2000).map(|_| random_password()).collect();
        assert!(passwords.iter().all(|password| password.len() == 32 && !password.starts_with('-')));
    }

    #[test]
    fn tokens_are_long_and_differ() {
        assert_eq!(random_token().len(), 43);
        assert_ne!(*random_token(), *random_token());
        assert!(same(&token_hash("a"), &token_hash("a")) && !same(&token_hash("a"), &token_hash("b")));
    }
}
