//! Who may sign in: users, one-time links, sessions and API tokens. Tokens are kept as SHA-256, passwords as argon2.

use schemas::EventTime;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::db::{Row, args, on_store, words};
use crate::secrets;
use crate::{Store, StoreError, Tx};

words! {
    Role {
        /// Users, devices, rules, and all a clinician may.
        Admin = "admin",
        /// Patients, alerts, settings.
        Clinician = "clinician",
        /// The lake and the back-test; nobody's name.
        Analyst = "analyst",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub name: String,
    pub role: Role,
    pub created_at: EventTime,
    pub disabled_at: Option<EventTime>,
}

/// A session that is valid now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub user: User,
    pub expires_at: EventTime,
}

/// An API token, without the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    pub id: String,
    pub person: String,
    pub label: String,
    pub scopes: Vec<String>,
    pub created_at: EventTime,
    pub expires_at: Option<EventTime>,
    pub revoked_at: Option<EventTime>,
}

on_store! {
    read fn user(name: &str) -> User;
    read fn users() -> Vec<User>;
    write fn add_user(user: &User) -> ();
    write fn disable_user(name: &str, now: EventTime) -> ();
    read fn session(token: &str, now: EventTime) -> Option<Session>;
    write fn end_session(token: &str) -> bool;
    write fn extend_session(token: &str, expires_at: EventTime) -> bool;
    write fn remove_expired(now: EventTime) -> u64;
    read fn api_token(token: &str, now: EventTime) -> Option<(User, ApiToken)>;
    read fn api_tokens(person: Option<&str>) -> Vec<ApiToken>;
    write fn revoke_api_token(id: &str, now: EventTime) -> ();
}

impl Store {
    /// Sets a password that a person chose; 12 characters at least. All sessions of the user end.
    pub async fn set_password(&self, name: &str, password: &str) -> Result<(), StoreError> {
        if password.chars().count() < 12 {
            return Err(StoreError::Invalid { what: "the password", why: "it needs 12 characters or more".into() });
        }
        let hash = secrets::hash_password(password).await?;
        let hash = hash.as_str();
        self.transaction(|tx| {
            Box::pin(async move {
                if tx.execute("UPDATE users SET password = $2 WHERE name = $1", args![name, hash]).await? == 0 {
                    return Err(StoreError::not_found("user", name));
                }
                tx.execute("DELETE FROM sessions WHERE person = $1", args![name]).await?;
                Ok(())
            })
        })
        .await
    }

    /// The user, if the password is theirs and they are not disabled. An unknown name takes as long as a wrong password.
    pub async fn check_password(&self, name: &str, password: &str) -> Result<Option<User>, StoreError> {
        let mut tx = self.begin_read().await?;
        let row = tx.row(&format!("SELECT {USER}, password FROM users WHERE name = $1 AND disabled_at IS NULL"), args![name]).await?;
        drop(tx);
        let hash = row.as_ref().map(|row| row.opt_text(4)).transpose()?.flatten();
        let right = secrets::verify_password(password, hash.as_deref()).await?;
        row.filter(|_| right).map(|row| user(&row)).transpose()
    }

    /// A session for the user; the token is for the cookie and is not kept.
    pub async fn new_session(&self, name: &str, now: EventTime, expires_at: EventTime) -> Result<Zeroizing<String>, StoreError> {
        let token = secrets::random_token();
        let hash = secrets::token_hash(&token);
        self.transaction(|tx| Box::pin(async move { tx.put_session(name, &hash, now, expires_at).await })).await?;
        Ok(token)
    }

    /// A link that signs its user in once.
    pub async fn new_one_time_link(&self, name: &str, expires_at: EventTime) -> Result<Zeroizing<String>, StoreError> {
        let token = secrets::random_token();
        let hash = secrets::token_hash(&token);
        self.transaction(|tx| {
            Box::pin(async move {
                tx.user(name).await?;
                let sql = "INSERT INTO one_time_links (token, person, expires_at) VALUES ($1, $2, $3)";
                tx.execute(sql, args![&hash, name, expires_at]).await?;
                Ok(())
            })
        })
        .await?;
        Ok(token)
    }

    /// Turns a link into a session: the user and the session's token; `None` if it is unknown, used, expired, or its user disabled.
    pub async fn use_one_time_link(&self, link: &str, now: EventTime, expires_at: EventTime) -> Result<Option<(User, Zeroizing<String>)>, StoreError> {
        let token = secrets::random_token();
        let hash = secrets::token_hash(&token);
        let link = secrets::token_hash(link);
        let user = self
            .transaction(|tx| {
                Box::pin(async move {
                    let sql = "UPDATE one_time_links SET used_at = $2 WHERE token = $1 AND used_at IS NULL AND expires_at > $2 RETURNING person";
                    let Some(row) = tx.row(sql, args![&link, now]).await? else { return Ok(None) };
                    let user = tx.user(&row.text(0)?).await?;
                    if user.disabled_at.is_some() {
                        return Ok(None);
                    }
                    tx.put_session(&user.name, &hash, now, expires_at).await?;
                    Ok(Some(user))
                })
            })
            .await?;
        Ok(user.map(|user| (user, token)))
    }

    /// An API token; the second of the pair is the token, which is not kept.
    pub async fn new_api_token(
        &self,
        person: &str,
        label: &str,
        scopes: &[&str],
        now: EventTime,
        expires_at: Option<EventTime>,
    ) -> Result<(ApiToken, Zeroizing<String>), StoreError> {
        let token = Zeroizing::new(format!("vigil_{}", *secrets::random_token()));
        let hash = secrets::token_hash(&token);
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        if scopes.iter().any(|scope| scope.is_empty() || scope.contains(char::is_whitespace)) {
            return Err(StoreError::Invalid { what: "the scope", why: "it is one word".into() });
        }
        let made =
            ApiToken { id: secrets::random_id(), person: person.to_owned(), label: label.to_owned(), scopes, created_at: now, expires_at, revoked_at: None };
        let row = &made;
        self.transaction(|tx| {
            Box::pin(async move {
                tx.user(&row.person).await?;
                let sql = "INSERT INTO api_tokens (id, token, person, label, scopes, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
                tx.execute(sql, args![&row.id, &hash, &row.person, &row.label, row.scopes.join(" "), row.created_at, row.expires_at]).await?;
                Ok(())
            })
        })
        .await?;
        Ok((made, token))
    }
}

const USER: &str = "name, role, created_at, disabled_at";
const TOKEN: &str = "id, person, label, scopes, created_at, expires_at, revoked_at";

fn user(row: &Row) -> Result<User, StoreError> {
    Ok(User { name: row.text(0)?, role: row.parse(1, "role")?, created_at: row.time(2)?, disabled_at: row.opt_time(3)? })
}

fn api_token(row: &Row) -> Result<ApiToken, StoreError> {
    Ok(ApiToken {
        id: row.text(0)?,
        person: row.text(1)?,
        label: row.text(2)?,
        scopes: row.text(3)?.split_whitespace().map(str::to_owned).collect(),
        created_at: row.time(4)?,
        expires_at: row.opt_time(5)?,
        revoked_at: row.opt_time(6)?,
    })
}

impl Tx<'_> {
    pub async fn user(&mut self, name: &str) -> Result<User, StoreError> {
        let row = self.row(&format!("SELECT {USER} FROM users WHERE name = $1"), args![name]).await?;
        user(&row.ok_or_else(|| StoreError::not_found("user", name))?)
    }

    pub async fn users(&mut self) -> Result<Vec<User>, StoreError> {
        self.rows(&format!("SELECT {USER} FROM users ORDER BY name"), &[]).await?.iter().map(user).collect()
    }

    /// Without a password: the user signs in by a one-time link until [`Store::set_password`].
    pub async fn add_user(&mut self, user: &User) -> Result<(), StoreError> {
        if user.name.is_empty() || user.name.len() > 64 || user.name.contains(char::is_control) {
            return Err(StoreError::Invalid { what: "the user's name", why: "it has 1 to 64 printable characters".into() });
        }
        let sql = "INSERT INTO users (name, role, created_at, disabled_at) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING";
        if self.execute(sql, args![&user.name, user.role.as_str(), user.created_at, user.disabled_at]).await? == 0 {
            return Err(StoreError::Exists { what: "user", id: user.name.clone() });
        }
        Ok(())
    }

    /// Ends the user's sessions as well; API tokens and links stop working.
    pub async fn disable_user(&mut self, name: &str, now: EventTime) -> Result<(), StoreError> {
        if self.execute("UPDATE users SET disabled_at = COALESCE(disabled_at, $2) WHERE name = $1", args![name, now]).await? == 0 {
            return Err(StoreError::not_found("user", name));
        }
        self.execute("DELETE FROM sessions WHERE person = $1", args![name]).await?;
        Ok(())
    }

    async fn put_session(&mut self, name: &str, hash: &[u8; 32], now: EventTime, expires_at: EventTime) -> Result<(), StoreError> {
        if self.user(name).await?.disabled_at.is_some() {
            return Err(StoreError::Conflict("the user is disabled"));
        }
        let sql = "INSERT INTO sessions (token, person, created_at, expires_at) VALUES ($1, $2, $3, $4)";
        self.execute(sql, args![hash, name, now, expires_at]).await?;
        Ok(())
    }

    /// `None`: unknown, ended, expired, or its user disabled.
    pub async fn session(&mut self, token: &str, now: EventTime) -> Result<Option<Session>, StoreError> {
        let sql = "SELECT u.name, u.role, u.created_at, u.disabled_at, s.expires_at FROM sessions s JOIN users u ON u.name = s.person
                   WHERE s.token = $1 AND s.expires_at > $2 AND u.disabled_at IS NULL";
        let row = self.row(sql, args![&secrets::token_hash(token), now]).await?;
        row.map(|row| Ok(Session { user: user(&row)?, expires_at: row.time(4)? })).transpose()
    }

    pub async fn end_session(&mut self, token: &str) -> Result<bool, StoreError> {
        Ok(self.execute("DELETE FROM sessions WHERE token = $1", args![&secrets::token_hash(token)]).await? > 0)
    }

    pub async fn extend_session(&mut self, token: &str, expires_at: EventTime) -> Result<bool, StoreError> {
        Ok(self.execute("UPDATE sessions SET expires_at = $2 WHERE token = $1", args![&secrets::token_hash(token), expires_at]).await? > 0)
    }

    /// Sessions and links that are over; how many.
    pub async fn remove_expired(&mut self, now: EventTime) -> Result<u64, StoreError> {
        let sessions = self.execute("DELETE FROM sessions WHERE expires_at <= $1", args![now]).await?;
        Ok(sessions + self.execute("DELETE FROM one_time_links WHERE expires_at <= $1", args![now]).await?)
    }

    /// `None`: unknown, revoked, expired, or its user disabled.
    pub async fn api_token(&mut self, token: &str, now: EventTime) -> Result<Option<(User, ApiToken)>, StoreError> {
        let sql = format!("SELECT {TOKEN} FROM api_tokens WHERE token = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)");
        let Some(row) = self.row(&sql, args![&secrets::token_hash(token), now]).await? else { return Ok(None) };
        let token = api_token(&row)?;
        let user = self.user(&token.person).await?;
        Ok(user.disabled_at.is_none().then_some((user, token)))
    }

    pub async fn api_tokens(&mut self, person: Option<&str>) -> Result<Vec<ApiToken>, StoreError> {
        let rows = match person {
            Some(person) => self.rows(&format!("SELECT {TOKEN} FROM api_tokens WHERE person = $1 ORDER BY created_at, id"), args![person]).await?,
            None => self.rows(&format!("SELECT {TOKEN} FROM api_tokens ORDER BY created_at, id"), &[]).await?,
        };
        rows.iter().map(api_token).collect()
    }

    pub async fn revoke_api_token(&mut self, id: &str, now: EventTime) -> Result<(), StoreError> {
        if self.execute("UPDATE api_tokens SET revoked_at = COALESCE(revoked_at, $2) WHERE id = $1", args![id, now]).await? == 0 {
            return Err(StoreError::not_found("API token", id));
        }
        Ok(())
    }
}
