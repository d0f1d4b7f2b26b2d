//! Bearer tokens: made here, kept as hashes, each with what it allows.
//!
//! A token is 32 random bytes in hexadecimal behind `rst_`. Nothing so long can be guessed, so one
//! round of SHA-256 is enough to keep it: a slow hash would only help whoever wants to keep the
//! server busy.

use std::fs;
use std::path::{Path, PathBuf};

use redostream_protocol::wire::Fault;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use rustc_hash::FxHashMap;
use serde::Deserialize;

use crate::session::{Grant, Rule};

const PREFIX: &str = "rst_";
const HASH_PREFIX: &str = "sha256:";
/// Bytes of a token file.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why tokens cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file cannot be read; check its path and rights.
    #[error("token file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file does not say tokens; `redostream-server token` prints what belongs into it.
    #[error("token file {}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// An entry is not usable; mend it.
    #[error("token `{name}`: {problem}")]
    Entry {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

/// One `[[token]]` of the configuration.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// Who it was given to, for logs and for what a subscription belongs to.
    pub name: String,
    /// `sha256:` and the hash in hexadecimal.
    pub hash: String,
    /// Databases it allows; all, if empty.
    #[serde(default)]
    pub databases: Vec<String>,
    /// Table patterns it allows; all, if empty.
    #[serde(default)]
    pub tables: Vec<String>,
}

impl TokenEntry {
    /// The `[[token]]` section for a configuration file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let text = |text: &str| toml::Value::from(text).to_string();
        let list = |items: &[String]| {
            let items: Vec<String> = items.iter().map(|item| text(item)).collect();
            format!("[{}]", items.join(", "))
        };
        let mut out = format!(
            "[[token]]\nname = {}\nhash = {}\n",
            text(&self.name),
            text(&self.hash)
        );
        for (key, items) in [("databases", &self.databases), ("tables", &self.tables)] {
            if !items.is_empty() {
                out.push_str(&format!("{key} = {}\n", list(items)));
            }
        }
        out
    }
}

/// A token that has just been made, and is nowhere else.
pub struct NewToken {
    /// What the client shows.
    pub token: String,
    /// What the server keeps.
    pub entry: TokenEntry,
}

impl NewToken {
    /// Makes a token for `name`.
    pub fn make(
        name: String,
        databases: Vec<String>,
        tables: Vec<String>,
    ) -> Result<Self, TokenError> {
        let mut bytes = [0_u8; 32];
        let filled = SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| TokenError::Random)?;
        let token = format!("{PREFIX}{}", hex(&bytes));
        let entry = TokenEntry {
            name,
            hash: format!(
                "{HASH_PREFIX}{}",
                hex(digest(&SHA256, token.as_bytes()).as_ref())
            ),
            databases,
            tables,
        };
        grant_of(&entry)?;
        Ok(Self { token, entry })
    }
}

/// What tokens allow, by their hashes.
#[derive(Debug, Default)]
pub struct Tokens {
    // Looked up by hash: how long that takes says nothing of the tokens themselves.
    by_hash: FxHashMap<[u8; 32], (String, Grant)>,
}

impl Tokens {
    /// Takes these entries.
    pub fn new(entries: &[TokenEntry]) -> Result<Self, TokenError> {
        let mut by_hash = FxHashMap::default();
        for entry in entries {
            let problem = |problem: &str| TokenError::Entry {
                name: entry.name.clone(),
                problem: problem.to_owned(),
            };
            let hash = entry.hash.strip_prefix(HASH_PREFIX).and_then(unhex);
            let hash =
                hash.ok_or_else(|| problem("its hash is not `sha256:` and 64 hexadecimal digits"))?;
            let grant = grant_of(entry)?;
            if by_hash.insert(hash, (entry.name.clone(), grant)).is_some() {
                return Err(problem("its hash is another's too"));
            }
        }
        Ok(Self { by_hash })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// Whose token this is, and what it allows.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<(&str, &Grant)> {
        let hash: [u8; 32] = digest(&SHA256, token.as_bytes()).as_ref().try_into().ok()?;
        let (name, grant) = self.by_hash.get(&hash)?;
        Some((name, grant))
    }
}

/// Reads a file of `[[token]]` sections, or of plain tokens, one a line, that allow everything.
pub fn read_token_file(path: &Path) -> Result<Vec<TokenEntry>, TokenError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        token: Vec<TokenEntry>,
    }
    let io = |source| TokenError::Io {
        path: path.to_owned(),
        source,
    };
    let wrong = |problem: String| TokenError::File {
        path: path.to_owned(),
        problem,
    };
    if fs::metadata(path).map_err(io)?.len() > FILE_BYTES_MAX {
        return Err(wrong(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(path).map_err(io)?;
    let lines = || text.lines().map(str::trim);
    if lines().any(|line| line.starts_with('[')) {
        let file: File = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        return Ok(file.token);
    }
    let plain = lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let entries: Vec<TokenEntry> = plain
        .enumerate()
        .map(|(number, token)| TokenEntry {
            name: format!("line {}", number + 1),
            hash: format!(
                "{HASH_PREFIX}{}",
                hex(digest(&SHA256, token.as_bytes()).as_ref())
            ),
            ..TokenEntry::default()
        })
        .collect();
    if entries.is_empty() {
        return Err(wrong("there is no token in it".to_owned()));
    }
    Ok(entries)
}

fn grant_of(entry: &TokenEntry) -> Result<Grant, TokenError> {
    let rule = Rule::parse(&entry.databases, &entry.tables, &[]);
    let rule = rule.map_err(|fault: Fault| TokenError::Entry {
        name: entry.name.clone(),
        problem: fault.message,
    })?;
    Ok(Grant {
        token: entry.name.clone(),
        rule,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_known_again_and_nothing_else() {
        let made = NewToken::make(
            "bill\"ing".into(),
            vec!["app".into()],
            vec!["public.*".into()],
        )
        .unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), made.entry.to_toml()).unwrap();
        let entries = read_token_file(file.path()).unwrap();
        assert_eq!(entries, [made.entry]);
        let tokens = Tokens::new(&entries).unwrap();
        let (name, grant) = tokens.find(&made.token).unwrap();
        assert_eq!((name, grant.token.as_str()), ("bill\"ing", "bill\"ing"));
        assert_eq!(grant.rule.databases, ["app"]);
        let mut wrong = made.token.clone();
        let last = if wrong.pop() == Some('0') { '1' } else { '0' };
        wrong.push(last);
        assert!(tokens.find(&wrong).is_none() && tokens.find("").is_none());
        let other = NewToken::make(String::new(), vec![], vec![]).unwrap();
        assert_ne!(other.token, made.token);
    }

    #[test]
    fn plain_tokens_allow_everything() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "# two\nsecret-a\n\n  secret-b \n").unwrap();
        let tokens = Tokens::new(&read_token_file(file.path()).unwrap()).unwrap();
        let (_, grant) = tokens.find("secret-b").unwrap();
        assert!(grant.rule.databases.is_empty() && grant.rule.tables.is_empty());
        assert!(tokens.find("# two").is_none());
    }

    #[test]
    fn unusable_entries_are_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in [
            "",
            "[[token]]\nname = 'x'",
            "[[token]]\nnme = 'x'\nhash = ''",
        ] {
            fs::write(file.path(), text).unwrap();
            assert!(read_token_file(file.path()).is_err(), "{text}");
        }
        let bad = TokenEntry {
            name: "old".into(),
            hash: "sha256:12".into(),
            ..TokenEntry::default()
        };
        let error = Tokens::new(&[bad]).unwrap_err().to_string();
        assert!(error.contains("`old`"), "{error}");
        assert!(NewToken::make("x".into(), vec![], vec![".".into()]).is_err());
    }
}
