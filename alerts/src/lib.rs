//! Transitions in, pages out: episodes, escalation, channels, the settings relay.
