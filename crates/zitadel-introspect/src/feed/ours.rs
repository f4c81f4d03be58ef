//! Which project and which organization are ours, where events tell.

use crate::{error::feed::FeedError, events::event::Event, feed::follow::Follower, verdict::engine::Engine};

impl Follower {
    /// Our project, from the event that made our application.
    pub(super) async fn know_project(&mut self, engine: &Engine) -> Result<(), FeedError> {
        let Some(feed) = &engine.feed else { return Ok(()) };
        // Who only reads events for others has no project.
        let has_api = engine.source.can_ask() || engine.local.is_some();
        if has_api && feed.project().is_none() {
            let made = self.search.newest("project", "project.application.config.api.added").await?;
            let is_ours = |event: &&Event| event.payload.client.as_deref() == Some(&*engine.labels.client_id);
            let ours = made.iter().map(|(_, event)| event).find(is_ours).filter(|event| !event.id.is_empty());
            feed.learn_project(ours.ok_or(FeedError::NoProject)?.id.as_str().into());
        }
        if let Some(project) = feed.project().filter(|_| !std::mem::replace(&mut self.has_looked, true)) {
            // Without an answer the organization is not known, and more is evicted.
            let made = self.search.of_aggregate("project", project.as_str(), &["project.added"]).await;
            let owner = made.ok().and_then(|made| made.into_iter().next()).map(|(_, event)| event.owner);
            owner
                .filter(|owner| !owner.is_empty())
                .into_iter()
                .for_each(|owner| feed.learn_organization(owner.into()));
        }
        Ok(())
    }
}
