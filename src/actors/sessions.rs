//! The Qwen conversations: which history goes on in which chat, and after which answer.
//!
//! Owns: the map from a history's hash to its place upstream. Durable: tables `sessions` and `session_turns`, read again
//! at each start. Kept above it: which chats are in use, so that a crash lets no second request into one. A crash
//! loses: nothing. Never waits for: the network or the database.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::actors::address::{Address, Message as ActorMessage, Reply, Unavailable};
use crate::actors::behaviour::{Behaviour, Fatal, Own};
use crate::actors::database::{Database, StoreError};
use crate::actors::leases::{Lease, Leases, Taken};
use crate::actors::pace;
use crate::actors::supervisor::ChildSpec;
use crate::clock::now_ms;
use crate::db::ops::WriteOp;
use crate::db::sessions::{self, ChatOf, KnownTurn, TurnRow};
use crate::db::unwanted::Unwanted;
use crate::limits::actors::{CHAT_FREE_SOON, MOST_TURNS, SESSIONS_DEADLINE, SESSIONS_MAILBOX};
use crate::settings::{self, Settings};

/// Answers after which the expired turns are swept out, however soon that is.
const SWEEP: u32 = 200;

/// Where a request's history goes on.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) session_id: String,
    pub(crate) login: String,
    pub(crate) chat_id: String,
    pub(crate) parent_id: String,
    /// How many of the request's messages the chat knows already.
    pub(crate) known: usize,
    pub(crate) lease: Lease,
}

/// A prefix of a request's history.
#[derive(Clone, Debug)]
pub(crate) struct Prefix {
    pub(crate) messages: usize,
    /// Hex.
    pub(crate) hash: String,
    /// The hash of the whole history: what is asked, and where.
    pub(crate) question: Arc<str>,
}

/// What is known of a request's history.
#[derive(Debug)]
pub(crate) enum Sought {
    Found(Found),
    /// The chat that knows it is about to be free.
    Soon,
    Nowhere,
}

/// What to do about a chat that is about to be free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    Wait,
    PassOver,
}

/// How the rest of the gateway asks for conversations.
#[derive(Clone)]
pub(crate) struct Sessions {
    address: Address<Message>,
    database: Database,
    leases: Leases,
}

impl Sessions {
    /// Conversations that can be gone on with.
    pub(crate) async fn active(&self) -> Result<i64, Unavailable> {
        self.address.call(SESSIONS_DEADLINE, Message::Active).await
    }

    /// The first of `prefixes` (longest first) that a free chat knows. One that is about to be free is waited for: a
    /// client that asks again what broke off asks at the same place, while that is still being wound up.
    pub(crate) async fn find(&self, prefixes: Vec<Prefix>) -> Result<Option<Found>, Unavailable> {
        let deadline = tokio::time::Instant::now() + CHAT_FREE_SOON;
        let mut patience = Patience::Wait;
        loop {
            let mut released = pin!(self.leases.released());
            // Before the question, so that nothing is missed between the two.
            released.as_mut().enable();
            let seek = |reply| Message::Find(prefixes.clone(), patience, reply);
            match self.address.call(SESSIONS_DEADLINE, seek).await? {
                Sought::Found(found) => return Ok(Some(found)),
                Sought::Nowhere => return Ok(None),
                Sought::Soon => {
                    if tokio::time::timeout_at(deadline, released).await.is_err() {
                        patience = Patience::PassOver;
                    }
                }
            }
        }
    }

    /// Claims a chat that was opened just now.
    pub(crate) fn claim(&self, chat_id: &str) -> Lease {
        self.leases.claim(chat_id)
    }

    /// A chat gave an answer: a request that repeats what led to it goes on there.
    pub(crate) fn answered(&self, turn: TurnRow) {
        let known = KnownTurn {
            hash: turn.hash.clone(),
            session_id: turn.session_id.clone(),
            login: turn.login.clone(),
            chat_id: turn.chat_id.clone(),
            parent_id: turn.parent_id.clone(),
            expires_at: turn.expires_at,
        };
        // The row first: an incarnation that starts in between reads it.
        self.database.record(WriteOp::RecordTurn(Box::new(turn)));
        let _ = self.address.cast(Message::Answered(known));
    }

    /// Deletes a conversation with its exchanges, however long that takes; returns where it was upstream, or none when
    /// there is no such session.
    pub(crate) async fn delete(&self, id: &str) -> Result<Option<ChatOf>, StoreError> {
        let key = id.to_owned();
        let found = self
            .database
            .read(move |conn| sessions::chat_of(conn, &key))
            .await?;
        let Some(place) = found else {
            return Ok(None);
        };
        // First of all, so that nothing goes on in it meanwhile.
        let _ = self.address.cast(Message::Forgotten(place.chat_id.clone()));
        pace::discard(&self.database, Unwanted::Session { id: id.to_owned() }).await?;
        Ok(Some(place))
    }

    /// Deletes the conversations that ended before `before` (Unix ms) with their exchanges; returns how many.
    pub(crate) async fn delete_ended(&self, before: i64) -> Result<usize, StoreError> {
        pace::discard(&self.database, Unwanted::EndedSessions { before }).await
    }

    /// The logins are gone, and the rows of the conversations with them.
    pub(crate) fn ended(&self) {
        let _ = self.address.cast(Message::Ended);
    }

    /// The chat is gone upstream.
    pub(crate) fn forget(&self, chat_id: &str) {
        self.database.record(WriteOp::ForgetChat {
            chat_id: chat_id.to_owned(),
        });
        let _ = self.address.cast(Message::Forgotten(chat_id.to_owned()));
    }
}

/// The child spec for the tree, and the handle for everyone else.
pub(crate) fn child(
    database: Database,
    settings: watch::Receiver<Arc<Settings>>,
) -> (ChildSpec, Sessions) {
    let leases = Leases::default();
    let arguments = (database.clone(), settings, leases.clone());
    let (spec, address) =
        ChildSpec::new::<SessionsActor>("qwen-sessions", SESSIONS_MAILBOX, arguments);
    (
        spec,
        Sessions {
            address,
            database,
            leases,
        },
    )
}

pub(crate) enum Message {
    Active(Reply<i64>),
    Find(Vec<Prefix>, Patience, Reply<Sought>),
    Answered(KnownTurn),
    Forgotten(String),
    Ended,
}

impl ActorMessage for Message {
    fn name(&self) -> &'static str {
        match self {
            Self::Active(_) => "active",
            Self::Find(..) => "find",
            Self::Answered(_) => "answered",
            Self::Forgotten(_) => "forgotten",
            Self::Ended => "ended",
        }
    }
}

struct SessionsActor;

pub(crate) struct State {
    known: Known,
    database: Database,
    settings: watch::Receiver<Arc<Settings>>,
    /// Answers since the last sweep, and when that was; none since the start.
    answers: u32,
    swept: Option<Instant>,
}

/// Where histories go on, by their hashes.
struct Known {
    turns: HashMap<String, KnownTurn>,
    leases: Leases,
}

impl Behaviour for SessionsActor {
    type Message = Message;
    type State = State;
    type Arguments = (Database, watch::Receiver<Arc<Settings>>, Leases);

    async fn start(
        (database, settings, leases): Self::Arguments,
        _: Own<Message>,
    ) -> Result<State, Fatal> {
        let now = now_ms();
        let turns = database
            .read(move |conn| sessions::turns(conn, now, MOST_TURNS))
            .await?;
        let turns = turns
            .into_iter()
            .map(|turn| (turn.hash.clone(), turn))
            .collect();
        Ok(State {
            known: Known { turns, leases },
            database,
            settings,
            answers: 0,
            swept: None,
        })
    }

    async fn handle(message: Message, state: &mut State) -> Result<(), Fatal> {
        match message {
            Message::Active(reply) => drop(reply.send(state.known.active(now_ms()))),
            Message::Find(prefixes, patience, reply) => {
                drop(reply.send(state.known.find(&prefixes, patience, now_ms())));
            }
            Message::Answered(turn) => {
                state.known.answered(turn, now_ms());
                state.sweep(now_ms());
            }
            Message::Ended => state.known.turns.clear(),
            Message::Forgotten(chat_id) => state.known.forget(&chat_id),
        }
        Ok(())
    }
}

impl State {
    /// Neither the memory nor the table keeps what has expired.
    fn sweep(&mut self, now_ms: i64) {
        self.answers += 1;
        let interval = self.settings.borrow().millis(settings::SESSION_CLEANUP);
        if !is_due(self.answers, self.swept.map(|at| at.elapsed()), interval) {
            return;
        }
        self.answers = 0;
        self.swept = Some(Instant::now());
        self.known.turns.retain(|_, turn| turn.expires_at > now_ms);
        self.database.record(WriteOp::PruneTurns { before: now_ms });
    }
}

/// Whether it is time for a sweep, after so many answers and so long since the last one.
fn is_due(answers: u32, since: Option<Duration>, interval: Duration) -> bool {
    answers >= SWEEP || since.is_none_or(|since| since >= interval)
}

impl Known {
    fn active(&self, now_ms: i64) -> i64 {
        let active = self.turns.values().filter(|turn| turn.expires_at > now_ms);
        let sessions: HashSet<&str> = active.map(|turn| turn.session_id.as_str()).collect();
        i64::try_from(sessions.len()).unwrap_or(i64::MAX)
    }

    fn find(&self, prefixes: &[Prefix], patience: Patience, now_ms: i64) -> Sought {
        for prefix in prefixes {
            let known = self.turns.get(&prefix.hash);
            let Some(turn) = known.filter(|turn| turn.expires_at > now_ms) else {
                continue;
            };
            match self.leases.take(&turn.chat_id, &prefix.question) {
                Ok(lease) => {
                    return Sought::Found(Found {
                        session_id: turn.session_id.clone(),
                        login: turn.login.clone(),
                        chat_id: turn.chat_id.clone(),
                        parent_id: turn.parent_id.clone(),
                        known: prefix.messages,
                        lease,
                    });
                }
                Err(Taken::Briefly) if patience == Patience::Wait => return Sought::Soon,
                // A chat answers one request at a time: the second gets a chat of its own.
                Err(_) => {}
            }
        }
        Sought::Nowhere
    }

    fn forget(&mut self, chat_id: &str) {
        self.turns.retain(|_, turn| turn.chat_id != chat_id);
    }

    fn answered(&mut self, turn: KnownTurn, now_ms: i64) {
        // The whole conversation lives on with its newest answer.
        for known in self
            .turns
            .values_mut()
            .filter(|known| known.session_id == turn.session_id)
        {
            known.expires_at = turn.expires_at;
        }
        self.turns.insert(turn.hash.clone(), turn);
        if u32::try_from(self.turns.len()).is_ok_and(|count| count > MOST_TURNS) {
            self.turns.retain(|_, turn| turn.expires_at > now_ms);
            let excess = self
                .turns
                .len()
                .saturating_sub(MOST_TURNS as usize * 9 / 10);
            let mut oldest: Vec<_> = self
                .turns
                .values()
                .map(|turn| (turn.expires_at, turn.hash.clone()))
                .collect();
            oldest.sort_unstable();
            for (_, hash) in oldest.into_iter().take(excess) {
                self.turns.remove(&hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(hash: &str, chat: &str, expires_at: i64) -> KnownTurn {
        KnownTurn {
            hash: hash.into(),
            session_id: format!("session of {chat}"),
            login: "l".into(),
            chat_id: chat.into(),
            parent_id: format!("after {hash}"),
            expires_at,
        }
    }

    fn prefixes(hashes: &[&str]) -> Vec<Prefix> {
        let count = hashes.len();
        hashes
            .iter()
            .enumerate()
            .map(|(at, hash)| Prefix {
                messages: 2 * (count - at),
                hash: (*hash).into(),
                question: "q".into(),
            })
            .collect()
    }

    #[test]
    fn expired_turns_are_swept_out_by_time_or_by_number() {
        let (minute, second) = (Duration::from_mins(1), Duration::from_secs(1));
        assert!(is_due(1, None, minute), "what the last run left");
        assert!(!is_due(1, Some(second), minute));
        assert!(is_due(1, Some(minute), minute));
        assert!(is_due(SWEEP, Some(second), minute));
    }

    #[test]
    fn the_longest_known_prefix_of_a_free_chat_is_found() {
        let mut state = Known {
            turns: HashMap::new(),
            leases: Leases::default(),
        };
        state.answered(turn("a", "c1", 10), 1);
        state.answered(turn("b", "c1", 10), 1);
        let find = |state: &Known, prefixes: &[Prefix], now| match state.find(
            prefixes,
            Patience::Wait,
            now,
        ) {
            Sought::Found(found) => Ok(found),
            other => Err(format!("{other:?}")),
        };
        let found = find(&state, &prefixes(&["x", "b", "a"]), 5).expect("b is known");
        assert_eq!((found.known, found.parent_id.as_str()), (4, "after b"));
        let mut others = prefixes(&["b", "a"]);
        assert_eq!(find(&state, &others, 5).unwrap_err(), "Soon", "asked again");
        let passed = state.find(&others, Patience::PassOver, 5);
        assert!(matches!(passed, Sought::Nowhere), "long enough");
        for prefix in &mut others {
            prefix.question = "another".into();
        }
        let in_use = find(&state, &others, 5).unwrap_err();
        assert_eq!(in_use, "Nowhere", "the chat is in use");
        found.lease.leave();
        assert_eq!(find(&state, &others, 5).unwrap_err(), "Soon", "being left");
        drop(found);
        assert!(find(&state, &others, 5).is_ok());
        let expired = find(&state, &prefixes(&["b"]), 10).unwrap_err();
        assert_eq!(expired, "Nowhere");
        assert_eq!((state.active(5), state.active(10)), (1, 0));
    }
}
