//! A JSON object, written member by member.

use crate::schema::Name;
use crate::value::digits::{push_i64, push_u64};
use crate::value::{push_json_string, push_json_text};

/// An object being written. [`Object::close`] ends it.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    encoding: i32,
    first: bool,
}

impl<'a> Object<'a> {
    /// Opens an object whose names and texts are in this encoding.
    pub(super) fn open(out: &'a mut Vec<u8>, encoding: i32) -> Self {
        out.push(b'{');
        Object {
            out,
            encoding,
            first: true,
        }
    }

    /// Writes members for an object that has some already; it is not closed here.
    pub(super) fn resume(out: &'a mut Vec<u8>, encoding: i32) -> Self {
        Object {
            out,
            encoding,
            first: false,
        }
    }

    pub(super) fn close(self) {
        self.out.push(b'}');
    }

    /// Writes a key; the value is to follow.
    pub(super) fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        push_json_string(self.out, key);
        self.out.push(b':');
        self.out
    }

    /// Writes members that are JSON already, each with its comma.
    pub(super) fn raw(&mut self, members: &[u8]) {
        self.out.extend_from_slice(members);
    }

    pub(super) fn null(&mut self, key: &str) {
        self.key(key).extend_from_slice(b"null");
    }

    pub(super) fn bool(&mut self, key: &str, truth: bool) {
        let text: &[u8] = if truth { b"true" } else { b"false" };
        self.key(key).extend_from_slice(text);
    }

    pub(super) fn number(&mut self, key: &str, number: u64) {
        push_u64(self.key(key), number);
    }

    pub(super) fn signed(&mut self, key: &str, number: i64) {
        push_i64(self.key(key), number);
    }

    /// A string of ours.
    pub(super) fn string(&mut self, key: &str, text: &str) {
        push_json_string(self.key(key), text);
    }

    /// A name or text of the database.
    pub(super) fn text(&mut self, key: &str, text: &[u8]) {
        let encoding = self.encoding;
        push_json_text(self.key(key), encoding, text);
    }

    pub(super) fn text_or_null(&mut self, key: &str, text: Option<&Name>) {
        match text {
            Some(text) => self.text(key, text.as_bytes()),
            None => self.null(key),
        }
    }

    pub(super) fn list<T>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        mut print: impl FnMut(T, i32, &mut Vec<u8>),
    ) {
        let encoding = self.encoding;
        let out = self.key(key);
        out.push(b'[');
        for (number, item) in items.into_iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            print(item, encoding, out);
        }
        out.push(b']');
    }

    pub(super) fn names<'n>(&mut self, key: &str, names: impl IntoIterator<Item = &'n Name>) {
        self.list(key, names, |name, encoding, out| {
            push_json_text(out, encoding, name.as_bytes());
        });
    }

    /// A member whose value `print` writes.
    pub(super) fn value(&mut self, key: &str, print: impl FnOnce(i32, &mut Vec<u8>)) {
        let encoding = self.encoding;
        print(encoding, self.key(key));
    }

    /// A member that is an object itself.
    pub(super) fn object(&mut self, key: &str, members: impl FnOnce(&mut Object<'_>)) {
        let encoding = self.encoding;
        push_object(self.key(key), encoding, members);
    }
}

/// Appends an object with the members that `members` writes.
pub(super) fn push_object(out: &mut Vec<u8>, encoding: i32, members: impl FnOnce(&mut Object<'_>)) {
    let mut object = Object::open(out, encoding);
    members(&mut object);
    object.close();
}
