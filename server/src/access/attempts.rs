//! How often an address may show a wrong token.
//!
//! Every address has a bucket of tries that fills up again with time; a wrong token takes one out.
//! While it is empty the address is told to wait, whatever it shows, so that guessing gains
//! nothing. But who has shown a good token from there before is let in all the same: subscribers
//! behind the same address as somebody who guesses do not feel it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Bounds of [`Attempts`].
#[derive(Clone, Copy, Debug)]
pub struct AttemptsOptions {
    /// Wrong tokens before an address has to wait.
    pub burst: u32,
    /// Between two tries after that.
    pub refill: Duration,
    /// Addresses that are remembered; the one that is quiet for longest is forgotten first.
    pub addresses_max: usize,
    /// Good tokens that are remembered for each.
    pub names_max: usize,
}

impl Default for AttemptsOptions {
    fn default() -> Self {
        Self {
            burst: 10,
            refill: Duration::from_secs(2),
            addresses_max: 4096,
            names_max: 16,
        }
    }
}

struct Address {
    /// When the bucket is full again: each wrong token moves it on by one refill.
    full_at: Instant,
    seen_at: Instant,
    names: Vec<String>,
}

/// What addresses have tried lately.
pub struct Attempts {
    options: AttemptsOptions,
    addresses: Mutex<HashMap<IpAddr, Address>>,
}

impl Attempts {
    /// Nobody has tried anything.
    #[must_use]
    pub fn new(options: AttemptsOptions) -> Self {
        Self {
            options,
            addresses: Mutex::new(HashMap::new()),
        }
    }

    /// Notes a try at `now`, with the name of the token if it was a good one; says how long the
    /// address has to wait if nothing is to be said of the token.
    pub fn judge(
        &self,
        peer: Option<IpAddr>,
        name: Option<&str>,
        now: Instant,
    ) -> Result<(), Duration> {
        let peer = peer.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), neighbourhood);
        let mut addresses = self.addresses.lock();
        if !addresses.contains_key(&peer) && addresses.len() >= self.options.addresses_max {
            let quietest = addresses
                .iter()
                .min_by_key(|(_, address)| address.seen_at)
                .map(|(peer, _)| *peer);
            quietest.map(|peer| addresses.remove(&peer));
        }
        let address = addresses.entry(peer).or_insert_with(|| Address {
            full_at: now,
            seen_at: now,
            names: Vec::new(),
        });
        address.seen_at = now;
        if name.is_some_and(|name| address.names.iter().any(|known| known == name)) {
            return Ok(());
        }
        let capacity = self.options.refill * self.options.burst.saturating_sub(1);
        let behind = address.full_at.saturating_duration_since(now);
        if behind > capacity {
            return Err(behind - capacity);
        }
        match name {
            Some(name) => {
                if address.names.len() >= self.options.names_max {
                    address.names.remove(0);
                }
                address.names.push(name.to_owned());
            }
            None => address.full_at = address.full_at.max(now) + self.options.refill,
        }
        Ok(())
    }
}

/// What one person is likely to have: an IPv4 address, or a /64 of IPv6.
fn neighbourhood(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn guessing_is_slowed_down_and_nobody_else() {
        let attempts = Attempts::new(AttemptsOptions {
            burst: 3,
            refill: Duration::from_secs(2),
            addresses_max: 2,
            names_max: 1,
        });
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(attempts.judge(peer(1), Some("known"), at(0)), Ok(()));
        for _ in 0..3 {
            assert_eq!(attempts.judge(peer(1), None, at(0)), Ok(()));
        }
        assert_eq!(
            attempts.judge(peer(1), None, at(0)),
            Err(Duration::from_secs(2))
        );
        // A good token that was never shown from there looks like a wrong one.
        assert!(attempts.judge(peer(1), Some("new"), at(0)).is_err());
        assert_eq!(attempts.judge(peer(1), Some("known"), at(0)), Ok(()));
        assert_eq!(attempts.judge(peer(2), None, at(0)), Ok(()));
        // One try comes back with each refill.
        assert_eq!(attempts.judge(peer(1), None, at(2)), Ok(()));
        assert!(attempts.judge(peer(1), None, at(2)).is_err());
        assert_eq!(attempts.judge(peer(1), Some("new"), at(4)), Ok(()));
        // Only so many addresses are remembered.
        assert_eq!(attempts.judge(peer(3), None, at(5)), Ok(()));
        assert_eq!(attempts.addresses.lock().len(), 2);
    }

    #[test]
    fn a_host_of_ipv6_is_one_address() {
        let one = neighbourhood("2001:db8:1:2:3:4:5:6".parse().unwrap());
        assert_eq!(one, neighbourhood("2001:db8:1:2::1".parse().unwrap()));
        assert_ne!(one, neighbourhood("2001:db8:1:3::1".parse().unwrap()));
        let mapped = neighbourhood("::ffff:10.0.0.1".parse().unwrap());
        assert_eq!(mapped, IpAddr::from([10, 0, 0, 1]));
    }
}
