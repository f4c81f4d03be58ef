//! The description file: the objects of the instance, by name.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Description {
    pub(crate) organizations: Vec<String>,
    pub(crate) projects: Vec<Project>,
    pub(crate) users: Vec<User>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Project {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) roles: Vec<String>,
    /// Organizations that the project is shared with.
    #[serde(default)]
    pub(crate) granted_to: Vec<String>,
    #[serde(default)]
    pub(crate) apis: Vec<Api>,
    #[serde(default)]
    pub(crate) apps: Vec<App>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Api {
    pub(crate) name: String,
    /// Where the key.json is written, relative to the description file's folder; without this field, the API has a
    /// secret.
    pub(crate) key_file: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct App {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) jwt: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    pub(crate) name: String,
    /// The default organization unless set.
    pub(crate) organization: Option<String>,
    /// Such as `IAM_OWNER_VIEWER`, which may read the events of the instance.
    pub(crate) instance_role: Option<String>,
    /// A person; without it a service user.
    pub(crate) person: Option<Person>,
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) grants: Vec<Grant>,
    #[serde(default)]
    pub(crate) tokens: Vec<Token>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Person {
    pub(crate) given_name: Option<String>,
    pub(crate) family_name: Option<String>,
    pub(crate) email: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grant {
    pub(crate) project: String,
    pub(crate) roles: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    pub(crate) name: String,
    pub(crate) kind: TokenKind,
    /// For an access token: the project in its audience; for a login: the project of the app.
    pub(crate) project: Option<String>,
    /// For a login: the app.
    pub(crate) app: Option<String>,
    #[serde(default)]
    pub(crate) scopes: String,
    pub(crate) lifetime_seconds: Option<u64>,
    #[serde(default)]
    pub(crate) jwt: bool,
    /// The token is written to this file as well.
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TokenKind {
    /// A personal access token.
    Pat,
    /// A service user's access token (client credentials).
    Access,
    /// A person's access token (authorization code).
    Login,
}

impl Description {
    /// Finds names that refer to nothing, and impossible tokens.
    pub(crate) fn check(&self) -> Result<(), String> {
        let organization = |name: &String| {
            let complaint = || format!("there is no organization `{name}`; add it to `organizations`");
            self.organizations.contains(name).then_some(()).ok_or_else(complaint)
        };
        self.projects.iter().flat_map(|project| &project.granted_to).try_for_each(organization)?;
        for user in &self.users {
            user.organization.iter().try_for_each(organization)?;
            for grant in &user.grants {
                let project = self.project(&grant.project)?;
                if let Some(role) = grant.roles.iter().find(|role| !project.roles.contains(role)) {
                    return Err(format!("the project `{}` has no role `{role}`", project.name));
                }
            }
            user.tokens.iter().try_for_each(|token| self.check_token(user, token))?;
        }
        Ok(())
    }

    fn check_token(&self, user: &User, token: &Token) -> Result<(), String> {
        let project = token.project.as_ref().map(|name| self.project(name)).transpose()?;
        let has_app =
            |app: &String| project.is_some_and(|project| project.apps.iter().any(|own| own.name == *app));
        match token.kind {
            TokenKind::Login if user.person.is_none() => {
                Err(format!("token `{}`: only a person logs in; give `{}` a `person`", token.name, user.name))
            }
            TokenKind::Login if !token.app.as_ref().is_some_and(has_app) => {
                Err(format!("token `{}`: name a `project` and one of its `apps` as `app`", token.name))
            }
            _ => Ok(()),
        }
    }

    fn project(&self, name: &str) -> Result<&Project, String> {
        let found = self.projects.iter().find(|project| project.name == name);
        found.ok_or_else(|| format!("there is no project `{name}`; add it to `projects`"))
    }
}
