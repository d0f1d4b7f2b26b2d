//! `redostream-server ddl-capture`: the optional event trigger that puts the text of DDL statements
//! into the log.
//!
//! The log holds what statements did, not what they said. The trigger writes a transactional logical
//! message before each DDL statement; decoding attaches its text to the events that the statement
//! causes. It runs as its owner, so that owners of tables without privileges can go on; nothing of
//! it runs for DML.

use std::io::Write;

use crate::cli::DdlCaptureArguments;
use crate::exit::Failure;

/// The script. It can be run again.
const SQL: &str = "\
-- Redostream: puts the text of DDL statements into the log, for the databases in which it is run.
-- Run it as a superuser in each of them. To remove it:
--   DROP EVENT TRIGGER redostream_ddl_capture; DROP SCHEMA redostream CASCADE;
BEGIN;
CREATE SCHEMA IF NOT EXISTS redostream;
REVOKE ALL ON SCHEMA redostream FROM PUBLIC;

CREATE OR REPLACE FUNCTION redostream.capture_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $capture$
BEGIN
    -- The whole string that the client sent: decoding finds the statement in a string of several.
    PERFORM pg_catalog.pg_logical_emit_message(true, 'redostream.ddl',
        coalesce(pg_catalog.current_query(), TG_TAG));
END
$capture$;

DROP EVENT TRIGGER IF EXISTS redostream_ddl_capture;
CREATE EVENT TRIGGER redostream_ddl_capture ON ddl_command_start
    EXECUTE FUNCTION redostream.capture_ddl();
COMMIT;
";

/// Runs the command.
pub(crate) fn run(arguments: &DdlCaptureArguments) -> Result<(), Failure> {
    if !arguments.print_sql {
        let message = "say --print-sql: the script is run with psql by whoever may install it";
        return Err(Failure::Usage(message.to_owned()));
    }
    let mut out = std::io::stdout().lock();
    let written = out.write_all(SQL.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::Runtime(error.to_string()))
}
