//! The configuration file: TOML whose keys are the flags of `serve`, with `_` for `-`.
//!
//! It is turned into arguments that stand before those of the command line, so that each setting
//! has one meaning, one check and one default. A flag that is given on the command line as well
//! wins. Only `[[token]]` has no flag.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::error::ContextKind;
use clap::{ArgAction, CommandFactory, Parser};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::access::TokenEntry;
use crate::cli::{Cli, Command};
use crate::exit::Failure;

/// Commands that take a configuration file.
const COMMANDS: [&str; 2] = ["serve", "check"];
/// The key without a flag.
const TOKEN: &str = "token";

/// What a file says.
struct File {
    path: PathBuf,
    /// Key, line, and the arguments it stands for.
    settings: Vec<(String, usize, Vec<OsString>)>,
    tokens: Vec<TokenEntry>,
}

/// Reads the command line, and the configuration file that it names. Help, the version and mistakes
/// on the command line end the process, as ever.
pub(crate) fn parse(argv: Vec<OsString>) -> Result<Cli, Failure> {
    let Some((at, path)) = named(&argv) else {
        return Ok(Cli::parse_from(argv));
    };
    let file = File::read(&path)?;
    let (before, own) = argv.split_at(at + 1);
    let command = before.last().and_then(|name| name.to_str()).unwrap_or("");
    let mut all = before.to_vec();
    for (key, _, arguments) in &file.settings {
        if has_flag(command, key) && !is_given(&argv, key) {
            all.extend(arguments.iter().cloned());
        }
    }
    all.extend(own.iter().cloned());
    let mut cli = match Cli::try_parse_from(all) {
        Ok(cli) => cli,
        Err(error) => return Err(file.blame(&error)),
    };
    if let Command::Serve(arguments) = &mut cli.command {
        arguments.access.token = file.tokens;
    }
    Ok(cli)
}

/// The `[[token]]` sections of a configuration file as it is now.
pub(crate) fn tokens_of(path: &Path) -> Result<Vec<TokenEntry>, Failure> {
    File::read(path).map(|file| file.tokens)
}

/// Where the command stands, and the file that is named after it.
fn named(argv: &[OsString]) -> Option<(usize, PathBuf)> {
    let is_command = |word: &OsString| COMMANDS.iter().any(|name| word == name);
    let at = argv.iter().skip(1).position(is_command)? + 1;
    let mut words = argv.iter().skip(at + 1);
    while let Some(word) = words.next() {
        if word == "--config" {
            return words.next().map(|path| (at, path.into()));
        }
        if let Some(path) = word
            .to_str()
            .and_then(|word| word.strip_prefix("--config="))
        {
            return Some((at, path.into()));
        }
    }
    None
}

fn flag(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

/// Whether the command line has the flag of this key.
fn is_given(argv: &[OsString], key: &str) -> bool {
    let flag = flag(key);
    argv.iter().filter_map(|word| word.to_str()).any(|word| {
        let rest = word.strip_prefix(&flag);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}

/// The argument of a command that a key stands for.
fn argument(command: &str, key: &str) -> Option<clap::Arg> {
    let root = Cli::command();
    let mut all = root
        .find_subcommand(command)
        .into_iter()
        .flat_map(clap::Command::get_arguments)
        .chain(root.get_arguments());
    let long = flag(key);
    let found = all.find(|argument| argument.get_long() == long.strip_prefix("--"));
    found.cloned()
}

fn has_flag(command: &str, key: &str) -> bool {
    argument(command, key).is_some()
}

impl File {
    fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
        Self::understand(path, &text)
    }

    fn understand(path: &Path, text: &str) -> Result<Self, Failure> {
        let line_of = |offset: usize| {
            let before = text.as_bytes().get(..offset).unwrap_or_default();
            1 + before.iter().filter(|byte| **byte == b'\n').count()
        };
        let wrong = |line: usize, what: String| {
            Failure::Usage(format!("{}, line {line}: {what}", path.display()))
        };
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(span.start));
            wrong(line, error.message().to_owned())
        })?;
        let mut file = File {
            path: path.to_owned(),
            settings: Vec::new(),
            tokens: Vec::new(),
        };
        for (key, value) in table.get_ref() {
            let line = line_of(key.span().start);
            let key: &str = key.get_ref();
            if key == TOKEN {
                file.tokens =
                    tokens(text).map_err(|what| wrong(line, format!("`{TOKEN}`: {what}")))?;
                continue;
            }
            let known = argument("serve", key).filter(|_| key != "config");
            let Some(argument) = known else {
                return Err(wrong(line, format!("unknown key `{key}`")));
            };
            let arguments = arguments(key, &argument, value)
                .map_err(|what| wrong(line, format!("`{key}` {what}")))?;
            file.settings.push((key.to_owned(), line, arguments));
        }
        Ok(file)
    }

    /// A value that is not understood is a mistake of the file, if it stands there.
    fn blame(&self, error: &clap::Error) -> Failure {
        let text = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
        let argument = text(ContextKind::InvalidArg);
        let said = argument.split([' ', '=']).next().unwrap_or_default();
        let found = self.settings.iter().find(|(key, _, _)| flag(key) == said);
        let Some((key, line, _)) = found else {
            error.exit();
        };
        let (path, value) = (self.path.display(), text(ContextKind::InvalidValue));
        let why = std::error::Error::source(error)
            .map_or_else(|| error.kind().to_string(), ToString::to_string);
        Failure::Usage(format!("{path}, line {line}: `{key}` is {value:?}: {why}"))
    }
}

fn tokens(text: &str) -> Result<Vec<TokenEntry>, String> {
    #[derive(serde::Deserialize)]
    struct Tokens {
        token: Vec<TokenEntry>,
    }
    let tokens: Tokens = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    Ok(tokens.token)
}

/// The arguments that a setting stands for.
fn arguments(
    key: &str,
    argument: &clap::Arg,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<OsString>, String> {
    let flag = flag(key);
    if matches!(argument.get_action(), ArgAction::SetTrue) {
        return match value.get_ref() {
            DeValue::Boolean(true) => Ok(vec![flag.into()]),
            DeValue::Boolean(false) => Ok(Vec::new()),
            _ => Err("is true or false".to_owned()),
        };
    }
    let one = |value: &DeValue<'_>| -> Result<OsString, String> {
        let text = match value {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.as_str().to_owned(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(value) => value.to_string(),
            _ => return Err("is a string or a number".to_owned()),
        };
        Ok(OsStr::new(&format!("{flag}={text}")).to_owned())
    };
    match (value.get_ref(), argument.get_action()) {
        (DeValue::Array(values), ArgAction::Append) => {
            values.iter().map(|value| one(value.get_ref())).collect()
        }
        (DeValue::Array(_), _) => Err("takes one value only".to_owned()),
        (value, _) => Ok(vec![one(value)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, more: &[&str]) -> Result<crate::cli::ServeArguments, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("redostream.toml");
        std::fs::write(&path, text).unwrap();
        let mut argv: Vec<OsString> = vec!["redostream-server".into(), "serve".into()];
        argv.extend(["--config".into(), path.into_os_string()]);
        argv.extend(more.iter().map(OsString::from));
        match parse(argv) {
            Ok(Cli {
                command: Command::Serve(arguments),
                ..
            }) => Ok(*arguments),
            Ok(_) => Err("another command".to_owned()),
            Err(failure) => Err(failure.to_string()),
        }
    }

    const FILE: &str = "# where\npgdata = \"/p\"\nstate = \"/s\"\ndatabase = [\"a\", \"b\"]\nbuffer = \"2MiB\"\ninsecure = true\npeer_timeout_ms = 500\n";

    #[test]
    fn keys_are_flags_and_the_command_line_wins() {
        let read = parsed(FILE, &["--buffer", "3MiB", "--database=c"]).unwrap();
        assert_eq!(read.pgdata, Path::new("/p"));
        assert_eq!((read.buffer, read.peer_timeout_ms), (3 << 20, 500));
        assert_eq!(read.database, ["c"]);
        assert!(read.access.insecure);
        assert_eq!(parsed(FILE, &[]).unwrap().database, ["a", "b"]);
    }

    #[test]
    fn tokens_are_read() {
        let text = format!("{FILE}[[token]]\nname = \"x\"\nhash = \"sha256:00\"\n");
        let tokens = parsed(&text, &[]).unwrap().access.token;
        assert_eq!(tokens.len(), 1);
        assert_eq!(tokens[0].name, "x");
    }

    #[test]
    fn mistakes_name_file_line_and_key() {
        for (more, line, what) in [
            ("bufer = 1\n", 8, "unknown key `bufer`"),
            (
                "memory = \"much\"\n",
                8,
                "`memory` is \"much\": unknown unit `much`",
            ),
            ("slot = [\"a\", \"b\"]\n", 8, "`slot` takes one value only"),
            (
                "listen = { x = 1 }\n",
                8,
                "`listen` is a string or a number",
            ),
            ("config = \"x\"\n", 8, "unknown key `config`"),
            ("\n\nslot = \n", 10, ""),
            (
                "[[token]]\nnam = \"x\"\n",
                8,
                "`token`: unknown field `nam`",
            ),
        ] {
            let error = parsed(&format!("{FILE}{more}"), &[]).unwrap_err();
            assert!(error.contains("redostream.toml"), "{error}");
            assert!(error.contains(&format!("line {line}: {what}")), "{error}");
        }
        let error = parsed("state = 1\ninsecure = 3\n", &[]).unwrap_err();
        assert!(
            error.contains("line 2: `insecure` is true or false"),
            "{error}"
        );
    }
}
