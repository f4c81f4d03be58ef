//! All cases, by what they are about.

mod extract;
mod header;
mod layer;
mod metadata;
mod rendering;
mod requirement;
mod upstream;

use std::pin::Pin;

use crate::{Adapter, Protocol};

type Case = (&'static str, Pin<Box<dyn Future<Output = ()> + Send>>);

macro_rules! cases {
    ($($module:ident: $($case:ident),+ $(,)?);+ $(;)?) => {
        vec![$($((
            concat!(stringify!($module), "::", stringify!($case)),
            Box::pin($module::$case::<A>()) as Pin<Box<dyn Future<Output = ()> + Send>>,
        )),+),+]
    };
}

/// What is about methods, paths, bodies and headers of HTTP.
const OF_HTTP: [&str; 10] = [
    "extract::a_head_request_is_guarded_like_get",
    "layer::a_refusal_comes_before_the_body",
    "layer::what_is_left_of_a_refused_body_is_no_request",
    "layer::no_method_and_no_spelling_opens_a_guarded_route",
    "layer::a_guarded_route_takes_a_body",
    "rendering::errors_can_have_bodies_of_ones_own",
    "rendering::a_realm_is_in_every_challenge",
    "rendering::errors_are_one_line_of_text_that_is_not_kept",
    "metadata::the_resource_describes_itself",
    "metadata::challenges_point_to_the_description",
];

pub(crate) fn all<A: Adapter + 'static>() -> Vec<Case> {
    let mut cases = of_http::<A>();
    if A::PROTOCOL == Protocol::Grpc {
        let count = cases.len();
        cases.retain(|(name, _)| !OF_HTTP.contains(name));
        assert_eq!(cases.len(), count - OF_HTTP.len(), "each of them names a case");
    }
    cases
}

fn of_http<A: Adapter + 'static>() -> Vec<Case> {
    cases! {
        header:
            no_header_is_challenged_without_an_error,
            an_empty_header_counts_as_none,
            another_scheme_is_challenged_without_an_error,
            the_scheme_is_read_in_any_case_with_any_spaces,
            malformed_credentials_are_an_invalid_token,
            an_oversized_token_is_malformed,
            two_headers_that_would_each_pass_are_refused,
            tokens_elsewhere_mean_nothing,
            identity_headers_of_the_caller_mean_nothing;
        extract:
            a_live_token_passes,
            dead_tokens_are_invalid,
            the_role_in_the_type_is_required,
            an_optional_caller_is_absent_only_without_credentials,
            an_optional_caller_with_a_bad_token_is_refused,
            a_public_route_ignores_credentials,
            a_head_request_is_guarded_like_get,
            a_forgotten_verifier_is_our_fault;
        requirement:
            any_of_several_roles,
            all_of_several_roles,
            a_scope,
            a_combination,
            a_role_of_another_project,
            an_organization_from_the_path,
            the_callers_own_organization,
            role_names_are_exact;
        layer:
            layer_and_extractor_verify_once,
            a_refusal_comes_before_the_body,
            what_is_left_of_a_refused_body_is_no_request,
            no_method_and_no_spelling_opens_a_guarded_route,
            a_guarded_route_takes_a_body;
        upstream:
            a_dead_issuer_is_unavailable_and_comes_back,
            a_slow_issuer_does_not_slow_public_routes,
            five_hundred_requests_with_one_new_token_ask_once,
            a_lying_issuer_lets_nobody_in,
            an_issuer_that_refuses_us_does_not_blame_the_token,
            throttling_is_passed_on,
            nothing_of_the_caller_reaches_the_issuer_but_the_token,
            a_revoked_token_is_refused;
        rendering:
            errors_can_have_bodies_of_ones_own,
            a_realm_is_in_every_challenge,
            errors_are_one_line_of_text_that_is_not_kept;
        metadata:
            the_resource_describes_itself,
            challenges_point_to_the_description,
    }
}
