//! Applies the description file to the issuer, and finds existing objects by name: ids, keys and tokens stay when the
//! file changes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use zitadel_introspect_testkit::{
    Api, Issuer, Organization, Profile, Project, RoleGrant, Token, User, WebApp,
};

use crate::description::{self, Description, TokenKind};

pub(crate) struct Instance {
    issuer: Issuer,
    folder: PathBuf,
    overwrite_keys: bool,
    organizations: BTreeMap<String, Organization>,
    projects: BTreeMap<String, Project>,
    roles: BTreeMap<String, Vec<String>>,
    apis: BTreeMap<(String, String), Api>,
    apps: BTreeMap<(String, String), WebApp>,
    users: BTreeMap<String, User>,
    /// The roles of users in the instance.
    members: BTreeMap<String, String>,
    grants: BTreeMap<(String, String), RoleGrant>,
    tokens: BTreeMap<(String, String), Token>,
}

impl Instance {
    pub(crate) fn new(issuer: Issuer, folder: PathBuf, overwrite_keys: bool) -> Self {
        Self {
            issuer,
            folder,
            overwrite_keys,
            organizations: BTreeMap::new(),
            projects: BTreeMap::new(),
            roles: BTreeMap::new(),
            apis: BTreeMap::new(),
            apps: BTreeMap::new(),
            users: BTreeMap::new(),
            members: BTreeMap::new(),
            grants: BTreeMap::new(),
            tokens: BTreeMap::new(),
        }
    }

    pub(crate) fn apply(&mut self, description: &Description) -> Result<(), String> {
        for name in &description.organizations {
            if !self.organizations.contains_key(name) {
                self.organizations.insert(name.clone(), self.issuer.organization(name));
            }
        }
        for project in &description.projects {
            self.apply_project(project)?;
        }
        let stays = |user: &str| description.users.iter().any(|described| described.name == user);
        let gone: Vec<_> = self.users.keys().filter(|user| !stays(user)).cloned().collect();
        for name in gone {
            self.remove_user(&name);
        }
        for user in &description.users {
            self.apply_user(user)?;
        }
        Ok(())
    }

    fn apply_project(&mut self, described: &description::Project) -> Result<(), String> {
        let name = &described.name;
        let project = self.projects.entry(name.clone()).or_insert_with(|| self.issuer.project(name)).clone();
        let roles = self.roles.entry(name.clone()).or_default();
        for role in described.roles.iter().filter(|role| !roles.contains(role)) {
            project.add_role(role);
        }
        for role in roles.iter().filter(|role| !described.roles.contains(role)) {
            project.remove_role(role);
        }
        roles.clone_from(&described.roles);
        for organization in &described.granted_to {
            project.grant_to(&self.organizations[organization]);
        }
        for app in &described.apps {
            self.apps.entry((name.clone(), app.name.clone())).or_insert_with(|| {
                let made = project.web_app(&app.name).jwt_access_tokens(app.jwt);
                println!("app {} client id {}", app.name, made.client_id());
                made
            });
        }
        for api in &described.apis {
            self.apply_api(&project, name, api)?;
        }
        Ok(())
    }

    fn apply_api(
        &mut self,
        project: &Project,
        name: &str,
        described: &description::Api,
    ) -> Result<(), String> {
        let key = (name.to_owned(), described.name.clone());
        if self.apis.contains_key(&key) {
            return Ok(());
        }
        let api = if let Some(file) = &described.key_file {
            let api = project.api(&described.name);
            self.write_key(&api, Path::new(file))?;
            api
        } else {
            let api = project.secret_api(&described.name);
            println!("api {} client id {} secret {}", described.name, api.client_id(), api.secret());
            api
        };
        self.apis.insert(key, api);
        Ok(())
    }

    fn write_key(&self, api: &Api, path: &Path) -> Result<(), String> {
        let path = self.make_way(path);
        api.write_key_file(&path).map_err(|error| cannot_be_created(&path, &error))?;
        println!("key {} client id {}", path.display(), api.client_id());
        Ok(())
    }

    /// The path of a file, which may be there only if it must not be overwritten.
    fn make_way(&self, file: &Path) -> PathBuf {
        let path = self.folder.join(file);
        if self.overwrite_keys {
            let _ = fs::remove_file(&path);
        }
        path
    }

    fn apply_user(&mut self, described: &description::User) -> Result<(), String> {
        let user = self.user(described);
        self.apply_instance_role(described, &user);
        for (key, value) in &described.metadata {
            user.set_metadata(key, value.clone());
        }
        for grant in &described.grants {
            self.apply_grant(described, &user, grant);
        }
        let granted = |project: &str| described.grants.iter().any(|grant| grant.project == project);
        let of_user = |name: &str| name == described.name;
        let gone: Vec<_> = self
            .grants
            .keys()
            .filter(|(name, project)| of_user(name) && !granted(project))
            .cloned()
            .collect();
        gone.iter().filter_map(|key| self.grants.remove(key)).for_each(RoleGrant::remove);
        for token in &described.tokens {
            self.apply_token(&described.name, &user, token)?;
        }
        let wanted = |token: &str| described.tokens.iter().any(|described| described.name == token);
        let gone: Vec<_> =
            self.tokens.keys().filter(|(name, token)| of_user(name) && !wanted(token)).cloned().collect();
        for token in gone.iter().filter_map(|key| self.tokens.remove(key)) {
            token.revoke();
        }
        Ok(())
    }

    fn user(&mut self, described: &description::User) -> User {
        if let Some(user) = self.users.get(&described.name) {
            return user.clone();
        }
        let default = self.issuer.default_organization();
        let organization = described.organization.as_ref().map_or(&default, |name| &self.organizations[name]);
        let user = match &described.person {
            Some(person) => {
                let mut profile = Profile::default();
                profile.given_name.clone_from(&person.given_name);
                profile.family_name.clone_from(&person.family_name);
                profile.email.clone_from(&person.email);
                organization.person(&described.name, profile)
            }
            None => organization.service_user(&described.name),
        };
        self.users.insert(described.name.clone(), user.clone());
        user
    }

    fn apply_grant(&mut self, of: &description::User, user: &User, described: &description::Grant) {
        let key = (of.name.clone(), described.project.clone());
        if let Some(grant) = self.grants.get(&key) {
            grant.change(&described.roles);
            return;
        }
        let project = &self.projects[&described.project];
        let shared_with = of.organization.as_ref().map(|name| &self.organizations[name]);
        let grant = match shared_with {
            Some(organization) if project.is_granted_to(organization) => {
                user.grant_in(organization, project, &described.roles)
            }
            _ => user.grant(project, &described.roles),
        };
        self.grants.insert(key, grant);
    }

    fn apply_instance_role(&mut self, described: &description::User, user: &User) {
        let before = self.members.get(&described.name);
        if before == described.instance_role.as_ref() {
            return;
        }
        if let Some(role) = &described.instance_role {
            user.set_instance_role(role);
            self.members.insert(described.name.clone(), role.clone());
        } else {
            user.remove_instance_role();
            self.members.remove(&described.name);
        }
    }

    fn apply_token(&mut self, of: &str, user: &User, described: &description::Token) -> Result<(), String> {
        let key = (of.to_owned(), described.name.clone());
        if self.tokens.contains_key(&key) {
            return Ok(());
        }
        let token = match described.kind {
            TokenKind::Pat => user.pat(),
            TokenKind::Access => self.access_token(user, described),
            TokenKind::Login => {
                let project = described.project.clone().unwrap_or_default();
                let app = &self.apps[&(project, described.app.clone().unwrap_or_default())];
                user.log_in(app, &described.scopes).access_token
            }
        };
        println!("token {} {token}", described.name);
        if let Some(file) = &described.file {
            let path = self.make_way(file);
            token.write_file(&path).map_err(|error| cannot_be_created(&path, &error))?;
        }
        self.tokens.insert(key, token);
        Ok(())
    }

    fn access_token(&self, user: &User, described: &description::Token) -> Token {
        let mut request = user.access_token().scopes(&described.scopes);
        if let Some(project) = &described.project {
            request = request.for_project(&self.projects[project]);
        }
        if let Some(seconds) = described.lifetime_seconds {
            request = request.lifetime(Duration::from_secs(seconds));
        }
        if described.jwt {
            request = request.jwt();
        }
        request.issue()
    }

    fn remove_user(&mut self, name: &str) {
        if let Some(user) = self.users.remove(name) {
            user.remove();
        }
        self.members.remove(name);
        self.grants.retain(|(of, _), _| of != name);
        self.tokens.retain(|(of, _), _| of != name);
    }
}

fn cannot_be_created(path: &Path, error: &std::io::Error) -> String {
    format!("{}: cannot be created ({error}); remove it, or start with --overwrite-keys", path.display())
}
