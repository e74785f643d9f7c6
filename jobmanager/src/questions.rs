//! What taskmanagers were asked for a user, and who waits for the answers.
//!
//! An answer comes by the connection by which the question went, or never. So when a connection is over, whoever waits for
//! an answer by it is told at once, and does not wait for a taskmanager that is gone.

use std::collections::HashMap;

use tidegate_protocol::{Error, Result, TaskManagerId};
use tokio::sync::oneshot;

/// Where an answer goes. Who has asked may have gone.
pub(crate) type Tell<A> = oneshot::Sender<Result<A>>;

/// Questions of one kind that are not answered, by the numbers of their requests. `S` is what was asked about.
pub(crate) struct Questions<S, A>(HashMap<u64, Question<S, A>>);

struct Question<S, A> {
    asked: TaskManagerId,
    about: S,
    tell: Tell<A>,
}

impl<S, A> Default for Questions<S, A> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<S: PartialEq, A> Questions<S, A> {
    /// A taskmanager is asked. Questions of users who have gone are forgotten.
    pub(crate) fn add(&mut self, request: u64, (asked, about): (TaskManagerId, S), tell: Tell<A>) {
        self.0.retain(|_, question| !question.tell.is_closed());
        self.0.insert(request, Question { asked, about, tell });
    }

    /// An answer has come. One to what this taskmanager was not asked about is dropped.
    pub(crate) fn answered(&mut self, request: u64, (by, about): (&TaskManagerId, &S), answer: A) {
        let asked = self.0.get(&request).is_some_and(|it| it.asked == *by && it.about == *about);
        if asked && let Some(question) = self.0.remove(&request) {
            let _ = question.tell.send(Ok(answer));
        }
    }

    /// The connection to a taskmanager is over.
    pub(crate) fn disconnected(&mut self, id: &TaskManagerId) {
        for (_, question) in self.0.extract_if(|_, question| question.asked == *id) {
            let _ = question.tell.send(Err(Error::environment("the connection to it broke")));
        }
    }
}

/// Answers who has a question for a taskmanager that is not connected.
pub(crate) fn refuse<A>(tell: Tell<A>) {
    let _ = tell.send(Err(Error::environment("it is not connected to the jobmanager")));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> TaskManagerId {
        TaskManagerId(name.to_owned())
    }

    #[test]
    fn who_waits_for_a_taskmanager_that_is_gone_is_told_and_others_wait_on() {
        let mut questions = Questions::default();
        let mut ask = |request, name| {
            let (tell, told) = oneshot::channel();
            questions.add(request, (id(name), 7), tell);
            told
        };
        let (mut first, mut second, mut third) = (ask(1, "a"), ask(2, "a"), ask(3, "b"));
        questions.answered(1, (&id("a"), &7), "yes");
        assert_eq!(first.try_recv().unwrap().unwrap(), "yes");
        questions.disconnected(&id("a"));
        let error = second.try_recv().unwrap().unwrap_err().to_string();
        assert_eq!(error, "the connection to it broke");
        for (by, about) in [("a", 7), ("b", 8)] {
            questions.answered(3, (&id(by), &about), "no");
            assert!(third.try_recv().is_err(), "it is not the one that was asked, or about something else");
        }
        questions.answered(3, (&id("b"), &7), "yes");
        assert_eq!(third.try_recv().unwrap().unwrap(), "yes");
    }

    #[test]
    fn a_question_whose_user_is_gone_is_forgotten() {
        let mut questions = Questions::<(), ()>::default();
        for request in 0..3 {
            questions.add(request, (id("a"), ()), oneshot::channel().0);
        }
        assert_eq!(questions.0.len(), 1);
    }
}
