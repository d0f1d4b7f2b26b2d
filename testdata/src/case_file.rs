//! The form of `cases/<name>.sql`: SQL in stages.
//!
//! Lines that begin with `---` divide the file:
//!
//! ```text
//! --- setting NAME = VALUE        a setting of the server (before the first stage)
//! --- versions FROM               only these major versions: 15, 15.. (before the first stage)
//! --- database NAME OPTIONS       a database of its own, made with these options (before the first
//!                                 stage)
//! --- stage                       what follows runs when everything before has ended
//! --- session                     within a stage: a further psql, at the same time
//! --- pgbench OPTIONS             within a stage: pgbench instead, what follows is its script,
//!                                 nothing means its own (TPC-B)
//! --- open                        a psql that stays open, with what it has open, until the next
//!                                 crash or the end; what follows in the file waits for its SQL
//! --- crash                       the server is stopped as in a crash and started again
//! --- next-oid OID                the server is stopped and started again, and gives out OIDs from
//!                                 this one on
//! ```

use anyhow::{Result, anyhow, bail};

/// One thing that runs within a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// SQL through psql.
    Session(String),
    /// pgbench with these options, and a script unless it is empty.
    Pgbench {
        /// Its options.
        options: Vec<String>,
        /// Its script.
        script: String,
    },
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// These run at the same time.
    Parts(Vec<Part>),
    /// SQL of a session that stays open.
    Open(String),
    /// The server crashes.
    Crash,
    /// The server is restarted with its counter of OIDs at this one.
    NextOid(u32),
}

/// A case as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CaseFile {
    /// Settings of the server.
    pub settings: Vec<(String, String)>,
    /// First and last major version.
    pub versions: Option<(u32, u32)>,
    /// A database of its own: its name, and the options it is made with.
    pub database: Option<(String, String)>,
    /// What to run.
    pub stages: Vec<Stage>,
}

impl CaseFile {
    /// Reads a case.
    ///
    /// # Errors
    /// For a line that is not understood.
    pub fn parse(text: &str) -> Result<Self> {
        let mut case = Self::default();
        let mut parts: Vec<Part> = Vec::new();
        let mut open = false;
        for line in text.lines() {
            let Some(directive) = line.strip_prefix("---") else {
                case.line(&mut parts, line)?;
                continue;
            };
            let directive = directive.trim();
            let (word, rest) = directive.split_once(' ').unwrap_or((directive, ""));
            match word {
                "setting" => {
                    let (name, value) = rest
                        .split_once('=')
                        .ok_or_else(|| anyhow!("not NAME = VALUE: {rest}"))?;
                    case.settings
                        .push((name.trim().to_owned(), value.trim().to_owned()));
                }
                "versions" => {
                    let (first, last) = rest.split_once("..").unwrap_or((rest, rest));
                    let last = if last.is_empty() { 99 } else { last.parse()? };
                    case.versions = Some((first.parse()?, last));
                }
                "database" => {
                    let (name, options) = rest.split_once(' ').unwrap_or((rest, ""));
                    case.database = Some((name.to_owned(), options.to_owned()));
                }
                "stage" | "open" | "crash" | "next-oid" => {
                    case.end_stage(&mut parts, open);
                    open = word == "open";
                    match word {
                        "crash" => case.stages.push(Stage::Crash),
                        "next-oid" => case.stages.push(Stage::NextOid(rest.parse()?)),
                        _ => parts.push(Part::Session(String::new())),
                    }
                }
                "session" => parts.push(Part::Session(String::new())),
                "pgbench" => parts.push(Part::Pgbench {
                    options: rest.split_whitespace().map(str::to_owned).collect(),
                    script: String::new(),
                }),
                other => bail!("no such directive: {other}"),
            }
        }
        case.end_stage(&mut parts, open);
        Ok(case)
    }

    /// Whether the case is recorded for a version.
    pub fn fits(&self, major: u32) -> bool {
        self.versions
            .is_none_or(|(first, last)| (first..=last).contains(&major))
    }

    fn line(&self, parts: &mut [Part], line: &str) -> Result<()> {
        let blank = line.trim().is_empty() || line.starts_with("--");
        match parts.last_mut() {
            Some(Part::Session(text) | Part::Pgbench { script: text, .. }) => {
                text.push_str(line);
                text.push('\n');
            }
            None if blank => {}
            None => bail!("SQL before the first stage: {line}"),
        }
        Ok(())
    }

    fn end_stage(&mut self, parts: &mut Vec<Part>, open: bool) {
        if open && let [Part::Session(sql)] = &parts[..] {
            self.stages.push(Stage::Open(sql.clone()));
            parts.clear();
            return;
        }
        let ended: Vec<Part> = std::mem::take(parts)
            .into_iter()
            .filter(|part| !matches!(part, Part::Session(sql) if sql.trim().is_empty()))
            .collect();
        if !ended.is_empty() {
            self.stages.push(Stage::Parts(ended));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_sessions_and_settings_are_told_apart() {
        let case = CaseFile::parse(
            "-- About.\n--- setting wal_log_hints = on\n--- versions 15..\n--- stage\nselect 1;\n--- session\nselect 2;\n--- pgbench -c 2\n--- open\nbegin;\n--- crash\n--- next-oid 20000\n--- stage\nselect 3;\n",
        )
        .unwrap();
        assert_eq!(
            case.settings,
            [("wal_log_hints".to_owned(), "on".to_owned())]
        );
        assert!(case.fits(18) && !case.fits(14));
        assert_eq!(case.stages.len(), 5);
        assert!(matches!(&case.stages[0], Stage::Parts(parts) if parts.len() == 3));
        assert_eq!(case.stages[1], Stage::Open("begin;\n".to_owned()));
        assert_eq!(case.stages[2], Stage::Crash);
        assert_eq!(case.stages[3], Stage::NextOid(20000));
        assert_eq!(
            case.stages[4],
            Stage::Parts(vec![Part::Session("select 3;\n".to_owned())])
        );
    }

    #[test]
    fn a_misspelt_directive_is_refused() {
        assert!(CaseFile::parse("--- sesion\n").is_err());
        assert!(CaseFile::parse("select 1;\n").is_err());
    }
}
