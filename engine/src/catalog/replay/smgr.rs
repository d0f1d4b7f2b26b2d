//! Storage files: made, and cut short.
//!
//! ```text
//! create:   tablespace u32, database u32, file u32, fork i32
//! truncate: blocks u32, tablespace u32, database u32, file u32, flags i32 (1: the heap itself)
//! ```
// pg: catalog/storage_xlog.h [14-18]

use redostream_protocol::cursor::ShortInput;
use redostream_protocol::{Cursor, Oid, RelFileNode};

use super::Replay;
use crate::catalog::CatalogError;

const NAME: &str = "storage";
const CREATE: u8 = 0x10;
const TRUNCATE: u8 = 0x20;
const TRUNCATE_HEAP: u32 = 1;

pub(super) fn apply(replay: &mut Replay<'_, '_, '_>) -> Result<(), CatalogError> {
    let error = replay.cursor_error(NAME);
    let mut main = Cursor::new(replay.record.main);
    match replay.record.op() {
        CREATE => {
            let node = file(&mut main).map_err(&error)?;
            let fork = main.u32("fork").map_err(&error)?;
            if fork == 0 {
                replay.store.create_file(node);
            }
        }
        TRUNCATE => {
            let blocks = main.u32("blocks").map_err(&error)?;
            let node = file(&mut main).map_err(&error)?;
            let flags = main.u32("flags").map_err(&error)?;
            if flags & TRUNCATE_HEAP != 0 {
                replay.store.truncate_file(node, blocks);
            }
        }
        _ => return Err(replay.malformed(NAME, "unknown operation")),
    }
    main.finish("storage record").map_err(&error)
}

fn file(cursor: &mut Cursor<'_>) -> Result<RelFileNode, ShortInput> {
    Ok(RelFileNode {
        tablespace: Oid(cursor.u32("tablespace")?),
        database: Oid(cursor.u32("database")?),
        relation: Oid(cursor.u32("file number")?),
    })
}
