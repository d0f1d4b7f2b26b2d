//! Resource managers: one table that says of each what becomes of its records.

/// Ids of resource managers.
// pg: access/rmgrlist.h [14-18]
pub mod id {
    /// The log itself: checkpoints, page images, parameter changes.
    pub const XLOG: u8 = 0;
    /// Transactions.
    pub const TRANSACTION: u8 = 1;
    /// Storage files.
    pub const STORAGE: u8 = 2;
    /// Commit log pages.
    pub const CLOG: u8 = 3;
    /// Databases.
    pub const DATABASE: u8 = 4;
    /// Tablespaces.
    pub const TABLESPACE: u8 = 5;
    /// Multixacts.
    pub const MULTIXACT: u8 = 6;
    /// Relation maps.
    pub const RELMAP: u8 = 7;
    /// Hot standby.
    pub const STANDBY: u8 = 8;
    /// Heap, second part.
    pub const HEAP2: u8 = 9;
    /// Heap.
    pub const HEAP: u8 = 10;
    /// Sequences.
    pub const SEQUENCE: u8 = 15;
    /// Logical messages.
    pub const LOGICAL_MESSAGE: u8 = 21;
    /// The first id of extensions' resource managers.
    pub const CUSTOM_MIN: u8 = 128;
}

/// What becomes of a resource manager's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Some of them are rows.
    Decoded,
    /// Some of them steer decoding: the gate sees them.
    Tracked,
    /// Only extensions know what they say: of which relation they are is looked at.
    Foreign,
    /// Checked and passed over.
    Ignored,
    /// No version has this one.
    Unknown,
}

/// One resource manager.
#[derive(Clone, Copy, Debug)]
pub struct ResourceManager {
    /// PostgreSQL's name for it.
    pub name: &'static str,
    /// What becomes of its records.
    pub treatment: Treatment,
    /// Why.
    pub reason: &'static str,
}

const fn entry(name: &'static str, treatment: Treatment, reason: &'static str) -> ResourceManager {
    ResourceManager {
        name,
        treatment,
        reason,
    }
}

const INDEX: &str = "an index holds nothing that its table's records do not say";

/// Every resource manager that PostgreSQL itself has, by id.
pub const TABLE: [ResourceManager; 22] = [
    entry(
        "XLOG",
        Treatment::Tracked,
        "page images of catalogs, checkpoints, parameter changes",
    ),
    entry("Transaction", Treatment::Tracked, "commits release rows"),
    entry("Storage", Treatment::Tracked, "files created and cut short"),
    entry(
        "CLOG",
        Treatment::Tracked,
        "old transaction ids are forgotten",
    ),
    entry(
        "Database",
        Treatment::Tracked,
        "databases copied and dropped",
    ),
    entry(
        "Tablespace",
        Treatment::Ignored,
        "a tablespace's catalog row says it all",
    ),
    entry(
        "MultiXact",
        Treatment::Tracked,
        "who locks or updates a catalog row",
    ),
    entry("RelMap", Treatment::Tracked, "files of mapped catalogs"),
    entry("Standby", Treatment::Tracked, "running transactions"),
    entry(
        "Heap2",
        Treatment::Decoded,
        "multi-inserts are rows; the rest changes catalog pages",
    ),
    entry(
        "Heap",
        Treatment::Decoded,
        "inserts, updates, deletes, truncates",
    ),
    entry("Btree", Treatment::Ignored, INDEX),
    entry("Hash", Treatment::Ignored, INDEX),
    entry("Gin", Treatment::Ignored, INDEX),
    entry("Gist", Treatment::Ignored, INDEX),
    entry("Sequence", Treatment::Decoded, "sequence changes"),
    entry("SPGist", Treatment::Ignored, INDEX),
    entry("BRIN", Treatment::Ignored, INDEX),
    entry(
        "CommitTs",
        Treatment::Ignored,
        "commit records carry their time",
    ),
    entry(
        "ReplicationOrigin",
        Treatment::Ignored,
        "commit records carry their origin",
    ),
    entry(
        "Generic",
        Treatment::Foreign,
        "pages of access methods of extensions, for indexes and for tables",
    ),
    entry("LogicalMessage", Treatment::Decoded, "messages"),
];

/// What becomes of records of resource manager `rmgr`.
#[must_use]
pub const fn treatment(rmgr: u8) -> Treatment {
    if (rmgr as usize) < TABLE.len() {
        TABLE[rmgr as usize].treatment
    } else if rmgr >= id::CUSTOM_MIN {
        // Extensions' own pages; their tables use another access method than heap.
        Treatment::Foreign
    } else {
        Treatment::Unknown
    }
}

/// The name of resource manager `rmgr`.
#[must_use]
pub const fn name(rmgr: u8) -> &'static str {
    if (rmgr as usize) < TABLE.len() {
        TABLE[rmgr as usize].name
    } else if rmgr >= id::CUSTOM_MIN {
        "custom"
    } else {
        "unknown"
    }
}

/// Operations of the heap resource managers.
// pg: access/heapam_xlog.h [14-18]
pub mod heap {
    /// Mask of an operation; the bit above says "page made anew".
    pub const OP_MASK: u8 = 0x70;
    /// The page is made anew.
    pub const INIT_PAGE: u8 = 0x80;
    /// Insert.
    pub const INSERT: u8 = 0x00;
    /// Delete.
    pub const DELETE: u8 = 0x10;
    /// Update.
    pub const UPDATE: u8 = 0x20;
    /// Truncate, as replication sees it.
    pub const TRUNCATE: u8 = 0x30;
    /// Heap-only update.
    pub const HOT_UPDATE: u8 = 0x40;
    /// Confirmation of a speculative insert.
    pub const CONFIRM: u8 = 0x50;
    /// Row lock.
    pub const LOCK: u8 = 0x60;
    /// In-place update.
    pub const INPLACE: u8 = 0x70;
    /// Heap2: mapping files of a rewrite.
    pub const REWRITE: u8 = 0x00;
    /// Heap2: multi-insert.
    pub const MULTI_INSERT: u8 = 0x50;
    /// Heap2: command ids of catalog rows.
    pub const NEW_CID: u8 = 0x70;
}

/// Operations of the XLOG resource manager.
// pg: catalog/pg_control.h [14-18]
pub mod xlog {
    /// Shutdown checkpoint.
    pub const CHECKPOINT_SHUTDOWN: u8 = 0x00;
    /// Online checkpoint.
    pub const CHECKPOINT_ONLINE: u8 = 0x10;
    /// Nothing.
    pub const NOOP: u8 = 0x20;
    /// Next object id.
    pub const NEXTOID: u8 = 0x30;
    /// The rest of the segment is not used.
    pub const SWITCH: u8 = 0x40;
    /// Base backup ended.
    pub const BACKUP_END: u8 = 0x50;
    /// Settings changed.
    pub const PARAMETER_CHANGE: u8 = 0x60;
    /// Named restore point.
    pub const RESTORE_POINT: u8 = 0x70;
    /// `full_page_writes` changed.
    pub const FPW_CHANGE: u8 = 0x80;
    /// Recovery ended; a new timeline may begin.
    pub const END_OF_RECOVERY: u8 = 0x90;
    /// Page image for a hint.
    pub const FPI_FOR_HINT: u8 = 0xA0;
    /// Page image.
    pub const FPI: u8 = 0xB0;
    /// A record that was cut off by a crash is abandoned.
    pub const OVERWRITE_CONTRECORD: u8 = 0xD0;
    /// Redo point of a checkpoint (17 on).
    pub const CHECKPOINT_REDO: u8 = 0xE0;
}
