//! Users, their tokens, keys and grants.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    events::Aggregate,
    keys::{SigningKey, random_text},
    model::{Authentication, Grant, Id, Profile, State, Token, TokenKind, User, UserKey, UserState},
};

/// A new service user or person.
pub(crate) struct NewUser<'n> {
    pub(crate) id: Option<Id>,
    pub(crate) organization: &'n str,
    pub(crate) username: &'n str,
    pub(crate) person: Option<Profile>,
}

impl State {
    pub(crate) fn add_user(&mut self, new: NewUser<'_>) -> Id {
        let id = new.id.unwrap_or_else(|| self.new_id());
        let event = if new.person.is_some() { "user.human.added" } else { "user.machine.added" };
        let has = |value: fn(&Profile) -> bool| new.person.as_ref().is_some_and(value);
        let verified = [
            (has(|profile| profile.email.is_some()), "user.human.email.verified"),
            (has(|profile| profile.phone_number.is_some()), "user.human.phone.verified"),
        ];
        let updated_at = self.now();
        self.users.push(User {
            id: id.clone(),
            username: new.username.to_owned(),
            name: new.username.to_owned(),
            description: String::new(),
            organization: new.organization.to_owned(),
            person: new.person,
            state: UserState::Active,
            metadata: BTreeMap::new(),
            updated_at,
        });
        self.emit_for_user(&id, event, Some(json!({"userName": new.username})));
        for (_, event) in verified.into_iter().filter(|(has, _)| *has) {
            self.emit_for_user(&id, event, None);
        }
        self.bear(&id);
        id
    }

    /// With all grants, tokens and roles as an administrator.
    pub(crate) fn remove_user(&mut self, id: &str) {
        let aggregate = self.user_aggregate(id);
        self.end_tokens_of(id);
        self.emit(aggregate, "user.removed", None);
        self.remove_grants(|grant| grant.user == id);
        self.users.retain(|user| user.id != id);
        self.memberships.retain(|own| own.user != id);
        self.user_keys.retain(|own| own.user != id);
    }

    pub(crate) fn end_tokens_of(&mut self, user: &str) {
        for token in self.tokens.iter_mut().filter(|token| token.user == user) {
            token.dead = true;
        }
    }

    pub(crate) fn add_user_key(&mut self, user: &str, end: Option<&str>) -> SigningKey {
        let key = self.new_rsa_key();
        let mut payload = json!({"keyId": key.id, "type": 1});
        if let Some(end) = end {
            payload["expirationDate"] = end.into();
        }
        self.user_keys.push(UserKey { user: user.to_owned(), key: key.clone() });
        self.emit_for_user(user, "user.machine.key.added", Some(payload));
        self.bear_secret(&key.id, end);
        key
    }

    pub(crate) fn remove_user_key(&mut self, user: &str, key: &str) {
        self.user_keys.retain(|own| own.key.id != key);
        self.emit_for_user(user, "user.machine.key.removed", Some(json!({"keyId": key})));
    }

    /// A personal access token. `end` is its expiration date, and `expires_at` the same in Unix seconds.
    pub(crate) fn add_pat(&mut self, user: &str, expires_at: Option<i64>, end: Option<&str>) -> Token {
        let token = Token {
            id: self.new_id(),
            text: random_text(53),
            kind: TokenKind::Pat,
            user: user.to_owned(),
            client_id: String::new(),
            scopes: Vec::new(),
            audience: Vec::new(),
            issued_at: self.now(),
            expires_at,
            session: None,
            actor: None,
            authentication: Authentication::Password,
            dead: false,
        };
        self.emit_for_user(user, "user.pat.added", Some(json!({"tokenId": token.id})));
        self.bear_secret(&token.id, end);
        self.tokens.push(token.clone());
        token
    }

    pub(crate) fn add_grant(
        &mut self,
        user: &str,
        project: &str,
        organization: &str,
        roles: Vec<String>,
    ) -> Id {
        let id = self.new_id();
        let payload = json!({"userId": user, "projectId": project, "roleKeys": roles});
        self.grants.push(Grant {
            id: id.clone(),
            user: user.to_owned(),
            project: project.to_owned(),
            organization: organization.to_owned(),
            roles,
            active: true,
        });
        self.emit_for_grant(&id, "user.grant.added", Some(payload));
        self.bear(&id);
        id
    }

    /// Replaces the roles of a grant. The event of the v2 API does not name the user.
    pub(crate) fn change_grant(&mut self, id: &str, roles: &[String], is_v1: bool) {
        let grant = self.grant(id);
        if grant.roles == roles {
            return; // no change, no event
        }
        let user = grant.user.clone();
        roles.clone_into(&mut grant.roles);
        let (event, payload) = if is_v1 {
            ("user.grant.changed", json!({"roleKeys": roles, "userId": user}))
        } else {
            ("user.grant.cascade.changed", json!({"roleKeys": roles}))
        };
        self.emit_for_grant(id, event, Some(payload));
        self.touch(id);
    }

    pub(crate) fn remove_grant(&mut self, id: &str) {
        let aggregate = self.grant_aggregate(id);
        let grant = self.grant(id);
        let payload = json!({"userId": grant.user, "projectId": grant.project});
        self.grants.retain(|grant| grant.id != id);
        self.emit(aggregate, "user.grant.removed", Some(payload));
    }

    /// Removes grants because something else was removed: their events name nobody.
    pub(crate) fn remove_grants(&mut self, is_gone: impl Fn(&Grant) -> bool) {
        let gone: Vec<_> =
            self.grants.iter().filter(|grant| is_gone(grant)).map(|grant| grant.id.clone()).collect();
        for id in &gone {
            self.emit_for_grant(id, "user.grant.cascade.removed", None);
        }
        self.grants.retain(|grant| !gone.contains(&grant.id));
    }

    /// Takes roles from grants because something else was removed.
    pub(crate) fn take_roles(&mut self, is_concerned: impl Fn(&Grant) -> bool, keeps: impl Fn(&str) -> bool) {
        let mut changed = Vec::new();
        for grant in self.grants.iter_mut().filter(|grant| is_concerned(grant)) {
            let before = grant.roles.len();
            grant.roles.retain(|role| keeps(role));
            if grant.roles.len() < before {
                changed.push((grant.id.clone(), grant.roles.clone()));
            }
        }
        for (id, roles) in changed {
            let payload = if roles.is_empty() { json!({}) } else { json!({"roleKeys": roles}) };
            self.emit_for_grant(&id, "user.grant.cascade.changed", Some(payload));
        }
    }

    pub(crate) fn grant(&mut self, id: &str) -> &mut Grant {
        let found = self.grants.iter_mut().find(|grant| grant.id == id);
        found.expect("a grant that was not removed")
    }

    pub(crate) fn emit_for_user(&mut self, id: &str, event: &'static str, payload: Option<Value>) {
        let aggregate = self.user_aggregate(id);
        self.emit(aggregate, event, payload);
    }

    pub(crate) fn emit_for_grant(&mut self, id: &str, event: &'static str, payload: Option<Value>) {
        let aggregate = self.grant_aggregate(id);
        self.emit(aggregate, event, payload);
    }

    fn user_aggregate(&mut self, id: &str) -> Aggregate {
        Aggregate { id: id.to_owned(), kind: "user", owner: self.user(id).organization.clone() }
    }

    fn grant_aggregate(&mut self, id: &str) -> Aggregate {
        let owner = self.grant(id).organization.clone();
        Aggregate { id: id.to_owned(), kind: "usergrant", owner }
    }
}

/// The key.json of a service user.
pub(crate) fn user_key_json(key: &SigningKey, user: &str, end: Option<&str>) -> String {
    json!({
        "type": "serviceaccount",
        "keyId": key.id,
        "key": key.pkcs1_pem(),
        "expirationDate": end.unwrap_or("9999-12-31T23:59:59Z"),
        "userId": user,
    })
    .to_string()
}
