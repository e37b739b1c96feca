//! Whether the parts that everything needs answer when they are asked. Readiness and the service manager's watchdog go
//! by this one look.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::actors::database::Database;
use crate::actors::ports::{Port, Probe};
use crate::actors::root::Supervision;

/// Asks them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pulse {
    supervision: Supervision,
    database: Database,
    ports: [Arc<Port>; 4],
}

/// What is wrong with a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: String,
    /// Only a new process would help. Not so where we are merely full: that passes, and a new process would break all
    /// streams.
    pub(crate) is_fatal: bool,
}

impl Pulse {
    pub(crate) fn new(supervision: Supervision, database: Database, ports: [Arc<Port>; 4]) -> Self {
        Self {
            supervision,
            database,
            ports,
        }
    }

    /// Who does not answer within `deadline`; empty means that all do. A port that nobody opened is not asked.
    pub(crate) async fn faults(&self, deadline: Duration) -> Vec<Fault> {
        let root = async {
            let answered = timeout(deadline, self.supervision.tree()).await;
            (!matches!(answered, Ok(Ok(_)))).then(|| fatal("the root supervisor does not answer"))
        };
        let writer = async {
            let answered = self.database.ping(deadline).await;
            answered
                .is_err()
                .then(|| fatal("the database writer does not answer"))
        };
        let ports = join_all(self.ports.iter().map(|port| asked(port, deadline)));
        let (root, writer, ports) = tokio::join!(root, writer, ports);
        let first = [root, writer].into_iter();
        first.chain(ports).flatten().collect()
    }
}

async fn asked(port: &Port, deadline: Duration) -> Option<Fault> {
    port.opened_since()?;
    let fault = match port.probe(deadline).await {
        Probe::Answered => return None,
        // It may have been closed meanwhile.
        Probe::Silent => {
            port.opened_since()?;
            fatal(format!("the {} does not answer at its port", port.name))
        }
        Probe::Full => passing(format!("the {} has all the connections it may", port.name)),
        Probe::NotAsked => passing(format!(
            "no socket is left to ask the {} with: too many open files",
            port.name
        )),
    };
    Some(fault)
}

fn fatal(reason: impl Into<String>) -> Fault {
    Fault {
        reason: reason.into(),
        is_fatal: true,
    }
}

fn passing(reason: String) -> Fault {
    Fault {
        reason,
        is_fatal: false,
    }
}
