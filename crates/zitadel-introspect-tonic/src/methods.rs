//! What callers must have, for each method by its full name.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    error::Error,
    fmt,
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

/// So many names of unnamed methods are remembered, so that each is logged once: callers choose them.
const REMEMBERED: usize = 256;
const LONGEST_NAME: usize = 200;

/// The methods of a server and what each requires of its callers. What is not named is denied.
///
/// Full names begin with a slash: `/package.Service/Method`.
#[derive(Debug, Default)]
pub struct Methods {
    rules: HashMap<String, Rule>,
    logged: Mutex<HashSet<String>>,
}

/// In what methods and a definition differ.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MethodsError {
    /// Bytes that are no `FileDescriptorSet`.
    Malformed,
    /// Names that stand on one side only, sorted.
    Differ {
        /// Named here, and not in the definition: misspelt, perhaps.
        unknown: Vec<String>,
        /// In the definition, and not named here: denied to everybody.
        forgotten: Vec<String>,
    },
}

impl fmt::Display for MethodsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unknown, forgotten) = match self {
            Self::Malformed => return formatter.write_str("the descriptor set cannot be read"),
            Self::Differ { unknown, forgotten } => (unknown, forgotten),
        };
        let mut separator = "";
        for (names, problem) in [
            (unknown, "named here and not in the definition"),
            (forgotten, "in the definition and not named here"),
        ] {
            if !names.is_empty() {
                write!(formatter, "{separator}{problem}: {}", names.join(", "))?;
                separator = "; ";
            }
        }
        Ok(())
    }
}

impl Error for MethodsError {}

/// What a method requires.
#[derive(Debug)]
pub(crate) enum Rule {
    Public,
    /// Whoever carries no credentials passes as well.
    Optional,
    Required(Requirement),
}

/// Names are what a definition allows: nothing that could forge a line of the log.
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
    /// None yet: all is denied.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A method for everybody. Credentials are not looked at.
    ///
    /// # Panics
    ///
    /// If the method was named before, or its name is not `/package.Service/Method`.
    #[must_use]
    #[track_caller]
    pub fn public(self, method: impl Into<String>) -> Self {
        self.with(method.into(), Rule::Public)
    }

    /// A method for everybody, which learns of a caller by [`MaybeAuthorized`](crate::MaybeAuthorized). Bad
    /// credentials are refused.
    ///
    /// # Panics
    ///
    /// As [`public`](Self::public).
    #[must_use]
    #[track_caller]
    pub fn optional(self, method: impl Into<String>) -> Self {
        self.with(method.into(), Rule::Optional)
    }

    /// A method for callers who meet a requirement.
    ///
    /// # Panics
    ///
    /// As [`public`](Self::public).
    #[must_use]
    #[track_caller]
    pub fn require(self, method: impl Into<String>, requirement: Requirement) -> Self {
        self.with(method.into(), Rule::Required(requirement))
    }

    /// Opens the standard services by which orchestrators ask for health, and clients for the definition.
    ///
    /// # Panics
    ///
    /// As [`public`](Self::public).
    #[must_use]
    #[track_caller]
    pub fn public_health_and_reflection(self) -> Self {
        HEALTH_AND_REFLECTION.into_iter().fold(self, Self::public)
    }

    /// Checks the names against the definition of the services, as `tonic-prost-build` writes it
    /// (`file_descriptor_set_path`): a misspelt name would be closed until somebody calls the method, and a method that was
    /// added there and forgotten here as well. The standard services of health and reflection may be missing there.
    ///
    /// ```ignore
    /// let methods = Methods::new()
    ///     .require("/tasks.v1.Tasks/Add", Requirement::role("admin"))
    ///     .checked_against(include_bytes!(concat!(env!("OUT_DIR"), "/tasks.bin")))?;
    /// ```
    ///
    /// # Errors
    ///
    /// [`MethodsError`] names all that differ.
    pub fn checked_against(self, file_descriptor_set: &[u8]) -> Result<Self, MethodsError> {
        let set = FileDescriptorSet::decode(file_descriptor_set).map_err(|_| MethodsError::Malformed)?;
        let defined: BTreeSet<String> = set.file.iter().flat_map(defined_in).collect();
        let named: BTreeSet<String> = self.rules.keys().cloned().collect();
        let is_standard = |name: &&String| HEALTH_AND_REFLECTION.contains(&name.as_str());
        let unknown: Vec<_> = named.difference(&defined).filter(|name| !is_standard(name)).cloned().collect();
        let forgotten: Vec<_> =
            defined.difference(&named).filter(|name| !is_standard(name)).cloned().collect();
        if unknown.is_empty() && forgotten.is_empty() {
            Ok(self)
        } else {
            Err(MethodsError::Differ { unknown, forgotten })
        }
    }

    /// The names of all methods, for a test that compares them with something else.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        self.rules.into_keys().collect()
    }

    pub(crate) fn rule(&self, method: &str) -> Result<&Rule, AuthError> {
        self.rules.get(method).ok_or_else(|| self.unnamed(method))
    }

    #[track_caller]
    fn with(mut self, method: String, rule: Rule) -> Self {
        assert!(is_full(&method), "{method:?} is no full name of a method: write /package.Service/Method");
        assert!(!self.rules.contains_key(&method), "{method} is named twice: which of the two counts?");
        self.rules.insert(method, rule);
        self
    }

    /// Loud at the first call of a method that could exist, and quiet once there were so many that they are made up.
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
