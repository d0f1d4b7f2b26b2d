//! Databases: made and dropped.
//!
//! ```text
//! create by copying files: database u32, tablespace u32, source database u32, source tablespace u32
//! create page by page:     database u32, tablespace u32; the pages follow as images
//! drop:                    database u32, n i32, n x tablespace u32
//! ```
//!
//! `ALTER DATABASE SET TABLESPACE` is a copy of the database to itself and a drop of the old
//! directory.
// pg: commands/dbcommands_xlog.h [14-18]

use redostream_protocol::{Cursor, Oid};

use super::Replay;
use crate::catalog::CatalogError;

const NAME: &str = "database";

pub(super) fn apply(replay: &mut Replay<'_, '_, '_>) -> Result<(), CatalogError> {
    let format = replay.store.format;
    let error = replay.cursor_error(NAME);
    let mut main = Cursor::new(replay.record.main);
    let op = replay.record.op();
    let database = Oid(main.u32("database").map_err(&error)?);
    if op == format.dbase_drop {
        let count = main.u32("number of tablespaces").map_err(&error)?;
        for _ in 0..count {
            let tablespace = Oid(main.u32("tablespace").map_err(&error)?);
            replay.store.drop_directory(database, tablespace);
        }
    } else if op == format.dbase_create_file_copy {
        let tablespace = Oid(main.u32("tablespace").map_err(&error)?);
        let source = Oid(main.u32("source database").map_err(&error)?);
        let source_tablespace = Oid(main.u32("source tablespace").map_err(&error)?);
        let from = (source, source_tablespace);
        replay.store.copy_directory(from, (database, tablespace));
    } else if Some(op) == format.dbase_create_wal_log {
        main.u32("tablespace").map_err(&error)?;
        replay.store.filling.insert(database);
    } else {
        return Err(replay.malformed(NAME, "unknown operation"));
    }
    replay.effect.everyone = true;
    main.finish("database record").map_err(&error)
}
