//! One question in flight for each token, shared by all callers who wait for its answer.
//!
//! A question is a task of the library's own thread: the other callers still get the answer if the first caller hangs
//! up or the runtime of its worker ends. A caller who needs a fresher answer than the one in flight shares the next
//! question.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::sync::oneshot;

use crate::{
    error::issuer::IssuerError,
    verdict::{Outcome, Sent, cache::bounded::Key},
};

pub(crate) type Waiting = Shared<BoxFuture<'static, Outcome>>;

/// When a question was sent; empty before that.
pub(crate) type SentAt = Arc<OnceLock<Sent>>;

/// The questions in flight.
#[derive(Default)]
pub(crate) struct InFlight(Mutex<HashMap<Key, Questions>>);

struct Questions {
    current: Question,
    next: Option<(Question, Reply)>,
}

#[derive(Clone)]
struct Question {
    sent_at: SentAt,
    outcome: Waiting,
}

/// The sending half of a question: tells the waiting callers when the question was sent, and its outcome.
pub(crate) struct Reply {
    sent_at: SentAt,
    outcome: oneshot::Sender<Outcome>,
}

/// How a caller has joined.
pub(crate) enum Joined {
    /// A question is in flight.
    Waiting(Waiting, SentAt),
    /// No question was in flight: this caller must start or answer the new question.
    First(Waiting, Reply),
    /// The question in flight is too old: the caller waits for the next question.
    Next(Waiting),
}

impl InFlight {
    /// Joins the question in flight if it was not sent before `not_before`, otherwise the next question.
    pub(crate) fn join(&self, key: Key, not_before: Option<Instant>) -> Joined {
        let mut questions = self.lock();
        let Some(of_token) = questions.get_mut(&key) else {
            let (question, reply) = new_question();
            let waiting = question.outcome.clone();
            questions.insert(key, Questions { current: question, next: None });
            return Joined::First(waiting, reply);
        };
        if of_token.current.is_fresh(not_before) {
            let current = &of_token.current;
            return Joined::Waiting(current.outcome.clone(), Arc::clone(&current.sent_at));
        }
        let (next, _) = of_token.next.get_or_insert_with(new_question);
        Joined::Next(next.outcome.clone())
    }

    /// The question in flight, if there is one.
    pub(crate) fn find(&self, key: &Key) -> Option<(Waiting, SentAt)> {
        let questions = self.lock();
        let current = &questions.get(key)?.current;
        Some((current.outcome.clone(), Arc::clone(&current.sent_at)))
    }

    /// Asks this question and the next questions, until no caller waits.
    pub(crate) async fn run<F>(&self, key: Key, first: Reply, ask: impl Fn(SentAt) -> F)
    where
        F: Future<Output = Outcome>,
    {
        let mut abandoned = Abandoned { in_flight: self, key, is_over: false };
        let mut reply = Some(first);
        while let Some(Reply { sent_at, outcome }) = reply {
            let answer = ask(sent_at).await;
            // The entry is removed before the answer is sent: a caller who comes after the answer must not join a
            // question that is over.
            reply = self.complete(&key);
            let _ = outcome.send(answer);
        }
        abandoned.is_over = true;
    }

    /// Answers a question that need not be asked, since a verdict arrived in the meantime. Callers who wait for the next
    /// question joined after this one began, so the same verdict is fresh enough for them.
    pub(crate) fn answer(&self, key: &Key, first: Reply, outcome: &Outcome) {
        let next = self.complete(key);
        for reply in [Some(first), next].into_iter().flatten() {
            let _ = reply.outcome.send(outcome.clone());
        }
    }

    /// The question is answered: the next one becomes the current one, if a caller waits for it.
    fn complete(&self, key: &Key) -> Option<Reply> {
        let mut questions = self.lock();
        let of_token = questions.get_mut(key)?;
        let Some((next, reply)) = of_token.next.take() else {
            questions.remove(key);
            return None;
        };
        of_token.current = next;
        Some(reply)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Questions>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question {
    fn is_fresh(&self, not_before: Option<Instant>) -> bool {
        // A question that was not sent yet will be sent later than now.
        let sent_at = self.sent_at.get();
        sent_at.is_none_or(|sent| not_before.is_none_or(|not_before| sent.at > not_before))
    }
}

fn new_question() -> (Question, Reply) {
    let (sender, answer) = oneshot::channel();
    let outcome = answer.map(|answer| answer.unwrap_or(Err(IssuerError::Lost))).boxed().shared();
    let sent_at = SentAt::default();
    (Question { sent_at: Arc::clone(&sent_at), outcome }, Reply { sent_at, outcome: sender })
}

/// Removes a question that ended by a panic: the waiting callers get `IssuerError::Lost`, and the next caller starts a
/// new question.
struct Abandoned<'a> {
    in_flight: &'a InFlight,
    key: Key,
    is_over: bool,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.in_flight.lock().remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::cache::bounded::Keyer;

    #[tokio::test]
    async fn a_question_that_was_abandoned_is_told_and_asked_anew() {
        let in_flight = InFlight::default();
        let key = Keyer::new().key(b"token");
        let Joined::First(waiting, reply) = in_flight.join(key, None) else { panic!("there is none yet") };
        // As a task ends whose runtime is shut down.
        assert!(in_flight.run(key, reply, |_| std::future::pending()).now_or_never().is_none());
        assert!(matches!(waiting.await, Err(IssuerError::Lost)));
        assert!(matches!(in_flight.join(key, None), Joined::First(..)));
    }
}
