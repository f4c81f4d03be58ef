//! The changes of an instance, with their events: each stands here once, for the handles of a test and for the calls of
//! ZITADEL's APIs.

mod projects;
mod users;

use std::time::{Instant, UNIX_EPOCH};

use serde_json::json;

pub(crate) use self::{
    projects::{application_key_json, role_id},
    users::{NewUser, user_key_json},
};
use crate::{
    events::Aggregate,
    model::{Birth, Level, Membership, State},
};

impl State {
    /// Remembers when a thing was made: its list shows it after the lag.
    pub(crate) fn bear(&mut self, id: &str) {
        let created = self.time_of_push();
        let birth = Birth { at: Instant::now(), created, changed: created };
        self.births.insert(id.to_owned(), birth);
    }

    /// Whether a key was made with an end that is over.
    pub(crate) fn has_ended(&self, key: &str) -> bool {
        let end = self.ends.get(key).and_then(|end| humantime::parse_rfc3339(end).ok());
        let seconds = end.and_then(|end| end.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs());
        seconds.is_some_and(|end| i64::try_from(end).is_ok_and(|end| end <= self.now()))
    }

    /// Remembers when a thing was changed.
    pub(crate) fn touch(&mut self, id: &str) {
        let changed = self.time_of_push();
        if let Some(birth) = self.births.get_mut(id) {
            birth.changed = changed;
        }
    }

    pub(super) fn bear_secret(&mut self, id: &str, end: Option<&str>) {
        self.bear(id);
        self.ends.extend(end.map(|end| (id.to_owned(), end.to_owned())));
    }

    /// Gives a user the roles of an administrator, in place of those that it has there.
    pub(crate) fn set_membership(&mut self, user: &str, level: Level, roles: Vec<String>) {
        let aggregate = self.aggregate_of(&level);
        let names = level.events();
        let payload = json!({"userId": user, "roles": roles});
        let own = self.memberships.iter_mut().find(|own| own.user == user && own.level == level);
        let event = if own.is_some() { names.changed } else { names.added };
        match own {
            Some(own) => own.roles = roles,
            None => self.memberships.push(Membership { user: user.to_owned(), level, roles }),
        }
        self.emit(aggregate, event, Some(payload));
    }

    /// Takes all roles of an administrator away; false if there are none.
    pub(crate) fn remove_membership(&mut self, user: &str, level: &Level) -> bool {
        let before = self.memberships.len();
        self.memberships.retain(|own| own.user != user || own.level != *level);
        let was_there = self.memberships.len() < before;
        if was_there {
            let aggregate = self.aggregate_of(level);
            self.emit(aggregate, level.events().removed, Some(json!({"userId": user})));
        }
        was_there
    }

    fn aggregate_of(&mut self, level: &Level) -> Aggregate {
        match level {
            Level::Instance => {
                Aggregate { id: self.instance.clone(), kind: "instance", owner: self.instance.clone() }
            }
            Level::Organization(id) => Aggregate { id: id.clone(), kind: "org", owner: id.clone() },
            Level::Project(id) => {
                Aggregate { id: id.clone(), kind: "project", owner: self.project(id).organization.clone() }
            }
        }
    }
}
