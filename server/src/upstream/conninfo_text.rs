//! The two ways to write a connection string, as keys and values: `key = 'value' ...` and
//! `postgresql://user:password@host:port,host:port/database?key=value`.
//!
//! Leaves to `conninfo.rs` what the keys mean.

use nom::branch::alt;
use nom::bytes::complete::take_while1;
use nom::character::complete::{anychar, char, multispace0, none_of};
use nom::combinator::{map, not};
use nom::multi::{fold_many0, many0};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

use super::conninfo::ConninfoError;

/// Keys and values in the order in which they stand.
pub(super) type Pairs = Vec<(String, String)>;

/// Reads either form.
pub(super) fn pairs(text: &str) -> Result<Pairs, ConninfoError> {
    for scheme in ["postgresql://", "postgres://"] {
        if let Some(rest) = text.strip_prefix(scheme) {
            return uri(rest);
        }
    }
    key_values(text)
}

// pg: interfaces/libpq/fe-connect.c conninfo_parse [14-18]
fn key_values(text: &str) -> Result<Pairs, ConninfoError> {
    let pair = (
        terminated(take_while1(is_key), (multispace0, char('='), multispace0)),
        alt((quoted, plain)),
    );
    let mut whole = many0(preceded(
        multispace0,
        map(pair, |(key, value): (&str, String)| (key.to_owned(), value)),
    ));
    let (rest, pairs) = whole
        .parse(text)
        .map_err(|_: nom::Err<nom::error::Error<&str>>| ConninfoError::Syntax(String::new()))?;
    let rest = rest.trim_start();
    if rest.is_empty() {
        return Ok(pairs);
    }
    // Only the key is named: what follows may be a password.
    let key: String = rest.chars().take_while(|c| is_key(*c)).collect();
    Err(ConninfoError::Syntax(if key.is_empty() {
        "expected a key".to_owned()
    } else if rest
        .get(key.len()..)
        .is_some_and(|rest| rest.trim_start().starts_with('='))
    {
        format!("the value of {key} has no closing quote")
    } else {
        format!("expected `=` after {key}")
    }))
}

fn is_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn escaped(input: &str) -> IResult<&str, char> {
    preceded(char('\\'), anychar).parse(input)
}

fn quoted(input: &str) -> IResult<&str, String> {
    let inner = alt((escaped, none_of("'\\")));
    delimited(char('\''), text_of(inner), char('\'')).parse(input)
}

fn plain(input: &str) -> IResult<&str, String> {
    let inner = alt((escaped, none_of(" \t\r\n\u{b}\u{c}\\")));
    preceded(not(char('\'')), text_of(inner)).parse(input)
}

fn text_of<'a>(
    inner: impl Parser<&'a str, Output = char, Error = nom::error::Error<&'a str>>,
) -> impl Parser<&'a str, Output = String, Error = nom::error::Error<&'a str>> {
    fold_many0(inner, String::new, |mut text, c| {
        text.push(c);
        text
    })
}

// pg: interfaces/libpq/fe-connect.c conninfo_uri_parse_options [14-18]
fn uri(rest: &str) -> Result<Pairs, ConninfoError> {
    let mut pairs = Pairs::new();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let hosts = match authority.rsplit_once('@') {
        Some((user, hosts)) => {
            let (user, password) = match user.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (user, None),
            };
            push(&mut pairs, "user", user)?;
            push(&mut pairs, "password", password.unwrap_or(""))?;
            hosts
        }
        None => authority,
    };
    let mut names = Vec::new();
    let mut ports = Vec::new();
    for host in hosts.split(',') {
        let (name, port) = host_port(host)?;
        names.push(decode("host", name)?);
        ports.push(port);
    }
    if names.iter().any(|name| !name.is_empty()) {
        pairs.push(("host".to_owned(), names.join(",")));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        pairs.push(("port".to_owned(), ports.join(",")));
    }
    push(&mut pairs, "dbname", database)?;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (key, value) = parameter.split_once('=').ok_or_else(|| {
            ConninfoError::Syntax(format!("expected `=` after {parameter} in the URI"))
        })?;
        let key = decode("key", key)?;
        let value = decode(&key, value)?;
        pairs.push(match (key.as_str(), value.as_str()) {
            ("ssl", "true") => ("sslmode".to_owned(), "require".to_owned()),
            _ => (key, value),
        });
    }
    Ok(pairs)
}

fn push(pairs: &mut Pairs, key: &str, value: &str) -> Result<(), ConninfoError> {
    if !value.is_empty() {
        pairs.push((key.to_owned(), decode(key, value)?));
    }
    Ok(())
}

fn host_port(host: &str) -> Result<(&str, &str), ConninfoError> {
    let bad = || ConninfoError::Syntax("a bracket in the URI's host is not closed".to_owned());
    if let Some(rest) = host.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or_else(bad)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((address, port)),
            None if rest.is_empty() => Ok((address, "")),
            None => Err(bad()),
        };
    }
    Ok(host.split_once(':').unwrap_or((host, "")))
}

fn decode(key: &str, text: &str) -> Result<String, ConninfoError> {
    let bad = || ConninfoError::Syntax(format!("{key} in the URI has a bad %-sequence"));
    let byte = |input: &str| -> Option<u8> {
        let digits = input
            .get(..2)
            .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u8::from_str_radix(digits, 16)
            .ok()
            .filter(|byte| *byte != 0)
    };
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(byte(part).ok_or_else(bad)?);
        bytes.extend_from_slice(part.get(2..).unwrap_or_default().as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let expected: Pairs = expected
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(pairs(text).unwrap(), expected, "{text}");
    }

    #[test]
    fn key_value_form() {
        check("", &[]);
        check("  host=a  port = 5433 ", &[("host", "a"), ("port", "5433")]);
        check(
            r"password='it\'s a \\ 😀' user=a\ b dbname=''",
            &[
                ("password", "it's a \\ 😀"),
                ("user", "a b"),
                ("dbname", ""),
            ],
        );
    }

    #[test]
    fn uri_form() {
        check("postgresql://", &[]);
        check(
            "postgres://us%40er:p%3Aw@h1:1,[::1]:2,h3/db?sslmode=require&application_name=a%20b",
            &[
                ("user", "us@er"),
                ("password", "p:w"),
                ("host", "h1,::1,h3"),
                ("port", "1,2,"),
                ("dbname", "db"),
                ("sslmode", "require"),
                ("application_name", "a b"),
            ],
        );
        check(
            "postgresql://%2Ftmp%2Fx/?user=a",
            &[("host", "/tmp/x"), ("user", "a")],
        );
        check(
            "postgresql:///db?host=/tmp",
            &[("dbname", "db"), ("host", "/tmp")],
        );
    }

    #[test]
    fn errors_name_the_key_and_never_the_value() {
        for (text, said) in [
            ("host", "expected `=` after host"),
            ("host=a secret", "expected `=` after secret"),
            (
                "password='secret",
                "the value of password has no closing quote",
            ),
            ("=x", "expected a key"),
            ("postgresql://u:%zz@h/", "password in the URI"),
            ("postgresql://h?sslmode", "expected `=` after sslmode"),
            ("postgresql://[::1/", "bracket"),
        ] {
            let error = pairs(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
