//! An API: its project, roles, application, key, and the service users that call it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use zitadel_introspect::{ConfigError, Management};

use crate::{
    application::{self, ensure_key},
    authorization::{self, Wanted},
    error::SetupError,
    organization::Organization,
    project,
    rights::{Administrator, Needs},
    run::{Mode, Outcome, Run, perform},
    secret::SecretFile,
    step::Step,
    user,
};

/// The life of a personal access token, unless set.
const TOKEN_LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// ZITADEL's limit of a name, in characters.
const LONGEST_NAME: usize = 200;

/// The things of an API in ZITADEL: its project with roles, its application with a key, service users with tokens.
///
/// All things are found by their names, so a set-up can run again: it makes what is missing and changes nothing that is
/// there. The administrator needs the role `ORG_OWNER` of the organization, and no more.
///
/// ```no_run
/// use zitadel_introspect::{Issuer, Management};
/// use zitadel_introspect_setup::{ApiSetup, Mode};
///
/// # async fn example(token: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let issuer = Issuer::parse("my-domain.zitadel.cloud")?;
/// let zitadel = Management::builder(issuer, token.parse()?).build()?;
/// let setup = ApiSetup::new("tasks", "key.json").role("admin").robot("boss", ["admin"]);
/// let outcome = setup.run(&zitadel, Mode::apply(), &mut |step| println!("{step}")).await?;
/// assert!(!outcome.leaves_differences());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ApiSetup {
    organization: Option<String>,
    project: String,
    application: String,
    roles: Vec<String>,
    robots: Vec<Robot>,
    key_file: PathBuf,
    key_lifetime: Option<Duration>,
    token_folder: Option<PathBuf>,
    token_lifetime: Duration,
}

/// A service user that calls the API.
#[derive(Debug, Clone)]
struct Robot {
    name: String,
    roles: Vec<String>,
}

impl ApiSetup {
    /// A project of this name, with an application of the same name whose key goes to a new file.
    #[must_use]
    pub fn new(project: impl Into<String>, key_file: impl Into<PathBuf>) -> Self {
        let project = project.into();
        Self {
            organization: None,
            application: project.clone(),
            project,
            roles: Vec::new(),
            robots: Vec::new(),
            key_file: key_file.into(),
            key_lifetime: None,
            token_folder: None,
            token_lifetime: TOKEN_LIFETIME,
        }
    }

    /// The organization, by its id or its name; the administrator's own unless set.
    #[must_use]
    pub fn organization(mut self, organization: impl Into<String>) -> Self {
        self.organization = Some(organization.into());
        self
    }

    /// The name of the application; that of the project unless set.
    #[must_use]
    pub fn application(mut self, name: impl Into<String>) -> Self {
        self.application = name.into();
        self
    }

    /// A role of the project, by its key.
    #[must_use]
    pub fn role(mut self, key: impl Into<String>) -> Self {
        self.roles.push(key.into());
        self
    }

    /// A service user with roles of the project. Its personal access token goes to the file `<name>.token`.
    #[must_use]
    pub fn robot<R: Into<String>>(
        mut self,
        name: impl Into<String>,
        roles: impl IntoIterator<Item = R>,
    ) -> Self {
        let roles = roles.into_iter().map(Into::into).collect();
        self.robots.push(Robot { name: name.into(), roles });
        self
    }

    /// How long a new key lives; without an end unless set, as a key from the Console.
    #[must_use]
    pub fn key_lifetime(mut self, lifetime: Duration) -> Self {
        self.key_lifetime = Some(lifetime);
        self
    }

    /// The folder of the files with tokens; that of the key unless set.
    #[must_use]
    pub fn token_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.token_folder = Some(folder.into());
        self
    }

    /// How long a new personal access token lives; 90 days unless set.
    #[must_use]
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.token_lifetime = lifetime;
        self
    }

    /// The file of a robot's token.
    #[must_use]
    pub fn token_file(&self, robot: &str) -> PathBuf {
        let folder = self.token_folder.as_deref().or(self.key_file.parent()).unwrap_or(Path::new(""));
        folder.join(format!("{robot}.token"))
    }

    /// Looks for all things, and makes what is missing where the mode says so. `tell` hears of each thing at once.
    ///
    /// # Errors
    ///
    /// [`SetupError`]: before anything was changed if a setting cannot be used or a right is missing. What was made before
    /// another error stays, and the next run goes on from there.
    pub async fn run(
        &self,
        zitadel: &Management,
        mode: Mode,
        tell: &mut (dyn FnMut(&Step) + Send),
    ) -> Result<Outcome, SetupError> {
        self.check()?;
        let needs = Needs::OrganizationOwner;
        let administrator = Administrator::ask(zitadel, self.organization.as_deref()).await?;
        let reads = project::READS.into_iter().chain(application::READS).chain(user::READS);
        administrator.check(reads.chain(authorization::READS), needs)?;
        let organization = &administrator.organization;
        let go = async |run: &mut Run<'_>| self.go(run, organization).await;
        perform(zitadel, mode, (&administrator, needs), tell, go).await
    }

    async fn go(&self, run: &mut Run<'_>, organization: &Organization) -> Result<(), SetupError> {
        let file = self.key();
        let project = project::ensure(run, organization, &self.project, file.is_begun()).await?;
        let project = project.as_deref();
        project::ensure_roles(run, project, &self.roles).await?;
        let application = application::ensure(run, project, &self.application, file.is_begun()).await?;
        ensure_key(run, project, application.as_deref(), &file).await?;
        for Robot { name, roles } in &self.robots {
            let path = self.token_file(name);
            let file = SecretFile { path: &path, lifetime: Some(self.token_lifetime) };
            let user = user::ensure(run, organization, name, file.is_begun()).await?;
            let user = user.as_deref();
            if !roles.is_empty() {
                Wanted { organization, project, user, name, roles }.ensure(run).await?;
            }
            user::ensure_token(run, user, name, &file).await?;
        }
        Ok(())
    }

    fn key(&self) -> SecretFile<'_> {
        SecretFile { path: &self.key_file, lifetime: self.key_lifetime }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let names = [("project", &self.project), ("application", &self.application)];
        let names = names.into_iter().chain(self.roles.iter().map(|role| ("role", role)));
        for (field, name) in names {
            check_name(field, name)?;
        }
        self.key().check("key_file", "key_lifetime")?;
        for robot in &self.robots {
            let path = self.token_file(&robot.name);
            let file = SecretFile { path: &path, lifetime: Some(self.token_lifetime) };
            file.check("token_folder", "token_lifetime")?;
            check_user_name("robot", &robot.name)?;
            if let Some(role) = robot.roles.iter().find(|role| !self.roles.contains(role)) {
                let problem =
                    format!("{:?} is to get the role {role:?}, which is none of `role`", robot.name);
                return Err(ConfigError::invalid("robot", problem, "name the role, or correct its spelling"));
            }
            if self.robots.iter().filter(|other| other.name == robot.name).count() > 1 {
                let problem = format!("{:?} is named twice", robot.name);
                return Err(ConfigError::invalid("robot", problem, "name it once, with all its roles"));
            }
        }
        Ok(())
    }
}

fn check_name(field: &'static str, name: &str) -> Result<(), ConfigError> {
    let length = name.chars().count();
    if (1..=LONGEST_NAME).contains(&length) && !name.contains(char::is_control) {
        return Ok(());
    }
    let problem = format!("a name of {length} characters cannot be used");
    Err(ConfigError::invalid(field, problem, "give a name of 1 to 200 printable characters"))
}

/// A name that is also the name of a file.
pub(crate) fn check_user_name(field: &'static str, name: &str) -> Result<(), ConfigError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    if (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(is_plain) && !name.starts_with('.') {
        return Ok(());
    }
    let problem = "a name cannot be used".to_owned();
    let remedy = "give 1 to 200 letters, digits, dots, dashes, underscores or @, and no dot at its beginning";
    Err(ConfigError::invalid(field, problem, remedy))
}
