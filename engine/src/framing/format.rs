//! What differs between the WAL of the supported versions, as data.

/// The WAL of one major version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalFormat {
    /// Major version, 14 to 18.
    pub major: u16,
    /// `XLOG_PAGE_MAGIC`.
    pub page_magic: u16,
    /// Bits of a block image's `bimg_info`.
    pub image: ImageBits,
    /// Bytes of an `xl_xact_stats_item` in commit and abort records; 0 where there are none.
    // pg: access/xact.h xl_xact_stats_item [15-18]
    pub stats_item_bytes: usize,
    /// `XLOG_DBASE_*`: the info bits of file-copy create, WAL-log create and drop.
    // pg: commands/dbcommands_xlog.h [14-18]
    pub dbase_create_file_copy: u8,
    /// As above; none in 14.
    pub dbase_create_wal_log: Option<u8>,
    /// As above.
    pub dbase_drop: u8,
    /// Whether Heap2 0x10, 0x20, 0x30 are three reasons of one prune record (17 on) instead of
    /// prune, vacuum and freeze.
    // pg: access/heapam_xlog.h XLOG_HEAP2_PRUNE_* [14-18]
    pub unified_prune: bool,
    /// Whether a prune record's main data has `isCatalogRel` (16 only; 17 on has flags).
    pub prune_has_catalog_flag: bool,
    /// Whether an in-place update carries invalidation messages (18).
    pub inplace_has_messages: bool,
}

/// Bits of `bimg_info`; they moved in 15.
// pg: access/xlogrecord.h BKPIMAGE_* [14-18]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageBits {
    /// The image has a hole.
    pub has_hole: u8,
    /// The image is to be restored at replay.
    pub apply: u8,
    /// Compressed with pglz.
    pub pglz: u8,
    /// Compressed with LZ4; 0 where there is none.
    pub lz4: u8,
    /// Compressed with zstd; 0 where there is none.
    pub zstd: u8,
}

const IMAGE_14: ImageBits = ImageBits {
    has_hole: 1,
    pglz: 2,
    apply: 4,
    lz4: 0,
    zstd: 0,
};
const IMAGE_15: ImageBits = ImageBits {
    has_hole: 1,
    apply: 2,
    pglz: 4,
    lz4: 8,
    zstd: 16,
};

const FORMAT_15: WalFormat = WalFormat {
    major: 15,
    page_magic: 0xD110,
    image: IMAGE_15,
    stats_item_bytes: 12,
    dbase_create_file_copy: 0x00,
    dbase_create_wal_log: Some(0x10),
    dbase_drop: 0x20,
    unified_prune: false,
    prune_has_catalog_flag: false,
    inplace_has_messages: false,
};

const FORMAT_16: WalFormat = WalFormat {
    major: 16,
    page_magic: 0xD113,
    prune_has_catalog_flag: true,
    ..FORMAT_15
};

const FORMAT_17: WalFormat = WalFormat {
    major: 17,
    page_magic: 0xD116,
    unified_prune: true,
    prune_has_catalog_flag: false,
    ..FORMAT_16
};

/// Every supported version.
pub const FORMATS: [WalFormat; 5] = [
    WalFormat {
        major: 14,
        page_magic: 0xD10D,
        image: IMAGE_14,
        stats_item_bytes: 0,
        dbase_create_wal_log: None,
        dbase_drop: 0x10,
        ..FORMAT_15
    },
    FORMAT_15,
    FORMAT_16,
    FORMAT_17,
    WalFormat {
        major: 18,
        page_magic: 0xD118,
        stats_item_bytes: 16,
        inplace_has_messages: true,
        ..FORMAT_17
    },
];

impl WalFormat {
    /// The format of a major version.
    #[must_use]
    pub fn of_major(major: u16) -> Option<&'static WalFormat> {
        FORMATS.iter().find(|format| format.major == major)
    }

    /// The format whose pages carry this magic.
    #[must_use]
    pub fn of_magic(magic: u16) -> Option<&'static WalFormat> {
        FORMATS.iter().find(|format| format.page_magic == magic)
    }
}
