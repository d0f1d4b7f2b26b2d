//! Where two printed streams differ, told so that a person can go on from it.

use std::fmt::Write as _;

/// Lines shown before the first difference, and after it from each side.
const CONTEXT_LINES: usize = 4;
/// Characters of a line that are shown around the first difference in it.
const SHOWN_CHARS: usize = 600;

/// Compares what the server printed with what Redostream printed.
///
/// # Errors
/// The first line that differs, its transaction, and the lines around it.
pub fn compare(expected: &[u8], got: &[u8]) -> Result<usize, String> {
    if expected == got {
        return Ok(lines(expected).len());
    }
    let (expected, got) = (lines(expected), lines(got));
    let common = expected
        .iter()
        .zip(&got)
        .take_while(|(a, b)| a == b)
        .count();
    let transaction = expected[..common]
        .iter()
        .rev()
        .find(|line| line.starts_with(b"BEGIN ") || line.starts_with(b"COMMIT "))
        .map_or_else(
            || "before the first transaction".to_owned(),
            |line| format!("after {}", show(line, 0)),
        );
    let mut text = format!(
        "first difference in line {} of {} expected and {} decoded, {transaction}\n",
        common + 1,
        expected.len(),
        got.len()
    );
    for line in &expected[common.saturating_sub(CONTEXT_LINES)..common] {
        let _ = writeln!(text, "  {}", show(line, 0));
    }
    let at = match (expected.get(common), got.get(common)) {
        (Some(a), Some(b)) => a.iter().zip(b.iter()).take_while(|(a, b)| a == b).count(),
        _ => 0,
    };
    for (mark, side) in [('-', &expected), ('+', &got)] {
        for line in side.iter().skip(common).take(CONTEXT_LINES) {
            let _ = writeln!(text, "{mark} {}", show(line, at));
        }
        if side.len() <= common {
            let _ = writeln!(text, "{mark} (ends here)");
        }
    }
    text.push_str("(- is the server, + is Redostream)");
    Err(text)
}

/// How many lines differ, counting each line by how often it stands on one side only.
pub fn lines_that_differ(expected: &[u8], got: &[u8]) -> usize {
    let mut count = std::collections::HashMap::<&[u8], i64>::new();
    for line in lines(expected) {
        *count.entry(line).or_default() += 1;
    }
    for line in lines(got) {
        *count.entry(line).or_default() -= 1;
    }
    let one_sided: u64 = count.values().map(|count| count.unsigned_abs()).sum();
    usize::try_from(one_sided)
        .unwrap_or(usize::MAX)
        .max(usize::from(expected != got))
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    lines
}

fn show(line: &[u8], at: usize) -> String {
    let text = String::from_utf8_lossy(line);
    let count = text.chars().count();
    if count <= SHOWN_CHARS {
        return text.into_owned();
    }
    let from = at.saturating_sub(SHOWN_CHARS / 2).min(count - SHOWN_CHARS);
    let part: String = text.chars().skip(from).take(SHOWN_CHARS).collect();
    format!("[{count} characters, from {from}] {part}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_streams_give_their_number_of_lines() {
        assert_eq!(
            compare(b"BEGIN 1\nCOMMIT 1\n", b"BEGIN 1\nCOMMIT 1\n"),
            Ok(2)
        );
    }

    #[test]
    fn a_difference_names_line_and_transaction() {
        let told = compare(b"BEGIN 7\na\nb\nCOMMIT 7\n", b"BEGIN 7\na\nc\n").unwrap_err();
        assert!(
            told.contains("line 3 of 4 expected and 3 decoded, after BEGIN 7"),
            "{told}"
        );
        assert!(told.contains("- b") && told.contains("+ c"), "{told}");
        assert_eq!(lines_that_differ(b"a\nb\nc\n", b"a\nx\n"), 3);
    }

    #[test]
    fn a_missing_end_of_line_is_a_difference() {
        assert!(compare(b"a\n", b"a").is_err());
        assert_eq!(lines_that_differ(b"a\n", b"a"), 1);
    }
}
