//! Values that are numbers of catalog rows and print as their names: reg* types, access rights.
//!
//! Only who has the catalogs can print them: it hangs a [`CatalogNames`] into the context. Everybody
//! else prints the numbers.

use std::fmt;

use super::{TextContext, TextFn, ValueError, bytea, integer};

/// Looks names up in the catalogs of some place in the log.
pub trait CatalogNames: fmt::Debug + Send + Sync {
    /// Appends the text that output function `symbol` prints for `value`; false if it cannot.
    fn push(&self, symbol: &str, value: &[u8], out: &mut Vec<u8>) -> bool;
}

type Text = Result<(), ValueError>;

fn named(
    symbol: &str,
    value: &[u8],
    context: &TextContext,
    out: &mut Vec<u8>,
    number: TextFn,
) -> Text {
    match &context.names {
        Some(names) if names.push(symbol, value, out) => Ok(()),
        _ => number(value, context, out),
    }
}

/// The function that prints by name, if `symbol` is of this kind.
// pg: utils/adt/regproc.c, utils/adt/acl.c [14-18]
pub(super) fn lookup(symbol: &str) -> Option<TextFn> {
    macro_rules! by_name {
        ($($symbol:literal => $number:expr),* $(,)?) => {
            match symbol {
                $($symbol => {
                    let print: TextFn = |value, context, out| {
                        named($symbol, value, context, out, $number)
                    };
                    Some(print)
                })*
                _ => None,
            }
        };
    }
    by_name! {
        "regprocout" => integer::reg_text,
        "regprocedureout" => integer::reg_text,
        "regclassout" => integer::reg_text,
        "regtypeout" => integer::reg_text,
        "regroleout" => integer::reg_text,
        "regnamespaceout" => integer::reg_text,
        "regconfigout" => integer::reg_text,
        "regdictionaryout" => integer::reg_text,
        "regcollationout" => integer::reg_text,
        "regdatabaseout" => integer::reg_text,
        "regoperout" => integer::oid_text,
        "regoperatorout" => integer::oid_text,
        "aclitemout" => bytea::bytea_text,
    }
}
