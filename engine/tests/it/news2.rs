//! NEWS2 in the rule language.

use engine::run_cases;

#[test]
fn the_pack_does_what_its_cases_say() {
    let pack = include_str!("../../../rules/news2.toml");
    let book = engine::compile(pack).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(book.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    let reports = run_cases(pack).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(reports.len(), 8);
    let failed: Vec<String> = reports.iter().filter(|report| !report.passed()).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
