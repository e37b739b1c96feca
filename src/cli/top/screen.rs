//! The terminal, taken over and given back.

use std::io::{self, Stdout, Write};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::Print;
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap,
    EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode, size,
};
use crossterm::{execute, queue};

/// Columns and rows of a terminal that does not say.
const USUAL: (u16, u16) = (80, 24);

/// Given back with the value, however the function that holds it ends.
pub(super) struct Screen {
    out: Stdout,
}

/// Columns and rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        enable_raw_mode()?;
        // From here on there is something to give back.
        let mut screen = Self { out: io::stdout() };
        execute!(screen.out, EnterAlternateScreen, Hide, DisableLineWrap)?;
        Ok(screen)
    }

    /// Draws the lines over what is there.
    pub(super) fn draw(&mut self, picture: impl FnOnce(Size) -> String) -> io::Result<()> {
        let (columns, rows) = size()
            .ok()
            .filter(|size| size.0 > 0 && size.1 > 0)
            .unwrap_or(USUAL);
        let size = Size {
            columns: columns.into(),
            rows: rows.into(),
        };
        let picture = picture(size);
        let mut out = self.out.lock();
        queue!(out, BeginSynchronizedUpdate)?;
        for (row, line) in (0..rows).zip(picture.lines()) {
            queue!(
                out,
                MoveTo(0, row),
                Print(line),
                Clear(ClearType::UntilNewLine)
            )?;
        }
        let used = u16::try_from(picture.lines().count()).unwrap_or(u16::MAX);
        if used < rows {
            queue!(out, MoveTo(0, used), Clear(ClearType::FromCursorDown))?;
        }
        queue!(out, EndSynchronizedUpdate)?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = execute!(self.out, EnableLineWrap, Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}
