//! What an engine tells the other instances, and takes from them.

use std::{sync::Arc, time::UNIX_EPOCH};

use crate::{
    jwt::Jwt,
    token::AccessToken,
    verdict::{
        Active, SOFT, Sent,
        cache::bounded::Key,
        engine::Engine,
        evict::Evict,
        freshness::Freshness,
        shared::{YOUNGER, asked_at, outbox::Pending},
    },
};

impl Engine {
    /// Evicts here, and tells the other instances.
    pub(crate) fn evict(&self, evictions: &[Evict]) {
        if let Some(peers) = &self.peers {
            peers.publish(evictions.iter().cloned().map(Pending::evicting));
        }
        self.cache.evict(evictions, self.clock.now().instant);
    }

    /// Evicts here what ends and what only changes, and tells the other instances by these items.
    /// Gives the number of the last item.
    pub(crate) fn apply(&self, ends: &[Evict], changes: &[Evict], items: Vec<Pending>) -> u64 {
        let told = self.peers.as_ref().filter(|_| !items.is_empty());
        let number = told.map_or(0, |peers| peers.publish(items));
        let now = self.clock.now().instant;
        self.cache.evict(ends, now);
        self.cache.evict_softly(changes, SOFT, now);
        number
    }

    /// Tells the other instances that a token has ended.
    pub(super) fn tell_of_end(&self, token: &AccessToken, active: Option<&Active>) {
        let Some(peers) = &self.peers else { return };
        let id = active.and_then(|active| active.claims.token_id()).map(|id| Evict::TokenId(id.into()));
        let names = peers.seals.names(token.as_bytes()).map(Evict::Name);
        peers.publish(names.chain(id).map(Pending::evicting));
    }

    /// A verdict that another instance has asked for. `held`: the verdict that it would replace.
    pub(super) async fn take_shared(
        &self,
        token: &AccessToken,
        key: Key,
        held: Option<&Active>,
    ) -> Option<Arc<Active>> {
        let peers = self.peers.as_ref()?;
        let now = self.clock.now();
        if !peers.may_share(now.instant) {
            return None;
        }
        // Before the verdict is looked up: what happens from now on is compared once more when it is held.
        let (position, breaks) = (self.cache.ledger.position(), self.fed.breaks());
        let name = peers.name(token);
        let shared = peers.find(name, now.instant).await?;
        let mut claims = self.source.read(shared.answer)?;
        let checked = claims.check_origin(&self.settings.issuer, self.settings.audience.as_deref());
        checked.and_then(|()| claims.check_times(self.clock.now().wall())).ok()?;
        self.roles.share(&mut claims);
        let now = self.clock.now();
        let wall = now.system_time().duration_since(UNIX_EPOCH).ok()?;
        let asked_at = asked_at(shared.asked_at, now.instant, wall)?;
        if held.is_some_and(|held| asked_at < held.asked_at + YOUNGER) {
            return None;
        }
        let is_told =
            shared.is_told_by_events && self.feed.as_ref().is_some_and(|feed| feed.tells_of(&claims));
        let is_jwt = (self.local.is_some() || self.feed.is_some()) && Jwt::of(token).is_some();
        let active =
            Active::answered(*claims, Sent { at: asked_at, position }, &key, is_jwt).named(Some(name));
        let active =
            peers.log().vouch(active.told_by_events(is_told), shared.place, &key, breaks, now.instant)?;
        let asker = self.any_asker();
        // A verdict that must be renewed already is of no use.
        let is_good = self.settings.lifetimes.judge(&active, asker, self.clock.now()) == Freshness::Serve;
        is_good.then(|| Arc::new(active))
    }
}
