//! Which device a CONNECT is of: by a registered certificate, or by a password. Neither takes work, so a fleet that comes back after a restart is let in
//! as fast as it knocks.

use mqtt_protocol_core::mqtt::result_code::ConnectReasonCode;
use schemas::DeviceId;
use store::secrets;

use crate::hello::{Hello, Refusal};
use crate::view::View;

/// A device, and the credential that it came with.
pub(crate) struct Identified {
    pub device: DeviceId,
    pub credential: String,
}

impl Identified {
    /// The device whose certificate this is. TLS has verified that the peer holds its key and that our authority signed it.
    pub fn by_certificate(view: &View, hello: &Hello, fingerprint: &str) -> Result<Self, Refusal> {
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
        Ok(Self { device: device.clone(), credential: credential.clone() })
    }

    /// The device that the user name names, if the password is its own. Nothing here takes longer for a name that is registered.
    pub fn by_password(view: &View, hello: &Hello) -> Result<Self, Refusal> {
        let refuse = |code, label, detail| Refusal::new(hello.version, code, label, detail);
        let hash = secrets::device_hash(hello.password.as_ref().map_or(&[][..], |password| password));
        let device = DeviceId::parse(&hello.user).ok();
        let known = device.and_then(|device| {
            let access = view.access(&device)?;
            let kept = access.passwords.iter().find(|kept| secrets::same(kept.hash.as_bytes(), hash.as_bytes()))?;
            Some((Self { device, credential: kept.credential.clone() }, access.revoked))
        });
        match known {
            Some((identified, false)) => Ok(identified),
            Some((_, true)) => Err(refuse(ConnectReasonCode::NotAuthorized, "revoked", "this device is revoked")),
            None => Err(refuse(ConnectReasonCode::BadUserNameOrPassword, "password", "user name or password is wrong; the user name is the device's id")),
        }
    }
}

#[cfg(test)]
mod tests {
    use schemas::EventTime;
    use store::registry::{Credential, CredentialKind, Device, RegistryView};

    use super::*;
    use crate::wire::Version;

    fn view(password: &str, revoked_at: Option<EventTime>) -> View {
        let id = DeviceId::parse("ox").unwrap();
        let value = secrets::device_hash(password.as_bytes());
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

    #[test]
    fn a_replaced_password_is_wrong() {
        assert!(Identified::by_password(&view("first", None), &hello("ox", "first")).is_ok());
        let after = view("second", None);
        assert!(Identified::by_password(&after, &hello("ox", "first")).is_err());
        assert!(Identified::by_password(&after, &hello("ox", "second")).is_ok());
        assert!(
            Identified::by_password(&after, &hello("ox", &after.access(&DeviceId::parse("ox").unwrap()).unwrap().passwords[0].hash)).is_err(),
            "the hash is no password"
        );
    }

    #[test]
    fn only_who_knows_the_password_learns_that_a_device_is_revoked() {
        let view = view("first", Some(EventTime(1)));
        for (user, password, code) in [
            ("ox", "first", ConnectReasonCode::NotAuthorized),
            ("ox", "wrong", ConnectReasonCode::BadUserNameOrPassword),
            ("toaster", "first", ConnectReasonCode::BadUserNameOrPassword),
            ("../ox", "first", ConnectReasonCode::BadUserNameOrPassword),
        ] {
            let refused = Identified::by_password(&view, &hello(user, password)).err().unwrap();
            assert_eq!(refused.code, code, "{user} {password}");
        }
    }
}
