//! The command lines of `setup`.

use std::path::PathBuf;

use clap::Args;
use url::Url;
use zitadel_introspect_setup::{ApiSetup, FeedSetup, Proof, WebhookSetup};

use crate::{settings::Time, words::with_flag};

/// How a set-up runs.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// A file or a pipe with the personal access token of an administrator: an owner of the
    /// organization for an API, an owner of the instance for events. It is not kept
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_token_file: PathBuf,

    /// The organization that owns what is made, by its id or its name [default: that of the administrator]
    #[arg(long, value_name = "ID|NAME")]
    organization: Option<String>,

    /// Prints what would be done (`+` make, `~` change, `=` as it is, `-` remove) and changes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Changes what is there and differs from what was asked for
    #[arg(long)]
    pub(crate) update: bool,

    /// Prints one JSON object, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// The flags of `setup api`. `--project` is the name of the project, and `--domain` the instance.
#[derive(Debug, Args)]
pub(crate) struct ApiArguments {
    #[command(flatten)]
    pub(crate) how: How,

    /// A role of the project, by its key; several times for several
    #[arg(long, value_name = "KEY")]
    role: Vec<String>,

    /// A service user that calls the API, with its roles: `viewer`, or `boss=admin,editor`. Its personal access token goes to
    /// the file `<NAME>.token` beside the key; several times for several
    #[arg(long, value_name = "NAME[=ROLE,…]")]
    pub(crate) robot: Vec<String>,

    /// The name of the API application [default: that of the project]
    #[arg(long, value_name = "NAME")]
    application: Option<String>,

    /// The new file for the key of the application
    #[arg(long, value_name = "FILE", default_value = "key.json")]
    pub(crate) key_file: PathBuf,

    /// How long a new key lives, such as 365d [default: without an end]
    #[arg(long, value_name = "TIME")]
    key_lifetime: Option<Time>,

    /// The folder for the tokens [default: that of the key]
    #[arg(long, value_name = "FOLDER")]
    token_folder: Option<PathBuf>,

    /// How long a new personal access token lives [default: 90d]
    #[arg(long, value_name = "TIME")]
    token_lifetime: Option<Time>,
}

/// The flags of `setup events`.
#[derive(Debug, Args)]
pub struct EventsArguments {
    #[command(flatten)]
    pub(crate) how: How,

    /// Makes a service user that may read events, with a key: for --event-feed-key
    #[arg(long)]
    feed: bool,

    /// The name of that service user
    #[arg(long, value_name = "NAME", default_value = "introspect-events")]
    reader: String,

    /// The new file for the key of that service user
    #[arg(long, value_name = "FILE", default_value = "events-key.json")]
    key_file: PathBuf,

    /// How long a new key lives, such as 365d [default: without an end]
    #[arg(long, value_name = "TIME")]
    key_lifetime: Option<Time>,

    /// Makes a target for webhooks that posts to this address, such as `https://tasks.example.com/zitadel/events`
    #[arg(long, value_name = "URL", requires = "signing_keys")]
    url: Option<String>,

    /// The file for the signing key of the target: for --event-signing-keys
    #[arg(long, value_name = "FILE", requires = "url")]
    signing_keys: Option<PathBuf>,

    /// The name of the target [default: `zitadel-introspect-<host>`]
    #[arg(long, value_name = "NAME", requires = "url")]
    target_name: Option<String>,

    /// Changes the signing key in two runs: the first adds a new key to the file, and the second, when the servers have
    /// read the file, lets ZITADEL use it and removes the old key
    #[arg(long, requires = "url", conflicts_with = "remove")]
    change_signing_key: bool,

    /// Removes the service user (with --feed) or the target with its executions (with --url)
    #[arg(long)]
    pub(crate) remove: bool,

    /// Proves that a running API hears of revocations, by a route that needs a valid token, such as
    /// `http://localhost:8089/api/tasks`
    #[arg(long, value_name = "URL", conflicts_with = "remove")]
    prove: Option<String>,
}

impl ApiArguments {
    pub(crate) fn setup(&self, project: &str) -> ApiSetup {
        let mut setup = ApiSetup::new(project, &self.key_file);
        for role in &self.role {
            setup = setup.role(role);
        }
        for robot in &self.robot {
            let (name, roles) = robot.split_once('=').unwrap_or((robot, ""));
            setup = setup.robot(name, roles.split(',').filter(|role| !role.is_empty()));
        }
        if let Some(organization) = &self.how.organization {
            setup = setup.organization(organization);
        }
        if let Some(application) = &self.application {
            setup = setup.application(application);
        }
        if let Some(Time(lifetime)) = self.key_lifetime {
            setup = setup.key_lifetime(lifetime);
        }
        if let Some(folder) = &self.token_folder {
            setup = setup.token_folder(folder);
        }
        match self.token_lifetime {
            Some(Time(lifetime)) => setup.token_lifetime(lifetime),
            None => setup,
        }
    }

    /// The names of the service users.
    pub(crate) fn robots(&self) -> impl Iterator<Item = &str> {
        self.robot.iter().map(|robot| robot.split('=').next().unwrap_or(robot))
    }
}

impl EventsArguments {
    pub(crate) fn feed(&self) -> Option<FeedSetup> {
        let mut setup = self.feed.then(|| FeedSetup::new(&self.reader, &self.key_file))?;
        if let Some(organization) = &self.how.organization {
            setup = setup.organization(organization);
        }
        Some(match self.key_lifetime {
            Some(Time(lifetime)) => setup.key_lifetime(lifetime),
            None => setup,
        })
    }

    pub(crate) fn webhook(&self) -> Result<Option<WebhookSetup>, String> {
        let (Some(url), Some(keys)) = (&self.url, &self.signing_keys) else { return Ok(None) };
        let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
        let name = self.target_name.clone().unwrap_or_else(|| format!("zitadel-introspect-{host}"));
        let setup = WebhookSetup::new(name, url, keys).map_err(|error| with_flag(&error))?;
        Ok(Some(if self.change_signing_key { setup.change_key() } else { setup }))
    }

    pub(crate) fn proof(&self) -> Result<Option<Proof>, String> {
        let Some(route) = &self.prove else { return Ok(None) };
        let proof = Proof::new(route).map_err(|error| with_flag(&error))?;
        Ok(Some(match &self.how.organization {
            Some(organization) => proof.organization(organization),
            None => proof,
        }))
    }

    /// The files that a server needs, with their flags.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let key = self.feed.then_some(("--event-feed-key", &self.key_file));
        key.into_iter().chain(self.signing_keys.as_ref().map(|keys| ("--event-signing-keys", keys)))
    }
}
