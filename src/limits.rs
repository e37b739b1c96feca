//! Every deadline, pause and bound that is fixed, in one place. What a user may want to change is a setting (`settings`).
//!
//! Knows nobody. A test (`layers::deadlines_are_defined_in_one_place`) finds durations that are written anywhere else.

/// The tree of actors.
pub(crate) mod supervision {
    use std::time::Duration;

    /// More than [`RESTARTS`] within this is a meltdown (R12).
    pub(crate) const RESTART_PERIOD: Duration = Duration::from_secs(30);
    /// See [`RESTART_PERIOD`].
    pub(crate) const RESTARTS: usize = 5;
    /// How long a child may take to stop, unless its spec says otherwise.
    pub(crate) const CHILD_GRACE: Duration = Duration::from_secs(2);
    /// Pause after the first meltdown; doubles.
    pub(crate) const MELTDOWN_FIRST: Duration = Duration::from_millis(100);
    /// Longest pause between two tries of a child that keeps failing.
    pub(crate) const MELTDOWN_LONGEST: Duration = Duration::from_secs(30);
    /// Pause before the second restart of a series; doubles.
    pub(crate) const BACKOFF_FIRST: Duration = Duration::from_millis(10);
    /// How long a child may take to start.
    pub(crate) const START_DEADLINE: Duration = Duration::from_secs(15);
    /// How long the view of the tree may take.
    pub(crate) const VIEW_DEADLINE: Duration = Duration::from_secs(2);
    /// Longer than a child's grace and the start of its next incarnation.
    pub(crate) const RESTART_DEADLINE: Duration = Duration::from_secs(8);
    /// How long the whole tree may take to stop.
    pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(20);
    /// Mailbox of the root.
    pub(crate) const ROOT_MAILBOX: usize = 1_024;
    /// Binding two sockets takes well under a millisecond; this covers a restart meanwhile.
    pub(crate) const GATEWAY_START: Duration = Duration::from_secs(5);
    /// What a stop may take beyond its grace: the farewell of what was aborted, and ending the listeners.
    pub(crate) const STOP_MARGIN: Duration = Duration::from_secs(4);
    /// Mailbox of the gateway.
    pub(crate) const GATEWAY_MAILBOX: usize = 1_024;
}

/// The start and the end of the process.
pub(crate) mod lifecycle {
    use std::time::Duration;

    /// How long the check of the file may take before it counts as undecided.
    pub(crate) const CHECK_DEADLINE: Duration = Duration::from_mins(10);
    /// How long requests to management may take to finish at the end.
    pub(crate) const MANAGEMENT_GRACE: Duration = Duration::from_millis(500);
    /// As long as one write may take.
    pub(crate) const CHANGES_GRACE: Duration = Duration::from_secs(5);
    /// How long a backup under way may take to be given up.
    pub(crate) const BACKUP_GRACE: Duration = Duration::from_secs(1);
    /// How long what is queued for the database may take to be written.
    pub(crate) const FLUSH_DEADLINE: Duration = Duration::from_secs(5);
    /// How long tasks that were told to end may take.
    pub(crate) const TASKS_GRACE: Duration = Duration::from_secs(5);
    /// A locked keyring may ask its user, who may not be there.
    pub(crate) const KEYRING_PATIENCE: Duration = Duration::from_secs(5);
}

/// What whoever connects may take: connections, heads, bodies.
pub(crate) mod connections {
    use std::time::Duration;

    /// Connections the kernel may hold for us while a listener restarts.
    pub(crate) const BACKLOG: u32 = 1_024;
    /// How long requests that were told to end may take to say so to their clients.
    pub(crate) const FAREWELL: Duration = Duration::from_secs(1);
    /// How long a port may take to answer us before it counts as silent.
    pub(crate) const PROBE_DEADLINE: Duration = Duration::from_millis(500);
    /// How long a connection that is one too many is told so.
    pub(crate) const TURNING_AWAY: Duration = Duration::from_secs(1);
    /// So many are told at once; others are closed without a word.
    pub(crate) const MOST_TURNED_AWAY: usize = 64;
    /// Connections to management at once.
    pub(crate) const MOST_MANAGERS: usize = 1_024;
    /// Connections of clients at once, however few descriptors there are.
    pub(crate) const LEAST_CONNECTIONS: usize = 8;
    /// Descriptors that connections of clients leave to everything else: management, the database, logs.
    pub(crate) const DESCRIPTORS_KEPT: usize = 96;
    /// Between two warnings that a connection could not be accepted.
    pub(crate) const ACCEPT_WARNED: Duration = Duration::from_secs(5);
    /// Connections all ports for clients hold at once; more are told to come again.
    pub(crate) const MOST_CONNECTIONS: usize = 16_384;
    /// Pause after a failed accept: out of file descriptors passes when connections end, and must not spin.
    pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
    /// Mailbox of a listener.
    pub(crate) const LISTENER_MAILBOX: usize = 16;
    /// How long a name may take to be looked up.
    pub(crate) const LOOK_UP: Duration = Duration::from_secs(5);
    /// How long a connection may idle between two requests: hyper starts this clock when the connection becomes idle. A head
    /// that has begun has its own, shorter one.
    pub(crate) const IDLE_DEADLINE: Duration = Duration::from_secs(75);
    /// How long the head of a request may take, from its first byte to its last.
    pub(crate) const HEAD_DEADLINE: Duration = Duration::from_secs(10);
    /// Longer ids than this are not echoed.
    pub(crate) const LONGEST_ID: usize = 128;
    /// Bytes of the longest path and query.
    pub(crate) const LONGEST_TARGET: usize = 8 << 10;
    /// Headers of one request.
    pub(crate) const MOST_HEADERS: usize = 100;
    /// Bytes of all headers of one request.
    pub(crate) const LONGEST_HEADERS: usize = 64 << 10;
    /// Longest management body (S15).
    pub(crate) const MANAGEMENT_LIMIT: usize = 1 << 20;
    /// Bytes up to which a body that came in one piece is copied out of the buffer it came in.
    pub(crate) const COPIED: usize = 4 << 10;
    /// Bytes the kernel may hold of what a client has not taken; it grants twice as many. Its own bound is megabytes.
    pub(crate) const SEND_BUFFER: u32 = 64 << 10;
    /// Requests to management that are served at once.
    pub(crate) const MOST_MANAGING: usize = 256;
    /// How long a body may take as a whole: one that comes byte by byte never stalls.
    pub(crate) const BODY_DEADLINE: Duration = Duration::from_mins(5);
    /// How long a body may stall between two reads (R28).
    pub(crate) const BODY_STALL: Duration = Duration::from_secs(30);
    /// What is read and thrown away of a body that is too long, so that a client that is still sending gets to read why.
    pub(crate) const DISCARDED: usize = 128 << 20;
    /// How long that may take.
    pub(crate) const DISCARD_DEADLINE: Duration = Duration::from_secs(10);
    /// When a passing error says nothing of its own about when to come back.
    pub(crate) const SOON: Duration = Duration::from_secs(1);
    /// Longer than that a client should not be kept waiting for its turn.
    pub(crate) const LONGEST_WAIT: Duration = Duration::from_mins(1);
}

/// Who may ask.
pub(crate) mod access {
    use std::time::Duration;

    /// Wrong tokens, or keys, of one peer within [`WINDOW`].
    pub(crate) const MOST_FAILURES: usize = 10;
    /// How long wrong tokens count.
    pub(crate) const WINDOW: Duration = Duration::from_mins(1);
    /// Peers whose failures are remembered; beyond it the oldest are forgotten.
    pub(crate) const MOST_PEERS: usize = 1_024;
    /// How long a browser stays logged in.
    pub(crate) const LOGIN_LASTS: Duration = Duration::from_hours(12);
    /// Logins of browsers at once.
    pub(crate) const MOST_LOGINS: usize = 64;
}

/// The management API.
pub(crate) mod management {
    use std::time::Duration;

    /// Silence after which a listener to events gets a comment.
    pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);
    /// How long a test may take as a whole; also what a chat test grants each of an upstream's steps.
    pub(crate) const TEST_DEADLINE: Duration = Duration::from_secs(30);
    /// How long a provider may take to list its models.
    pub(crate) const SYNC_DEADLINE: Duration = Duration::from_secs(30);
    /// Between two tellings of how far it is.
    pub(crate) const TELLING: Duration = Duration::from_millis(200);
    /// How long a part may take to answer before we do not count as ready.
    pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(2);
}

/// The log.
pub(crate) mod logs {
    use std::time::Duration;

    /// Lines that may wait for a sink that takes none; more are dropped and counted (R32).
    pub(crate) const LINES_WAITING: usize = 4_096;
    /// How long the last lines may take at the end.
    pub(crate) const FLUSH: Duration = Duration::from_secs(1);
}

/// Work beside serving: backups, retention.
pub(crate) mod upkeep {
    use std::time::Duration;

    /// Upkeep that holds the database for longer is counted: nobody should wait so long for it.
    pub(crate) const LONG_PIECE: Duration = Duration::from_millis(20);
    /// Between two tellings of how far it is.
    pub(crate) const TELLING: Duration = Duration::from_millis(200);
    /// The clock is looked at again after this at the latest: it may be set, and this machine may sleep.
    pub(crate) const LOOKED: Duration = Duration::from_mins(10);
    /// Mailbox of the retention actor.
    pub(crate) const RETENTION_MAILBOX: usize = 64;
    /// How long a caller waits for a pass: a first one over a long history takes minutes.
    pub(crate) const RUN_DEADLINE: Duration = Duration::from_mins(10);
    /// How long a pass may read at once: counting what goes takes seconds of a million exchanges on a busy machine, and a pass that
    /// failed of it would at the next hour too.
    pub(crate) const READ_DEADLINE: Duration = Duration::from_mins(1);
    /// Between two passes of retention.
    pub(crate) const BETWEEN: Duration = Duration::from_hours(1);
    /// How long one piece should hold the writer, its commit apart; a fifth of what it may.
    pub(crate) const PIECE: Duration = Duration::from_millis(4);
    /// The longest pause between two pieces.
    pub(crate) const MOST_PAUSE: Duration = Duration::from_secs(1);
    /// The shortest pause between two pieces.
    pub(crate) const LEAST_PAUSE: Duration = Duration::from_millis(2);
}

/// The way to the database.
pub(crate) mod database {
    use std::time::Duration;

    /// How long a caller waits for its write: longer than a restart, as long as a foreign lock is sat out (R3).
    pub(crate) const WRITE_DEADLINE: Duration = Duration::from_secs(5);
    /// The write-ahead log is folded in at the stop: megabytes, on a disk that may be busy.
    pub(crate) const STOP_GRACE: Duration = Duration::from_secs(8);
    /// How long a caller waits for what it reads.
    pub(crate) const READ_DEADLINE: Duration = Duration::from_secs(5);
    /// Pause after a transaction the database refused as a whole (full, locked): healing shows within it (R6).
    pub(crate) const REFUSED_PAUSE: Duration = Duration::from_millis(250);
    /// Mailbox of the database actor.
    pub(crate) const MAILBOX: usize = 4096;
    /// Rows of history that may wait (reliability contract, R4).
    pub(crate) const MOST_ROWS: usize = 10_000;
    /// Bytes of history that may wait (R4).
    pub(crate) const MOST_BYTES: usize = 64 << 20;
    /// Rows and bytes of one transaction: long enough to make commits cheap, short enough to answer soon.
    pub(crate) const BATCH_ROWS: usize = 512;
    /// And so many bytes.
    pub(crate) const BATCH_BYTES: usize = 8 << 20;
    /// How often the file is looked at: what became of it is noticed within 5 s (R5).
    pub(crate) const LOOKS: Duration = Duration::from_secs(2);
    /// How often health is told how far it is.
    pub(crate) const SALVAGE_TOLD: Duration = Duration::from_secs(1);
    /// Pause before it is tried again, when the database takes nothing.
    pub(crate) const SALVAGE_AGAIN: Duration = Duration::from_secs(1);
}

/// Events, conversations, logins, keys.
pub(crate) mod actors {
    use std::time::Duration;

    /// Events that can be replayed.
    pub(crate) const EVENTS_KEPT: usize = 1_000;
    /// Events a slow listener may be behind before it loses the oldest.
    pub(crate) const EVENTS_BEHIND: usize = 1_000;
    /// Mailbox of the events actor.
    pub(crate) const EVENTS_MAILBOX: usize = 10_000;
    /// How long the events actor may take to answer.
    pub(crate) const EVENTS_DEADLINE: Duration = Duration::from_secs(2);
    /// How long the sessions actor may take to answer.
    pub(crate) const SESSIONS_DEADLINE: Duration = Duration::from_secs(2);
    /// How long a chat is waited for that is about to be free. Longer than the site takes to be told to stop; then a chat of
    /// its own serves the request as well.
    pub(crate) const CHAT_FREE_SOON: Duration = Duration::from_secs(5);
    /// Mailbox of the sessions actor.
    pub(crate) const SESSIONS_MAILBOX: usize = 1_024;
    /// Turns held in memory; past it the expired ones go, then the oldest.
    pub(crate) const MOST_TURNS: u32 = 100_000;
    /// How long the credentials actor may take: longer than a restart, shorter than patience.
    pub(crate) const CREDENTIALS_DEADLINE: Duration = Duration::from_secs(4);
    /// Mailbox of the credentials actor.
    pub(crate) const CREDENTIALS_MAILBOX: usize = 1_024;
    /// The clock is looked at this often while a login can expire.
    pub(crate) const LOGINS_LOOKED: Duration = Duration::from_hours(1);
    /// A key's last use is stored at most this often.
    pub(crate) const USE_TOLD: Duration = Duration::from_mins(1);
    /// What a key's rate counts by.
    pub(crate) const RATE_PERIOD: Duration = Duration::from_mins(1);
}

/// Plans, breakers, retries, lists of models.
pub(crate) mod routing {
    use std::time::Duration;

    /// How long the router may take to plan.
    pub(crate) const PLAN_DEADLINE: Duration = Duration::from_secs(4);
    /// Mailbox of the router.
    pub(crate) const ROUTER_MAILBOX: usize = 8_192;
    /// How long an upstream may take to list its models; requests that wait for the list wait this long.
    pub(crate) const LIST_DEADLINE: Duration = Duration::from_secs(2);
    /// A list older than this is asked for anew when somebody lists models; the old one is served meanwhile.
    pub(crate) const LIST_FRESH: Duration = Duration::from_mins(1);
    /// An unknown model makes us ask again, but not more often than this.
    pub(crate) const LIST_RETRY: Duration = Duration::from_secs(5);
    /// Requests that may wait for lists at once.
    pub(crate) const MOST_WAITING: usize = 1_024;
    /// Names whose targets are kept; beyond it all are looked up anew.
    pub(crate) const MOST_ROUTES: usize = 4_096;
    /// Clients name models freely: beyond this many, those nobody uses are forgotten.
    pub(crate) const MOST_NODES: usize = 10_000;
    /// Before a provider that broke is asked for its models the first time; doubles.
    pub(crate) const PROBE_FIRST: Duration = Duration::from_secs(1);
    /// And at most.
    pub(crate) const PROBE_LONGEST: Duration = Duration::from_mins(1);
    /// Whom no request wanted for so long is left alone: an idle gateway connects nowhere (S14).
    pub(crate) const PROBE_WANTED: Duration = Duration::from_mins(2);
    /// A target that cannot serve this key or this model is not preferred again for so long.
    pub(crate) const UNFIT_AVOIDED: Duration = Duration::from_secs(30);
    /// One that has too much to do and does not say for how long.
    pub(crate) const RESTS: Duration = Duration::from_secs(1);
    /// How long others are preferred to who fails now and then.
    pub(crate) const UNRELIABLE_AVOIDED: Duration = Duration::from_secs(30);
    /// Who failed last, and no longer ago than this, is no good second choice.
    pub(crate) const SUSPECT: Duration = Duration::from_secs(30);
    /// What is older than this counts for a third.
    pub(crate) const LATENCY_MEMORY: Duration = Duration::from_secs(10);
    /// How long a breaker is open the first time; doubles.
    pub(crate) const OPEN_FIRST: Duration = Duration::from_secs(10);
    /// And at most.
    pub(crate) const OPEN_LONGEST: Duration = Duration::from_mins(5);
    /// Between two probes that are made before their time, at least.
    pub(crate) const HURRY: Duration = Duration::from_secs(1);
    /// Pause before the first retry at the same target; doubles, with jitter.
    pub(crate) const RETRY_FIRST: Duration = Duration::from_millis(250);
    /// And at most.
    pub(crate) const RETRY_LONGEST: Duration = Duration::from_secs(4);
    /// When nobody says when to come back.
    pub(crate) const SOON: Duration = Duration::from_secs(1);
    /// What a target's limits count by.
    pub(crate) const RATE_PERIOD: Duration = Duration::from_mins(1);
}

/// What an upstream may send, and how its connection is kept. How long it may be silent is a setting.
pub(crate) mod upstreams {
    use std::time::Duration;

    /// Most bytes of an error's body that are read.
    pub(crate) const ERROR_LIMIT: usize = 64 * 1024;
    /// How long an error's body may take.
    pub(crate) const ERROR_TIME: Duration = Duration::from_secs(5);
    /// No upstream is left alone for longer, whatever it asks for.
    pub(crate) const RETRY_AFTER_LIMIT: Duration = Duration::from_hours(24);
    /// Most bytes of a whole completion (S15).
    pub(crate) const WHOLE_LIMIT: usize = 64 * 1024 * 1024;
    /// Most bytes of a list of models.
    pub(crate) const MODELS_LIMIT: usize = 4 * 1024 * 1024;
    /// Bytes of the longest event of a Responses stream: the last one repeats all of it.
    pub(crate) const LONGEST_NATIVE_EVENT: usize = 64 << 20;
    /// How long an upstream may take to take a connection when its models are asked for.
    pub(crate) const LIST_CONNECT: Duration = Duration::from_secs(5);
    /// How long a connection that nobody uses is kept.
    pub(crate) const POOL_IDLE: Duration = Duration::from_mins(1);
    /// Silence on a connection after which the kernel asks whether the other side still lives.
    pub(crate) const TCP_KEEP_ALIVE: Duration = Duration::from_secs(30);
    /// A client is kept per scheme and connect deadline, which is a setting: few are ever in use.
    pub(crate) const CLIENTS_KEPT: usize = 16;
    /// Bytes of one answer that may wait unread in an HTTP/2 stream (R21).
    pub(crate) const STREAM_WINDOW: u32 = 64 * 1024;
    /// Most bytes of one event that are kept, unless the caller says otherwise.
    pub(crate) const EVENT_LIMIT: usize = 1024 * 1024;
    /// What an answer may weigh in memory when it is put together: text beside the bytes of calls and choices.
    pub(crate) const MOST_ASSEMBLED: usize = 16 << 20;
    /// Bytes of an answer that is put together and looked at.
    pub(crate) const MOST_STRUCTURED: usize = 16 << 20;
    /// Bytes of an answer that is passed on as it is.
    pub(crate) const MOST_PASSED: usize = 256 << 20;
    /// An answer of JSON is waited for as a whole up to so many bytes: then it can fail and be asked for elsewhere, and its
    /// usage be counted.
    pub(crate) const MOST_WHOLE: usize = 64 << 20;
    /// How long an upstream that sent its end marker may take to end the body, so that its connection can be used again.
    pub(crate) const TRAILER: Duration = Duration::from_millis(50);
}

/// Between an upstream and a client.
pub(crate) mod exchanges {
    use std::time::Duration;

    /// Events that wait for a slow client before its upstream is made to wait too (R21).
    pub(crate) const EVENTS_WAITING: usize = 32;
    /// And their bytes, but for one event that is longer.
    pub(crate) const BYTES_WAITING: usize = 32 << 10;
    /// What a lookup in the cache may take before it counts as a miss.
    pub(crate) const LOOKUP_PATIENCE: Duration = Duration::from_millis(100);
    /// Bytes of the largest answer that the cache keeps.
    pub(crate) const LARGEST_KEPT: usize = 1 << 20;
    /// Events and bytes before the first content; an upstream that sends more is taken at its word.
    pub(crate) const MOST_EVENTS: usize = 64;
    /// And their bytes.
    pub(crate) const MOST_BYTES: usize = 256 * 1024;
    /// The longest tool call that is held.
    pub(crate) const LONGEST_CALL: usize = 4 * 1024 * 1024;
}

/// The Qwen web chat.
pub(crate) mod qwen {
    use std::time::Duration;

    /// Most bytes of an answer that is no stream.
    pub(crate) const DOCUMENT_LIMIT: usize = 4 << 20;
    /// What a side call (stop, check) may take.
    pub(crate) const SIDE_DEADLINE: Duration = Duration::from_secs(5);
    /// What ending a generation may take: somebody waits for the answer behind it (annex A1).
    pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(2);
    /// How long a token may take to be renewed.
    pub(crate) const REFRESH_DEADLINE: Duration = Duration::from_secs(15);
    /// Bytes of an answer with a token.
    pub(crate) const TOKEN_LIMIT: usize = 64 << 10;
    /// How long a list of models is believed.
    pub(crate) const MODELS_FRESH: Duration = Duration::from_mins(30);
    /// How long the list of models may take.
    pub(crate) const MODELS_DEADLINE: Duration = Duration::from_secs(5);
    /// How long a site that did not tell its models is not asked again.
    pub(crate) const MODELS_PAUSE: Duration = Duration::from_secs(30);
    /// Most bytes of a whole answer.
    pub(crate) const WHOLE_LIMIT: usize = 64 << 20;
    /// How long nothing is told of an answer that goes on.
    pub(crate) const SILENCE: Duration = Duration::from_secs(5);
    /// Chunks that wait for a slow reader.
    pub(crate) const CHUNKS_WAITING: usize = 16;
    /// Tries to get an answer begun, over all logins and chats.
    pub(crate) const MOST_TRIES: usize = 8;
    /// Pauses before a chat that is still busy is asked again (annex A1); the first follows a stop call.
    pub(crate) const BUSY_PAUSES: [Duration; 4] = [
        Duration::ZERO,
        Duration::from_secs(1),
        Duration::from_secs(2),
        Duration::from_secs(4),
    ];
    /// How long a stored file is believed to be there.
    pub(crate) const UPLOADS_KEPT: Duration = Duration::from_mins(10);
    /// Files remembered.
    pub(crate) const MOST_UPLOADS: usize = 256;
    /// Pauses before the site is asked whether it has read a document.
    pub(crate) const PARSE_PAUSES: [Duration; 5] = [
        Duration::ZERO,
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_secs(2),
        Duration::from_secs(4),
    ];
    /// Most bytes of one file.
    pub(crate) const LARGEST_UPLOAD: usize = 20 << 20;
    /// Pauses before the site is asked whether an answer whose connection died is whole.
    pub(crate) const LOOK_PAUSES: [Duration; 3] = [
        Duration::ZERO,
        Duration::from_secs(1),
        Duration::from_secs(2),
    ];
    /// Bytes of a body that are kept until it shows itself to be a stream.
    pub(crate) const HEAD_LIMIT: usize = 256 << 10;
    /// How long a login rests that was answered with nothing: the site does not say.
    pub(crate) const THROTTLED: Duration = Duration::from_secs(30);
    /// How long an unused chat is believed to be there.
    pub(crate) const SPARES_KEPT: Duration = Duration::from_mins(10);
    /// When to come back where the site does not say, and it is not its fault.
    pub(crate) const SOON: Duration = Duration::from_secs(1);
    /// Kinds that a spare is kept for.
    pub(crate) const MOST_SPARES: usize = 16;
}

/// A browser that somebody logs in with.
pub(crate) mod browser {
    use std::time::Duration;

    /// People look for their password, and wait for a message with a code.
    pub(crate) const PATIENCE: Duration = Duration::from_mins(10);
    /// Between two looks whether somebody is logged in.
    pub(crate) const LOOKS: Duration = Duration::from_millis(500);
    /// A page that has logged somebody in sets the last of its cookies within this.
    pub(crate) const SETTLES: Duration = Duration::from_secs(2);
    /// A cold browser on a busy machine needs some seconds to start.
    pub(crate) const ANSWERS: Duration = Duration::from_mins(1);
    /// What a browser that was asked to end may take.
    pub(crate) const ENDS: Duration = Duration::from_secs(5);
}

/// The command line, which asks a gateway.
pub(crate) mod command_line {
    use std::time::Duration;

    /// Between two looks of `qwarden top`.
    pub(crate) const REFRESH: Duration = Duration::from_secs(1);
    /// A gateway that does not answer within this is shown as one that does not answer.
    pub(crate) const TOP_SOON: Duration = Duration::from_secs(2);
    /// A port of ours answers at once; one that says nothing for so long is not ours.
    pub(crate) const PORT_ANSWER: Duration = Duration::from_secs(3);
    /// Between two lines.
    pub(crate) const PROGRESS_PAUSE: Duration = Duration::from_millis(100);
    /// A gateway that gives no events in this time is asked without a bar.
    pub(crate) const PROGRESS_LISTEN: Duration = Duration::from_secs(1);
    /// What an answer may take beyond the time that requests are given to finish.
    pub(crate) const SWITCH_MARGIN: Duration = Duration::from_secs(30);
    /// A gateway of this machine takes a connection at once.
    pub(crate) const CONNECT: Duration = Duration::from_secs(2);
    /// Longer than anything the management API does on its own.
    pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
    /// Also what asks upstreams ends within this.
    pub(crate) const LONG: Duration = Duration::from_mins(5);
    /// Copies and imports of a large database.
    pub(crate) const VERY_LONG: Duration = Duration::from_hours(6);
    /// Nothing but the import is asked of a gateway that was started for it.
    pub(crate) const IMPORT_GRACE: Duration = Duration::from_secs(2);
    /// Between two tries to connect again.
    pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(250);
    /// And at most.
    pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
}
