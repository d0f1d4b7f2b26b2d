//! The password file: lines of `host:port:database:user:password`, `*` matches anything.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::conninfo::{Conninfo, Host, Secret};

/// The password for connecting to `host` as a replication client, from the connection string or
/// the password file.
pub(super) fn password_for(info: &Conninfo, host: &Host, database: &str) -> Option<Secret> {
    if info.password.is_some() {
        return info.password.clone();
    }
    let path = info.passfile.as_deref()?;
    let text = read(path)?;
    find(&text, host, database, &info.user).map(Secret::new)
}

// pg: interfaces/libpq/fe-connect.c passwordFromFile [14-18]: a file others can read is not used
fn read(path: &Path) -> Option<String> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            tracing::debug!(file = %path.display(), %error, "no password file");
            return None;
        }
    };
    if !metadata.is_file() || metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(
            file = %path.display(),
            "the password file is not used: it must be a plain file that only its owner can \
             read (chmod 0600)"
        );
        return None;
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "the password file cannot be read");
            None
        }
    }
}

fn find(text: &str, host: &Host, database: &str, user: &str) -> Option<String> {
    let port = host.port.to_string();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let fields = fields(line)?;
            let is = |field: &str, wanted: &str| field == "*" || field == wanted;
            let host_fits =
                is(&fields[0], &host.name) || (host.is_socket() && fields[0] == "localhost");
            (host_fits && is(&fields[1], &port) && is(&fields[2], database) && is(&fields[3], user))
                .then(|| fields[4].clone())
        })
}

/// Splits at colons; a backslash makes the next character itself.
fn fields(line: &str) -> Option<[String; 5]> {
    let mut fields = vec![String::new()];
    let mut characters = line.trim_end_matches('\r').chars();
    while let Some(c) = characters.next() {
        let last = fields.last_mut()?;
        match c {
            '\\' => last.extend(characters.next()),
            ':' => fields.push(String::new()),
            c => last.push(c),
        }
    }
    fields.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: u16) -> Host {
        Host {
            name: name.to_owned(),
            address: None,
            port,
        }
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let text = "# comment\n\
                    short:line\n\
                    db1:5432:replication:me:one\n\
                    db1:*:*:me:two\n\
                    *:5433:*:a\\:b:th\\\\ree\n\
                    localhost:*:*:*:local\n";
        let get = |name, port, user| find(text, &host(name, port), "replication", user);
        assert_eq!(get("db1", 5432, "me").as_deref(), Some("one"));
        assert_eq!(get("db1", 5433, "me").as_deref(), Some("two"));
        assert_eq!(get("db9", 5433, "a:b").as_deref(), Some("th\\ree"));
        assert_eq!(get("/tmp", 5432, "me").as_deref(), Some("local"));
        assert_eq!(get("db2", 5432, "me"), None);
    }

    #[test]
    fn a_file_that_others_can_read_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pgpass");
        std::fs::write(&path, "*:*:*:*:x\n").unwrap();
        let set = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read(&path)
        };
        assert_eq!(set(0o644), None);
        assert!(set(0o600).is_some());
    }
}
