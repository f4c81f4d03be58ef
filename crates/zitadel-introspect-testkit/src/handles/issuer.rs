//! The issuer itself: start, stop, clock, keys, faults.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    endpoints::Endpoint,
    events::Event,
    events::Target,
    events::Webhooks,
    faults::Fault,
    faults::Held,
    faults::Kind,
    handles::project::Organization,
    handles::project::Project,
    handles::project::new_project,
    handles::user::User,
    handles::user::new_user,
    keys::Algorithm,
    keys::{SigningKey, random_text},
    model::{Profile, PublishedKey, State},
    request::Request,
    server::{self, Channels, Command},
    shared::{Shared, without_port},
};

/// A ZITADEL-compatible issuer on a loopback port of this machine, gone when dropped.
///
/// For tests and demos only. Make one for each test: starting takes a few milliseconds.
#[derive(Debug)]
pub struct Issuer {
    shared: Arc<Shared>,
    address: SocketAddr,
    commands: Option<mpsc::UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

/// Settings of an [`Issuer`].
#[derive(Debug, Default)]
pub struct IssuerBuilder {
    port: u16,
    public_origin: Option<String>,
}

impl IssuerBuilder {
    /// A fixed port instead of one that the system chooses.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The instance's own origin, such as `https://auth.example.com`, if it differs from the address on which the
    /// instance listens.
    #[must_use]
    pub fn public_origin(mut self, origin: impl Into<String>) -> Self {
        self.public_origin = Some(origin.into());
        self
    }

    /// Starts to listen, always on a loopback address.
    ///
    /// # Errors
    ///
    /// The system's error if the port is in use or no thread can be started.
    pub async fn start(self) -> io::Result<Issuer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port))?;
        let address = listener.local_addr()?;
        let own = format!("http://127.0.0.1:{}", address.port());
        let issuer = self.public_origin.unwrap_or(own);
        let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        hosts.extend(issuer.split_once("://").map(|(_, host)| without_port(host).to_owned()));
        let (deliveries, to_deliver) = mpsc::unbounded_channel();
        let shared = Shared::new(State::new(issuer), hosts, deliveries);
        let (commands, to_do) = mpsc::unbounded_channel();
        let (ready, serving) = oneshot::channel();
        let channels = Channels { commands: to_do, deliveries: to_deliver, ready };
        let thread = server::start(listener, Arc::clone(&shared), channels)?;
        serving.await.map_err(io::Error::other)?;
        Ok(Issuer { shared, address, commands: Some(commands), thread: Some(thread) })
    }
}

impl Issuer {
    /// An issuer on a port that the system chooses.
    ///
    /// # Panics
    ///
    /// If the system has no port or no thread left.
    pub async fn start() -> Self {
        Self::builder().start().await.expect("a loopback port and a thread")
    }

    /// An issuer with settings.
    #[must_use]
    pub fn builder() -> IssuerBuilder {
        IssuerBuilder::default()
    }

    /// The issuer's identifier, such as `http://127.0.0.1:41234`: what an API configures as its domain.
    #[must_use]
    pub fn url(&self) -> String {
        self.shared.change(|state| state.issuer.clone())
    }

    /// The address on which the issuer listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The organization that exists from the start. It owns everything that is not made in another organization.
    #[must_use]
    pub fn default_organization(&self) -> Organization {
        let id = self.shared.change(|state| state.organizations[0].id.clone());
        Organization::new(&self.shared, id)
    }

    /// Creates a further organization.
    #[must_use]
    pub fn organization(&self, name: &str) -> Organization {
        let id = self.shared.change(|state| state.add_organization(name));
        Organization::new(&self.shared, id)
    }

    /// Creates a project in the default organization.
    #[must_use]
    pub fn project(&self, name: &str) -> Project {
        new_project(&self.shared, &self.default_organization().id(), name)
    }

    /// Creates a service user in the default organization.
    #[must_use]
    pub fn service_user(&self, username: &str) -> User {
        new_user(&self.shared, &self.default_organization().id(), username, None)
    }

    /// Creates a person in the default organization.
    #[must_use]
    pub fn person(&self, username: &str, profile: Profile) -> User {
        new_user(&self.shared, &self.default_organization().id(), username, Some(profile))
    }

    /// Adds a fault after the faults that are already in force.
    pub fn inject(&self, fault: Fault) {
        self.shared.inject(fault);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.shared.heal();
    }

    /// Holds back the requests to one endpoint until the returned value is dropped.
    #[must_use]
    pub fn hold(&self, endpoint: Endpoint) -> Held {
        let (sender, released) = watch::channel(false);
        self.inject(Fault::new(Kind::Hold(released)).on(endpoint));
        Held(sender)
    }

    /// How many introspection requests there were so far.
    #[must_use]
    pub fn introspections(&self) -> usize {
        self.request_count(Endpoint::Introspection)
    }

    /// The requests so far, in order; only the newest 1,000. With them a test can assert what was sent, and what was
    /// not:
    ///
    /// ```
    /// # use zitadel_introspect_testkit::Issuer;
    /// # fn example(issuer: &Issuer) {
    /// assert!(issuer.requests().iter().all(|request| request.header("cookie").is_none()));
    /// # }
    /// ```
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests()
    }

    /// How many requests an endpoint has had so far.
    #[must_use]
    pub fn request_count(&self, endpoint: Endpoint) -> usize {
        self.shared.counts().borrow().get(&endpoint).copied().unwrap_or_default()
    }

    /// Waits until an endpoint has had this many requests in total.
    pub async fn asked(&self, endpoint: Endpoint, requests: usize) {
        let enough = |count: &usize| *count >= requests;
        let mut counts = self.shared.counts();
        let _ = counts.wait_for(|counts| counts.get(&endpoint).is_some_and(enough)).await;
    }

    /// Moves the instance's own clock forward.
    pub fn advance(&self, time: Duration) {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        self.shared.change(|state| state.clock_ahead = state.clock_ahead.saturating_add(seconds));
    }

    /// Sets how many seconds the instance's own clock is ahead of the machine's; a negative number sets it behind.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.shared.change(|state| state.clock_ahead = seconds);
    }

    /// Refuses new connections and aborts open connections, as a crashed server does.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        self.command(Command::Stop(done));
        let _ = stopped.await;
    }

    /// Listens again, on the same port and with the same state.
    ///
    /// # Panics
    ///
    /// If another process has taken the port meanwhile.
    pub async fn resume(&self) {
        let (done, resumed) = oneshot::channel();
        self.command(Command::Resume(done));
        let outcome = resumed.await.expect("the server's thread is there");
        outcome.expect("the port is still free");
    }

    /// Publishes a further key that does not sign yet; returns its id.
    #[must_use]
    pub fn publish_key(&self, algorithm: Algorithm) -> String {
        self.shared.change(|state| {
            state.signing_key();
            state.add_published_key(algorithm, false)
        })
    }

    /// Lets a published key sign from now on, in place of the others.
    ///
    /// # Panics
    ///
    /// If no such key is published.
    pub fn activate_key(&self, id: &str) {
        self.shared.change(|state| {
            assert!(state.signing_keys.iter().any(|published| published.key.id == id), "no such key");
            for published in &mut state.signing_keys {
                published.signs = published.key.id == id;
            }
        });
    }

    /// Publishes a new key and signs with it at once.
    pub fn rotate_key(&self, algorithm: Algorithm) {
        self.activate_key(&self.publish_key(algorithm));
    }

    /// Withdraws a key that does not sign.
    ///
    /// # Panics
    ///
    /// If the key signs, or is not published.
    pub fn withdraw_key(&self, id: &str) {
        self.shared.change(|state| {
            let at = state.signing_keys.iter().position(|published| published.key.id == id);
            let at = at.expect("a published key");
            assert!(!state.signing_keys[at].signs, "a key that signs cannot be withdrawn");
            state.signing_keys.remove(at);
        });
    }

    /// The `Cache-Control` of the published keys; `max-age=300, must-revalidate` unless set.
    pub fn set_keys_cache_control(&self, value: &str) {
        self.shared.change(|state| value.clone_into(&mut state.keys_cache_control));
    }

    /// Signs any header and claims with the key that signs now: tokens that ZITADEL would never make.
    #[must_use]
    pub fn forge(&self, header: &serde_json::Value, claims: &serde_json::Value) -> String {
        let key = self.shared.change(State::signing_key);
        key.sign_parts(header, claims)
    }

    /// As [`forge`](Self::forge), but from the text of header and claims: also for texts that no JSON library writes.
    #[must_use]
    pub fn forge_text(&self, header: &str, claims: &str) -> String {
        self.shared.change(State::signing_key).sign_text(header, claims)
    }

    /// The id of the key that signs now.
    #[must_use]
    pub fn signing_key_id(&self) -> String {
        self.shared.change(State::signing_key).id
    }

    /// All events so far, in order.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.shared.change(|state| state.events.clone())
    }

    /// Shows further events in the event search only after this time, out of order with those that are shown at once:
    /// ZITADEL's stragglers. [`Duration::ZERO`] ends the delay.
    pub fn delay_events(&self, delay: Duration) {
        self.shared.change(|state| state.event_delay = Some(delay));
    }

    /// Never shows further events in the event search, until [`delay_events`](Self::delay_events).
    pub fn lose_events(&self) {
        self.shared.change(|state| state.event_delay = None);
    }

    /// Shows changes of grants at introspection only after this time, as a projection that lags behind.
    pub fn set_grant_lag(&self, lag: Duration) {
        self.shared.change(|state| state.grant_lag = lag);
    }

    /// Removes all events that are older: another history, as after a restore. Only the first ones of the instance stay.
    pub fn forget_events(&self) {
        self.shared.change(|state| {
            state.events.truncate(2);
        });
    }

    /// Posts each further event to `url`, signed; returns the key for checking the signatures.
    ///
    /// # Panics
    ///
    /// If `url` is not a plain http address.
    #[must_use]
    pub fn set_target(&self, url: &str) -> String {
        let signing_key = random_text(24);
        let target = Target::on_this_machine(url, &signing_key);
        self.shared.set_target(Some(target.expect("a target is plain http on this machine")));
        signing_key
    }

    /// Lets the issuer know one more event type, as a later ZITADEL may. [`emit`](Self::emit) makes its events.
    pub fn add_event_type(&self, kind: &str) {
        self.shared.change(|state| state.event_types.push(kind.to_owned()));
    }

    /// Makes an event that no call of the testkit makes, about a user.
    pub fn emit(&self, kind: &'static str, user: &User) {
        self.shared.change(|state| state.emit_for_user(&user.id(), kind, None));
    }

    /// Chooses what becomes of further webhooks: lost, doubled, late or empty.
    pub fn deliver(&self, webhooks: Webhooks) {
        self.shared.change(|state| state.webhooks = webhooks);
    }

    /// Posts further events to another address, signed with the same key.
    ///
    /// # Panics
    ///
    /// If there is no target, or `url` is not a plain http address.
    pub fn move_target(&self, url: &str) {
        let signing_key = self.shared.target().expect("there is a target").signing_key;
        let target = Target::on_this_machine(url, &signing_key);
        self.shared.set_target(Some(target.expect("a target is plain http on this machine")));
    }

    /// From now on no caller has this permission, such as `project.role.write`, whatever the role.
    pub fn withdraw_permission(&self, permission: &str) {
        self.shared.change(|state| state.withdrawn.insert(permission.to_owned()));
    }

    /// Gives back all permissions that were withdrawn.
    pub fn restore_permissions(&self) {
        self.shared.change(|state| state.withdrawn.clear());
    }

    /// Lists of ZITADEL's own APIs show a new thing only after this time; in ZITADEL it takes 6 to 35 ms.
    pub fn set_list_lag(&self, lag: Duration) {
        self.shared.change(|state| state.list_lag = lag);
    }

    fn command(&self, command: Command) {
        let sent = self.commands.as_ref().map(|commands| commands.send(command));
        assert!(matches!(sent, Some(Ok(()))), "the server's thread is there");
    }
}

impl State {
    fn add_published_key(&mut self, algorithm: Algorithm, signs: bool) -> String {
        let key = match algorithm {
            Algorithm::Rs256 => self.new_rsa_key(),
            other => SigningKey::new(self.new_id(), other, 0),
        };
        let id = key.id.clone();
        self.signing_keys.push(PublishedKey { key, signs });
        id
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
