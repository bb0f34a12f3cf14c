//! How a case went, for a person.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseReport {
    pub name: String,
    /// Of the file, from 1.
    pub line: usize,
    pub steps: Vec<StepReport>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepReport {
    pub at: String,
    pub values: String,
    pub expected: Vec<String>,
    pub said: Vec<String>,
    /// What the rules looked at, where something else was said than expected.
    pub why: Vec<String>,
}

impl StepReport {
    pub fn passed(&self) -> bool {
        self.expected == self.said
    }
}

impl CaseReport {
    pub fn passed(&self) -> bool {
        self.steps.iter().all(StepReport::passed)
    }
}

/// The whole table, what was not as expected marked.
impl fmt::Display for CaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.passed() { "as expected" } else { "NOT AS EXPECTED" };
        write!(f, "{word}: {} (line {})", self.name, self.line)?;
        if self.passed() {
            return Ok(());
        }
        let list = |words: &[String]| if words.is_empty() { "nothing".to_owned() } else { words.join(", ") };
        let width = |head: &str, of: fn(&StepReport) -> usize| self.steps.iter().map(of).chain([head.len()]).max().unwrap_or(0);
        let at = width("at", |step| step.at.chars().count());
        let values = width("values", |step| step.values.chars().count());
        write!(f, "\n    {:at$}  {:values$}", "at", "values")?;
        for step in &self.steps {
            let mark = if step.passed() { "  " } else { "> " };
            write!(f, "\n  {mark}{:at$}  {:values$}", step.at, step.values)?;
            if step.passed() {
                if !step.said.is_empty() {
                    write!(f, "  {}", list(&step.said))?;
                }
                continue;
            }
            write!(f, "  - expected {}", list(&step.expected))?;
            write!(f, "\n    {:at$}  {:values$}  + said     {}", "", "", list(&step.said))?;
            for why in &step.why {
                write!(f, "\n    {:at$}  {:values$}    {why}", "", "")?;
            }
        }
        Ok(())
    }
}
