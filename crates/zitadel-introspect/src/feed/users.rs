//! Whose session or grant an event is about.

use std::collections::{HashMap, VecDeque};

use crate::{
    events::{event::Event, table::LookUp, table::Whose},
    feed::search::Search,
    verdict::evict::Evict,
};

/// Look-ups in one poll; beyond this, more is evicted instead.
const MOST_LOOK_UPS: usize = 16;
/// So many grants are remembered with their users.
const MOST_GRANTS: usize = 10_000;

/// The users of grants.
#[derive(Default)]
pub(super) struct Users {
    of_grants: HashMap<String, String>,
    order: VecDeque<String>,
}

impl Users {
    /// Remembers whose grant it is, if the event says so.
    pub(super) fn learn(&mut self, event: &Event) {
        let Some(user) = event.payload.user.as_ref().filter(|_| event.aggregate == "usergrant") else {
            return;
        };
        if event.id.is_empty() {
            return;
        }
        if self.of_grants.insert(event.id.clone(), user.clone()).is_none() {
            self.order.push_back(event.id.clone());
        }
        if self.order.len() > MOST_GRANTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.of_grants.remove(&oldest);
        }
    }

    /// What to evict. `look_ups` counts those of one poll.
    pub(super) async fn look_up(
        &mut self,
        search: &mut Search,
        LookUp { what, or }: LookUp,
        look_ups: &mut usize,
    ) -> Option<Evict> {
        if let Whose::Grant(id) = &what
            && let Some(user) = self.of_grants.get(id)
        {
            return Some(Evict::User(user.into()));
        }
        *look_ups += 1;
        if *look_ups > MOST_LOOK_UPS {
            return Some(or);
        }
        let (aggregate, id, types): (_, _, &[&str]) = match &what {
            Whose::Session(id) => ("session", id, &["session.added", "session.user.checked"]),
            Whose::Grant(id) => ("usergrant", id, &["user.grant.added"]),
        };
        let Ok(found) = search.of_aggregate(aggregate, id, types).await else { return Some(or) };
        let user = found.iter().find_map(|(_, event)| event.payload.user.clone());
        for (_, event) in &found {
            self.learn(event);
        }
        match (user, found.is_empty()) {
            (Some(user), _) => Some(Evict::User(user.into())),
            // A session in which nobody has logged in has no tokens.
            (None, false) if matches!(what, Whose::Session(_)) => None,
            (None, _) => Some(or),
        }
    }
}
