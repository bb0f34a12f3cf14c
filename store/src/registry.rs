//! Who is watched by what: patients, devices, their credentials, and whose device it was when.
//!
//! Everything the gateway needs fits in one [`RegistryView`]; [`Store::registry_version`] is one row, so polling it every second is
//! cheap, and a new view is read only when it moved.

use schemas::{DeviceId, EventTime, PatientId, Private};

use crate::db::{Row, args, on_store, words};
use crate::{Store, StoreError, Tx, secrets};

words! {
    /// As FHIR's administrative gender.
    Sex { Female = "female", Male = "male", Other = "other", Unknown = "unknown" }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Patient {
    pub id: PatientId,
    pub name: Private<String>,
    /// `1945-07-14`
    pub born: Private<String>,
    pub sex: Sex,
    /// The number the ward knows the patient by.
    pub identifier: Private<String>,
    pub ward: String,
    pub created_at: EventTime,
    /// From the newest settings; `true` when there are none yet. Writing a patient does not change it: see [`crate::settings`].
    pub monitored: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    pub id: DeviceId,
    pub model: String,
    /// Its readings never page anyone.
    pub test: bool,
    /// The hub that may speak for it.
    pub hub: Option<DeviceId>,
    pub created_at: EventTime,
    pub revoked_at: Option<EventTime>,
    /// No reading of it can be older: when it was made or first used.
    pub min_time: EventTime,
}

words! {
    CredentialKind {
        /// The value is a SHA-256, see [`secrets::device_hash`].
        Password = "password",
        /// The value is the SHA-256 of the certificate in DER, 64 hexadecimal digits.
        Certificate = "certificate",
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    pub id: String,
    pub device: DeviceId,
    pub kind: CredentialKind,
    pub value: String,
    pub created_at: EventTime,
    pub revoked_at: Option<EventTime>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("id", &self.id).field("device", &self.device).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The device is the patient's in `[from, until)`; `None`: until further notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub device: DeviceId,
    pub patient: PatientId,
    pub from: EventTime,
    pub until: Option<EventTime>,
}

impl Assignment {
    pub fn covers(&self, at: EventTime) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }
}

/// A certificate of our authority that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedCertificate {
    /// In hexadecimal digits.
    pub serial: String,
    pub at: EventTime,
    /// Else another certificate took its place.
    pub device_is_revoked: bool,
}

/// All that the gateway keeps in memory, of one moment. Revoked devices are in it (to be refused by name), revoked credentials are not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegistryView {
    pub version: u64,
    pub devices: Vec<Device>,
    pub credentials: Vec<Credential>,
    /// Ordered by device, then start.
    pub assignments: Vec<Assignment>,
}

on_store! {
    read fn patient(id: &PatientId) -> Patient;
    read fn patients(ward: Option<&str>) -> Vec<Patient>;
    write fn add_patient(patient: &Patient) -> ();
    write fn update_patient(patient: &Patient) -> ();
    read fn device(id: &DeviceId) -> Device;
    read fn devices() -> Vec<Device>;
    write fn add_device(device: &Device) -> ();
    write fn update_device(device: &Device) -> ();
    write fn revoke_device(id: &DeviceId, at: EventTime) -> ();
    write fn add_credential(credential: &Credential) -> ();
    write fn revoke_credential(id: &str, at: EventTime) -> ();
    read fn revoked_certificates() -> Vec<RevokedCertificate>;
    read fn credentials(device: &DeviceId) -> Vec<Credential>;
    write fn assign(assignment: &Assignment) -> ();
    write fn end_assignment(device: &DeviceId, at: EventTime) -> Assignment;
    read fn assignments_of_device(device: &DeviceId) -> Vec<Assignment>;
    read fn assignments_of_patient(patient: &PatientId) -> Vec<Assignment>;
    read fn patient_of(device: &DeviceId, at: EventTime) -> Option<PatientId>;
    read fn registry_version() -> u64;
    read fn registry_view() -> RegistryView;
}

impl Store {
    /// Makes a new password for a device, in place of those it had. This is the only time that it can be read.
    pub async fn new_device_password(&self, device: &DeviceId, now: EventTime) -> Result<zeroize::Zeroizing<String>, StoreError> {
        let password = secrets::random_password();
        let value = secrets::device_hash(password.as_bytes());
        let id = secrets::random_id();
        let credential = Credential { id, device: device.clone(), kind: CredentialKind::Password, value, created_at: now, revoked_at: None };
        let credential = &credential;
        self.transaction(|tx| {
            Box::pin(async move {
                let sql = "UPDATE credentials SET revoked_at = $2 WHERE device = $1 AND kind = 'password' AND revoked_at IS NULL";
                tx.execute(sql, args![&credential.device, now]).await?;
                tx.add_credential(credential).await
            })
        })
        .await?;
        Ok(password)
    }

    /// Registers a certificate of a device by its fingerprint; with `alone`, whatever the device had is refused from now on,
    /// passwords too. Of a certificate of our own authority the `serial` number is kept, as the credential's id, for [`Store::revoked_certificates`].
    pub async fn new_device_certificate(
        &self,
        device: &DeviceId,
        fingerprint: &str,
        serial: Option<&str>,
        alone: bool,
        now: EventTime,
    ) -> Result<(), StoreError> {
        let (id, value) = (serial.map_or_else(secrets::random_id, str::to_owned), fingerprint.to_owned());
        let credential = Credential { id, device: device.clone(), kind: CredentialKind::Certificate, value, created_at: now, revoked_at: None };
        let credential = &credential;
        self.transaction(|tx| {
            Box::pin(async move {
                let taken = "SELECT device FROM credentials WHERE kind = 'certificate' AND value = $1 AND revoked_at IS NULL";
                if tx.row(taken, args![&credential.value]).await?.is_some() {
                    return Err(StoreError::Exists { what: "certificate", id: credential.value.clone() });
                }
                if alone {
                    let sql = "UPDATE credentials SET revoked_at = $2 WHERE device = $1 AND revoked_at IS NULL";
                    tx.execute(sql, args![&credential.device, now]).await?;
                }
                tx.add_credential(credential).await
            })
        })
        .await
    }
}

const PATIENT: &str = "SELECT p.id, p.name, p.born, p.sex, p.identifier, p.ward, p.created_at,
    (SELECT s.monitored FROM settings s WHERE s.patient = p.id ORDER BY s.version DESC LIMIT 1) FROM patients p";
const DEVICE: &str = "SELECT id, model, test, hub, created_at, revoked_at, min_time FROM devices";
const CREDENTIAL: &str = "SELECT id, device, kind, value, created_at, revoked_at FROM credentials";
const ASSIGNMENT: &str = "SELECT device, patient, from_at, until_at FROM assignments";

fn patient(row: &Row) -> Result<Patient, StoreError> {
    Ok(Patient {
        id: row.parse(0, "patient id")?,
        name: row.private(1)?,
        born: row.private(2)?,
        sex: row.parse(3, "sex")?,
        identifier: row.private(4)?,
        ward: row.text(5)?,
        created_at: row.time(6)?,
        monitored: row.opt_int(7)?.is_none_or(|monitored| monitored != 0),
    })
}

fn device(row: &Row) -> Result<Device, StoreError> {
    Ok(Device {
        id: row.parse(0, "device id")?,
        model: row.text(1)?,
        test: row.flag(2)?,
        hub: row.opt_parse(3, "hub id")?,
        created_at: row.time(4)?,
        revoked_at: row.opt_time(5)?,
        min_time: row.time(6)?,
    })
}

fn credential(row: &Row) -> Result<Credential, StoreError> {
    Ok(Credential {
        id: row.text(0)?,
        device: row.parse(1, "device id")?,
        kind: row.parse(2, "credential kind")?,
        value: row.text(3)?,
        created_at: row.time(4)?,
        revoked_at: row.opt_time(5)?,
    })
}

fn assignment(row: &Row) -> Result<Assignment, StoreError> {
    Ok(Assignment { device: row.parse(0, "device id")?, patient: row.parse(1, "patient id")?, from: row.time(2)?, until: row.opt_time(3)? })
}

impl Tx<'_> {
    pub async fn patient(&mut self, id: &PatientId) -> Result<Patient, StoreError> {
        let row = self.row(&format!("{PATIENT} WHERE p.id = $1"), args![id]).await?;
        patient(&row.ok_or_else(|| StoreError::not_found("patient", id))?)
    }

    /// All, or those of one ward, by id.
    pub async fn patients(&mut self, ward: Option<&str>) -> Result<Vec<Patient>, StoreError> {
        let rows = match ward {
            Some(ward) => self.rows(&format!("{PATIENT} WHERE p.ward = $1 ORDER BY p.id"), args![ward]).await?,
            None => self.rows(&format!("{PATIENT} ORDER BY p.id"), &[]).await?,
        };
        rows.iter().map(patient).collect()
    }

    pub async fn add_patient(&mut self, p: &Patient) -> Result<(), StoreError> {
        self.ward(&p.ward).await?;
        let sql = "INSERT INTO patients (id, name, born, sex, identifier, ward, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
                   ON CONFLICT (id) DO NOTHING";
        let added = self.execute(sql, args![&p.id, &p.name, &p.born, p.sex.as_str(), &p.identifier, &p.ward, p.created_at]).await?;
        if added == 0 {
            return Err(StoreError::Exists { what: "patient", id: p.id.to_string() });
        }
        self.registry_changed().await
    }

    /// Name, birth date, sex, identifier and ward; the rest stays.
    pub async fn update_patient(&mut self, p: &Patient) -> Result<(), StoreError> {
        self.ward(&p.ward).await?;
        let sql = "UPDATE patients SET name = $2, born = $3, sex = $4, identifier = $5, ward = $6 WHERE id = $1";
        if self.execute(sql, args![&p.id, &p.name, &p.born, p.sex.as_str(), &p.identifier, &p.ward]).await? == 0 {
            return Err(StoreError::not_found("patient", &p.id));
        }
        self.registry_changed().await
    }

    pub async fn device(&mut self, id: &DeviceId) -> Result<Device, StoreError> {
        let row = self.row(&format!("{DEVICE} WHERE id = $1"), args![id]).await?;
        device(&row.ok_or_else(|| StoreError::not_found("device", id))?)
    }

    pub async fn devices(&mut self) -> Result<Vec<Device>, StoreError> {
        self.rows(&format!("{DEVICE} ORDER BY id"), &[]).await?.iter().map(device).collect()
    }

    /// A hub must be registered before the devices behind it.
    pub async fn add_device(&mut self, d: &Device) -> Result<(), StoreError> {
        if d.id.as_str() == schemas::TYPED_DEVICE {
            return Err(StoreError::Invalid { what: "the device's id", why: format!("`{}` stands for what people type; choose another", d.id) });
        }
        if let Some(hub) = &d.hub {
            self.device(hub).await?;
        }
        let sql = "INSERT INTO devices (id, model, test, hub, created_at, revoked_at, min_time) VALUES ($1, $2, $3, $4, $5, $6, $7)
                   ON CONFLICT (id) DO NOTHING";
        if self.execute(sql, args![&d.id, &d.model, d.test, d.hub.as_ref(), d.created_at, d.revoked_at, d.min_time]).await? == 0 {
            return Err(StoreError::Exists { what: "device", id: d.id.to_string() });
        }
        self.registry_changed().await
    }

    /// Model, test, hub and `min_time`; the rest stays.
    pub async fn update_device(&mut self, d: &Device) -> Result<(), StoreError> {
        if let Some(hub) = &d.hub {
            self.device(hub).await?;
        }
        let sql = "UPDATE devices SET model = $2, test = $3, hub = $4, min_time = $5 WHERE id = $1";
        if self.execute(sql, args![&d.id, &d.model, d.test, d.hub.as_ref(), d.min_time]).await? == 0 {
            return Err(StoreError::not_found("device", &d.id));
        }
        self.registry_changed().await
    }

    /// From now on its credentials are refused; the first revocation stands.
    pub async fn revoke_device(&mut self, id: &DeviceId, at: EventTime) -> Result<(), StoreError> {
        if self.execute("UPDATE devices SET revoked_at = COALESCE(revoked_at, $2) WHERE id = $1", args![id, at]).await? == 0 {
            return Err(StoreError::not_found("device", id));
        }
        self.registry_changed().await
    }

    pub async fn add_credential(&mut self, c: &Credential) -> Result<(), StoreError> {
        self.device(&c.device).await?;
        let sql = "INSERT INTO credentials (id, device, kind, value, created_at, revoked_at) VALUES ($1, $2, $3, $4, $5, $6)
                   ON CONFLICT (id) DO NOTHING";
        if self.execute(sql, args![&c.id, &c.device, c.kind.as_str(), &c.value, c.created_at, c.revoked_at]).await? == 0 {
            return Err(StoreError::Exists { what: "credential", id: c.id.clone() });
        }
        self.registry_changed().await
    }

    pub async fn revoke_credential(&mut self, id: &str, at: EventTime) -> Result<(), StoreError> {
        if self.execute("UPDATE credentials SET revoked_at = COALESCE(revoked_at, $2) WHERE id = $1", args![id, at]).await? == 0 {
            return Err(StoreError::not_found("credential", id));
        }
        self.registry_changed().await
    }

    /// Also the revoked ones, newest first.
    /// Those that were replaced, and those of revoked devices, by when.
    pub async fn revoked_certificates(&mut self) -> Result<Vec<RevokedCertificate>, StoreError> {
        let sql = "SELECT c.id, c.revoked_at, d.revoked_at FROM credentials c JOIN devices d ON d.id = c.device
                   WHERE c.kind = 'certificate' AND (c.revoked_at IS NOT NULL OR d.revoked_at IS NOT NULL) ORDER BY COALESCE(c.revoked_at, d.revoked_at), c.id";
        let of = |row: &Row| {
            let (replaced, ended) = (row.opt_time(1)?, row.opt_time(2)?);
            let at = replaced.or(ended).unwrap_or(EventTime(0));
            Ok(RevokedCertificate { serial: row.text(0)?, at, device_is_revoked: replaced.is_none() })
        };
        self.rows(sql, &[]).await?.iter().map(of).collect()
    }

    pub async fn credentials(&mut self, device: &DeviceId) -> Result<Vec<Credential>, StoreError> {
        let rows = self.rows(&format!("{CREDENTIAL} WHERE device = $1 ORDER BY created_at DESC, id"), args![device]).await?;
        rows.iter().map(credential).collect()
    }

    /// Refuses a period that overlaps another of the same device.
    pub async fn assign(&mut self, a: &Assignment) -> Result<(), StoreError> {
        if a.until.is_some_and(|until| until <= a.from) {
            return Err(StoreError::Invalid { what: "the assignment", why: "it ends before it begins".into() });
        }
        self.device(&a.device).await?;
        self.patient(&a.patient).await?;
        let sql = "SELECT from_at FROM assignments
                   WHERE device = $1 AND from_at < $3 AND (until_at IS NULL OR until_at > $2) ORDER BY from_at LIMIT 1";
        if let Some(row) = self.row(sql, args![&a.device, a.from, a.until.unwrap_or(EventTime::MAX)]).await? {
            return Err(StoreError::Overlap { device: a.device.to_string(), from: row.time(0)? });
        }
        let sql = "INSERT INTO assignments (device, patient, from_at, until_at) VALUES ($1, $2, $3, $4)";
        self.execute(sql, args![&a.device, &a.patient, a.from, a.until]).await?;
        self.registry_changed().await
    }

    /// Ends the assignment that covers `at`; answers it as it now is. One that begins at `at` is removed.
    pub async fn end_assignment(&mut self, device: &DeviceId, at: EventTime) -> Result<Assignment, StoreError> {
        let sql = format!("{ASSIGNMENT} WHERE device = $1 AND from_at <= $2 AND (until_at IS NULL OR until_at > $2)");
        let row = self.row(&sql, args![device, at]).await?.ok_or_else(|| StoreError::not_found("assignment of device", device))?;
        let ended = Assignment { until: Some(at), ..assignment(&row)? };
        if ended.from == at {
            self.execute("DELETE FROM assignments WHERE device = $1 AND from_at = $2", args![device, at]).await?;
        } else {
            self.execute("UPDATE assignments SET until_at = $3 WHERE device = $1 AND from_at = $2", args![device, ended.from, at]).await?;
        }
        self.registry_changed().await?;
        Ok(ended)
    }

    pub async fn assignments_of_device(&mut self, device: &DeviceId) -> Result<Vec<Assignment>, StoreError> {
        self.rows(&format!("{ASSIGNMENT} WHERE device = $1 ORDER BY from_at"), args![device]).await?.iter().map(assignment).collect()
    }

    pub async fn assignments_of_patient(&mut self, patient: &PatientId) -> Result<Vec<Assignment>, StoreError> {
        self.rows(&format!("{ASSIGNMENT} WHERE patient = $1 ORDER BY from_at, device"), args![patient]).await?.iter().map(assignment).collect()
    }

    /// Whose device it was at `at`.
    pub async fn patient_of(&mut self, device: &DeviceId, at: EventTime) -> Result<Option<PatientId>, StoreError> {
        let sql = "SELECT patient FROM assignments WHERE device = $1 AND from_at <= $2 AND (until_at IS NULL OR until_at > $2)";
        self.row(sql, args![device, at]).await?.map(|row| row.parse(0, "patient id")).transpose()
    }

    /// Moves with every change of patients, devices, credentials and assignments.
    pub async fn registry_version(&mut self) -> Result<u64, StoreError> {
        let version = self.meta("registry_version").await?.and_then(|text| text.parse().ok());
        version.ok_or(StoreError::Corrupt { what: "registry version" })
    }

    pub async fn registry_view(&mut self) -> Result<RegistryView, StoreError> {
        let version = self.registry_version().await?;
        let devices = self.devices().await?;
        let rows = self.rows(&format!("{CREDENTIAL} WHERE revoked_at IS NULL ORDER BY device, id"), &[]).await?;
        let credentials = rows.iter().map(credential).collect::<Result<_, _>>()?;
        let rows = self.rows(&format!("{ASSIGNMENT} ORDER BY device, from_at"), &[]).await?;
        let assignments = rows.iter().map(assignment).collect::<Result<_, _>>()?;
        Ok(RegistryView { version, devices, credentials, assignments })
    }

    async fn registry_changed(&mut self) -> Result<(), StoreError> {
        let next = self.registry_version().await? + 1;
        self.set_meta("registry_version", &next.to_string()).await
    }
}
