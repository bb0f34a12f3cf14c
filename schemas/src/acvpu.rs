//! Consciousness as NEWS2 asks for it, and the exact codes under which others answer.

use std::fmt;
use std::str::FromStr;

/// The values of [`crate::Metric::Consciousness`]. The numbers are on the wire: never change or reuse one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Acvpu {
    Alert = 0,
    /// New: a confusion that somebody always had is none.
    Confusion = 1,
    Voice = 2,
    Pain = 3,
    Unresponsive = 4,
}

struct Answer {
    is: Acvpu,
    letter: &'static str,
    word: &'static str,
    /// The value set of UK Core (`UKCore-ACVPU`).
    snomed: &'static str,
    /// The list of 67775-7, which has no confusion: LA6560-2 is LOINC's own `Confused`.
    loinc: &'static str,
}

const ANSWERS: [Answer; 5] = [
    Answer { is: Acvpu::Alert, letter: "A", word: "alert", snomed: "248234008", loinc: "LA9340-6" },
    Answer { is: Acvpu::Confusion, letter: "C", word: "confusion", snomed: "130987000", loinc: "LA6560-2" },
    Answer { is: Acvpu::Voice, letter: "V", word: "voice", snomed: "300202002", loinc: "LA17108-4" },
    Answer { is: Acvpu::Pain, letter: "P", word: "pain", snomed: "450847001", loinc: "LA17107-6" },
    Answer { is: Acvpu::Unresponsive, letter: "U", word: "unresponsive", snomed: "422768004", loinc: "LA9343-0" },
];

/// A text that is no level of consciousness.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not one of A (alert), C (new confusion), V (voice), P (pain), U (unresponsive)")]
pub struct NotAcvpu(pub String);

impl Acvpu {
    pub const ALL: [Self; 5] = [Self::Alert, Self::Confusion, Self::Voice, Self::Pain, Self::Unresponsive];

    fn answer(self) -> &'static Answer {
        &ANSWERS[self as usize]
    }
    /// `A`, `C`, `V`, `P`, `U`.
    pub fn letter(self) -> &'static str {
        self.answer().letter
    }
    pub fn word(self) -> &'static str {
        self.answer().word
    }
    /// As it stands in a reading.
    pub fn value(self) -> f64 {
        f64::from(self as u8)
    }
    pub fn from_value(value: f64) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.value() == value)
    }
    /// A SNOMED CT finding.
    pub fn from_snomed(code: &str) -> Option<Self> {
        ANSWERS.iter().find(|answer| answer.snomed == code).map(|answer| answer.is)
    }
    /// A LOINC answer.
    pub fn from_loinc(code: &str) -> Option<Self> {
        ANSWERS.iter().find(|answer| answer.loinc == code).map(|answer| answer.is)
    }
}

impl fmt::Display for Acvpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.letter())
    }
}

/// A letter or a word, in capitals or not.
impl FromStr for Acvpu {
    type Err = NotAcvpu;
    fn from_str(text: &str) -> Result<Self, NotAcvpu> {
        let said = text.trim();
        let found = ANSWERS.iter().find(|answer| said.eq_ignore_ascii_case(answer.letter) || said.eq_ignore_ascii_case(answer.word));
        found.map(|answer| answer.is).ok_or_else(|| NotAcvpu(text.chars().take(32).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_found_by_each_of_its_names_and_no_other() {
        assert_eq!(ANSWERS.map(|answer| answer.is), Acvpu::ALL);
        for level in Acvpu::ALL {
            let answer = level.answer();
            assert_eq!(Acvpu::from_value(level.value()), Some(level));
            assert_eq!([answer.letter.parse(), answer.word.to_uppercase().parse()], [Ok(level), Ok(level)]);
            assert_eq!([Acvpu::from_snomed(answer.snomed), Acvpu::from_loinc(answer.loinc)], [Some(level), Some(level)]);
        }
        assert_eq!(Acvpu::ALL.map(Acvpu::letter).concat(), "ACVPU");
        assert_eq!([Acvpu::from_value(5.0), Acvpu::from_value(0.5), Acvpu::from_value(-1.0), Acvpu::from_value(f64::NAN)], [None; 4]);
        // the observable of the scale is not an answer
        assert_eq!(Acvpu::from_snomed("1104441000000107"), None);
        assert_eq!(
            "drowsy".parse::<Acvpu>().unwrap_err().to_string(),
            "`drowsy` is not one of A (alert), C (new confusion), V (voice), P (pain), U (unresponsive)"
        );
    }
}
