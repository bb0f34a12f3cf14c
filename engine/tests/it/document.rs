//! docs/rules.md: what it shows compiles, and says what it says it says.

use std::path::Path;

use engine::{compile, run_cases};

struct Block {
    /// `toml`, `toml refused`, `text`
    kind: String,
    line: usize,
    text: String,
}

fn document() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rules.md")).unwrap()
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (n, line) in document.lines().enumerate() {
        match (line.strip_prefix("```"), open) {
            (Some(kind), false) => blocks.push(Block { kind: kind.to_owned(), line: n + 1, text: String::new() }),
            (None, true) => {
                let block = blocks.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
                continue;
            }
            (Some(_), true) => {}
            (None, false) => continue,
        }
        open = !open;
    }
    assert!(!open, "a block is not closed");
    blocks
}

#[test]
fn every_example_compiles_and_its_cases_are_as_they_say() {
    let document = document();
    let (mut compiled, mut played, mut wrong) = (0, 0, Vec::new());
    for block in blocks(&document).iter().filter(|block| block.kind == "toml") {
        let line = block.line;
        let book = compile(&block.text).unwrap_or_else(|errors| panic!("docs/rules.md, line {line}:\n{errors}"));
        assert!(book.warnings.is_empty(), "docs/rules.md, line {line}:\n{}", book.warnings[0]);
        let reports = run_cases(&block.text).unwrap_or_else(|errors| panic!("docs/rules.md, line {line}:\n{errors}"));
        played += reports.len();
        compiled += 1;
        wrong.extend(reports.iter().filter(|report| !report.passed()).map(|report| format!("docs/rules.md, line {line}:\n{report}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compiled >= 15 && played >= 20, "{compiled} examples with {played} cases");
}

#[test]
fn what_is_refused_is_refused_with_these_words() {
    let document = document();
    let blocks = blocks(&document);
    let mut refused = 0;
    for (wrong, told) in blocks.iter().zip(blocks.iter().skip(1)).filter(|(wrong, _)| wrong.kind == "toml refused") {
        assert_eq!(told.kind, "text", "docs/rules.md, line {}", told.line);
        let errors = compile(&wrong.text).err().unwrap_or_else(|| panic!("docs/rules.md, line {}: it compiles", wrong.line));
        assert_eq!(errors.to_string(), told.text.trim_end(), "docs/rules.md, line {}", told.line);
        refused += 1;
    }
    assert!(refused >= 2);
}

/// Every word that a predicate may call has its paragraph, and every key its row.
#[test]
fn no_word_is_left_out() {
    let document = document();
    let errors = compile("[[rule]]\nid = \"a\"\npriority = \"low\"\nwhen = \"nothing_like_it(spo2, '5 min') < 1\"\nwhy = 1\n").unwrap_err().to_string();
    let keys = errors.split("expected one of ").nth(1).unwrap().lines().next().unwrap();
    for key in keys.split(", ") {
        assert!(document.lines().any(|line| line.starts_with('|') && line.split('|').nth(1).unwrap().contains(key)), "no row for {key}");
    }
    let errors = compile("[[rule]]\nid = \"a\"\npriority = \"low\"\nwhen = \"nothing_like_it(spo2, '5 min') < 1\"\n").unwrap_err().to_string();
    let words = errors.split("known are ").nth(1).unwrap().lines().next().unwrap();
    for word in words.split([',', ' ']).filter(|word| !word.is_empty() && *word != "and") {
        let heading = |line: &str| line.starts_with("##") && line.contains(&format!("`{word}`"));
        assert!(document.lines().any(heading), "no paragraph on {word}");
    }
}
