//! The methods of the tasks service over gRPC: their names and requirements.

use std::sync::LazyLock;

use zitadel_introspect_tonic::{Methods, Requirement};

use crate::{options::Options, tasks};

/// The name of the tasks service in its definition.
pub(crate) const SERVICE: &str = "zitadel.go.example.api.v3alpha.ExampleService";

/// The requirement of each method. A method that is not named here is denied.
pub(crate) fn methods(options: &Options) -> Methods {
    let method = |name: &str| format!("/{SERVICE}/{name}");
    Methods::new()
        .public(method("Healthz"))
        .require(method("ListTasks"), Requirement::any_caller())
        .require(method("AddTask"), tasks::add_requirement(options))
        .require(method("AddTasks"), tasks::add_requirement(options))
        .public_health_and_reflection()
}

/// The name of a method, if the method exists: invented names must not be stored in metrics.
pub(crate) fn known(path: &str) -> Option<&'static str> {
    static NAMES: LazyLock<Vec<String>> =
        LazyLock::new(|| methods(&Options::default()).names().map(str::to_owned).collect());
    NAMES.iter().map(String::as_str).find(|name| *name == path)
}
