//! The requirement of each method, by its full name.

use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
    sync::{Mutex, PoisonError},
};

use prost::Message;
use prost_types::FileDescriptorSet;
use zitadel_introspect::{AuthError, Requirement};

const HEALTH_AND_REFLECTION: [&str; 5] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// How many names of methods without a rule are remembered, to log each name once. Limited: callers choose the names.
const REMEMBERED: usize = 256;
const LONGEST_NAME: usize = 200;

/// The methods of a server and the requirement of each. A method that is not named is denied.
///
/// Full names begin with a slash: `/package.Service/Method`.
#[derive(Debug, Default)]
pub struct Methods {
    rules: HashMap<String, Rule>,
    /// The first problem with a name.
    problem: Option<MethodsError>,
    logged: Mutex<HashSet<String>>,
}

/// What is wrong with the names of methods.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MethodsError {
    /// A name that is not `/package.Service/Method`.
    #[error("{method:?} is no full name of a method: write /package.Service/Method")]
    #[non_exhaustive]
    NotAFullName {
        /// The name.
        method: String,
    },
    /// A name that was given twice: it is not clear which of the two requirements counts.
    #[error("{method} is named twice: name it once")]
    #[non_exhaustive]
    NamedTwice {
        /// The name.
        method: String,
    },
    /// Bytes that are not a `FileDescriptorSet`.
    #[error("the descriptor set cannot be read")]
    Malformed,
    /// Names that are only named here, or only in the definition, sorted.
    #[error("{}", differences(unknown, forgotten))]
    #[non_exhaustive]
    Differ {
        /// Named here, but not in the definition: perhaps misspelt.
        unknown: Vec<String>,
        /// In the definition, and not named here: denied to everybody.
        forgotten: Vec<String>,
    },
}

fn differences(unknown: &[String], forgotten: &[String]) -> String {
    let sides = [
        (unknown, "named here and not in the definition"),
        (forgotten, "in the definition and not named here"),
    ];
    let sides = sides.iter().filter(|(names, _)| !names.is_empty());
    let texts: Vec<_> = sides.map(|(names, problem)| format!("{problem}: {}", names.join(", "))).collect();
    texts.join("; ")
}

/// What a method requires.
#[derive(Debug)]
pub(crate) enum Rule {
    Public,
    /// Callers without credentials pass as well.
    Optional,
    Required(Requirement),
}

/// Whether a definition could contain this name. Other names are not logged: they could forge a log line.
fn could_exist(method: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._".contains(&byte);
    method.len() <= LONGEST_NAME && method.bytes().all(is_plain) && is_full(method)
}

/// `/package.Service/Method`
fn is_full(method: &str) -> bool {
    let halves = method.strip_prefix('/').and_then(|name| name.split_once('/'));
    halves.is_some_and(|(service, name)| !service.is_empty() && !name.is_empty() && !name.contains('/'))
}

/// The full names of the methods of a file.
fn defined_in(file: &prost_types::FileDescriptorProto) -> impl Iterator<Item = String> {
    let package = file.package();
    let prefix = if package.is_empty() { String::new() } else { format!("{package}.") };
    file.service.iter().flat_map(move |service| {
        let service_name = format!("{prefix}{}", service.name());
        service.method.iter().map(move |method| format!("/{service_name}/{}", method.name()))
    })
}

impl Methods {
    /// No methods yet: every method is denied.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A method for everybody. Credentials are ignored.
    ///
    /// A name that was given before, or that is not `/package.Service/Method`, is an error of
    /// [`RequireAuthorizationLayer::new`](crate::RequireAuthorizationLayer::new).
    #[must_use]
    pub fn public(self, method: impl Into<String>) -> Self {
        self.with(method.into(), Rule::Public)
    }

    /// A method for everybody. The handler gets the caller, if there is one, by
    /// [`MaybeAuthorized`](crate::MaybeAuthorized). Invalid credentials are refused.
    #[must_use]
    pub fn optional(self, method: impl Into<String>) -> Self {
        self.with(method.into(), Rule::Optional)
    }

    /// A method for callers who meet a requirement.
    #[must_use]
    pub fn require(self, method: impl Into<String>, requirement: Requirement) -> Self {
        self.with(method.into(), Rule::Required(requirement))
    }

    /// Opens the standard services for health checks and for reflection.
    #[must_use]
    pub fn public_health_and_reflection(self) -> Self {
        HEALTH_AND_REFLECTION.into_iter().fold(self, Self::public)
    }

    /// Checks the names against the definition of the services, as `tonic-prost-build` writes it
    /// (`file_descriptor_set_path`). Without this check, a method with a misspelt name or without a rule is denied, and
    /// the log shows it only when a client calls the method. The definition may lack the standard services of health
    /// and reflection.
    ///
    /// ```ignore
    /// let methods = Methods::new()
    ///     .require("/tasks.v1.Tasks/Add", Requirement::role("admin"))
    ///     .checked_against(include_bytes!(concat!(env!("OUT_DIR"), "/tasks.bin")))?;
    /// ```
    ///
    /// # Errors
    ///
    /// [`MethodsError`] lists all differences.
    pub fn checked_against(self, file_descriptor_set: &[u8]) -> Result<Self, MethodsError> {
        let this = self.checked()?;
        let set = FileDescriptorSet::decode(file_descriptor_set).map_err(|_| MethodsError::Malformed)?;
        let defined: BTreeSet<String> = set.file.iter().flat_map(defined_in).collect();
        let named: BTreeSet<String> = this.rules.keys().cloned().collect();
        let is_standard = |name: &&String| HEALTH_AND_REFLECTION.contains(&name.as_str());
        let unknown: Vec<_> = named.difference(&defined).filter(|name| !is_standard(name)).cloned().collect();
        let forgotten: Vec<_> =
            defined.difference(&named).filter(|name| !is_standard(name)).cloned().collect();
        if unknown.is_empty() && forgotten.is_empty() {
            Ok(this)
        } else {
            Err(MethodsError::Differ { unknown, forgotten })
        }
    }

    /// The names of all methods, for a test that compares them with something else.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.keys().map(String::as_str)
    }

    /// The methods, if nothing is wrong with their names.
    pub(crate) fn checked(mut self) -> Result<Self, MethodsError> {
        self.problem.take().map_or(Ok(self), Err)
    }

    pub(crate) fn find(&self, method: &str) -> Option<&Rule> {
        self.rules.get(method)
    }

    pub(crate) fn rule(&self, method: &str) -> Result<&Rule, AuthError> {
        self.find(method).ok_or_else(|| self.unnamed(method))
    }

    fn with(mut self, method: String, rule: Rule) -> Self {
        let problem = if is_full(&method) {
            match self.rules.entry(method) {
                Entry::Vacant(place) => {
                    place.insert(rule);
                    None
                }
                Entry::Occupied(named) => Some(MethodsError::NamedTwice { method: named.key().clone() }),
            }
        } else {
            Some(MethodsError::NotAFullName { method })
        };
        self.problem = self.problem.or(problem);
        self
    }

    /// Logs each unnamed method once at error level. After 256 distinct names, assumes a scan for methods and logs at
    /// info level.
    fn unnamed(&self, method: &str) -> AuthError {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if !could_exist(method) || logged.len() >= REMEMBERED || !logged.insert(method.to_owned()) {
            return AuthError::nothing_required(None);
        }
        AuthError::nothing_required(Some(&format!(
            "if the method exists, add .require(\"{method}\", …) or .public(\"{method}\") to Methods"
        )))
    }
}
