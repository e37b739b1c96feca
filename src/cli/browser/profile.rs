//! A browser's folder: new, for its owner only, and gone with the value.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::cli::console::Console;
use crate::limits::browser::LOOKS;

pub(super) struct Profile(PathBuf);

impl Profile {
    pub(super) fn new() -> io::Result<Self> {
        let name = format!("qwarden-login-{}", uuid::Uuid::now_v7().simple());
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Profile {
    #[expect(
        clippy::disallowed_methods,
        reason = "a browser's helpers outlive it by a moment, write until then, and tell nobody of their end"
    )]
    fn drop(&mut self) {
        for _ in 0..20 {
            if fs::remove_dir_all(&self.0).is_ok() || !self.0.exists() {
                return;
            }
            std::thread::sleep(LOOKS / 10);
        }
        let folder = self.0.display();
        Console::note(&format!(
            "{folder} could not be removed; remove it, there are cookies in it"
        ));
    }
}
