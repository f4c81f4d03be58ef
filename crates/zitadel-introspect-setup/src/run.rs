//! One run through the things of a set-up: each is looked for, and made where it is missing.

use std::{collections::BTreeSet, time::Duration};

use zitadel_introspect::{Management, RefusalKind};

use crate::{
    error::SetupError,
    rights::{Administrator, Needs},
    step::{Sign, Step},
};

/// How long a list is looked at for a thing that is there, since ZITADEL says so; its lists lag behind by at most 35 ms.
pub(crate) const SURELY: Duration = Duration::from_secs(3);
/// How long a list is looked at for a thing that may be there.
pub(crate) const PERHAPS: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(50);

/// The limits of a set-up. It looks for each thing in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mode {
    applies: bool,
    updates: bool,
}

impl Mode {
    /// Changes nothing, and tells what would be done.
    #[must_use]
    pub fn plan() -> Self {
        Self::default()
    }

    /// Makes what is missing.
    #[must_use]
    pub fn apply() -> Self {
        Self { applies: true, updates: false }
    }

    /// Changes what is there and differs, as well.
    #[must_use]
    pub fn updating(mut self, updates: bool) -> Self {
        self.updates = updates;
        self
    }
}

pub(crate) struct Run<'r> {
    pub(crate) zitadel: &'r Management,
    mode: Mode,
    tell: &'r mut (dyn FnMut(&Step) + Send),
    steps: Vec<Step>,
    rights: BTreeSet<&'static str>,
}

impl<'r> Run<'r> {
    pub(crate) fn new(zitadel: &'r Management, mode: Mode, tell: &'r mut (dyn FnMut(&Step) + Send)) -> Self {
        Self { zitadel, mode, tell, steps: Vec::new(), rights: BTreeSet::new() }
    }

    pub(crate) fn record(&mut self, step: Step) {
        (self.tell)(&step);
        self.steps.push(step);
    }

    /// Whether to make a thing that is missing. If not, it is planned from now on.
    pub(crate) fn may_create(&mut self, step: &Step, right: &'static str) -> bool {
        self.may(step, Sign::Create, right, true)
    }

    /// Whether to change a thing that differs. If not, it is planned from now on.
    pub(crate) fn may_change(&mut self, step: &Step, right: &'static str) -> bool {
        self.may(step, Sign::Change, right, self.mode.updates)
    }

    /// Whether to remove a thing. If not, it is planned from now on.
    pub(crate) fn may_remove(&mut self, step: &Step, right: &'static str) -> bool {
        self.may(step, Sign::Remove, right, true)
    }

    /// Whether to set something that the caller has asked for by its name, with this sign. If not, it is planned.
    pub(crate) fn may_set(&mut self, step: &Step, sign: Sign, right: &'static str) -> bool {
        self.may(step, sign, right, true)
    }

    pub(crate) fn updates(&self) -> bool {
        self.mode.updates
    }

    pub(crate) fn applies(&self) -> bool {
        self.mode.applies
    }

    fn may(&mut self, step: &Step, sign: Sign, right: &'static str, is_wanted: bool) -> bool {
        if is_wanted {
            self.rights.insert(right);
        }
        let may = is_wanted && self.mode.applies;
        if !may {
            self.record(step.clone().is(sign, false));
        }
        may
    }

    /// A thing with an id: the one that is there, or a new one; `None` in a plan if there is none. `is_expected`: a file
    /// has something of it, so it was made before, and perhaps a moment ago.
    pub(crate) async fn ensure(
        &mut self,
        step: Step,
        is_expected: bool,
        right: &'static str,
        find: impl AsyncFn() -> Result<Option<String>, SetupError>,
        make: impl AsyncFn() -> Result<String, SetupError>,
    ) -> Result<Option<String>, SetupError> {
        let found = if is_expected { shown(&find, PERHAPS).await? } else { find().await? };
        if let Some(id) = found {
            self.record(step.id(&id).is(Sign::Same, true));
            return Ok(Some(id));
        }
        if !self.may_create(&step, right) {
            return Ok(None);
        }
        let (id, sign) = match make().await {
            Err(error) if error.is(RefusalKind::AlreadyExists) => {
                let hidden = || SetupError::Hidden { what: step.what, name: step.name.clone() };
                (shown(find, SURELY).await?.ok_or_else(hidden)?, Sign::Same)
            }
            outcome => (outcome?, Sign::Create),
        };
        self.record(step.id(&id).is(sign, true));
        Ok(Some(id))
    }
}

/// The findings and the work of a set-up.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// All things, in order.
    pub steps: Vec<Step>,
    /// Facts that the operator should know, a sentence each.
    pub warnings: Vec<String>,
}

impl Outcome {
    /// Adds the outcome of another set-up.
    pub fn add(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.warnings.extend(other.warnings);
    }

    /// Whether a thing differs from what was asked for and was left as it is: an update changes it.
    #[must_use]
    pub fn leaves_differences(&self) -> bool {
        self.steps.iter().any(|step| step.sign == Sign::Change && !step.is_done)
    }

    /// The id of the first thing of a kind, such as `project`.
    #[must_use]
    pub fn id_of(&self, what: &str) -> Option<&str> {
        self.steps.iter().find(|step| step.what == what)?.id.as_deref()
    }
}

/// Runs through the things: first to plan, so that a missing right stops the set-up before it has changed anything, and
/// then to do it, where the mode says so.
pub(crate) async fn perform(
    zitadel: &Management,
    mode: Mode,
    (administrator, needs): (&Administrator, Needs),
    tell: &mut (dyn FnMut(&Step) + Send),
    go: impl AsyncFn(&mut Run<'_>) -> Result<(), SetupError>,
) -> Result<Outcome, SetupError> {
    let warnings = administrator.excess(needs).into_iter().collect();
    let mut steps = Vec::new();
    let mut silent = |_: &Step| {};
    let plan = Mode { applies: false, ..mode };
    let modes = if mode.applies { vec![plan, mode] } else { vec![plan] };
    for mode_of_pass in modes {
        let is_last = mode_of_pass == mode;
        let mut run = Run::new(zitadel, mode_of_pass, if is_last { &mut *tell } else { &mut silent });
        go(&mut run).await?;
        administrator.check(run.rights, needs)?;
        steps = run.steps;
    }
    Ok(Outcome { steps, warnings })
}

/// Looks again until a list shows a thing that was made a moment ago.
pub(crate) async fn shown<T>(
    find: impl AsyncFn() -> Result<Option<T>, SetupError>,
    patience: Duration,
) -> Result<Option<T>, SetupError> {
    let began = tokio::time::Instant::now();
    loop {
        let found = find().await?;
        if found.is_some() || began.elapsed() > patience {
            return Ok(found);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
