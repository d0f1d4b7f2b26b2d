//! The account under which a server runs.
//!
//! PostgreSQL refuses to run as root, and containers often have no other user logged in. As
//! root the server's programs are started under `postgres`, or `nobody` where that does not
//! exist; as anybody else they are started as they are.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow};

/// Who runs the server's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// User and group to change to; none: the one we already are.
    ids: Option<(u32, u32)>,
}

impl Account {
    /// The account to use on this machine.
    ///
    /// # Errors
    /// As root, when there is neither a `postgres` nor a `nobody` user.
    pub fn find() -> Result<Self> {
        let me = fs::metadata("/proc/self").context("cannot tell which user this is")?;
        if me.uid() != 0 {
            return Ok(Self { ids: None });
        }
        let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        let ids = ["postgres", "nobody"]
            .iter()
            .find_map(|name| lookup(&passwd, name))
            .ok_or_else(|| anyhow!("PostgreSQL cannot run as root and there is no user `postgres` or `nobody` to run it as"))?;
        Ok(Self { ids: Some(ids) })
    }

    /// A command that runs under this account, with an environment that does not leak ours
    /// into the server (locale, time zone, libpq's variables).
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
        clean_environment(&mut command);
        command
    }

    /// Gives a file or directory to this account.
    ///
    /// # Errors
    /// When the owner cannot be changed.
    pub fn give(&self, path: &Path) -> Result<()> {
        if let Some((uid, gid)) = self.ids {
            chown(path, Some(uid), Some(gid))
                .with_context(|| format!("cannot give {} to the server's user", path.display()))?;
        }
        Ok(())
    }
}

/// Sets what a server or client program must not inherit.
pub fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").env("TZ", "UTC").current_dir("/");
}

fn lookup(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::lookup;

    #[test]
    fn finds_a_user_by_its_whole_name() {
        let passwd =
            "root:x:0:0::/:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:101:104::/:/bin/sh\n";
        assert_eq!(lookup(passwd, "postgres"), Some((101, 104)));
        assert_eq!(lookup(passwd, "nobody"), None);
    }
}
