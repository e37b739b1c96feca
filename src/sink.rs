//! Log lines on their way out (R32): a bounded queue in front of a thread, so that a sink that takes nothing holds up nobody.
//!
//! Knows nobody. Lines that find the queue full are dropped and counted; the sink is told how many once it takes lines again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::limits::logs::LINES_WAITING;

/// Lines of this process that were dropped. There is one log per process, whatever writes to it.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines were dropped since the start.
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

enum Part {
    Line(Vec<u8>),
    /// Everything before it is out: whoever asked is told by the drop of this.
    Flush(#[expect(dead_code, reason = "it is there for its drop")] SyncSender<()>),
}

/// Where lines are put. Cheap to clone; a write never waits.
#[derive(Clone)]
pub(crate) struct Lines(Arc<SyncSender<Part>>);

impl Lines {
    /// Lines for `sink`; `note` writes what is told of lines that were dropped.
    pub(crate) fn to(
        sink: impl Write + Send + 'static,
        note: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, parts) = sync_channel(LINES_WAITING);
        // Asked here: the thread may begin after many lines were dropped.
        let told = dropped();
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || carry(&parts, sink, note, told))?;
        Ok(Self(Arc::new(sender)))
    }

    /// Waits until what was put before is out, at most `patience`.
    pub(crate) fn flush(&self, patience: Duration) {
        let (told, out) = sync_channel(1);
        let lines = self.0.clone();
        // In a thread of its own, since the queue may be full, and of a sink that takes nothing it stays so.
        let asking = std::thread::Builder::new().name("log end".into());
        let asked = asking.spawn(move || drop(lines.send(Part::Flush(told))));
        if asked.is_ok() {
            let _ = out.recv_timeout(patience);
        }
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.0.try_send(Part::Line(line.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Ends with the last sender.
fn carry(
    parts: &Receiver<Part>,
    mut sink: impl Write,
    note: impl Fn(u64) -> String,
    mut told: u64,
) {
    while let Ok(part) = parts.recv() {
        match part {
            Part::Line(line) => {
                // A sink that is gone for good takes nothing: there is nobody to tell.
                let _ = sink.write_all(&line);
            }
            Part::Flush(_) => {
                let _ = sink.flush();
            }
        }
        let now = dropped();
        if now > told {
            let _ = sink.write_all(note(now - told).as_bytes());
            told = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes a line when it is let.
    struct Gated(mpsc::Receiver<()>, Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn r32_a_sink_that_takes_nothing_blocks_nobody_and_is_told_how_much_it_missed() {
        let (gate, closed) = mpsc::channel();
        let out = Arc::default();
        let sink = Gated(closed, Arc::clone(&out));
        let mut lines = Lines::to(sink, |count| format!("{count} dropped\n")).unwrap();
        let before = dropped();
        for number in 0..LINES_WAITING * 2 {
            writeln!(lines, "{number}").unwrap();
        }
        let missed = dropped() - before;
        assert!(
            missed >= u64::try_from(LINES_WAITING - 1).unwrap(),
            "{missed}"
        );
        // A flush that cannot be made is given up.
        lines.flush(Duration::from_millis(1));
        drop(gate);
        lines.flush(Duration::from_secs(30));
        let out = String::from_utf8(out.lock().unwrap().clone()).unwrap();
        assert!(out.contains(&format!("{missed} dropped\n")), "{out}");
    }
}
