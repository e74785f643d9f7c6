//! What is sent to the jobmanager: now, and again after a registration.
//!
//! While no jobmanager is connected, messages are dropped: the state of a process is in the next registration, and the
//! facts about it are sent after that. Between the registration and its acceptance messages wait. The end of a process is
//! kept until the connection has lasted for some time after it was sent, because what was on its way when a connection broke is lost.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_protocol::taskmanager::{FromTaskManager, HowEnded, ProcessId, Registration};

use super::Effect;

/// Messages that wait for the registration to be accepted; with more the connection is made anew.
const WAITING_MAX: usize = 10_000;
/// Ended processes that are remembered.
const ENDED_MAX: usize = 256;

/// A process that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// The facts about it, and its end.
    messages: Vec<FromTaskManager>,
    /// When its end was last sent; None if it was not.
    sent: Option<Duration>,
}

impl Ended {
    pub(super) fn new(process: ProcessId, mut facts: Vec<FromTaskManager>, how: HowEnded) -> Self {
        facts.push(FromTaskManager::Exited { process, how });
        Self { messages: facts, sent: None }
    }
}

#[derive(Debug)]
enum State {
    Down,
    /// The registration is not accepted yet; these messages wait.
    Registering(Vec<FromTaskManager>),
    Up,
}

#[derive(Debug)]
pub(super) struct Uplink {
    state: State,
    lease: Duration,
    /// When the last pong was sent.
    ponged: Duration,
    ended: VecDeque<Ended>,
}

impl Uplink {
    pub(super) fn new(lease: Duration) -> Self {
        Self { state: State::Down, lease, ponged: Duration::ZERO, ended: VecDeque::new() }
    }

    pub(super) fn connected(&mut self, now: Duration, registration: Registration, out: &mut Vec<Effect>) {
        self.state = State::Registering(Vec::new());
        self.ponged = now;
        out.push(Effect::Send(FromTaskManager::Register(Box::new(registration))));
    }

    /// Whether the registration is accepted.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up)
    }

    pub(super) fn disconnected(&mut self) {
        self.state = State::Down;
    }

    /// The registration is accepted: sends the facts about processes that run, what has waited, and the ends of processes.
    pub(super) fn registered(
        &mut self,
        now: Duration,
        lease: Duration,
        facts: impl Iterator<Item = FromTaskManager>,
        out: &mut Vec<Effect>,
    ) {
        self.lease = lease;
        let waiting = match std::mem::replace(&mut self.state, State::Up) {
            State::Registering(waiting) => waiting,
            // Said twice, or about a connection that is given up.
            before @ (State::Up | State::Down) => {
                self.state = before;
                return;
            }
        };
        out.extend(facts.chain(waiting).map(Effect::Send));
        for ended in &mut self.ended {
            ended.sent = Some(now);
            out.extend(ended.messages.iter().cloned().map(Effect::Send));
        }
    }

    pub(super) fn send(&mut self, message: FromTaskManager, out: &mut Vec<Effect>) {
        match &mut self.state {
            State::Down => {}
            State::Registering(waiting) if waiting.len() >= WAITING_MAX => {
                self.state = State::Down;
                out.push(Effect::Disconnect);
            }
            State::Registering(waiting) => waiting.push(message),
            State::Up => out.push(Effect::Send(message)),
        }
    }

    /// Sends and keeps the end of a process.
    pub(super) fn ended(&mut self, now: Duration, mut ended: Ended, out: &mut Vec<Effect>) {
        // The facts were sent when they became known; only the end is new. Before the registration is accepted nothing is
        // sent: all that is kept follows it.
        if let (State::Up, Some(exited)) = (&self.state, ended.messages.last()) {
            ended.sent = Some(now);
            out.push(Effect::Send(exited.clone()));
        }
        self.ended.push_back(ended);
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_front();
        }
    }

    pub(super) fn pong(&mut self, now: Duration, out: &mut Vec<Effect>) {
        if !matches!(self.state, State::Down) {
            self.ponged = now;
            out.push(Effect::Send(FromTaskManager::Pong));
        }
    }

    pub(super) fn tick(&mut self, now: Duration, out: &mut Vec<Effect>) {
        if now >= self.ponged + self.lease / 4 {
            self.pong(now, out);
        }
        if matches!(self.state, State::Up) {
            let lease = self.lease;
            self.ended.retain(|ended| ended.sent.is_none_or(|sent| now < sent + 2 * lease));
        }
    }
}
