//! Retention: removes what the history has outlived, sums the days that are over, and gives the exchanges words that have none
//! in the index.
//!
//! Owns: when that is done next, and the pass under way. Durable: nothing; the rules are settings, and what is outlived
//! is looked up at each pass. A crash loses: a pass, made again by the next incarnation; whoever waited for one asks
//! again. Never waits for: the database, a task reports back.
//!
//! One piece after the other ([`Pace`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::actors::address::{Address, Message as ActorMessage, Reply};
use crate::actors::behaviour::{Behaviour, Fatal, Own};
use crate::actors::database::{Database, StoreError};
use crate::actors::events::Events;
use crate::actors::pace::{self, Pace};
use crate::actors::supervisor::ChildSpec;
use crate::clock::now_ms;
use crate::db::cache::Bounds;
use crate::db::days::{self, DAY_MS};
use crate::db::history::words;
use crate::db::ops::{WriteOp, Written};
use crate::db::retention::{self, Counts, Outlived, Plan, Rules};
use crate::db::upkeep::{self, FileSize, Upkeep};
use crate::limits::upkeep::{
    BETWEEN, PIECE, READ_DEADLINE, RETENTION_MAILBOX, RUN_DEADLINE, TELLING,
};
use crate::settings::{self, Settings};
use crate::tasks::{Owned, Tasks};

/// Bytes of texts whose words are added at once: 1 ms, and more when the index merges its parts, which it does in proportion.
const WORDS: usize = 6 << 10;
/// Free pages below this stay: the next rows need them.
const SLACK: i64 = 1 << 20;
const MIB: i64 = 1 << 20;
/// The index of words is written anew when one exchange left it for so many that are in it, at the latest and at the earliest.
/// In between, when passing over those that left takes a piece: nothing can come between.
const LEFT_FOR: i64 = 4;
const LEFT_FOR_AT_LEAST: i64 = 64;
/// Fewer are not worth it.
const LEAST_GONE: i64 = 256;
/// Pages of the index in one piece: its words are of unequal length, so that many short ones say little about what comes.
const MOST_PAGES: u32 = 60;

/// What a pass removed, or would remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RetentionReport)]
pub(crate) struct Report {
    pub(crate) deleted: Counts,
    /// Exchanges that can be searched for from now on.
    pub(crate) indexed: i64,
    pub(crate) file: FileSize,
}

/// How the rest of the gateway asks for a pass.
#[derive(Clone)]
pub(crate) struct Retention {
    address: Address<Message>,
    database: Database,
    settings: watch::Receiver<Arc<Settings>>,
}

impl Retention {
    /// Makes a pass now, after the one under way.
    pub(crate) async fn run(&self) -> Result<Report, StoreError> {
        self.address
            .call(RUN_DEADLINE, |reply| Message::Run(Some(reply)))
            .await?
    }

    /// What a pass would remove now. What goes by the file's size is a guess.
    pub(crate) async fn preview(&self) -> Result<Report, StoreError> {
        let rules = rules(&self.settings.borrow());
        let plan = plan(&self.database, rules).await?;
        Ok(Report {
            deleted: plan.counts(),
            indexed: 0,
            file: plan.file,
        })
    }

    /// There may be something to do.
    pub(crate) fn nudge(&self) {
        let _ = self.address.cast(Message::Run(None));
    }
}

/// What each incarnation is made from.
#[derive(Clone)]
pub(crate) struct Arguments {
    pub(crate) database: Database,
    pub(crate) events: Events,
    pub(crate) settings: watch::Receiver<Arc<Settings>>,
    pub(crate) tasks: Tasks,
}

/// The child spec for the tree, and the handle for everyone else.
pub(crate) fn child(arguments: Arguments) -> (ChildSpec, Retention) {
    let (database, settings) = (arguments.database.clone(), arguments.settings.clone());
    let (spec, address) =
        ChildSpec::new::<RetentionActor>("retention", RETENTION_MAILBOX, arguments);
    let handle = Retention {
        address,
        database,
        settings,
    };
    (spec, handle)
}

type Waiting = Option<Reply<Result<Report, StoreError>>>;

pub(crate) enum Message {
    Run(Waiting),
    /// The pass of our task ended.
    Ended,
}

impl ActorMessage for Message {
    fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Ended => "ended",
        }
    }
}

struct RetentionActor;

pub(crate) struct State {
    arguments: Arguments,
    own: Own<Message>,
    /// Ends with the incarnation, as the clock does.
    pass: Option<Owned>,
    queue: VecDeque<Waiting>,
    gone: Arc<Gone>,
    _clock: Owned,
}

impl Behaviour for RetentionActor {
    type Message = Message;
    type State = State;
    type Arguments = Arguments;

    async fn start(arguments: Arguments, own: Own<Message>) -> Result<State, Fatal> {
        let ticking = tick(arguments.settings.clone(), own.clone());
        let clock = arguments.tasks.spawn_owned("retention clock", ticking);
        Ok(State {
            arguments,
            own,
            pass: None,
            queue: VecDeque::new(),
            gone: Arc::default(),
            _clock: clock,
        })
    }

    async fn handle(message: Message, state: &mut State) -> Result<(), Fatal> {
        match message {
            Message::Run(waiting) => state.ask(waiting),
            Message::Ended => {
                state.pass = None;
                state.next();
            }
        }
        Ok(())
    }
}

impl State {
    fn ask(&mut self, waiting: Waiting) {
        // A pass that waits already will see whatever made somebody ask.
        if waiting.is_some() || self.queue.is_empty() {
            self.queue.push_back(waiting);
        }
        self.next();
    }

    fn next(&mut self) {
        if self.pass.is_some() {
            return;
        }
        let Some(waiting) = self.queue.pop_front() else {
            return;
        };
        let (database, own) = (self.arguments.database.clone(), self.own.clone());
        let telling = Telling::new(self.arguments.events.clone());
        let settings = self.arguments.settings.borrow().clone();
        let gone = self.gone.clone();
        let pass = async move {
            let outcome = pass(&database, &settings, &gone, telling).await;
            match &outcome {
                Ok(report) if report.deleted != Counts::default() => {
                    tracing::info!(?report.deleted, "retention removed what was outlived");
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "retention could not be carried out"),
            }
            if let Some(reply) = waiting {
                let _ = reply.send(outcome);
            }
            own.tell(Message::Ended);
        };
        self.pass = Some(self.arguments.tasks.spawn_owned("retention pass", pass));
    }
}

/// Asks for a pass at once, every hour, and when a rule was changed.
async fn tick(mut settings: watch::Receiver<Arc<Settings>>, own: Own<Message>) {
    let mut known = None;
    loop {
        let now = wishes(&settings.borrow_and_update());
        if known.replace(now) != Some(now) {
            own.tell(Message::Run(None));
        }
        tokio::select! {
            () = tokio::time::sleep(BETWEEN) => own.tell(Message::Run(None)),
            changed = settings.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

fn rules(settings: &Settings) -> Rules {
    Rules {
        days: settings.integer(settings::RETENTION_DAYS),
        requests: settings.integer(settings::RETENTION_MAX_REQUESTS),
        bytes: settings.integer(settings::RETENTION_MAX_SIZE) * MIB,
        bodies_days: settings.integer(settings::RETENTION_BODIES_DAYS),
        audit_days: settings.integer(settings::RETENTION_AUDIT_DAYS),
        cache: bounds(settings),
    }
}

/// How much the response cache may hold.
pub(crate) fn bounds(settings: &Settings) -> Bounds {
    Bounds {
        entries: settings.integer(settings::CACHE_MAX_ENTRIES),
        bytes: settings.integer(settings::CACHE_MAX_BYTES),
    }
}

fn wishes(settings: &Settings) -> (Rules, bool) {
    (rules(settings), settings.flag(settings::HISTORY_SEARCH))
}

async fn plan(database: &Database, rules: Rules) -> Result<Plan, StoreError> {
    let now = now_ms();
    database
        .read_within(READ_DEADLINE, move |conn| {
            retention::plan(conn, &rules, now)
        })
        .await
}

/// First the sums of days, then what goes, then the words of what stays.
async fn pass(
    database: &Database,
    settings: &Settings,
    gone: &Gone,
    mut telling: Telling,
) -> Result<Report, StoreError> {
    let (rules, is_searched) = wishes(settings);
    let mut report = Report::default();
    close_days(database).await?;
    let mut index = Index::new(database, gone).await?;
    let outlived = plan(database, rules).await?.outlived;
    telling.total = outlived.iter().map(|(_, count)| count).sum();
    for (what, _) in outlived {
        *report.deleted.of(what) += remove(database, what, &mut index, &mut telling).await?;
    }
    report.deleted.requests += keep_size(database, rules, &mut index).await?;
    shrink(database).await?;
    if is_searched {
        report.indexed = add_words(database).await?;
    }
    report.file = database
        .read_within(READ_DEADLINE, upkeep::file_size)
        .await?;
    Ok(report)
}

/// Removes all of what is meant.
async fn remove(
    database: &Database,
    what: Outlived,
    index: &mut Index<'_>,
    telling: &mut Telling,
) -> Result<i64, StoreError> {
    let mut pace = Pace::new();
    let mut removed = 0;
    loop {
        let some = remove_piece(database, what, &mut pace).await?;
        if some == 0 {
            return Ok(removed);
        }
        removed += some;
        telling.removed(some);
        if matches!(what, Outlived::Requests { .. } | Outlived::Bodies { .. }) {
            index.lost(some).await?;
        }
    }
}

async fn remove_piece(
    database: &Database,
    what: Outlived,
    pace: &mut Pace,
) -> Result<i64, StoreError> {
    let most = pace.size;
    let (written, took) = database.tend(WriteOp::Retain { what, most }).await?;
    pace.rest(database, took).await;
    Ok(rows(written))
}

/// Removes the oldest exchanges while the file holds too much.
async fn keep_size(
    database: &Database,
    rules: Rules,
    index: &mut Index<'_>,
) -> Result<i64, StoreError> {
    let mut pace = Pace::new();
    let mut removed = 0;
    loop {
        let file = database
            .read_within(READ_DEADLINE, upkeep::file_size)
            .await?;
        if retention::excess(&file, &rules) == 0 {
            return Ok(removed);
        }
        let some = remove_piece(database, Outlived::oldest(), &mut pace).await?;
        if some == 0 {
            // It is something else that takes the space.
            return Ok(removed);
        }
        removed += some;
        index.lost(some).await?;
    }
}

/// Says how far a pass is, now and then.
struct Telling {
    events: Events,
    done: i64,
    total: i64,
    told: Option<Instant>,
}

impl Telling {
    fn new(events: Events) -> Self {
        Self {
            events,
            done: 0,
            total: 0,
            told: None,
        }
    }

    fn removed(&mut self, rows: i64) {
        self.done += rows;
        if self.told.is_some_and(|at| at.elapsed() < TELLING) {
            return;
        }
        self.told = Some(Instant::now());
        // Rows that came since may have gone, too.
        let detail = json!({"done": self.done, "total": self.total.max(self.done)});
        let description = "what is outlived is being removed".into();
        self.events
            .mention("retention:progress", "progress", description, detail);
    }
}

/// Exchanges that left the index of words since it was last written anew.
#[derive(Default)]
struct Gone {
    count: AtomicI64,
    /// How many it takes a piece to pass over; 0 while that is not known.
    fitting: AtomicI64,
}

/// The index of words while exchanges leave it: what left takes space, and can be read in the file, until it is written
/// anew.
struct Index<'a> {
    database: &'a Database,
    gone: &'a Gone,
    /// How many may be gone.
    most: i64,
}

impl<'a> Index<'a> {
    async fn new(database: &'a Database, gone: &'a Gone) -> Result<Self, StoreError> {
        let mut index = Self {
            database,
            gone,
            most: 0,
        };
        index.look().await?;
        Ok(index)
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let left = self
            .database
            .read_within(READ_DEADLINE, upkeep::with_words)
            .await?;
        self.most = most_gone(left, self.gone.fitting.load(Ordering::Relaxed));
        Ok(())
    }

    async fn lost(&mut self, count: i64) -> Result<(), StoreError> {
        let gone = self.gone.count.fetch_add(count, Ordering::Relaxed) + count;
        if gone < self.most {
            return Ok(());
        }
        let mut pace = Pace::new();
        // The oldest words are the first, so this passes over most of what left.
        let mut tended = self.database.upkeep(Upkeep::RewriteWords).await?;
        self.gone
            .fitting
            .store(fitting(gone, tended.took), Ordering::Relaxed);
        pace.rest(self.database, tended.took).await;
        while tended.left.is_some() {
            let pages = pace.size.min(MOST_PAGES);
            tended = self.database.upkeep(Upkeep::GoOn { pages }).await?;
            pace.rest(self.database, tended.took).await;
        }
        self.gone.count.store(0, Ordering::Relaxed);
        self.look().await
    }
}

/// How many exchanges may be gone from the index that `left` are in.
fn most_gone(left: i64, fitting: i64) -> i64 {
    fitting
        .clamp(left / LEFT_FOR_AT_LEAST, left / LEFT_FOR)
        .max(LEAST_GONE)
}

/// How many fit into a piece, when passing over `gone` took so long.
fn fitting(gone: i64, took: Duration) -> i64 {
    let micros = |time: Duration| i128::try_from(time.as_micros()).unwrap_or(i128::MAX);
    let fitting = i128::from(gone).saturating_mul(micros(PIECE)) / micros(took).max(1);
    i64::try_from(fitting).unwrap_or(i64::MAX)
}

/// Gives free pages back to the disk, when it is worth it.
async fn shrink(database: &Database) -> Result<(), StoreError> {
    let mut free = database
        .read_within(READ_DEADLINE, upkeep::file_size)
        .await?
        .free_bytes;
    if free < SLACK {
        return Ok(());
    }
    let mut pace = Pace::new();
    loop {
        let tended = database.upkeep(Upkeep::Shrink { pages: pace.size }).await?;
        match tended.left {
            Some(left) if left > 0 && left < free => free = left,
            _ => return Ok(()),
        }
        pace.rest(database, tended.took).await;
    }
}

/// Stores the sums of days that are over and have none.
async fn close_days(database: &Database) -> Result<(), StoreError> {
    let mut after = i64::MIN;
    loop {
        let now = now_ms();
        let next = move |conn: &_| days::next_over(conn, after, now);
        let Some(closed) = database.read_within(READ_DEADLINE, next).await? else {
            return Ok(());
        };
        // Once each: a day for which something was counted meanwhile is left to the next pass.
        after = closed.day + DAY_MS;
        let (_, took) = database.tend(WriteOp::CloseDay(Box::new(closed))).await?;
        pace::rest(database, took).await;
    }
}

/// Adds the words of exchanges that came from elsewhere, were interrupted, or ended while the search was off.
async fn add_words(database: &Database) -> Result<i64, StoreError> {
    let (mut after, mut added) = (0, 0);
    loop {
        let missing = database
            .read_within(READ_DEADLINE, move |conn| {
                words::without(conn, after, WORDS)
            })
            .await?;
        let Some(last) = missing.last() else {
            return Ok(added);
        };
        after = last.id;
        let (written, took) = database.tend(WriteOp::AddWords(missing)).await?;
        added += rows(written);
        pace::rest(database, took).await;
    }
}

fn rows(written: Written) -> i64 {
    match written {
        Written::Rows(count) => i64::try_from(count).unwrap_or(i64::MAX),
        Written::Done | Written::Offered { .. } | Written::Imported(_) | Written::Removed(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_written_anew_before_what_left_takes_long_to_pass() {
        for (left, fitting, most) in [
            (0, 0, LEAST_GONE),
            (1_000_000, 0, 15_625),
            (1_000_000, 40_000, 40_000),
            (1_000_000, i64::MAX, 250_000),
            (2_000, i64::MAX, 500),
        ] {
            assert_eq!(most_gone(left, fitting), most, "{left} {fitting}");
        }
        assert_eq!(fitting(1_000, PIECE * 2), 500);
        assert_eq!(fitting(1_000, PIECE / 3), 3_000);
        assert!(fitting(i64::MAX, Duration::ZERO) > 0);
    }
}
