//! The names of this crate's metrics.

/// Open streams.
pub const STREAMS: &str = "vigil_dashboard_streams";
/// Streams that ended because their reader was too slow.
pub const STREAMS_CUT: &str = "vigil_dashboard_streams_cut_total";
/// By `method`, `route` and `status`.
pub const REQUESTS: &str = "vigil_dashboard_requests_total";
/// By `route`; streams are not in it.
pub const REQUEST_SECONDS: &str = "vigil_dashboard_request_seconds";
/// How far the follower is behind the journal.
pub const FOLLOWER_LAG: &str = "vigil_dashboard_follower_lag_seconds";
/// Inputs that could not be read, by `partition`.
pub const UNREADABLE: &str = "vigil_dashboard_unreadable_total";
/// Sign-ins that were refused, by `reason`.
pub const SIGN_IN_REFUSED: &str = "vigil_dashboard_sign_in_refused_total";
/// Audit entries written to the spool because the store did not take them.
pub const AUDIT_SPOOLED: &str = "vigil_dashboard_audit_spooled_total";
/// Audit entries that could be written nowhere: what they were for was refused.
pub const AUDIT_REFUSED: &str = "vigil_dashboard_audit_refused_total";
