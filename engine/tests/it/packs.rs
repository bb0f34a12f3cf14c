//! The rules that come with Vigil: each says where its number is from and what harm it can do, and its cases show when it is raised and cleared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use engine::{RuleBook, compile, run_cases};

/// Every pack at the repository's root, and what is installed.
fn packs() -> Vec<(String, String)> {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = std::fs::read_dir(engine.join("../rules")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.push(engine.join("rules/default.toml"));
    files.into_iter().map(|file| (file.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&file).unwrap())).collect()
}

fn book(name: &str, toml: &str) -> RuleBook {
    let book = compile(toml).unwrap_or_else(|errors| panic!("{name}: {errors}"));
    let warnings: Vec<String> = book.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.is_empty(), "{name}: {}", warnings.join("\n"));
    book
}

fn ids(book: &RuleBook) -> BTreeSet<String> {
    let ids = book.rules.iter().chain(&book.drafts).map(|rule| rule.id.to_string());
    ids.filter(|id| id != schemas::CANARY_RULE).collect()
}

#[test]
fn there_is_one_for_each_kind_of_patient() {
    let names: Vec<String> = packs().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["copd.toml", "heart-failure.toml", "hospital-at-home.toml", "hypertension.toml", "post-discharge.toml", "default.toml"]);
}

#[test]
fn every_rule_names_its_source_and_its_hazard() {
    let mut seen = BTreeMap::new();
    for (name, toml) in packs() {
        let book = book(&name, &toml);
        for rule in book.rules.iter().filter(|rule| rule.id.as_str() != schemas::CANARY_RULE) {
            assert!(!rule.source.is_empty(), "{name}: {} has no source", rule.id);
            assert!(rule.hazard.contains("missed") && rule.hazard.contains("False"), "{name}: the hazard of {} names a miss and a false alarm", rule.id);
            if let Some(other) = seen.insert(rule.id.clone(), name.clone()) {
                panic!("{} is in {other} and in {name}", rule.id);
            }
        }
    }
}

/// Of a limit's default, or of what lies just beyond it (`< 92` is the chart's "91 and below").
#[test]
fn every_limit_has_its_number_in_its_source() {
    for (name, toml) in packs() {
        let document: toml::Table = toml.parse().unwrap();
        for rule in document["rule"].as_array().unwrap() {
            let Some(when) = rule.get("when").and_then(toml::Value::as_str) else { continue };
            let source = rule["source"].as_str().unwrap();
            let numbers: BTreeSet<String> = source.split(|c: char| !c.is_ascii_digit() && c != '.').map(|n| n.trim_matches('.').to_owned()).collect();
            for limit in when.split("limit('").skip(1) {
                let default: f64 = limit.split(", ").nth(1).unwrap().split(')').next().unwrap().parse().unwrap();
                let known = [default, default - 1.0, default + 1.0].iter().any(|n| numbers.contains(&n.to_string()) || numbers.contains(&format!("{n:.1}")));
                assert!(known, "{name}: {} compares with {default}, and its source does not: {source}", rule["id"]);
            }
        }
    }
}

#[test]
fn the_cases_of_every_pack_are_as_expected() {
    let mut missing = Vec::new();
    for (name, toml) in packs() {
        let reports = run_cases(&toml).unwrap_or_else(|errors| panic!("{name}: {errors}"));
        let failed: Vec<String> = reports.iter().filter(|report| !report.passed()).map(ToString::to_string).collect();
        assert!(failed.is_empty(), "{name}: {}", failed.join("\n"));
        let said: BTreeSet<&str> = reports.iter().flat_map(|report| &report.steps).flat_map(|step| &step.said).map(String::as_str).collect();
        for id in ids(&book(&name, &toml)) {
            for kind in ["raised", "cleared"] {
                let shown = said.iter().any(|words| words.split(' ').take(2).eq([kind, id.as_str()]));
                missing.extend((!shown).then(|| format!("{name}: no case shows {id} {kind}")));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
