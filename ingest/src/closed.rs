//! Why a connection ends, in the words of MQTT 5, of a metric and of a log line.

use journal::AppendError;
use mqtt_protocol_core::mqtt::result_code::{DisconnectReasonCode, MqttError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Closed {
    #[error("the device said goodbye")]
    Goodbye,
    #[error("the peer is gone")]
    Gone,
    #[error("the socket failed: {0}")]
    Socket(#[from] std::io::Error),
    #[error("{detail}")]
    Protocol { code: DisconnectReasonCode, detail: &'static str },
    /// I1: without a receipt there is no ack, only this.
    #[error("not durable: {0}")]
    Receipt(AppendError),
    #[error("nothing was heard for one and a half keep alives")]
    Silent,
    #[error("a packet was begun and did not come whole in time")]
    Half,
    #[error("the device does not read what it is sent")]
    Unread,
    #[error("the device, or the password it came with, is revoked")]
    Revoked,
    #[error("another connection came with the same client id")]
    TakenOver,
    #[error("the server is shutting down")]
    Stopped,
    #[error("it did not end in time")]
    Dropped,
}

impl Closed {
    pub const fn malformed(detail: &'static str) -> Self {
        Self::Protocol { code: DisconnectReasonCode::MalformedPacket, detail }
    }

    pub const fn protocol(detail: &'static str) -> Self {
        Self::Protocol { code: DisconnectReasonCode::ProtocolError, detail }
    }

    /// For a packet that the library could not read.
    pub fn unread(error: MqttError, detail: &'static str) -> Self {
        match error {
            MqttError::ProtocolError => Self::protocol(detail),
            _ => Self::malformed(detail),
        }
    }

    /// What a MQTT 5 client is told; `None`: nobody is there to be told.
    pub const fn code(&self) -> Option<DisconnectReasonCode> {
        match self {
            Self::Goodbye | Self::Gone | Self::Socket(_) | Self::Unread | Self::Dropped => None,
            Self::Protocol { code, .. } => Some(*code),
            Self::Receipt(AppendError::DiskFull) => Some(DisconnectReasonCode::QuotaExceeded),
            Self::Receipt(AppendError::TooLarge { .. }) => Some(DisconnectReasonCode::PacketTooLarge),
            Self::Receipt(_) | Self::Half => Some(DisconnectReasonCode::ImplementationSpecificError),
            Self::Silent => Some(DisconnectReasonCode::KeepAliveTimeout),
            Self::Revoked => Some(DisconnectReasonCode::NotAuthorized),
            Self::TakenOver => Some(DisconnectReasonCode::SessionTakenOver),
            Self::Stopped => Some(DisconnectReasonCode::ServerShuttingDown),
        }
    }

    pub const fn label(&self) -> &'static str {
        match self {
            Self::Goodbye => "goodbye",
            Self::Gone => "gone",
            Self::Socket(_) => "socket",
            Self::Protocol { code: DisconnectReasonCode::PacketTooLarge, .. } => "packet_too_large",
            Self::Protocol { code: DisconnectReasonCode::MalformedPacket, .. } => "malformed",
            Self::Protocol { .. } => "protocol",
            Self::Receipt(_) => "receipt",
            Self::Silent => "keep_alive",
            Self::Half => "half",
            Self::Unread => "unread",
            Self::Revoked => "revoked",
            Self::TakenOver => "taken_over",
            Self::Stopped => "stopped",
            Self::Dropped => "dropped",
        }
    }
}
