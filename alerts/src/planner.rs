//! Who is there to be paged, asked within the transaction that pages: the on-call configuration in force, or every channel without one.

use std::sync::{Arc, Mutex, PoisonError};

use schemas::{EventTime, Micros, PatientId, Priority};
use store::{StoreError, Tx};

use crate::escalation::Plan;
use crate::oncall::OnCall;

/// A version, and what it says.
type Read = Option<(u64, Arc<OnCall>)>;

#[derive(Clone)]
pub(crate) struct Planner {
    everybody: Plan,
    /// Read once for each version.
    known: Arc<Mutex<Read>>,
}

impl Planner {
    pub fn new(channels: &[String], repage_after: Micros) -> Self {
        Self { everybody: Plan::everybody(channels, repage_after), known: Arc::default() }
    }

    /// `owner` is whom the alert was given to.
    pub async fn plan(&self, tx: &mut Tx<'_>, patient: &PatientId, priority: Priority, owner: Option<&str>, now: EventTime) -> Result<Plan, StoreError> {
        let Some(oncall) = self.oncall(tx).await? else { return Ok(self.everybody.clone()) };
        let ward = match tx.patient(patient).await {
            Ok(patient) => Some(patient.ward),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let plan = oncall.plan(ward.as_deref(), priority, owner, now);
        // nobody at all, not even a last resort: better everybody than nobody
        Ok(if plan.steps.is_empty() { self.everybody.clone() } else { plan })
    }

    async fn oncall(&self, tx: &mut Tx<'_>) -> Result<Option<Arc<OnCall>>, StoreError> {
        let Some(version) = tx.oncall_version().await? else { return Ok(None) };
        if let Some((known, oncall)) = &*self.known.lock().unwrap_or_else(PoisonError::into_inner)
            && *known == version
        {
            return Ok(Some(oncall.clone()));
        }
        let Some(loaded) = tx.oncall().await? else { return Ok(None) };
        let oncall = match OnCall::parse(&loaded.toml) {
            Ok(oncall) => Arc::new(oncall),
            Err(error) => {
                tracing::error!(version, %error, "the on-call configuration in force cannot be read by this version: every channel is paged");
                return Ok(None);
            }
        };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((version, oncall.clone()));
        Ok(Some(oncall))
    }
}
