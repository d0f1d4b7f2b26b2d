//! One real server: its directory, its socket, start and stop.
//!
//! A cluster lives in its own temporary directory and listens on a socket in it, so any number
//! run side by side with no port to choose. It is stopped, and the directory removed, when the
//! value is dropped. `initdb` runs once per version and set of options; later clusters are
//! copies of that template.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::account::{Account, clean_environment};
use crate::files::copy_tree;
use crate::server::{Server, client};
use crate::session::Session;

/// What a cluster is made with.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Bytes of a WAL segment in MiB: a power of two, 1 to 1024.
    pub segment_mib: u32,
    /// Data checksums.
    pub checksums: bool,
    /// Server encoding.
    pub encoding: String,
    /// Runs initdb anew, for a system identifier of its own; else a template is copied.
    pub own_identity: bool,
    /// Listens on 127.0.0.1 too, on a free port.
    pub tcp: bool,
    /// Further lines of postgresql.conf.
    pub settings: Vec<(String, String)>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            segment_mib: 16,
            checksums: false,
            encoding: "UTF8".to_owned(),
            own_identity: false,
            tcp: false,
            settings: Vec::new(),
        }
    }
}

impl ClusterOptions {
    /// Adds a setting; the last one of a name wins.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// How a server is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are ended, a shutdown checkpoint is written.
    Fast,
    /// As in a crash.
    Immediate,
}

/// A server and its directories.
#[derive(Debug)]
pub struct Cluster {
    /// The version's programs.
    pub server: Server,
    account: Account,
    root: TempDir,
    data: PathBuf,
    port: u16,
    running: bool,
}

/// What every cluster is set to, before its own settings.
const SETTINGS: &str = "\
listen_addresses = ''
fsync = off
wal_level = logical
max_wal_senders = 10
max_replication_slots = 20
max_prepared_transactions = 50
max_connections = 60
max_locks_per_transaction = 256
max_wal_size = 4GB
wal_keep_size = 8GB
checkpoint_timeout = 30min
deadlock_timeout = 50ms
shared_buffers = 32MB
timezone = UTC
log_timezone = UTC
lc_messages = C
logging_collector = off
log_min_messages = warning
";

impl Cluster {
    /// Makes a cluster; it is not started.
    ///
    /// # Errors
    /// When initdb fails or files cannot be written.
    pub fn create(server: Server, options: &ClusterOptions) -> Result<Self> {
        let cluster = Self::empty(server)?;
        if options.own_identity {
            initdb(&cluster.server, cluster.account, options, &cluster.data)?;
        } else {
            let template = template(&cluster.server, cluster.account, options)?;
            copy_tree(&template, &cluster.data, &|_| true)?;
        }
        cluster.configure(SETTINGS)?;
        cluster.configure_for(options)?;
        Ok(cluster)
    }

    /// A cluster whose data directory is a copy of `data`, with these options' settings added.
    ///
    /// # Errors
    /// When files cannot be copied or written.
    pub fn from_directory(server: Server, data: &Path, options: &ClusterOptions) -> Result<Self> {
        let cluster = Self::empty(server)?;
        copy_tree(data, &cluster.data, &|path| {
            !path.ends_with("postmaster.pid")
        })?;
        cluster.take_over()?;
        cluster.configure(SETTINGS)?;
        cluster.configure_for(options)?;
        Ok(cluster)
    }

    pub(crate) fn empty(server: Server) -> Result<Self> {
        let account = Account::find()?;
        let root = tempfile::Builder::new()
            .prefix("redostream-pg-")
            .tempdir()?;
        account.give(root.path())?;
        let data = root.path().join("data");
        let port = free_port()?;
        Ok(Self {
            server,
            account,
            root,
            data,
            port,
            running: false,
        })
    }

    /// Makes the account that runs the server the owner of everything in the data directory.
    pub(crate) fn take_over(&self) -> Result<()> {
        fn walk(account: Account, path: &Path) -> Result<()> {
            account.give(path)?;
            if fs::symlink_metadata(path)?.is_dir() {
                for entry in fs::read_dir(path)? {
                    walk(account, &entry?.path())?;
                }
            }
            Ok(())
        }
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&self.data, fs::Permissions::from_mode(0o700))?;
        walk(self.account, &self.data)
    }

    pub(crate) fn configure_for(&self, options: &ClusterOptions) -> Result<()> {
        let mut text = format!(
            "unix_socket_directories = '{}'\nport = {}\n",
            self.root.path().display(),
            self.port
        );
        if options.tcp {
            text.push_str("listen_addresses = '127.0.0.1'\n");
        }
        for (name, value) in &options.settings {
            writeln!(text, "{name} = '{}'", value.replace('\'', "''"))?;
        }
        self.configure(&text)
    }

    /// Appends lines to postgresql.conf.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let path = self.data.join("postgresql.conf");
        let mut text = fs::read_to_string(&path).unwrap_or_default();
        text.push_str(lines);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        self.account.give(&path)
    }

    /// Starts the server and waits until it accepts connections.
    ///
    /// # Errors
    /// When it does not start; the end of its log is in the text.
    pub fn start(&mut self) -> Result<()> {
        let log = self.root.path().join("log");
        let status = self
            .account
            .command(&self.server.program("pg_ctl"))
            .args(["start", "-w", "-s", "-t", "120", "-D"])
            .arg(&self.data)
            .arg("-l")
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("cannot run pg_ctl")?;
        // pg_ctl may give up on a server that comes up later.
        self.running = true;
        ensure!(
            status.success(),
            "PostgreSQL {} did not start: {}",
            self.server.major,
            self.log_tail()
        );
        Ok(())
    }

    /// Stops the server and waits until it is gone.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(&mut self, how: Stop) -> Result<()> {
        if !self.running {
            return Ok(());
        }
        let mode = match how {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        let output = self
            .account
            .command(&self.server.program("pg_ctl"))
            .args(["stop", "-w", "-s", "-t", "120", "-m", mode, "-D"])
            .arg(&self.data)
            .stdin(Stdio::null())
            .output()
            .context("cannot run pg_ctl")?;
        ensure!(
            output.status.success(),
            "PostgreSQL {} did not stop: {}",
            self.server.major,
            String::from_utf8_lossy(&output.stderr)
        );
        self.running = false;
        Ok(())
    }

    /// Stops and starts again.
    ///
    /// # Errors
    /// As [`stop`](Self::stop) and [`start`](Self::start).
    pub fn restart(&mut self, how: Stop) -> Result<()> {
        self.stop(how)?;
        self.start()
    }

    /// Makes a standby a primary and waits until it is one.
    ///
    /// # Errors
    /// When pg_ctl fails.
    pub fn promote(&self) -> Result<()> {
        let status = self
            .account
            .command(&self.server.program("pg_ctl"))
            .args(["promote", "-w", "-s", "-t", "120", "-D"])
            .arg(&self.data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("cannot run pg_ctl")?;
        ensure!(
            status.success(),
            "the standby was not promoted: {}",
            self.log_tail()
        );
        Ok(())
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The directory around it, for further files of the test.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A new empty directory beside the data directory that the server may write to, as a
    /// tablespace needs it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.path().join(name);
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        self.account.give(&path)?;
        Ok(path)
    }

    /// The port: names the socket, and the TCP port where that is asked for.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection string for a database, through the socket.
    pub fn conninfo(&self, database: &str) -> String {
        format!(
            "host={} port={} user=postgres dbname={database}",
            self.root.path().display(),
            self.port
        )
    }

    /// A client program (psql, pgbench, pg_recvlogical) with the environment that makes it
    /// connect here.
    pub fn client(&self, program: &str, database: &str) -> Command {
        let mut command = Command::new(client(program));
        clean_environment(&mut command);
        command
            .env("PGHOST", self.root.path())
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", database);
        command
    }

    /// psql that prints bare values, one row a line.
    pub(crate) fn psql(&self, database: &str) -> Command {
        let mut command = self.client("psql", database);
        command.args(["-X", "-q", "-A", "-t"]);
        command
    }

    /// Runs SQL that must succeed and gives what it prints, without the last line end.
    ///
    /// # Errors
    /// When a statement fails.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let output = self
            .psql(database)
            .args(["-v", "ON_ERROR_STOP=1", "-f", "-"])
            .stdin(stdin_of(sql)?)
            .output()
            .context("cannot run psql")?;
        if !output.status.success() {
            bail!(
                "{}\nin: {}",
                String::from_utf8_lossy(&output.stderr).trim_end(),
                head(sql)
            );
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }

    /// Opens a psql that stays open.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn session(&self, database: &str) -> Result<Session> {
        Session::open(self.psql(database))
    }

    /// Runs scripts at the same time, one psql each; statements that fail are passed over, and so are
    /// scripts that the server gives no session. Gives the number of error messages.
    ///
    /// # Errors
    /// When psql cannot be run or loses its server.
    pub fn run_scripts(&self, database: &str, scripts: &[String]) -> Result<usize> {
        let mut children = Vec::new();
        for script in scripts {
            let errors = tempfile::tempfile()?;
            let mut command = self.psql(database);
            command
                .args(["-f", "-"])
                .stdin(stdin_of(script)?)
                .stdout(Stdio::null())
                .stderr(errors.try_clone()?);
            children.push((command.spawn().context("cannot run psql")?, errors));
        }
        let mut failed = 0;
        for (mut child, mut errors) in children {
            let status = child.wait()?;
            let mut text = Vec::new();
            std::io::Seek::rewind(&mut errors)?;
            std::io::Read::read_to_end(&mut errors, &mut text)?;
            let text = String::from_utf8_lossy(&text);
            failed += text.lines().filter(|line| line.contains("ERROR:")).count();
            if std::env::var_os("REDOSTREAM_SHOW_SQL_ERRORS").is_some() {
                eprint!("{text}");
            }
            // So a server refuses who comes while an index of its catalogs is being rebuilt.
            if text.contains("FATAL:  could not open relation with OID") {
                failed += 1;
                continue;
            }
            ensure!(
                status.success(),
                "psql lost the server: {}\n{}",
                text,
                self.log_tail()
            );
        }
        Ok(failed)
    }

    /// The LSN up to which WAL is written, after making sure that all of it is flushed.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn flushed_lsn(&self) -> Result<String> {
        // An asynchronous commit may still be in memory: one that waits takes it along. It must
        // write something of its own, and print nothing.
        self.sql(
            "postgres",
            "set synchronous_commit = on; comment on database postgres is 'flushed';
             select pg_current_wal_flush_lsn();",
        )
        .map(|text| text.lines().last().unwrap_or_default().to_owned())
    }

    /// Waits until a standby has replayed up to an LSN.
    ///
    /// # Errors
    /// After a minute.
    pub fn wait_for_replay(&self, lsn: &str) -> Result<()> {
        let question = format!("select coalesce(pg_last_wal_replay_lsn() >= '{lsn}', false)");
        self.wait_for(&question, Duration::from_secs(60))
    }

    /// Waits until a query answers `t`.
    ///
    /// # Errors
    /// When it has not after `at_most`.
    pub fn wait_for(&self, question: &str, at_most: Duration) -> Result<()> {
        let since = Instant::now();
        while self.sql("postgres", question)? != "t" {
            ensure!(
                since.elapsed() < at_most,
                "waited {at_most:?} in vain for: {question}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        let text = fs::read(self.root.path().join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(12).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.running && self.stop(Stop::Immediate).is_err() {
            eprintln!("the server in {} may still run", self.data.display());
        }
    }
}

/// A file with this text, to be read as standard input: a pipe could block both sides.
pub(crate) fn stdin_of(text: &str) -> Result<Stdio> {
    use std::io::{Seek, Write};
    let mut file = tempfile::tempfile()?;
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(Stdio::from(file))
}

fn head(sql: &str) -> String {
    sql.chars().take(400).collect()
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn initdb(server: &Server, account: Account, options: &ClusterOptions, data: &Path) -> Result<()> {
    let mut command = account.command(&server.program("initdb"));
    command
        .args([
            "--no-sync",
            "--auth=trust",
            "--username=postgres",
            "--locale=C",
        ])
        .arg(format!("--encoding={}", options.encoding))
        .arg(format!("--wal-segsize={}", options.segment_mib))
        .arg("-D")
        .arg(data);
    if options.checksums {
        command.arg("--data-checksums");
    } else if server.major >= 18 {
        command.arg("--no-data-checksums");
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("cannot run initdb")?;
    ensure!(
        output.status.success(),
        "initdb of {} failed: {}",
        server.major,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The cached directory that initdb made for these options.
fn template(server: &Server, account: Account, options: &ClusterOptions) -> Result<PathBuf> {
    let key = format!(
        "{}-{}-{}{}",
        server.version_text()?,
        options.segment_mib,
        options.encoding,
        if options.checksums { "-checksums" } else { "" }
    );
    let cache = std::env::temp_dir().join(format!("redostream-templates-{}", whoami()));
    fs::create_dir_all(&cache)?;
    let ready = cache.join(&key);
    if ready.exists() {
        return Ok(ready);
    }
    // Made aside and renamed, so that tests running side by side never see half of it.
    let making = tempfile::Builder::new()
        .prefix("making-")
        .tempdir_in(&cache)?;
    account.give(making.path())?;
    let data = making.path().join("data");
    initdb(server, account, options, &data)?;
    if let Err(error) = fs::rename(&data, &ready)
        && !ready.exists()
    {
        return Err(error).context("cannot keep the template of a data directory");
    }
    Ok(ready)
}

fn whoami() -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").map_or(0, |me| me.uid())
}
