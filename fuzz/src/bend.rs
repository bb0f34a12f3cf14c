//! Bends a message so that much of it stays valid: its tree, when it is one, and its bytes.

use ciborium::Value as Cbor;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use serde_json::{Map, Value};

use crate::SELECTOR;
use crate::samples::{CBOR, SAMPLES, samples};

/// Where something is done to every member, a large one is not grown.
const LARGE: usize = 16 << 10;

/// Another message like this one.
pub fn bend(case: &mut Vec<u8>, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    if case.len() <= SELECTOR || one_in(&mut rng, 64) {
        let all = samples();
        case.clone_from(&all[rng.random_range(0..all.len())]);
    }
    if one_in(&mut rng, 32) {
        case[0] = rng.random();
    }
    let payload = &case[SELECTOR..];
    let number = usize::from(case[0] & 0x3f) % SAMPLES.len();
    let bent = if payload.len() > LARGE || one_in(&mut rng, 4) {
        None
    } else if number == CBOR {
        ciborium::de::from_reader_with_recursion_limit(payload, 32).ok().and_then(|tree: Cbor| {
            let mut tree = tree;
            for _ in 0..rng.random_range(1..4) {
                bend_cbor(&mut tree, &mut rng);
            }
            let mut written = Vec::new();
            ciborium::into_writer(&tree, &mut written).ok()?;
            Some(written)
        })
    } else {
        serde_json::from_slice(payload).ok().map(|tree: Value| {
            let mut tree = tree;
            for _ in 0..rng.random_range(1..4) {
                bend_json(&mut tree, &mut rng);
            }
            tree.to_string().into_bytes()
        })
    };
    let tree = bent.is_some();
    if let Some(bent) = bent {
        case.truncate(SELECTOR);
        case.extend_from_slice(&bent);
    }
    if !tree || one_in(&mut rng, 8) {
        bend_bytes(case, &mut rng);
    }
}

fn one_in(rng: &mut StdRng, n: u32) -> bool {
    rng.random_range(0..n) == 0
}

fn bend_bytes(case: &mut Vec<u8>, rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(SELECTOR..=case.len());
        match rng.random_range(0..6) {
            0 if at < case.len() => case[at] ^= 1 << rng.random_range(0..8),
            1 if at < case.len() => case[at] = rng.random(),
            2 => case.truncate(at),
            3 if at < case.len() => {
                let end = rng.random_range(at..case.len().min(at + 64));
                let piece = case[at..=end].to_vec();
                let to = rng.random_range(SELECTOR..=case.len());
                case.splice(to..to, piece);
            }
            4 => {
                let token = TOKENS[rng.random_range(0..TOKENS.len())];
                case.splice(at..at, token.iter().copied());
            }
            _ => case.insert(at, rng.random()),
        }
    }
}

const TOKENS: [&[u8]; 24] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b",",
    b":",
    b"null",
    b"-0.0",
    b"1e308",
    b"-1e400",
    b"9223372036854775807",
    b"\\u0000",
    b"\\ud800",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\x9f",
    b"\xbf",
    b"\xff\xff",
    b"\xc4\x82",
    b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x9b\x00\x00\x00\x01\x00\x00\x00\x00",
    b"\x7f\x61a",
];

/// Words and numbers that some decoder looks at.
fn leaf(rng: &mut StdRng) -> Value {
    const WORDS: [&str; 28] = [
        "",
        "spo2",
        "%",
        "2026-11-20T07:25:00Z",
        "2026-11-20",
        "9999-12-31T23:59:59Z",
        "-009999-01-01T00:00:00Z",
        "2026-11-20T24:00:00+25:59",
        "Observation",
        "Bundle",
        "final",
        "http://loinc.org",
        "8867-4",
        "mg/dL",
        "mmol/L",
        "/min",
        "{}",
        "{a",
        "}",
        "dev:spo2",
        "urn:dev:",
        "ox",
        "cuff",
        "beats/min",
        "é\u{0}\u{202e}",
        "1e3",
        "NaN",
        "canary",
    ];
    match rng.random_range(0..8) {
        0..=2 => WORDS[rng.random_range(0..WORDS.len())].into(),
        3 => rng.random_range(-10..400).into(),
        4 => rng.random::<i64>().into(),
        5 => f64::from_bits(rng.random()).into(),
        6 => [f64::MAX, f64::MIN_POSITIVE, -0.0, 268_435_456.0, 9_007_199_254_740_993.0, 1e18][rng.random_range(0..6)].into(),
        _ => [Value::Null, Value::Bool(true), Value::Array(Vec::new()), Value::Object(Map::new()), u64::MAX.into()][rng.random_range(0..5)].clone(),
    }
}

fn bend_json(tree: &mut Value, rng: &mut StdRng) {
    let inside = match tree {
        Value::Array(values) => values.len(),
        Value::Object(members) => members.len(),
        _ => 0,
    };
    if inside > 0 && !one_in(rng, 4) {
        let at = rng.random_range(0..inside);
        let child = match tree {
            Value::Array(values) => values.get_mut(at),
            Value::Object(members) => members.values_mut().nth(at),
            _ => None,
        };
        return child.into_iter().for_each(|child| bend_json(child, rng));
    }
    match tree {
        Value::Array(values) => match rng.random_range(0..5) {
            0 if inside > 0 => drop(values.remove(rng.random_range(0..inside))),
            1 if inside > 0 => {
                let again = values[rng.random_range(0..inside)].clone();
                let times = if one_in(rng, 16) { rng.random_range(1..200) } else { 1 };
                values.extend(std::iter::repeat_n(again, times));
            }
            2 if inside > 1 => values.swap(rng.random_range(0..inside), rng.random_range(0..inside)),
            3 => values.push(leaf(rng)),
            _ => *tree = leaf(rng),
        },
        Value::Object(members) => {
            let name = members.keys().nth(rng.random_range(0..inside.max(1))).cloned().unwrap_or_default();
            match rng.random_range(0..5) {
                0 => drop(members.remove(&name)),
                1 => {
                    let value = members.remove(&name).unwrap_or_default();
                    members.insert(renamed(&name, rng), value);
                }
                2 => drop(members.insert(renamed(&name, rng), leaf(rng))),
                3 => {
                    let inner = std::mem::take(tree);
                    *tree = Value::Array(vec![inner]);
                }
                _ => *tree = leaf(rng),
            }
        }
        Value::String(text) if one_in(rng, 2) => {
            let at = text.char_indices().map(|(at, _)| at).nth(rng.random_range(0..8)).unwrap_or(text.len());
            match rng.random_range(0..3) {
                0 => text.truncate(at),
                1 => text.insert(at, char::from_u32(rng.next_u32() & 0x1f_ffff).unwrap_or('\u{7f}')),
                _ => *text = text.repeat(rng.random_range(2..40)),
            }
        }
        Value::Number(number) if one_in(rng, 2) => {
            let number = number.as_f64().unwrap_or_default();
            *tree = [-number, number * 1e3, number / 1e3, number + 1.0, number * 1e15, number - 1.0][rng.random_range(0..6)].into();
        }
        other => *other = leaf(rng),
    }
}

fn renamed(name: &str, rng: &mut StdRng) -> String {
    const NAMES: [&str; 30] = [
        "bn",
        "bt",
        "bu",
        "bv",
        "bs",
        "bver",
        "n",
        "u",
        "v",
        "vs",
        "vb",
        "vd",
        "s",
        "t",
        "ut",
        "x_",
        "effectiveInstant",
        "effectiveTiming",
        "modifierExtension",
        "component",
        "valueQuantity",
        "value",
        "comparator",
        "dataAbsentReason",
        "descriptive_statistic",
        "header",
        "readings",
        "sent_at",
        "at",
        "unit",
    ];
    match rng.random_range(0..4) {
        0 => format!("{name}{name}"),
        1 => name.chars().skip(1).collect(),
        _ => NAMES[rng.random_range(0..NAMES.len())].to_owned(),
    }
}

fn bend_cbor(tree: &mut Cbor, rng: &mut StdRng) {
    match tree {
        Cbor::Array(values) if !values.is_empty() && !one_in(rng, 4) => {
            let at = rng.random_range(0..values.len());
            bend_cbor(&mut values[at], rng);
        }
        Cbor::Map(fields) if !fields.is_empty() && !one_in(rng, 4) => {
            let at = rng.random_range(0..fields.len());
            let (label, value) = &mut fields[at];
            match rng.random_range(0..6) {
                0 => *label = Cbor::Integer(rng.random_range(-8..10).into()),
                1 => drop(fields.remove(at)),
                2 => {
                    let again = fields[at].clone();
                    fields.push(again);
                }
                _ => bend_cbor(value, rng),
            }
        }
        Cbor::Array(values) if one_in(rng, 2) => {
            let again = values.first().cloned().unwrap_or(Cbor::Null);
            values.extend(std::iter::repeat_n(again, if one_in(rng, 16) { 100 } else { 1 }));
        }
        other => {
            *other = match rng.random_range(0..8) {
                0 => Cbor::Tag(rng.random_range(0..6), Box::new(std::mem::replace(other, Cbor::Null))),
                1 => Cbor::Tag(4, Box::new(Cbor::Array(vec![integer(rng), integer(rng)]))),
                2 => Cbor::Bytes(vec![rng.random(); rng.random_range(0..40)]),
                3 => Cbor::Float(f64::from_bits(rng.random())),
                4 => integer(rng),
                5 => Cbor::Array(vec![std::mem::replace(other, Cbor::Null)]),
                _ => Cbor::serialized(&leaf(rng)).unwrap_or(Cbor::Null),
            }
        }
    }
}

fn integer(rng: &mut StdRng) -> Cbor {
    let number = match rng.random_range(0..3) {
        0 => rng.random_range(-400..400),
        1 => i128::from(rng.random::<u64>()),
        _ => -1 - i128::from(rng.random::<u64>()),
    };
    Cbor::Integer(ciborium::value::Integer::try_from(number).unwrap_or_else(|_| 0.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checker;

    #[test]
    fn every_sample_is_read() {
        let checker = Checker::new().unwrap();
        for sample in samples() {
            checker.check(&sample).unwrap_or_else(|wrong| panic!("{}: {wrong}", String::from_utf8_lossy(&sample)));
        }
    }

    /// `dev/fuzz` runs as many as it is asked for, and keeps what reaches new code. `VIGIL_TEST_CASES` are as many as are wanted here, without that.
    #[test]
    fn i2_holds_of_whatever_is_bent() {
        let set = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
        let (seed, cases) = (set("VIGIL_TEST_SEED").unwrap_or_else(rand::random), set("VIGIL_TEST_CASES").unwrap_or(20_000));
        println!("VIGIL_TEST_SEED={seed}, {cases} cases");
        let checker = Checker::new().unwrap();
        let mut case = Vec::new();
        for round in 0..cases {
            if round % 8 == 0 {
                case.clear();
            }
            bend(&mut case, seed.wrapping_add(round));
            checker.check(&case).unwrap_or_else(|wrong| panic!("VIGIL_TEST_SEED={seed}, case {round}: {wrong}\n{:?}", String::from_utf8_lossy(&case)));
        }
    }
}
