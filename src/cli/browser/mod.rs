//! A login through a browser of the user's: a window in which they log in as ever, and whose cookies of that one site are read.
//!
//! Its profile is new, for its owner only, and gone afterwards. It is spoken to over a pipe, so no port is opened that another
//! program could use (S23), and it ends with us.

mod devtools;
mod profile;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::cli::browser::devtools::{Cookie, Devtools, Lost};
use crate::cli::browser::profile::Profile;
use crate::limits::browser::{ENDS, LOOKS, PATIENCE, SETTLES};

/// Those that understand us, by the names of their programs.
const NAMES: [&str; 8] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "microsoft-edge-stable",
    "brave-browser",
    "vivaldi",
];

/// And where they lie where programs are not in the path.
const PLACES: [&str; 4] = [
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "/Applications/Brave Browser.app/Contents/MacOS/Brave Browser",
];

/// Where people log in at the site.
const DOOR: &str = "/auth";

/// Puts the pipe where the browser looks for it (--remote-debugging-pipe): it reads 3 and writes 4.
const THROUGH: &str = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";

/// What the site gave the browser.
pub(crate) struct LoggedIn {
    pub(crate) cookies: Vec<Cookie>,
    pub(crate) user_agent: Option<String>,
}

/// Why there is no login.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoLogin {
    #[error(
        "no browser was found; name one with --browser-path (Chromium, Chrome, Edge and Brave will do), or use --from-curl"
    )]
    NoBrowser,
    #[error("`{}` does not start: {reason}", browser.display())]
    Start { browser: PathBuf, reason: String },
    #[error("the browser ended before anybody was logged in{0}")]
    Ended(&'static str),
    #[error("nobody logged in within {} minutes", PATIENCE.as_secs() / 60)]
    Late,
    #[error("interrupted")]
    Interrupted,
}

/// Which browser, and where it goes.
pub(crate) struct Window {
    pub(crate) browser: PathBuf,
    /// More of its own flags.
    pub(crate) flags: Vec<String>,
    /// Scheme and host of the site.
    pub(crate) site: String,
    /// Set by who wants it to end.
    pub(crate) is_over: Arc<AtomicBool>,
}

/// The first one that this machine has.
pub(crate) fn find() -> Result<PathBuf, NoLogin> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = NAMES
        .iter()
        .flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)));
    let mut places = in_path.chain(PLACES.iter().map(PathBuf::from));
    places
        .find(|place| place.is_file())
        .ok_or(NoLogin::NoBrowser)
}

impl Window {
    /// Opens it, and waits until somebody is logged in. Blocks.
    pub(crate) fn log_in(self) -> Result<LoggedIn, NoLogin> {
        let start = |reason: std::io::Error| NoLogin::Start {
            browser: self.browser.clone(),
            reason: reason.to_string(),
        };
        if !self.browser.is_file() {
            return Err(start(std::io::ErrorKind::NotFound.into()));
        }
        let profile = Profile::new().map_err(start)?;
        let mut browser = Running(self.start(profile.path()).map_err(start)?);
        let mut devtools = Devtools::new(&mut browser.0, self.is_over.clone()).map_err(start)?;
        let begun = Instant::now();
        let found = self.logged_in(&mut devtools);
        let found = match found {
            _ if self.is_over.load(Ordering::Relaxed) => Err(NoLogin::Interrupted),
            // Somebody who runs everything as root is told what a browser would have said.
            Err(NoLogin::Ended(_)) if begun.elapsed() < SETTLES => Err(NoLogin::Ended(
                " (as root it needs --browser-flag=--no-sandbox)",
            )),
            found => found,
        };
        devtools.end(ENDS);
        // Asked in vain, or it would not be there any more.
        drop(browser);
        found
    }

    fn start(&self, profile: &Path) -> std::io::Result<Child> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", THROUGH]).arg(&self.browser);
        shell.arg("--remote-debugging-pipe");
        shell.arg(format!("--user-data-dir={}", profile.display()));
        shell.args(["--no-first-run", "--no-default-browser-check"]);
        shell.args(&self.flags);
        shell.arg(format!("{}{DOOR}", self.site));
        // Not of the terminal's group: it is for us to end it when somebody presses Ctrl-C.
        shell.process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    }

    fn logged_in(&self, devtools: &mut Devtools) -> Result<LoggedIn, NoLogin> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let is_in = |cookies: &[Cookie]| cookies.iter().any(Cookie::is_token);
            if is_in(&self.cookies(devtools)?) {
                // The page goes on with setting them.
                devtools.wait(SETTLES)?;
                let cookies = self.cookies(devtools)?;
                if is_in(&cookies) {
                    return Ok(LoggedIn {
                        cookies,
                        user_agent: devtools.user_agent()?,
                    });
                }
            }
            devtools.wait(LOOKS)?;
        }
        Err(NoLogin::Late)
    }

    /// What the browser would send to the site, and nothing else it has.
    fn cookies(&self, devtools: &mut Devtools) -> Result<Vec<Cookie>, Lost> {
        devtools.cookies(&format!("{}/", self.site))
    }
}

impl From<Lost> for NoLogin {
    fn from(_: Lost) -> Self {
        Self::Ended("")
    }
}

/// A browser that is not there any more when this is not.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
