use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read(document: &str) -> Result<Option<Claims>, Broken> {
    Claims::from_introspection(document.to_owned(), None)
}

fn active(members: &Value) -> Result<Option<Claims>, Broken> {
    let mut document = json!({"active": true});
    document.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    read(&document.to_string())
}

#[test]
fn only_the_boolean_true_is_active_and_only_false_is_inactive() {
    assert!(read(r#"{"active":true}"#).unwrap().is_some());
    assert!(read(r#"{"active":false}"#).unwrap().is_none());
    for odd in [
        "{}",
        r#"{"active":"true"}"#,
        r#"{"active":1}"#,
        r#"{"active":null}"#,
        r#"{"Active":true}"#,
        r#"{"active":[true]}"#,
        "[true]",
        "true",
        "",
        "{",
        r#"{"active":true}x"#,
        r#"{"active":true}{}"#,
        r#"{"active":true,"active":true}"#,
        r#"{"active":false,"active":true}"#,
        r#"{"active":true,"\u0061ctive":false}"#,
        "{\"active\":true,}",
    ] {
        assert!(read(odd).is_err(), "{odd}");
    }
}

#[test]
fn a_wrong_type_of_a_checked_claim_breaks_the_answer() {
    for (name, values) in [
        ("exp", vec![json!("1"), json!([1]), json!(true), json!({})]),
        ("nbf", vec![json!("1")]),
        ("iat", vec![json!("1")]),
        ("iss", vec![json!(1), json!(["x"])]),
        ("sub", vec![json!(1)]),
        ("scope", vec![json!(["openid"])]),
        ("aud", vec![json!(1), json!([1]), json!(["a", null]), json!({})]),
    ] {
        for value in values {
            assert_eq!(active(&json!({name: value})), Err(Broken(name)), "{name}: {value}");
        }
    }
}

#[test]
fn a_name_twice_breaks_the_answer_where_it_is_read_and_not_where_it_is_not() {
    for twice in [
        r#""exp":9,"exp":9"#,
        r#""sub":"a","sub":"a""#,
        r#""name":"a","name":"b""#,
        r#""urn:zitadel:iam:org:project:roles":{},"urn:zitadel:iam:org:project:roles":{"admin":{"1":"x"}}"#,
        r#""urn:zitadel:iam:org:project:7:roles":{},"urn:zitadel:iam:org:project:7:roles":{}"#,
        r#""urn:zitadel:iam:org:project:roles":{"admin":5,"admin":{"1":"x"}}"#,
        r#""urn:zitadel:iam:org:project:roles":{"admin":{"1":"x","1":"y"}}"#,
        r#""urn:zitadel:iam:user:metadata":{"a":"","a":""}"#,
    ] {
        assert!(read(&format!("{{\"active\":true,{twice}}}")).is_err(), "{twice}");
    }
    let claims = read(r#"{"active":true,"own":1,"own":2}"#).unwrap().unwrap();
    assert_eq!(claims.get("own"), Some(json!(2)));
}

#[test]
fn odd_role_shapes_grant_nothing_and_cost_only_themselves() {
    let claims = active(&json!({ROLES: {
        "admin": {"1": "one.example"}, "text": "x", "list": [{"1": "x"}], "empty": {}, "null": null,
        "number": {"1": 5}, "mixed": {"1": "x", "2": null}, "nameless": {"": "x"},
    }}))
    .unwrap()
    .unwrap();
    let names: Vec<_> = claims.roles().iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(names, ["admin", "mixed"]);
    assert!(
        claims.roles().contains_in("mixed", &"1".into()) && !claims.roles().contains_in("mixed", &"2".into())
    );
    for odd in [json!([{"admin": {"1": "x"}}]), json!("admin"), json!(null), json!(5), json!(["admin"])] {
        assert!(active(&json!({ROLES: odd})).unwrap().unwrap().roles().is_empty(), "{odd}");
    }
}

#[test]
fn a_configured_project_takes_the_place_of_the_generic_claim() {
    let document = json!({
        "active": true,
        ROLES: {"admin": {"1": "x"}},
        "urn:zitadel:iam:org:project:7:roles": {"viewer": {"1": "x"}},
    });
    let project = ProjectId::from("7");
    let claims = Claims::from_introspection(document.to_string(), Some(&project)).unwrap().unwrap();
    assert!(claims.has_role("viewer") && !claims.has_role("admin"));
    let other = ProjectId::from("8");
    let claims = Claims::from_introspection(document.to_string(), Some(&other)).unwrap().unwrap();
    assert!(claims.roles().is_empty());
}

#[test]
fn times_are_checked_without_leeway_at_the_end_and_sixty_seconds_at_the_start() {
    let check = |members: Value| active(&members).unwrap().unwrap().check_times(1000);
    assert_eq!(check(json!({"exp": 1001})), Ok(()));
    assert_eq!(check(json!({"exp": 1000})), Err(InvalidToken::Expired));
    assert_eq!(check(json!({"exp": 1000.95})), Err(InvalidToken::Expired));
    assert_eq!(check(json!({"exp": -1})), Err(InvalidToken::Expired));
    assert_eq!(check(json!({"nbf": 1060})), Ok(()));
    assert_eq!(check(json!({"nbf": 1060.5})), Err(InvalidToken::NotYetValid));
    assert_eq!(check(json!({"nbf": 1061})), Err(InvalidToken::NotYetValid));
    assert_eq!(check(json!({})), Ok(()));
}

#[test]
fn null_is_absent_for_every_member_but_active() {
    let mut document = json!({"cnf": null, "token_type": null, ROLES: null, METADATA: null});
    for name in ["exp", "nbf", "iat", "iss", "sub", "scope", "aud", "auth_time", "updated_at", "jti", "amr"] {
        document[name] = json!(null);
    }
    let claims = active(&document).unwrap().unwrap();
    assert_eq!(claims.check_times(1000), Ok(()));
    assert_eq!(claims.check_origin(&issuer(), None), Ok(()));
    assert_eq!(claims.check_origin(&issuer(), Some("one")), Err(InvalidToken::OtherAudience));
    assert_eq!((claims.subject(), claims.expires_at(), claims.roles().is_empty()), (None, None, true));
}

#[test]
fn a_number_out_of_range_breaks_the_answer_and_is_never_for_ever() {
    for name in ["exp", "nbf", "iat", "auth_time", "updated_at"] {
        for number in [
            "1e999",
            "-1e999",
            "1E+400",
            "99999999999999999999999999",
            "9223372036854775808",
            "9.3e18",
            "-9223372036854775809",
            "18446744073709551616",
        ] {
            let broken = read(&format!("{{\"active\":true,\"{name}\":{number}}}"));
            // The number nearest to the lower end is that end.
            let is_rounded = number == "-9223372036854775809";
            assert!(broken == Err(Broken(name)) || is_rounded, "{name}: {number}");
        }
    }
}

#[test]
fn times_within_the_range_do_not_overflow() {
    for (exp, alive) in [
        ("9223372036854775807", true),
        ("9e18", true),
        ("253402300800", true),
        ("1e-400", false),
        ("-9223372036854775808", false),
        ("-9e18", false),
    ] {
        let claims = read(&format!("{{\"active\":true,\"exp\":{exp}}}")).unwrap().unwrap();
        assert_eq!(claims.check_times(1_800_000_000).is_ok(), alive, "{exp}");
        assert!(claims.expires_at().is_some());
    }
    assert!(read(r#"{"active":true,"nbf":9e18}"#).unwrap().unwrap().check_times(1_800_000_000).is_err());
}

fn issuer() -> Issuer {
    Issuer::parse("https://a.example").unwrap()
}

#[test]
fn a_token_that_is_no_bearer_token_is_refused() {
    let check = |members: Value| active(&members).unwrap().unwrap().check_origin(&issuer(), None);
    for good in
        [json!({}), json!({"token_type": "Bearer"}), json!({"token_type": "bearer"}), json!({"cnf": null})]
    {
        assert_eq!(check(good.clone()), Ok(()), "{good}");
    }
    for bound in [
        json!({"cnf": {"jkt": "x"}}),
        json!({"cnf": {}}),
        json!({"cnf": "x"}),
        json!({"token_type": "Bearer", "cnf": {"x5t#S256": "x"}}),
        json!({"token_type": "DPoP"}),
        json!({"token_type": "N_A"}),
        json!({"token_type": ""}),
    ] {
        assert_eq!(check(bound.clone()), Err(InvalidToken::NotABearerToken), "{bound}");
    }
}

#[test]
fn issuer_and_audience_are_compared_whole() {
    let claims = active(&json!({"iss": "https://a.example", "aud": "one"})).unwrap().unwrap();
    assert_eq!(claims.check_origin(&issuer(), Some("one")), Ok(()));
    assert_eq!(claims.check_origin(&issuer(), Some("on")), Err(InvalidToken::OtherAudience));
    for other in ["https://a.example/", "https://A.example", "http://a.example", "https://a.example:80", ""] {
        let claims = active(&json!({"iss": other})).unwrap().unwrap();
        assert_eq!(claims.check_origin(&issuer(), None), Err(InvalidToken::OtherIssuer), "{other}");
    }
    let with_port = active(&json!({"iss": "https://a.example:443"})).unwrap().unwrap();
    assert_eq!(with_port.check_origin(&issuer(), None), Ok(()));
    let silent = active(&json!({})).unwrap().unwrap();
    assert_eq!(silent.check_origin(&issuer(), None), Ok(()));
    assert_eq!(silent.check_origin(&issuer(), Some("one")), Err(InvalidToken::OtherAudience));
}

#[test]
fn metadata_is_decoded_from_either_alphabet() {
    let claims = active(&json!({METADATA: {
        "team": "w4VuZ3N0csO2bT8-", "standard": "w4VuZ3N0csO2bT8+", "padded": "IA==", "empty": "", "broken": "*", "odd": 1,
    }}))
    .unwrap()
    .unwrap();
    assert_eq!(claims.metadata_text("team"), Some("Ångström?>"));
    assert_eq!(claims.metadata_text("standard"), Some("Ångström?>"));
    assert_eq!(claims.metadata_text("padded"), Some(" "));
    assert_eq!(claims.metadata_text("empty"), Some(""));
    assert_eq!(claims.metadata().len(), 4);
}

#[test]
fn every_other_claim_is_reachable_as_json_and_in_a_type_of_ones_own() {
    #[derive(serde::Deserialize)]
    struct Own {
        plan: String,
    }
    let claims =
        active(&json!({"plan": "gold", "act": {"sub": "7"}, "email_verified": "true", "locale": null}))
            .unwrap()
            .unwrap();
    assert_eq!(claims.get("plan"), Some(json!("gold")));
    assert_eq!(claims.get("none"), None);
    assert_eq!(claims.deserialize::<Own>().unwrap().plan, "gold");
    assert_eq!(claims.actor(), Some(json!({"sub": "7"})));
    assert!(claims.is_email_verified());
    assert_eq!(claims.locale(), None);
}

#[test]
fn the_rarer_claims_are_told_apart() {
    let claims = active(&json!({
        "auth_time": 1, "updated_at": 2, "groups": ["a", "b"], "act": {"sub": "7"}, "email_verified": false,
        "exp": 9,
    }))
    .unwrap()
    .unwrap();
    let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
    assert_eq!((claims.authenticated_at(), claims.updated_at(), claims.end()), (at(1), at(2), 9));
    assert_eq!(claims.groups(), ["a", "b"]);
    assert_eq!(claims.actor_subject().as_deref(), Some("7"));
    assert!(!claims.is_email_verified() && !claims.is_phone_number_verified());
    let text = active(&json!({"email_verified": "false", "exp": -1})).unwrap().unwrap();
    assert!(!text.is_email_verified());
    assert_eq!(text.expires_at(), UNIX_EPOCH.checked_sub(Duration::from_secs(1)));
    let silent = active(&json!({"exp": i64::MAX})).unwrap().unwrap();
    assert_eq!(silent.end(), i64::MAX);
    assert_eq!(silent.actor_subject(), None);
    assert_eq!(active(&json!({})).unwrap().unwrap().end(), i64::MAX);
}

#[test]
fn an_organization_may_be_found_in_the_users_own_and_in_any_role() {
    let claims = active(&json!({
        "urn:zitadel:iam:user:resourceowner:id": "1",
        ROLES: {"admin": {"2": "two.example"}},
        "urn:zitadel:iam:org:project:7:roles": {"viewer": {"3": "three.example"}},
    }))
    .unwrap()
    .unwrap();
    let found: Vec<_> =
        ["1", "2", "3", "4"].into_iter().filter(|id| claims.may_be_of_organization(id)).collect();
    assert_eq!(found, ["1", "2", "3"]);
    assert!(active(&json!({})).unwrap().unwrap().may_be_of_organization("4"), "not known");
}

#[test]
fn the_time_that_is_left_is_that_up_to_the_end() {
    let now = crate::clock::Clock::default().now();
    let left = |exp: i64| active(&json!({"exp": exp})).unwrap().unwrap().time_left(now).unwrap().as_secs();
    assert!((99..=100).contains(&left(now.wall() + 100)));
    assert_eq!(left(now.wall() - 100), 0);
    assert_eq!(active(&json!({})).unwrap().unwrap().time_left(now), None);
}

#[test]
fn a_deep_document_neither_crashes_nor_fails() {
    let deep = format!("{}{}", "[".repeat(400_000), "]".repeat(400_000));
    let claims = read(&format!("{{\"active\":true,\"own\":{deep}}}")).unwrap().unwrap();
    assert_eq!(claims.get("own"), None);
    let roles = read(&format!("{{\"active\":true,\"{ROLES}\":{deep}}}")).unwrap().unwrap();
    assert!(roles.roles().is_empty());
}

#[test]
fn a_document_of_many_names_is_read_in_time_and_nothing_that_it_grants_is_dropped() {
    let many =
        |count: usize, entry: &dyn Fn(usize) -> String| (0..count).map(entry).collect::<Vec<_>>().join(",");
    let repeated = many(50_000, &|_| "\"\":0".to_owned());
    let projects = many(10_000, &|number| format!("\"urn:zitadel:iam:org:project:{number}:roles\":{{}}"));
    assert!(read(&format!("{{\"active\":true,{repeated},{projects}}}")).unwrap().is_some());
    let roles = many(50_000, &|number| format!("\"r{number:05}\":{{\"1\":\"x\"}}"));
    let claims = read(&format!("{{\"active\":true,\"{ROLES}\":{{{roles}}}}}")).unwrap().unwrap();
    assert_eq!(claims.roles().iter().count(), 50_000);
    assert!(claims.has_role("r00000") && claims.has_role("r49999") && !claims.has_role("r50000"));
    let projects = many(2_000, &|number| {
        format!("\"urn:zitadel:iam:org:project:{number}:roles\":{{\"admin\":{{\"1\":\"x\"}}}}")
    });
    let claims = read(&format!("{{\"active\":true,{projects}}}")).unwrap().unwrap();
    assert!((0..2_000).all(|number| claims.project_roles(&number.to_string().into()).is_some()));
    assert!(claims.project_roles(&"2000".into()).is_none());
}

/// What a role claim grants, written a second time without any cleverness.
fn reference_roles(claim: &Value) -> BTreeSet<String> {
    let Value::Object(roles) = claim else { return BTreeSet::new() };
    let counts = |grants: &Value| match grants {
        Value::Object(organizations) => {
            organizations.iter().any(|(id, domain)| !id.is_empty() && domain.is_string())
        }
        _ => false,
    };
    roles.iter().filter(|(_, grants)| counts(grants)).map(|(role, _)| role.clone()).collect()
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{0,3}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn is_date(value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.is_null() || value.is_number())
}

fn is_text(value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.is_null() || value.is_string())
}

fn is_audience(value: Option<&Value>) -> bool {
    value.is_none_or(|value| match value {
        Value::Array(texts) => texts.iter().all(Value::is_string),
        other => other.is_null() || other.is_string(),
    })
}

proptest! {
    #[test]
    fn roles_are_those_of_the_reference_and_no_others(claim in any_json()) {
        let claims = active(&json!({ROLES: claim})).unwrap().unwrap();
        let read: BTreeSet<_> = claims.roles().iter().map(|(role, _)| role.to_string()).collect();
        prop_assert_eq!(read, reference_roles(&claim));
    }

    #[test]
    fn an_answer_is_read_as_the_strict_reference_reads_it(
        members in proptest::collection::btree_map(
            prop::sample::select(vec!["active", "exp", "nbf", "iat", "iss", "aud", "sub", "scope", "name", "own"]),
            any_json(), 0..8,
        )
    ) {
        let document: Value = members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<serde_json::Map<_, _>>().into();
        let member = |name: &str| document.get(name);
        let sound = member("active").is_some_and(Value::is_boolean)
            && ["exp", "nbf", "iat"].iter().all(|name| is_date(member(name)))
            && ["iss", "sub", "scope"].iter().all(|name| is_text(member(name)))
            && is_audience(member("aud"));
        match read(&document.to_string()) {
            Err(_) => prop_assert!(!sound),
            Ok(claims) => {
                prop_assert!(sound);
                prop_assert_eq!(claims.is_some(), member("active") == Some(&json!(true)));
            }
        }
    }

    #[test]
    fn any_text_is_read_without_panic(text in ".{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn a_truncated_answer_is_broken(cut in any::<prop::sample::Index>()) {
        let whole = json!({"active": true, "sub": "1", ROLES: {"admin": {"1": "one.example"}}}).to_string();
        let cut = cut.index(whole.len());
        prop_assert!(read(&whole[..cut]).is_err());
    }
}
