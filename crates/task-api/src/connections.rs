//! Bounds connections per client, and ends idle ones where connections become scarce.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

/// Connections of one port: well below 1,024, the usual limit of file handles per process.
pub(crate) const MAX_CONNECTIONS: usize = 512;
/// From this number on, each new connection closes the connection that has been idle for longest.
const SCARCE: usize = MAX_CONNECTIONS - 64;
/// A client may exceed its share by so many connections that were asked to close and have not closed yet.
const ENDING: usize = 8;

/// The connections of one port.
#[derive(Debug)]
pub(crate) struct Connections {
    per_client: usize,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    next: u64,
    places: HashMap<u64, Place>,
    of_client: HashMap<IpAddr, Share>,
}

/// The connections of one client.
#[derive(Debug, Default)]
struct Share {
    held: usize,
    /// Those of them that were asked to close.
    ending: usize,
}

#[derive(Debug)]
struct Place {
    client: IpAddr,
    /// Since when the connection is idle; `None` while requests are in flight.
    idle_since: Option<Instant>,
    requests: usize,
    /// The connection was asked to close.
    ends: bool,
    end: Arc<Notify>,
}

/// A connection that counts until its last clone is dropped. Clones are the same connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connections: Arc<Connections>,
    number: u64,
    end: Arc<Notify>,
}

/// A request in flight, until this value is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Connection);

impl Connections {
    pub(crate) fn new(per_client: usize) -> Arc<Self> {
        Arc::new(Self { per_client, all: Mutex::default() })
    }

    /// Registers a connection; `None` if the client has reached its limit, and none of its connections is idle or too
    /// many of them are closing.
    pub(crate) fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Connection> {
        let mut all = self.lock();
        let (held, ending) = all.of_client.get(&client).map_or((0, 0), |share| (share.held, share.ending));
        if held >= self.per_client && (ending >= ENDING || !all.end_longest_idle(Some(client))) {
            return None;
        }
        if all.places.len() >= SCARCE {
            all.end_longest_idle(None);
        }
        let (number, end) = (all.next, Arc::new(Notify::new()));
        all.next += 1;
        let place = Place {
            client,
            idle_since: Some(Instant::now()),
            requests: 0,
            ends: false,
            end: Arc::clone(&end),
        };
        all.places.insert(number, place);
        all.of_client.entry(client).or_default().held += 1;
        Some(Connection(Arc::new(Inner { connections: Arc::clone(self), number, end })))
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    /// Asks the longest idle connection, of this client or of any client, to close; false if none is idle.
    fn end_longest_idle(&mut self, client: Option<IpAddr>) -> bool {
        let is_wanted =
            |place: &&mut Place| !place.ends && client.is_none_or(|client| client == place.client);
        let idle = self.places.values_mut().filter(is_wanted).filter(|place| place.idle_since.is_some());
        let Some(longest) = idle.min_by_key(|place| place.idle_since) else { return false };
        longest.ends = true;
        longest.end.notify_one();
        self.of_client.entry(longest.client).or_default().ending += 1;
        true
    }
}

impl Connection {
    /// A request has begun.
    pub(crate) fn busy(&self) -> Busy {
        self.change(|place| {
            place.requests += 1;
            place.idle_since = None;
        });
        Busy(self.clone())
    }

    /// Ready when the connection must close after its requests in flight.
    pub(crate) async fn ended(&self) {
        self.0.end.notified().await;
    }

    /// Whether no request is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        let all = self.0.connections.lock();
        all.places.get(&self.0.number).is_none_or(|place| place.idle_since.is_some())
    }

    fn change(&self, change: impl FnOnce(&mut Place)) {
        if let Some(place) = self.0.connections.lock().places.get_mut(&self.0.number) {
            change(place);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|place| {
            place.requests -= 1;
            place.idle_since = (place.requests == 0).then(Instant::now);
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut all = self.connections.lock();
        let Some(place) = all.places.remove(&self.number) else { return };
        if let Some(share) = all.of_client.get_mut(&place.client) {
            share.held -= 1;
            share.ending -= usize::from(place.ends);
            if share.held == 0 {
                all.of_client.remove(&place.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn is_ended(connection: &Connection) -> bool {
        connection.ended().now_or_never().is_some()
    }

    #[test]
    fn a_client_has_its_share_and_an_idle_one_of_its_own_makes_room() {
        let connections = Connections::new(2);
        let first = connections.enter(ONE).unwrap();
        let second = connections.enter(ONE).unwrap();
        let (_first_busy, second_busy) = (first.busy(), second.busy());
        assert!(connections.enter(ONE).is_none(), "both are worked on");
        assert!(connections.enter(OTHER).is_some(), "others have their own");
        drop(second_busy);
        assert!(connections.enter(ONE).is_some());
        assert!(is_ended(&second) && !is_ended(&first));
    }

    #[test]
    fn a_client_whose_connections_do_not_close_exceeds_its_share_by_a_few_only() {
        let connections = Connections::new(2);
        let mut held: Vec<_> = (0..2 + ENDING).map(|_| connections.enter(ONE).unwrap()).collect();
        assert!(held[..ENDING].iter().all(is_ended) && !held[ENDING..].iter().any(is_ended));
        assert!(connections.enter(ONE).is_none(), "eight are closing already");
        assert!(connections.enter(OTHER).is_some());
        drop(held.remove(0));
        let last = connections.enter(ONE);
        assert!(last.is_some() && connections.enter(ONE).is_none(), "one has closed");
    }

    #[test]
    fn near_the_limit_the_longest_idle_ends() {
        let connections = Connections::new(MAX_CONNECTIONS);
        let held: Vec<_> = (0..SCARCE).map(|_| connections.enter(ONE).unwrap()).collect();
        let _busy = held[0].busy();
        assert!(held.iter().all(|one| !is_ended(one)));
        let _new = connections.enter(OTHER).unwrap();
        assert!(!is_ended(&held[0]) && is_ended(&held[1]) && !is_ended(&held[2]));
        let _next = connections.enter(OTHER).unwrap();
        assert!(is_ended(&held[2]));
    }

    #[test]
    fn what_has_gone_is_not_counted() {
        let connections = Connections::new(1);
        for _ in 0..3 {
            assert!(connections.enter(ONE).is_some());
        }
        assert!(connections.lock().of_client.is_empty());
    }
}
