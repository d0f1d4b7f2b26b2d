//! Assembly: rows to transactions, in commit order.
//!
//! Takes: parts, in log order. Gives: blocks of released events. Keeps: the rows of open
//! transactions, by reference, in bounded memory. Never: decodes a tuple, looks at the catalog, or
//! releases an event before its commit record.

pub mod part;
