//! CONNECT, read into what we need of it, and the CONNACK that answers it.

use std::time::Duration;

use mqtt_protocol_core::mqtt::packet::{
    AssignedClientIdentifier, MaximumPacketSize, MaximumQos, Property, Qos, ReasonString, ReceiveMaximum, RetainAvailable, SessionExpiryInterval,
    SharedSubscriptionAvailable, SubscriptionIdentifierAvailable, TopicAliasMaximum, WildcardSubscriptionAvailable, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::{ConnectReasonCode, ConnectReturnCode, MqttError};
use zeroize::Zeroizing;

use crate::connection::WINDOW;
use crate::wire::{Version, kind};

const CONNACK: u8 = 0x20;

/// What a CONNECT asks for.
pub(crate) struct Hello {
    pub version: Version,
    /// As it came: not yet known to be a device's. Empty only of who showed a certificate.
    pub user: String,
    pub password: Option<Zeroizing<Vec<u8>>>,
    pub client: String,
    /// The client left the choice to us.
    pub assigned: bool,
    /// One and a half keep alives; `None`: for ever.
    pub patience: Option<Duration>,
    /// The client wants to be told why a publish was refused.
    pub problems: bool,
    /// The largest packet that the client takes.
    pub max_packet: usize,
    /// It asked for a session that outlives the connection.
    pub wants_session: bool,
}

/// A CONNECT that is not accepted, in the words of both versions.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// How to answer; `None`: not at all, since nobody can tell what it was.
    pub version: Option<Version>,
    pub code: ConnectReasonCode,
    /// The reason of the metric.
    pub label: &'static str,
    pub detail: &'static str,
    /// The largest packet that the client takes, as far as that was read.
    most: usize,
}

impl Refusal {
    pub const fn new(version: Version, code: ConnectReasonCode, label: &'static str, detail: &'static str) -> Self {
        Self { version: Some(version), code, label, detail, most: usize::MAX }
    }

    pub const fn within(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// The CONNACK; empty when there is none to give.
    pub fn encode(&self) -> Vec<u8> {
        match self.version {
            None => Vec::new(),
            Some(Version::V3) => self.encode_v3(),
            Some(Version::V5) => {
                let whole = encode_v5(self.code, vec![ReasonString::new(self.detail).map(Property::ReasonString)]);
                let bare = [CONNACK, 3, 0, self.code as u8, 0];
                match self.most {
                    most if whole.len() <= most => whole,
                    most if bare.len() <= most => bare.to_vec(),
                    _ => Vec::new(),
                }
            }
        }
    }

    /// MQTT 3.1.1 has five words, and closes without one where none fits.
    fn encode_v3(&self) -> Vec<u8> {
        let code = match self.code {
            ConnectReasonCode::UnsupportedProtocolVersion => ConnectReturnCode::UnacceptableProtocolVersion,
            ConnectReasonCode::ClientIdentifierNotValid => ConnectReturnCode::IdentifierRejected,
            ConnectReasonCode::ServerBusy | ConnectReasonCode::ServerUnavailable | ConnectReasonCode::QuotaExceeded => ConnectReturnCode::ServerUnavailable,
            ConnectReasonCode::BadUserNameOrPassword => ConnectReturnCode::BadUserNameOrPassword,
            ConnectReasonCode::NotAuthorized => ConnectReturnCode::NotAuthorized,
            _ => return Vec::new(),
        };
        vec![CONNACK, 2, 0, code as u8]
    }
}

fn encode_v5(code: ConnectReasonCode, properties: Vec<Result<Property, MqttError>>) -> Vec<u8> {
    let packet = properties
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .and_then(|properties| v5_0::Connack::builder().session_present(false).reason_code(code).props(properties).build());
    match packet {
        Ok(packet) => packet.to_continuous_buffer(),
        Err(error) => {
            tracing::error!(%error, "a connack could not be written");
            Vec::new()
        }
    }
}

impl Hello {
    /// Reads a whole packet whose kind is CONNECT. Who showed a certificate need not give a name.
    pub fn parse(packet: &[u8], header: usize, certified: bool) -> Result<Self, Refusal> {
        let body = &packet[header..];
        let unreadable = |version, code, detail| Err(Refusal { version, code, label: "malformed", detail, most: usize::MAX });
        if packet[0] != kind::CONNECT << 4 {
            return unreadable(None, ConnectReasonCode::MalformedPacket, "a CONNECT whose reserved bits are set");
        }
        match body {
            [0, 4, b'M', b'Q', b'T', b'T', level, flags, ..] => {
                let version = match level {
                    4 => Version::V3,
                    5 => Version::V5,
                    _ => {
                        let version = if *level > 5 { Version::V5 } else { Version::V3 };
                        let detail = "MQTT 3.1.1 and 5 are spoken here";
                        return Err(Refusal::new(version, ConnectReasonCode::UnsupportedProtocolVersion, "version", detail));
                    }
                };
                if !flags_are_sound(*flags) {
                    return unreadable(Some(version), ConnectReasonCode::MalformedPacket, "a CONNECT whose flags contradict each other");
                }
                if version == Version::V5 && flags & 0b1100_0000 == 0b0100_0000 {
                    // allowed in MQTT 5, and the library calls it an error of the protocol
                    return Err(Refusal::new(version, ConnectReasonCode::BadUserNameOrPassword, "no_user_name", NO_USER));
                }
                if version == Version::V3 { Self::parse_v3(body, certified) } else { Self::parse_v5(body, certified) }
            }
            // MQTT 3.1
            [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', ..] => {
                Err(Refusal::new(Version::V3, ConnectReasonCode::UnsupportedProtocolVersion, "version", "MQTT 3.1.1 and 5 are spoken here"))
            }
            _ => unreadable(None, ConnectReasonCode::MalformedPacket, "not a CONNECT of MQTT"),
        }
    }

    fn parse_v3(body: &[u8], certified: bool) -> Result<Self, Refusal> {
        let refuse = |code, label, detail| Refusal::new(Version::V3, code, label, detail);
        let malformed = || refuse(ConnectReasonCode::MalformedPacket, "malformed", "a CONNECT that cannot be read");
        let (connect, read) = v3_1_1::Connect::parse(body).map_err(|_| malformed())?;
        if read != body.len() {
            return Err(malformed());
        }
        if connect.client_id().is_empty() && !connect.clean_session() {
            return Err(refuse(ConnectReasonCode::ClientIdentifierNotValid, "client_id", "an empty client id needs a clean session"));
        }
        Ok(Self {
            version: Version::V3,
            user: user(connect.user_name(), certified).ok_or_else(|| refuse(ConnectReasonCode::BadUserNameOrPassword, "no_user_name", NO_USER))?,
            password: connect.password().map(|bytes| Zeroizing::new(bytes.to_vec())),
            client: connect.client_id().to_owned(),
            assigned: connect.client_id().is_empty(),
            patience: patience(connect.keep_alive()),
            problems: false,
            max_packet: usize::MAX,
            wants_session: false,
        })
    }

    fn parse_v5(body: &[u8], certified: bool) -> Result<Self, Refusal> {
        let malformed = || Refusal::new(Version::V5, ConnectReasonCode::MalformedPacket, "malformed", "a CONNECT that cannot be read");
        let broken = |detail| Refusal::new(Version::V5, ConnectReasonCode::ProtocolError, "malformed", detail);
        let (connect, read) = v5_0::Connect::parse(body).map_err(|error| match error {
            MqttError::ProtocolError => broken("a CONNECT whose properties break the protocol"),
            _ => malformed(),
        })?;
        if read != body.len() {
            return Err(malformed());
        }
        let most = connect.props().iter().find_map(|property| if let Property::MaximumPacketSize(most) = property { Some(most.val() as usize) } else { None });
        let max_packet = most.unwrap_or(usize::MAX);
        let refuse = |code, label, detail| Refusal::new(Version::V5, code, label, detail).within(max_packet);
        if connect.will_flag() {
            let code = match (connect.will_retain(), connect.will_qos()) {
                (true, _) => ConnectReasonCode::RetainNotSupported,
                (false, Qos::ExactlyOnce) => ConnectReasonCode::QosNotSupported,
                (false, _) => ConnectReasonCode::ImplementationSpecificError,
            };
            return Err(refuse(code, "will", "there are no Will messages here; connect without one"));
        }
        let mut hello = Self {
            version: Version::V5,
            user: user(connect.user_name(), certified).ok_or_else(|| refuse(ConnectReasonCode::BadUserNameOrPassword, "no_user_name", NO_USER))?,
            password: connect.password().map(|bytes| Zeroizing::new(bytes.to_vec())),
            client: connect.client_id().to_owned(),
            assigned: connect.client_id().is_empty(),
            patience: patience(connect.keep_alive()),
            problems: true,
            max_packet,
            wants_session: false,
        };
        let mut proof = false;
        for property in connect.props() {
            match property {
                Property::RequestProblemInformation(wanted) => hello.problems = wanted.val() == 1,
                Property::SessionExpiryInterval(interval) => hello.wants_session = interval.val() > 0,
                Property::AuthenticationMethod(_) => {
                    return Err(refuse(ConnectReasonCode::BadAuthenticationMethod, "method", "only user name and password are understood"));
                }
                Property::AuthenticationData(_) => proof = true,
                _ => {}
            }
        }
        if proof {
            return Err(broken("authentication data without a method").within(max_packet));
        }
        Ok(hello)
    }

    /// The CONNACK that says yes, and what is not offered.
    pub fn accept(&self, max_packet: usize) -> Vec<u8> {
        if self.version == Version::V3 {
            return vec![CONNACK, 2, 0, 0];
        }
        let mut properties = vec![
            ReceiveMaximum::new(WINDOW as u16).map(Property::ReceiveMaximum),
            MaximumQos::new(1).map(Property::MaximumQos),
            RetainAvailable::new(0).map(Property::RetainAvailable),
            MaximumPacketSize::new(u32::try_from(max_packet).unwrap_or(u32::MAX)).map(Property::MaximumPacketSize),
            TopicAliasMaximum::new(0).map(Property::TopicAliasMaximum),
            WildcardSubscriptionAvailable::new(0).map(Property::WildcardSubscriptionAvailable),
            SubscriptionIdentifierAvailable::new(0).map(Property::SubscriptionIdentifierAvailable),
            SharedSubscriptionAvailable::new(0).map(Property::SharedSubscriptionAvailable),
        ];
        if self.wants_session {
            properties.push(SessionExpiryInterval::new(0).map(Property::SessionExpiryInterval));
        }
        if self.assigned {
            properties.push(AssignedClientIdentifier::new(self.client.as_str()).map(Property::AssignedClientIdentifier));
        }
        encode_v5(ConnectReasonCode::Success, properties)
    }
}

const NO_USER: &str = "a user name is required: the device's id";

fn user(name: Option<&str>, certified: bool) -> Option<String> {
    let name = name.unwrap_or_default();
    (certified || !name.is_empty()).then(|| name.to_owned())
}

fn patience(keep_alive: u16) -> Option<Duration> {
    (keep_alive > 0).then(|| Duration::from_millis(u64::from(keep_alive) * 1500))
}

/// What the library lets pass: the reserved bit, a Will's QoS and retain without a Will, QoS 3.
fn flags_are_sound(flags: u8) -> bool {
    let (will, will_qos, will_retain) = (flags & 0b100 != 0, (flags >> 3) & 0b11, flags & 0b10_0000 != 0);
    flags & 1 == 0 && will_qos != 3 && (will || (will_qos == 0 && !will_retain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &[u8]) -> Result<Hello, Refusal> {
        let mut packet = vec![0x10, body.len() as u8];
        packet.extend_from_slice(body);
        Hello::parse(&packet, 2, false)
    }

    #[test]
    fn a_connect_of_either_version_is_read() {
        let hello = parse(b"\x00\x04MQTT\x04\xc2\x00\x0a\x00\x01c\x00\x02ox\x00\x02pw").unwrap();
        assert_eq!((hello.version, hello.user.as_str(), hello.password.as_deref().map(Vec::as_slice)), (Version::V3, "ox", Some(&b"pw"[..])));
        assert_eq!(hello.patience, Some(Duration::from_secs(15)));
        let hello = parse(b"\x00\x04MQTT\x05\xc2\x00\x00\x07\x17\x00\x27\x00\x00\x00\x40\x00\x00\x00\x02ox\x00\x02pw").unwrap();
        assert!(hello.version == Version::V5 && !hello.problems && hello.max_packet == 64 && hello.assigned && hello.patience.is_none());
    }

    #[test]
    fn a_refusal_is_no_larger_than_the_client_takes() {
        for (most, length) in [(4_u8, 0), (5, 5), (40, 5), (200, 48)] {
            let body = [&b"\x00\x04MQTT\x05\x02\x00\x0a\x05\x27\x00\x00\x00"[..], &[most], b"\x00\x01c"].concat();
            let refusal = parse(&body).err().unwrap();
            assert_eq!(refusal.label, "no_user_name");
            assert_eq!(refusal.encode().len(), length, "{most}: {:?}", refusal.encode());
        }
    }

    #[test]
    fn a_refusal_speaks_the_version_of_the_client() {
        for (body, label, answer) in [
            (&b"\x00\x04MQTT\x03\xc2\x00\x0a\x00\x01c"[..], "version", &b"\x20\x02\x00\x01"[..]),
            (b"\x00\x06MQIsdp\x03\xc2\x00\x0a\x00\x01c", "version", b"\x20\x02\x00\x01"),
            (b"\x00\x04MQTT\x06\xc2\x00\x0a\x00\x01c", "version", b"\x20"),
            (b"\x00\x04MQTT\x04\x02\x00\x0a\x00\x01c", "no_user_name", b"\x20\x02\x00\x04"),
            (b"\x00\x04MQTT\x04\x00\x00\x0a\x00\x00", "client_id", b"\x20\x02\x00\x02"),
            (b"\x00\x04MQTT\x04\x03\x00\x0a\x00\x01c", "malformed", b""),
            (b"\x00\x04MQTT\x04\x0a\x00\x0a\x00\x01c", "malformed", b""),
            (b"\x00\x04MQTT\x04\xc2\x00\x0a\x00\x01c\x00\x02ox\x00\x02pwX", "malformed", b""),
            (b"\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x01c", "no_user_name", b"\x20"),
            (b"\x00\x04MQTT\x05\x42\x00\x0a\x00\x00\x01c\x00\x02pw", "no_user_name", b"\x20"),
            (b"\x00\x04MQTT\x05\x06\x00\x0a\x00\x00\x01c\x00\x00\x01w\x00\x00", "will", b"\x20"),
            (b"\x00\x04MQTT\x05\x02\x00\x0a\x04\x15\x00\x01m\x00\x01c\x00", "malformed", b"\x20"),
            (b"GET / HTTP/1.1\r\n", "malformed", b""),
            (b"", "malformed", b""),
        ] {
            let Err(refusal) = parse(body) else { panic!("{body:?} was accepted") };
            assert_eq!(refusal.label, label, "{body:?}: {}", refusal.detail);
            let encoded = refusal.encode();
            assert!(encoded.starts_with(answer) && encoded.is_empty() == answer.is_empty(), "{body:?}: {encoded:?}");
        }
    }
}
