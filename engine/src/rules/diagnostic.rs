//! What is wrong with a rule file, where, and what to do about it.

use std::fmt;
use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// What is wrong with a rule, where, and what to do. `Display` is the text with the underlined line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    /// Bytes of the TOML.
    pub span: Range<usize>,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub help: String,
    excerpt: String,
    underline: usize,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.severity == Severity::Error { "error" } else { "warning" };
        let number = self.line.to_string();
        let pad = " ".repeat(number.len());
        writeln!(f, "{word}: {}", self.message)?;
        writeln!(f, "{pad}--> line {}, column {}", self.line, self.column)?;
        writeln!(f, "{pad} |\n{number} | {}", self.excerpt)?;
        write!(f, "{pad} | {}{}", " ".repeat(self.column.saturating_sub(1)), "^".repeat(self.underline.max(1)))?;
        if !self.help.is_empty() {
            write!(f, "\n{pad} = help: {}", self.help)?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a rule file, at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// A refusal inside one value: message, span within the file, help.
pub(crate) struct Refusal(pub String, pub Range<usize>, pub String);

pub(crate) fn diagnostic(toml: &str, severity: Severity, Refusal(message, span, help): Refusal) -> Diagnostic {
    let start = span.start.min(toml.len());
    let end = span.end.clamp(start, toml.len());
    let before = toml.get(..start).unwrap_or("");
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    let excerpt = toml.get(line_start..).unwrap_or("").lines().next().unwrap_or("").to_owned();
    let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
    let underline = toml.get(start..end).unwrap_or("").lines().next().unwrap_or("").chars().count();
    Diagnostic { severity, message, span: start..end, line: before.matches('\n').count() + 1, column, help, excerpt, underline }
}
