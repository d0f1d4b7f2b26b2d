//! Durable names as sessions and the control plane use them: whose they are, what is acknowledged,
//! and that it is written.

use std::time::{SystemTime, UNIX_EPOCH};

use redostream_protocol::Lsn;
use redostream_protocol::control::{Start, v1};
use redostream_protocol::wire::{Ack, EndReason, Fault, FaultCode};

use super::{Inner, Registry, Session, given};
use crate::session::limits::FLUSH_INTERVAL;
use crate::session::subscriptions::{StoreError, Subscription};
use crate::session::{Grant, acknowledge};

impl Inner {
    /// A name belongs to the token it was made with.
    pub(super) fn check_owner(&self, name: &str, grant: &Grant) -> Result<(), Fault> {
        match self.names.get(name) {
            Some(known) if !grant.covers(&known.owner) => {
                let message = format!("the name {name} belongs to another token");
                Err(Fault::new(FaultCode::Unauthorised, message))
            }
            _ => Ok(()),
        }
    }
}

impl Registry {
    pub(super) fn write(&self, subscription: Subscription) -> Result<(), Fault> {
        let _writing = self.writing.lock();
        self.store
            .put(&subscription)
            .map_err(|error| internal(&error))?;
        let mut inner = self.inner.lock();
        inner.names.insert(subscription.name.clone(), subscription);
        Ok(())
    }

    /// Takes an acknowledgement; it must not be of what was never sent.
    pub(in crate::session) fn acknowledge(
        &self,
        session: &Session,
        ack: &Ack,
    ) -> Result<(), Fault> {
        let (sent, _) = session.out.progress();
        // Without a start there is no stream yet, and nothing to acknowledge.
        let start = session.start.get().copied();
        let start = start.unwrap_or(Start::At(Lsn::INVALID));
        let Some(ack) = acknowledge::admitted(ack, start, sent) else {
            let message = format!("{} was acknowledged and never sent", ack.position);
            return Err(Fault::new(FaultCode::BadRequest, message));
        };
        let mut inner = self.inner.lock();
        // What a client said last may be read after its session has ended, and counts as long as
        // nobody else has taken the name.
        let holder = inner.holders.get(&session.name);
        if session.name.is_empty() || holder.is_some_and(|holder| *holder != session.id) {
            return Ok(());
        }
        let Some(known) = inner.names.get_mut(&session.name) else {
            return Ok(());
        };
        known.position = known.position.max(ack.position);
        known.released = known.released.max(ack.released);
        known.acknowledged_at_us = now_us();
        inner.dirty.insert(session.name.clone());
        Ok(())
    }

    /// Writes what has been acknowledged, again and again until the server stops.
    pub(in crate::session) fn flush_until_stopped(&self) {
        loop {
            let mut inner = self.inner.lock();
            let stopping = inner.stopping && inner.sessions.is_empty();
            let dirty: Vec<String> = inner.dirty.drain().collect();
            drop(inner);
            for name in dirty {
                self.flush(&name);
            }
            let mut inner = self.inner.lock();
            if stopping || inner.flushed {
                inner.flushed = true;
                self.changed.notify_all();
                return;
            }
            self.changed.wait_for(&mut inner, FLUSH_INTERVAL);
        }
    }

    pub(super) fn flush(&self, name: &str) {
        let _writing = self.writing.lock();
        let Some(subscription) = self.inner.lock().names.get(name).cloned() else {
            return;
        };
        if let Err(error) = self.store.put(&subscription) {
            tracing::warn!(%error, "an acknowledged position could not be written; trying again");
            self.inner.lock().dirty.insert(name.to_owned());
        }
    }

    /// The durable names that the holder of a token may know of.
    pub(crate) fn list(&self, grant: &Grant) -> Vec<v1::SubscriptionInfo> {
        let inner = self.inner.lock();
        let mut list: Vec<_> = inner
            .names
            .values()
            .filter(|known| grant.covers(&known.owner))
            .map(|known| v1::SubscriptionInfo {
                name: known.name.clone(),
                position: given(known.position, known.position.timeline.0 != 0),
                lsn: given(known.released, known.released.0 != 0),
                connected: inner.holders.contains_key(&known.name),
                acknowledged_at_us: known.acknowledged_at_us,
            })
            .collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// The durable names, and where each goes on.
    pub(crate) fn places(&self) -> Vec<(String, Lsn)> {
        let inner = self.inner.lock();
        let names = inner.names.values();
        names
            .map(|known| (known.name.clone(), known.resume().lsn()))
            .collect()
    }

    /// The cluster's history was left at `at`: nothing from there on was reached by anybody. Names
    /// whose position lies there are left as they are, and refused when they come.
    pub(crate) fn forked(&self, at: Lsn) {
        let mut inner = self.inner.lock();
        let Inner { names, dirty, .. } = &mut *inner;
        for known in names.values_mut() {
            if known.leave(at) {
                dirty.insert(known.name.clone());
            }
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Forgets a name and ends the session that holds it. May block.
    pub(crate) fn remove(&self, name: &str, grant: &Grant) -> Result<(), Fault> {
        let _writing = self.writing.lock();
        let inner = self.inner.lock();
        inner.check_owner(name, grant)?;
        if !inner.names.contains_key(name) {
            let message = format!("there is no subscription {name}");
            return Err(Fault::new(FaultCode::NotFound, message));
        }
        drop(inner);
        self.store.remove(name).map_err(|error| internal(&error))?;
        let mut inner = self.inner.lock();
        inner.names.remove(name);
        inner.dirty.remove(name);
        let holder = inner
            .holders
            .get(name)
            .and_then(|id| inner.sessions.get(id));
        if let Some(session) = holder {
            session.out.end(EndReason::Dropped);
        }
        Ok(())
    }
}

fn internal(error: &StoreError) -> Fault {
    Fault::new(FaultCode::Internal, error.to_string())
}

fn now_us() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}
