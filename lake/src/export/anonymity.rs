//! k-anonymity over what is told of a patient: sex, age band, ward.

use std::collections::BTreeMap;

use serde::Serialize;

use super::identity::{Told, Who};

/// How many patients share what is told of each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Anonymity {
    /// Nobody shares what is told of them with fewer than this, themselves counted.
    pub k: usize,
    pub patients: usize,
    /// Of so many patients this was left out so that it holds.
    pub without_ward: usize,
    pub without_age_band: usize,
    pub without_sex: usize,
    /// So many were left out altogether: even with nothing told they were fewer than k.
    pub left_out: usize,
    /// Classes of equal patients by their size: so many classes have so many patients.
    pub classes: BTreeMap<usize, usize>,
    /// The smallest class.
    pub smallest: usize,
}

/// Takes away ward, then age band, then sex from whoever is one of fewer than `k`, and leaves out who is still.
pub fn anonymous(cohort: &mut Vec<Who>, k: usize) -> (BTreeMap<String, Told>, Anonymity) {
    let all = cohort.len();
    let mut told: BTreeMap<String, Told> =
        cohort.iter().map(|who| (who.patient.clone(), Told { sex: who.sex.clone(), age_band: who.age_band(), ward: who.ward.clone() })).collect();
    let steps: [fn(&mut Told); 3] = [|told| told.ward = None, |told| told.age_band = None, |told| told.sex = None];
    for step in steps {
        let sizes = sizes(&told);
        for one in told.values_mut().filter(|one| sizes[one] < k) {
            step(one);
        }
    }
    let counts = sizes(&told);
    told.retain(|_, one| counts[one] >= k);
    cohort.retain(|who| told.contains_key(&who.patient));
    let mut classes = BTreeMap::new();
    for size in sizes(&told).into_values() {
        *classes.entry(size).or_default() += 1;
    }
    let of = |without: fn(&Who, &Told) -> bool| cohort.iter().filter(|who| told.get(&who.patient).is_some_and(|told| without(who, told))).count();
    let anonymity = Anonymity {
        k,
        patients: cohort.len(),
        without_ward: of(|who, told| who.ward.is_some() && told.ward.is_none()),
        without_age_band: of(|who, told| who.age.is_some() && told.age_band.is_none()),
        without_sex: of(|who, told| who.sex.is_some() && told.sex.is_none()),
        left_out: all - cohort.len(),
        smallest: classes.keys().next().copied().unwrap_or_default(),
        classes,
    };
    (told, anonymity)
}

fn sizes(told: &BTreeMap<String, Told>) -> BTreeMap<Told, usize> {
    let mut sizes = BTreeMap::new();
    for one in told.values() {
        *sizes.entry(one.clone()).or_default() += 1;
    }
    sizes
}
