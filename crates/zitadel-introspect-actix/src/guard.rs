//! A routing guard: one path, several handlers, chosen by role.

use actix_web::guard::{Guard, GuardContext};
use std::sync::Once;

use zitadel_introspect::{Caller, Role};

/// Selects a route for callers who have a role, once [`RequireAuthorizationLayer`] has run around it.
///
/// Without that middleware no caller is known: the guard then never matches, and logs one error.
///
/// The guard selects a route and does not protect it: if no guard matches, actix-web answers 405 or 404. Put the guard
/// on routes inside the guarded scope, never on the scope itself. Leave the last route without a guard and call
/// `caller.require(…)` there, so that callers without the role get 403.
///
/// ```
/// use actix_web::web;
/// use zitadel_introspect_actix::{
///     Authorized, Rejection, RequireAuthorizationLayer, Requirement, RoleGuard, Verifier,
/// };
///
/// async fn for_admins() -> &'static str {
///     "all reports"
/// }
///
/// async fn for_viewers(Authorized(caller): Authorized) -> Result<&'static str, Rejection> {
///     caller.require(&Requirement::role("viewer")).await?;
///     Ok("some reports")
/// }
///
/// fn reports(verifier: Verifier) -> impl actix_web::dev::HttpServiceFactory {
///     web::scope("/reports")
///         .wrap(RequireAuthorizationLayer::new(verifier, Requirement::any_caller()))
///         .service(
///             web::resource("")
///                 .route(web::get().guard(RoleGuard::new("admin")).to(for_admins))
///                 .route(web::get().to(for_viewers)),
///         )
/// }
/// ```
///
/// [`RequireAuthorizationLayer`]: crate::RequireAuthorizationLayer
#[derive(Debug, Clone)]
pub struct RoleGuard(Role);

impl RoleGuard {
    /// Matches callers with this role, on the API's own project and from any organization.
    pub fn new(role: impl Into<Role>) -> Self {
        Self(role.into())
    }
}

impl Guard for RoleGuard {
    fn check(&self, context: &GuardContext<'_>) -> bool {
        static TOLD: Once = Once::new();
        let extensions = context.req_data();
        let Some(caller) = extensions.get::<Caller>() else {
            TOLD.call_once(|| {
                let role = self.0.as_str();
                tracing::error!(
                    role,
                    "RoleGuard SELECTS NOTHING: wrap RequireAuthorizationLayer around its scope"
                );
            });
            return false;
        };
        caller.claims().has_role(self.0.as_str())
    }
}
