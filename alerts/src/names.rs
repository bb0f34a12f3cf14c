//! The names under which the role counts.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Transitions that changed an episode, by `kind`.
pub const TRANSITIONS: &str = "vigil_alerts_transitions_total";
/// Transitions dropped because their cause is in the episode already.
pub const REPLAYS: &str = "vigil_alerts_replays_total";
/// Records of `vigil.alerts` that this version cannot read, by `partition`.
pub const UNREADABLE: &str = "vigil_alerts_unreadable_total";
/// Records of `vigil.alerts` that retention removed before they were read, by `partition`.
pub const LOST: &str = "vigil_alerts_lost_total";
/// Notifications delivered, by `channel` and `kind`.
pub const SENT: &str = "vigil_alerts_notifications_sent_total";
/// Attempts that failed, by `channel` and `final` (`yes`: given up).
pub const FAILED: &str = "vigil_alerts_notifications_failed_total";
/// Notifications that were not tried, because their channel is broken or has had enough, by `channel`.
pub const HELD: &str = "vigil_alerts_notifications_held_total";
/// How long a page took from hop to hop, by `hop` (`measured_journalled`, `journalled_evaluated`, `evaluated_stored`, `stored_attempted`,
/// `attempted_delivered`); of the first that arrived of each alert.
pub const HOP: &str = "vigil_alerts_hop_seconds";
/// From the engine's clock when it raised to the first page's delivery, by `priority`.
pub const DELAY: &str = "vigil_alerts_page_delay_seconds";
/// Re-page timers that fired and paged.
pub const REPAGES: &str = "vigil_alerts_repages_total";
/// Settings and rule sets appended to `vigil.inputs`, by `why` (`changed`, `daily`).
pub const RELAYED: &str = "vigil_alerts_relayed_total";
/// Canary readings appended, by `partition`.
pub const CANARIES: &str = "vigil_alerts_canaries_total";

/// What is wrong with Vigil itself now.
pub const TROUBLES: &str = "vigil_alerts_troubles";
/// Calls of `alerts.heartbeat_url`, by `outcome` (`ok`, `failed`).
pub const HEARTBEATS: &str = "vigil_alerts_heartbeats_total";

/// Says what each name means; call it once, when a recorder is installed.
pub fn describe() {
    describe_counter!(TRANSITIONS, "transitions that changed an episode");
    describe_counter!(REPLAYS, "transitions dropped because the episode has them already");
    describe_counter!(UNREADABLE, "records of vigil.alerts that this version cannot read");
    describe_counter!(LOST, "records of vigil.alerts that were gone before they were read");
    describe_counter!(SENT, "notifications delivered");
    describe_counter!(FAILED, "attempts at a notification that failed");
    describe_counter!(HELD, "notifications that wait for their channel");
    describe_histogram!(HOP, Unit::Seconds, "how long a page took from hop to hop");
    describe_histogram!(DELAY, Unit::Seconds, "from raised to the first page delivered");
    describe_counter!(REPAGES, "pages repeated because nobody took the alert");
    describe_counter!(RELAYED, "settings and rule sets appended to the inputs");
    describe_counter!(CANARIES, "canary readings appended to the inputs");
    describe_gauge!(TROUBLES, "what is wrong with Vigil itself now");
    describe_counter!(HEARTBEATS, "calls of the dead-man's switch");
}
