//! Shifts: who is there, who looks after whom, and how a patient goes from one to the next.
//!
//! It promises that a patient is one person's at most; that nobody's shift ends while a patient is theirs, unless they say why nobody needs to take
//! over; and that a patient changes hands only when who is to have them says so.

use schemas::{EventTime, PatientId};

use crate::db::{Row, args, on_store, words};
use crate::{StoreError, Tx};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shift {
    pub id: String,
    pub person: String,
    pub ward: String,
    pub started_at: EventTime,
}

/// Who looks after a patient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub patient: PatientId,
    pub person: String,
    pub since: EventTime,
}

/// A patient whom one person is to take over from another, who has not answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    pub id: String,
    pub patient: PatientId,
    pub giver: String,
    pub taker: String,
    pub note: String,
    pub offered_at: EventTime,
}

words! {
    Answer {
        Accepted = "accepted",
        Declined = "declined",
        /// By who offered it, or because one of the two is no longer there.
        Withdrawn = "withdrawn",
    }
}

/// A note that stays beside a patient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    pub id: String,
    pub patient: PatientId,
    pub author: String,
    pub text: String,
    pub pinned_at: EventTime,
}

on_store! {
    read fn shift_of(person: &str) -> Option<Shift>;
    read fn shifts_of_ward(ward: &str) -> Vec<Shift>;
    read fn charges_of(person: &str) -> Vec<Charge>;
    read fn charges_in(ward: &str) -> Vec<Charge>;
    read fn handovers_of(person: &str) -> Vec<Handover>;
    read fn pins(patient: &PatientId) -> Vec<Pin>;
    write fn begin_shift(shift: &Shift) -> ();
    write fn end_shift(person: &str, at: EventTime, left: Option<&str>) -> Vec<PatientId>;
    write fn take_patients(person: &str, patients: &[PatientId], at: EventTime) -> Vec<Charge>;
    write fn offer_patients(offers: &[Handover]) -> ();
    write fn answer_handover(id: &str, person: &str, answer: Answer, at: EventTime) -> Handover;
    write fn pin(pin: &Pin) -> ();
    write fn unpin(id: &str, person: &str, at: EventTime) -> PatientId;
}

fn shift(row: &Row) -> Result<Shift, StoreError> {
    Ok(Shift { id: row.text(0)?, person: row.text(1)?, ward: row.text(2)?, started_at: row.time(3)? })
}

fn charge(row: &Row) -> Result<Charge, StoreError> {
    Ok(Charge { patient: row.parse(0, "patient")?, person: row.text(1)?, since: row.time(2)? })
}

fn handover(row: &Row) -> Result<Handover, StoreError> {
    Ok(Handover { id: row.text(0)?, patient: row.parse(1, "patient")?, giver: row.text(2)?, taker: row.text(3)?, note: row.text(4)?, offered_at: row.time(5)? })
}

const HANDOVER: &str = "SELECT id, patient, giver, taker, note, offered_at FROM handovers";
const SHIFT: &str = "SELECT s.id, s.person, s.ward, s.started_at FROM shifts s JOIN users u ON u.name = s.person";
/// A charge of somebody who may no longer sign in is none.
const CHARGE: &str = "SELECT c.patient, c.person, c.since FROM charges c JOIN users u ON u.name = c.person AND u.disabled_at IS NULL";

fn not_valid(what: &'static str, why: String) -> StoreError {
    StoreError::Invalid { what, why }
}

impl Tx<'_> {
    /// The one that runs.
    pub async fn shift_of(&mut self, person: &str) -> Result<Option<Shift>, StoreError> {
        let sql = format!("{SHIFT} WHERE s.person = $1 AND s.ended_at IS NULL AND u.disabled_at IS NULL");
        self.row(&sql, args![person]).await?.map(|row| shift(&row)).transpose()
    }

    pub async fn shifts_of_ward(&mut self, ward: &str) -> Result<Vec<Shift>, StoreError> {
        let sql = format!("{SHIFT} WHERE s.ward = $1 AND s.ended_at IS NULL AND u.disabled_at IS NULL ORDER BY s.started_at, s.person");
        self.rows(&sql, args![ward]).await?.iter().map(shift).collect()
    }

    pub async fn charges_of(&mut self, person: &str) -> Result<Vec<Charge>, StoreError> {
        self.rows(&format!("{CHARGE} WHERE c.person = $1 ORDER BY c.patient"), args![person]).await?.iter().map(charge).collect()
    }

    pub async fn charges_in(&mut self, ward: &str) -> Result<Vec<Charge>, StoreError> {
        let sql = format!("{CHARGE} JOIN patients p ON p.id = c.patient WHERE p.ward = $1 ORDER BY c.patient");
        self.rows(&sql, args![ward]).await?.iter().map(charge).collect()
    }

    /// Those that this person offered and those that are offered to them, without an answer.
    pub async fn handovers_of(&mut self, person: &str) -> Result<Vec<Handover>, StoreError> {
        let sql = format!("{HANDOVER} WHERE (giver = $1 OR taker = $1) AND answered_at IS NULL ORDER BY offered_at, patient");
        self.rows(&sql, args![person]).await?.iter().map(handover).collect()
    }

    pub async fn begin_shift(&mut self, new: &Shift) -> Result<(), StoreError> {
        self.ward(&new.ward).await?;
        if self.shift_of(&new.person).await?.is_some() {
            return Err(StoreError::Exists { what: "a shift of", id: new.person.clone() });
        }
        let sql = "INSERT INTO shifts (id, person, ward, started_at) VALUES ($1, $2, $3, $4)";
        self.execute(sql, args![&new.id, &new.person, &new.ward, new.started_at]).await?;
        Ok(())
    }

    /// The patients who keep it from ending; with a reason they are left to nobody, and it ends.
    pub async fn end_shift(&mut self, person: &str, at: EventTime, left: Option<&str>) -> Result<Vec<PatientId>, StoreError> {
        let running = self.shift_of(person).await?.ok_or_else(|| StoreError::not_found("a shift of", person))?;
        let theirs: Vec<PatientId> = self.charges_of(person).await?.into_iter().map(|charge| charge.patient).collect();
        if !theirs.is_empty() && left.is_none() {
            return Ok(theirs);
        }
        self.execute("DELETE FROM charges WHERE person = $1", args![person]).await?;
        let sql = "UPDATE handovers SET answered_at = $2, answer = $3 WHERE (giver = $1 OR taker = $1) AND answered_at IS NULL";
        self.execute(sql, args![person, at, Answer::Withdrawn.as_str()]).await?;
        self.execute("UPDATE shifts SET ended_at = $2, reason = $3 WHERE id = $1", args![&running.id, at, left]).await?;
        Ok(Vec::new())
    }

    /// Whom others have already: then nobody is taken.
    pub async fn take_patients(&mut self, person: &str, patients: &[PatientId], at: EventTime) -> Result<Vec<Charge>, StoreError> {
        if self.shift_of(person).await?.is_none() {
            return Err(StoreError::Conflict("who takes patients is on shift"));
        }
        let (mut others, mut free) = (Vec::new(), Vec::new());
        for patient in patients {
            self.patient(patient).await?;
            let known = self.row(&format!("{CHARGE} WHERE c.patient = $1"), args![patient]).await?.map(|row| charge(&row)).transpose()?;
            match known {
                Some(known) if known.person == person => {}
                Some(known) => others.push(known),
                None => free.push(patient),
            }
        }
        if others.is_empty() {
            for patient in free {
                // what stood of somebody who may no longer sign in
                let sql = "INSERT INTO charges (patient, person, since) VALUES ($1, $2, $3)
                           ON CONFLICT (patient) DO UPDATE SET person = excluded.person, since = excluded.since";
                self.execute(sql, args![patient, person, at]).await?;
            }
        }
        Ok(others)
    }

    /// Each in the place of one that stood before for the same patient.
    pub async fn offer_patients(&mut self, offers: &[Handover]) -> Result<(), StoreError> {
        for offer in offers {
            if offer.giver == offer.taker {
                return Err(not_valid("the handover", "it is to somebody else".to_owned()));
            }
            if self.shift_of(&offer.taker).await?.is_none() {
                return Err(not_valid("the handover", format!("`{}` is not on shift", offer.taker)));
            }
            if !self.charges_of(&offer.giver).await?.iter().any(|charge| charge.patient == offer.patient) {
                return Err(not_valid("the handover", format!("patient `{}` is not yours to give", offer.patient)));
            }
            let sql = "UPDATE handovers SET answered_at = $2, answer = $3 WHERE patient = $1 AND answered_at IS NULL";
            self.execute(sql, args![&offer.patient, offer.offered_at, Answer::Withdrawn.as_str()]).await?;
            let sql = "INSERT INTO handovers (id, patient, giver, taker, note, offered_at) VALUES ($1, $2, $3, $4, $5, $6)";
            self.execute(sql, args![&offer.id, &offer.patient, &offer.giver, &offer.taker, &offer.note, offer.offered_at]).await?;
        }
        Ok(())
    }

    /// By who is to take the patient; withdrawn by who gave it.
    pub async fn answer_handover(&mut self, id: &str, person: &str, answer: Answer, at: EventTime) -> Result<Handover, StoreError> {
        let found = self.row(&format!("{HANDOVER} WHERE id = $1 AND answered_at IS NULL"), args![id]).await?;
        let offer = found.map(|row| handover(&row)).transpose()?;
        let may = |offer: &Handover| if answer == Answer::Withdrawn { offer.giver == person } else { offer.taker == person };
        let offer = offer.filter(may).ok_or_else(|| StoreError::not_found("a handover that waits for you", id))?;
        if answer == Answer::Accepted {
            let sql = "UPDATE charges SET person = $2, since = $3 WHERE patient = $1 AND person = $4";
            if self.shift_of(person).await?.is_none() || self.execute(sql, args![&offer.patient, person, at, &offer.giver]).await? == 0 {
                return Err(StoreError::Conflict("the patient is no longer theirs to give, or you are not on shift"));
            }
        }
        self.execute("UPDATE handovers SET answered_at = $2, answer = $3 WHERE id = $1", args![id, at, answer.as_str()]).await?;
        Ok(offer)
    }

    /// The oldest first.
    pub async fn pins(&mut self, patient: &PatientId) -> Result<Vec<Pin>, StoreError> {
        let sql = "SELECT id, patient, author, text, pinned_at FROM pins WHERE patient = $1 AND removed_at IS NULL ORDER BY pinned_at, id";
        let pin =
            |row: &Row| Ok(Pin { id: row.text(0)?, patient: row.parse(1, "patient")?, author: row.text(2)?, text: row.text(3)?, pinned_at: row.time(4)? });
        self.rows(sql, args![patient]).await?.iter().map(pin).collect()
    }

    pub async fn pin(&mut self, new: &Pin) -> Result<(), StoreError> {
        self.patient(&new.patient).await?;
        let sql = "INSERT INTO pins (id, patient, author, text, pinned_at) VALUES ($1, $2, $3, $4, $5)";
        self.execute(sql, args![&new.id, &new.patient, &new.author, &new.text, new.pinned_at]).await?;
        Ok(())
    }

    /// Whose it was.
    pub async fn unpin(&mut self, id: &str, person: &str, at: EventTime) -> Result<PatientId, StoreError> {
        let sql = "UPDATE pins SET removed_by = $2, removed_at = $3 WHERE id = $1 AND removed_at IS NULL RETURNING patient";
        let row = self.row(sql, args![id, person, at]).await?.ok_or_else(|| StoreError::not_found("pin", id))?;
        row.parse(0, "patient")
    }
}
