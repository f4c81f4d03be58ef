//! Every field of an active answer, typed.

use zitadel_introspect_testkit::Profile;

use crate::setup::{World, authorize};

#[tokio::test]
async fn a_persons_claims_are_typed() {
    let world = World::new().await;
    let mut profile = Profile::default();
    profile.given_name = Some("Ada".into());
    profile.family_name = Some("Lovelace".into());
    profile.nickname = Some("ada".into());
    profile.gender = Some("female".into());
    profile.locale = Some("en".into());
    profile.picture = Some("https://pictures.example/ada".into());
    profile.email = Some("ada@example.com".into());
    profile.phone_number = Some("+41791234567".into());
    let ada = world.issuer.person("ada", profile);
    ada.grant(&world.project, ["viewer"]);
    ada.set_metadata("team", "Ångström?>");
    let web = world.project.web_app("web");
    let organization = world.issuer.default_organization();
    let scopes = format!(
        "openid profile email phone urn:zitadel:iam:user:metadata urn:zitadel:iam:user:resourceowner \
         urn:zitadel:iam:org:id:{} urn:zitadel:iam:org:domain:primary:{}",
        organization.id(),
        organization.domain()
    );
    let login = ada.log_in(&web, &scopes);

    let caller = authorize(&world.verifier(), &login.access_token).await.unwrap();
    let claims = caller.claims();

    assert_eq!(claims.subject(), Some(&*ada.id()));
    assert_eq!(claims.issuer(), Some(&*world.issuer.url()));
    assert!(claims.audience().contains(&world.project.id()));
    assert_eq!(claims.client_id(), Some(&*web.client_id()));
    assert_eq!(claims.token_id(), Some(&*login.access_token.id()));
    assert_eq!(claims.token_type(), Some("Bearer"));
    assert!(claims.has_scope("email") && !claims.has_scope("mail"));
    assert_eq!(claims.scopes().count(), 8);
    assert_eq!(claims.username(), Some("ada"));
    assert_eq!(claims.preferred_username(), Some("ada"));
    assert_eq!(claims.name(), Some("Ada Lovelace"));
    assert_eq!(claims.given_name(), Some("Ada"));
    assert_eq!(claims.family_name(), Some("Lovelace"));
    assert_eq!(claims.nickname(), Some("ada"));
    assert_eq!(claims.gender(), Some("female"));
    assert_eq!(claims.locale(), Some("en"));
    assert_eq!(claims.picture(), Some("https://pictures.example/ada"));
    assert_eq!(claims.email(), Some("ada@example.com"));
    assert!(claims.is_email_verified() && claims.is_phone_number_verified());
    assert_eq!(claims.phone_number(), Some("+41791234567"));
    assert_eq!(claims.authentication_methods(), ["pwd"]);
    assert_eq!(claims.organization_id(), Some(&*organization.id()));
    assert_eq!(claims.organization_name(), Some("ZITADEL"));
    assert_eq!(claims.organization_domain(), Some(&*organization.domain()));
    assert_eq!(claims.requested_organization_id(), Some(&*organization.id()));
    assert_eq!(claims.requested_organization_domain(), Some(&*organization.domain()));
    assert_eq!(claims.metadata_text("team"), Some("Ångström?>"));
    assert!(claims.has_role("viewer") && !claims.has_role("admin"));
    assert!(claims.project_roles(&world.project.id().into()).unwrap().contains("viewer"));
    assert_eq!(claims.issued_at(), claims.not_before());
    assert!(claims.expires_at() > claims.issued_at());
    assert_eq!(claims.authenticated_at(), claims.issued_at());
    assert!(claims.updated_at().is_some());
}

#[tokio::test]
async fn a_personal_access_token_without_end_has_none() {
    let world = World::new().await;
    let caller = authorize(&world.verifier(), &world.token).await.unwrap();
    assert_eq!(caller.claims().expires_at(), None);
    assert_eq!(caller.claims().client_id(), None);
    assert_eq!(caller.claims().token_id(), Some(&*world.token.id()));
}

#[tokio::test]
async fn roles_of_a_project_shared_with_another_organization_name_that_organization() {
    let world = World::new().await;
    let guest_organization = world.issuer.organization("Guests");
    world.project.grant_to(&guest_organization);
    let guest = guest_organization.service_user("guest");
    guest.grant_in(&guest_organization, &world.project, ["viewer"]);
    let caller = authorize(&world.verifier(), &guest.pat()).await.unwrap();
    let roles = caller.claims().roles();
    assert!(roles.contains_in("viewer", &guest_organization.id().into()));
    assert!(!roles.contains_in("viewer", &world.issuer.default_organization().id().into()));
}
