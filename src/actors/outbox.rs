//! The writes that wait for the database: a bounded queue that no incarnation of the writer owns.
//!
//! The writer takes a batch by looking, and removes it only after the commit. So a write survives any crash of the
//! writer: the next incarnation finds it where it was. Every operation may run twice without harm.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, oneshot};

use crate::db::connections::Applied;
use crate::db::error::DbError;
use crate::db::ops::WriteOp;
use crate::limits::database::{BATCH_BYTES, BATCH_ROWS, MOST_BYTES, MOST_ROWS};
use crate::tasks::lock;

/// An operation that was in this many batches whose connection died is given up.
const MOST_DEATHS: u8 = 2;

/// The answer to one write.
pub(crate) type Acknowledged = oneshot::Receiver<Applied>;

/// See the module.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    /// Signalled whenever the queue became empty.
    emptied: Notify,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    /// How many items from the front are in a transaction now.
    taken: usize,
}

struct Item {
    op: Arc<WriteOp>,
    weight: usize,
    ack: Option<oneshot::Sender<Applied>>,
    deaths: u8,
}

impl Outbox {
    /// Queues `op`; `None` when the queue is full. The receiver answers after the commit.
    pub(crate) fn push(&self, op: WriteOp) -> Option<Acknowledged> {
        let weight = op.weight();
        let (ack, acknowledged) = oneshot::channel();
        let mut queue = lock(&self.queue);
        if queue.items.len() >= MOST_ROWS || queue.bytes + weight > MOST_BYTES {
            drop(queue);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        queue.bytes += weight;
        queue.items.push_back(Item {
            op: Arc::new(op),
            weight,
            ack: Some(ack),
            deaths: 0,
        });
        Some(acknowledged)
    }

    /// The next transaction's operations, left in the queue; empty when there is nothing to do.
    pub(crate) fn take(&self) -> Vec<Arc<WriteOp>> {
        let mut queue = lock(&self.queue);
        // A management write whose caller gave up was answered 503: it must not happen after all.
        while queue.items.front().is_some_and(Item::is_abandoned) {
            queue.pop();
        }
        let mut bytes = 0;
        let mut batch = Vec::new();
        for item in queue.items.iter().take(BATCH_ROWS) {
            // An operation that was in a fatal batch runs alone, so that it can take nobody with it again.
            let suspect = item.deaths > 0;
            bytes += item.weight;
            if !batch.is_empty() && (suspect || bytes > BATCH_BYTES || item.is_abandoned()) {
                break;
            }
            batch.push(item.op.clone());
            if suspect {
                break;
            }
        }
        queue.taken = batch.len();
        batch
    }

    /// The transaction is committed: answers each caller.
    pub(crate) fn committed(&self, results: Vec<Applied>) {
        let mut queue = lock(&self.queue);
        for result in results {
            if let Some(item) = queue.pop()
                && let Some(ack) = item.ack
            {
                let _ = ack.send(result);
            }
        }
        queue.taken = 0;
        self.signal(&queue);
    }

    /// The transaction failed as a whole and is rolled back. Management writes in it are refused with `error`;
    /// history stays for the next try.
    pub(crate) fn refused(&self, error: &DbError) {
        let mut queue = lock(&self.queue);
        let taken = std::mem::take(&mut queue.taken);
        let mut kept = VecDeque::new();
        for _ in 0..taken {
            let Some(item) = queue.pop() else { break };
            if item.op.is_management() {
                if let Some(ack) = item.ack {
                    let _ = ack.send(Err(error.clone()).into());
                }
            } else {
                kept.push_back(item);
            }
        }
        for item in kept.into_iter().rev() {
            queue.bytes += item.weight;
            queue.items.push_front(item);
        }
        self.signal(&queue);
    }

    /// The incarnation that took a batch is gone; the operations are where they were.
    pub(crate) fn released(&self) {
        lock(&self.queue).taken = 0;
    }

    /// The connection's thread died under the transaction. Nothing is lost, but an operation that keeps killing it is
    /// given up.
    pub(crate) fn died(&self) {
        let mut queue = lock(&self.queue);
        let taken = std::mem::take(&mut queue.taken);
        for item in queue.items.iter_mut().take(taken) {
            item.deaths += 1;
        }
        if queue
            .items
            .front()
            .is_some_and(|item| item.deaths > MOST_DEATHS)
            && let Some(item) = queue.pop()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            if let Some(ack) = item.ack {
                let error = DbError::Other("the write crashed the database thread".into());
                let _ = ack.send(Err(error).into());
            }
        }
        self.signal(&queue);
    }

    /// Operations waiting.
    pub(crate) fn len(&self) -> usize {
        lock(&self.queue).items.len()
    }

    /// Operations shed or given up since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until nothing is queued.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn signal(&self, queue: &Queue) {
        if queue.items.is_empty() {
            self.emptied.notify_waiters();
        }
    }
}

impl Queue {
    fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes = self.bytes.saturating_sub(item.weight);
        Some(item)
    }
}

impl Item {
    fn is_abandoned(&self) -> bool {
        self.op.is_management() && self.ack.as_ref().is_some_and(oneshot::Sender::is_closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::ops::Written;

    /// What it was answered, if it was.
    fn told(ack: &mut Acknowledged) -> Option<Result<Written, DbError>> {
        Some(ack.try_recv().ok()?.outcome)
    }

    fn history(before: i64) -> WriteOp {
        WriteOp::InterruptUnfinished { before }
    }

    fn management(key: &str) -> WriteOp {
        WriteOp::DeleteSetting { key: key.into() }
    }

    #[test]
    fn a_write_stays_queued_until_it_is_committed() {
        let outbox = Outbox::default();
        let mut ack = outbox.push(history(1)).expect("there is room");
        assert_eq!(outbox.take().len(), 1);
        outbox.died();
        assert_eq!(outbox.take().len(), 1, "the next incarnation finds it");
        outbox.committed(vec![Ok(Written::Done).into()]);
        assert_eq!(told(&mut ack), Some(Ok(Written::Done)));
        assert_eq!(outbox.len(), 0);
    }

    #[test]
    fn a_write_that_keeps_killing_runs_alone_and_is_given_up() {
        let outbox = Outbox::default();
        let mut poisoned = outbox.push(history(1)).expect("there is room");
        let innocent = outbox.push(history(2)).expect("there is room");
        assert_eq!(outbox.take().len(), 2);
        outbox.died();
        assert_eq!(outbox.take().len(), 1, "a suspect runs alone");
        outbox.died();
        assert_eq!(outbox.take().len(), 1);
        outbox.died();
        assert!(matches!(told(&mut poisoned), Some(Err(_))));
        assert_eq!(outbox.take().len(), 1);
        outbox.committed(vec![Ok(Written::Done).into()]);
        drop(innocent);
        assert_eq!((outbox.len(), outbox.dropped()), (0, 1));
    }

    #[test]
    fn a_refused_batch_answers_management_and_keeps_history_in_order() {
        let outbox = Outbox::default();
        let _first = outbox.push(history(1));
        let mut refused = outbox.push(management("a")).expect("there is room");
        let _last = outbox.push(history(2));
        assert_eq!(outbox.take().len(), 3);
        outbox.refused(&DbError::Full);
        assert_eq!(told(&mut refused), Some(Err(DbError::Full)));
        let left = outbox.take();
        assert!(matches!(
            left.iter().map(|op| &**op).collect::<Vec<_>>()[..],
            [
                WriteOp::InterruptUnfinished { before: 1 },
                WriteOp::InterruptUnfinished { before: 2 }
            ]
        ));
    }

    #[test]
    fn a_management_write_whose_caller_gave_up_is_not_carried_out() {
        let outbox = Outbox::default();
        drop(outbox.push(management("a")));
        assert!(outbox.take().is_empty());
        assert_eq!(outbox.len(), 0);
    }

    #[test]
    fn a_full_queue_sheds_and_counts() {
        let outbox = Outbox::default();
        let acks: Vec<_> = (0..MOST_ROWS + 5)
            .map(|n| outbox.push(history(i64::try_from(n).expect("few"))))
            .collect();
        assert_eq!(acks.iter().filter(|ack| ack.is_none()).count(), 5);
        assert_eq!(outbox.dropped(), 5);
    }
}
