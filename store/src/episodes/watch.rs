//! What a dashboard keeps in memory: the episodes that somebody may still have to see, and cheap ways to learn that one changed.

use schemas::{AlertId, Arrived};

use super::{EPISODE, Episode, episode};
use crate::db::{Arg, args, on_store};
use crate::{StoreError, Tx};

on_store! {
    read fn watched_episodes(heard_from: Arrived) -> Vec<(AlertId, u64)>;
    read fn watched_stamp(heard_from: Arrived) -> [u64; 3];
    read fn episodes_by_id(alerts: &[AlertId]) -> Vec<Episode>;
}

/// Open, or heard at or after `$1`, or high and never acknowledged, whatever its age. Each part has its index.
const WATCHED: &str = "state = 'open' OR heard_at >= $1 OR (acknowledged_by IS NULL AND priority = 'high' AND state <> 'withdrawn')";

impl Tx<'_> {
    /// The watched episodes with their versions.
    pub async fn watched_episodes(&mut self, heard_from: Arrived) -> Result<Vec<(AlertId, u64)>, StoreError> {
        let rows = self.rows(&format!("SELECT alert, version FROM episodes WHERE {WATCHED}"), args![heard_from]).await?;
        rows.iter().map(|row| Ok((row.parse(0, "alert id")?, row.count(1, "episode version")?))).collect()
    }

    /// Differs when an episode was added, changed or left, but for chance (some 1 in 1,000,000 when one comes and one leaves in the same
    /// look): who must be certain also reads [`Tx::watched_episodes`] now and then.
    pub async fn watched_stamp(&mut self, heard_from: Arrived) -> Result<[u64; 3], StoreError> {
        let sql = format!(
            "SELECT COUNT(*), COALESCE(CAST(SUM(version) AS BIGINT), 0), COALESCE(CAST(SUM(version * (heard_at % 1000003)) AS BIGINT), 0)
             FROM episodes WHERE {WATCHED}"
        );
        let Some(row) = self.row(&sql, args![heard_from]).await? else { return Ok([0; 3]) };
        Ok([row.count(0, "count")?, row.count(1, "sum of versions")?, row.int(2)?.unsigned_abs()])
    }

    /// Those that exist, in no order.
    pub async fn episodes_by_id(&mut self, alerts: &[AlertId]) -> Result<Vec<Episode>, StoreError> {
        let mut found = Vec::with_capacity(alerts.len());
        for part in alerts.chunks(200) {
            let args: Vec<Arg> = part.iter().map(|alert| Arg::from(*alert)).collect();
            let places: Vec<String> = (1..=args.len()).map(|n| format!("${n}")).collect();
            let rows = self.rows(&format!("{EPISODE} WHERE e.alert IN ({})", places.join(", ")), &args).await?;
            for row in &rows {
                found.push(episode(row)?);
            }
        }
        Ok(found)
    }
}
