//! Which targets ZITADEL calls for an event, and how ours is added and taken away without a change for the others.
//!
//! ZITADEL calls the targets of the best matching condition alone: the event itself, before the longest group, before all
//! events. So an execution of ours on an event would silence those of a group: their targets are copied along.

use serde_json::{Value, json};

use crate::answer::{at, list};

/// The executions of an instance.
#[derive(Debug, Default)]
pub(crate) struct Executions(Vec<Execution>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Execution {
    on: On,
    targets: Vec<String>,
}

/// The condition of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum On {
    Event(String),
    Group(String),
    All,
}

impl On {
    fn read(condition: &Value) -> Option<Self> {
        let event = condition.get("event")?;
        match (at(event, "/event"), at(event, "/group")) {
            ("", "") => (event["all"] == true).then_some(Self::All),
            ("", group) => Some(Self::Group(group.to_owned())),
            (event, _) => Some(Self::Event(event.to_owned())),
        }
    }

    /// As ZITADEL spells it.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Event(event) => json!({"event": {"event": event}}),
            Self::Group(group) => json!({"event": {"group": group}}),
            Self::All => json!({"event": {"all": true}}),
        }
    }

    /// For a person.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Event(name) | Self::Group(name) => name,
            Self::All => "all events",
        }
    }

    /// How well a condition that is broader than an event matches it.
    fn breadth(&self, event: &str) -> Option<usize> {
        match self {
            Self::Event(_) => None,
            Self::Group(group) => {
                let rest = event.strip_prefix(group.trim_end_matches(['*', '.']))?;
                (rest.is_empty() || rest.starts_with('.')).then_some(group.len())
            }
            Self::All => Some(0),
        }
    }
}

impl Executions {
    pub(crate) fn read(found: &[Value]) -> Self {
        let read = |found: &Value| {
            let targets = list(found, "targets").iter();
            let targets = targets.filter_map(|target| target.as_str().map(str::to_owned)).collect();
            Some(Execution { on: On::read(&found["condition"])?, targets })
        };
        Self(found.iter().filter_map(read).collect())
    }

    /// How many executions call this target.
    pub(crate) fn count(&self, target: &str) -> usize {
        self.0.iter().filter(|execution| execution.targets.iter().any(|own| own == target)).count()
    }

    /// The targets that the event must have so that ours is called and no other is silenced; `None` if it has them.
    pub(crate) fn with(&self, event: &str, ours: &str) -> Option<Vec<String>> {
        let exact = self.exact(event).unwrap_or_default();
        // Another program has set this event apart, and has silenced the group itself.
        let is_of_others = exact.iter().any(|target| target != ours);
        let shadowed = if is_of_others { &[] } else { self.broader(event) };
        let mut wanted = exact.to_vec();
        for target in shadowed.iter().map(String::as_str).chain([ours]) {
            if !wanted.iter().any(|own| own == target) {
                wanted.push(target.to_owned());
            }
        }
        (wanted != exact).then_some(wanted)
    }

    /// All conditions that call this target, with the targets that stay. None stay if only copies of a group's targets
    /// would: without an execution of its own, the event belongs to the group again.
    pub(crate) fn without(&self, target: &str) -> Vec<(On, Vec<String>)> {
        let is_ours = |execution: &&Execution| execution.targets.iter().any(|own| own == target);
        self.0.iter().filter(is_ours).map(|execution| self.rest(execution, target)).collect()
    }

    fn rest(&self, execution: &Execution, target: &str) -> (On, Vec<String>) {
        let mut rest = execution.targets.clone();
        rest.retain(|own| own != target);
        if let On::Event(event) = &execution.on {
            let (mut own, mut group) = (rest.clone(), self.broader(event).to_vec());
            group.retain(|own| own != target);
            own.sort();
            group.sort();
            if own == group {
                rest.clear();
            }
        }
        (execution.on.clone(), rest)
    }

    /// The same with one target in place of another.
    pub(crate) fn moved(&self, from: &str, to: &str) -> Vec<(On, Vec<String>)> {
        let mut moved = Vec::new();
        for execution in self.0.iter().filter(|execution| execution.targets.iter().any(|own| own == from)) {
            let mut targets = execution.targets.clone();
            targets.retain(|own| own != to);
            for target in targets.iter_mut().filter(|target| *target == from) {
                to.clone_into(target);
            }
            moved.push((execution.on.clone(), targets));
        }
        moved
    }

    fn exact(&self, event: &str) -> Option<&[String]> {
        let found = self.0.iter().find(|execution| matches!(&execution.on, On::Event(own) if own == event));
        found.map(|execution| &*execution.targets)
    }

    /// The targets that are called for an event without an execution of its own.
    fn broader(&self, event: &str) -> &[String] {
        let matching = self.0.iter().filter_map(|execution| Some((execution.on.breadth(event)?, execution)));
        matching.max_by_key(|(breadth, _)| *breadth).map_or(&[], |(_, execution)| &execution.targets)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVENT: &str = "user.human.locked";

    fn on(condition: On, targets: &[&str]) -> Execution {
        Execution { on: condition, targets: targets.iter().map(ToString::to_string).collect() }
    }

    fn event(targets: &[&str]) -> Execution {
        on(On::Event(EVENT.into()), targets)
    }

    fn group(name: &str, targets: &[&str]) -> Execution {
        on(On::Group(name.into()), targets)
    }

    #[test]
    fn ours_is_added_and_no_other_is_silenced() {
        for (found, wanted) in [
            (vec![], Some(vec!["ours"])),
            (vec![event(&["a"])], Some(vec!["a", "ours"])),
            (vec![event(&["ours"])], None),
            (vec![event(&["a", "ours"]), group("user", &["b"])], None),
            (vec![group("user", &["b"])], Some(vec!["b", "ours"])),
            (vec![group("user.*", &["b"])], Some(vec!["b", "ours"])),
            (vec![group("user", &["b"]), group("user.human", &["c"])], Some(vec!["c", "ours"])),
            (vec![group("user", &["b"]), on(On::All, &["d"])], Some(vec!["b", "ours"])),
            (vec![group("us", &["b"]), on(On::All, &["d"])], Some(vec!["d", "ours"])),
            (vec![event(&["ours"]), on(On::All, &["d"])], Some(vec!["ours", "d"])),
            (vec![event(&["a"]), on(On::All, &["d"])], Some(vec!["a", "ours"])),
        ] {
            let wanted = wanted.map(|wanted| wanted.into_iter().map(str::to_owned).collect());
            assert_eq!(Executions(found.clone()).with(EVENT, "ours"), wanted, "{found:?}");
        }
    }

    #[test]
    fn ours_is_taken_away_and_the_group_is_called_again() {
        for (found, rest) in [
            (vec![event(&["ours"])], vec![]),
            (vec![event(&["a", "ours"])], vec!["a"]),
            (vec![event(&["b", "ours"]), group("user", &["b"])], vec![]),
            (vec![event(&["a", "b", "ours"]), group("user", &["b"])], vec!["a", "b"]),
        ] {
            let without = Executions(found.clone()).without("ours");
            assert_eq!(without, [(On::Event(EVENT.into()), rest.into_iter().map(str::to_owned).collect())]);
        }
    }

    #[test]
    fn conditions_are_read_as_they_are_spelt() {
        let found = json!([
            {"condition": {"event": {"group": "user.human"}}, "targets": ["a"]},
            {"condition": {"event": {"event": EVENT}}, "targets": ["b"]},
            {"condition": {"event": {"all": true}}},
            {"condition": {"request": {"all": true}}, "targets": ["c"]},
        ]);
        let executions = Executions::read(found.as_array().unwrap());
        assert_eq!(executions.0, [group("user.human", &["a"]), event(&["b"]), on(On::All, &[])]);
        assert_eq!(On::read(&On::All.to_json()), Some(On::All));
        assert_eq!(On::read(&On::Group("g".into()).to_json()), Some(On::Group("g".into())));
    }

    proptest! {
        /// The same targets are called for an event as before, with ours beside them. A second time changes nothing.
        /// When ours is taken away, the same targets are called as in the beginning.
        #[test]
        fn others_are_called_as_before(
            exact in proptest::option::of(proptest::collection::btree_set("[a-d]", 1..3)),
            near in proptest::option::of(proptest::collection::btree_set("[a-d]", 1..3)),
            all in proptest::option::of(proptest::collection::btree_set("[a-d]", 1..3)),
        ) {
            let conditions = [(On::Event(EVENT.into()), exact), (On::Group("user".into()), near), (On::All, all)];
            let executions = conditions.into_iter().filter_map(|(on, targets)| {
                Some(Execution { on, targets: targets?.into_iter().collect() })
            });
            let mut executions = Executions(executions.collect());
            let called = |executions: &Executions| {
                let mut called = executions.exact(EVENT).unwrap_or_else(|| executions.broader(EVENT)).to_vec();
                called.sort();
                called
            };
            let before = called(&executions);
            let set = |executions: &mut Executions, targets: Vec<String>| {
                executions.0.retain(|own| own.on != On::Event(EVENT.into()));
                if !targets.is_empty() {
                    executions.0.push(Execution { on: On::Event(EVENT.into()), targets });
                }
            };
            let wanted = executions.with(EVENT, "ours").expect("ours was not there");
            set(&mut executions, wanted);
            let mut both = before.clone();
            both.push("ours".into());
            both.sort();
            prop_assert_eq!(called(&executions), both);
            prop_assert_eq!(executions.with(EVENT, "ours"), None);
            for (_, rest) in executions.without("ours") {
                set(&mut executions, rest);
            }
            prop_assert_eq!(called(&executions), before);
        }
    }
}
