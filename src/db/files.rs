//! Files and folders that only their owner may read, from the first byte and whatever the umask (S10).

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Makes the folder and what is missing above it, readable by its owner alone. An existing one is left as it is.
pub(crate) fn create_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Makes the file when it is missing. An existing one is not opened: closing it again would drop the locks that `SQLite`
/// holds on it elsewhere in this process (<https://sqlite.org/howtocorrupt.html>, section 2.2).
pub(crate) fn ensure_private_file(path: &Path) -> io::Result<()> {
    match options().create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => restrict(path, 0o600),
        outcome => outcome.map(drop),
    }
}

/// Makes the file; what is there already, a link included, is an error.
pub(crate) fn create_private_file(path: &Path) -> io::Result<File> {
    options().create_new(true).open(path)
}

/// Opens the file for reading and writing, made if missing, its content kept. Not for databases.
pub(crate) fn open_private_file(path: &Path) -> io::Result<File> {
    let file = options().create(true).truncate(false).open(path)?;
    restrict(path, 0o600)?;
    Ok(file)
}

/// Takes permissions of group and others away where there are any.
pub(crate) fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mut permissions = fs::metadata(path)?.permissions();
        if permissions.mode() & 0o077 != 0 {
            permissions.set_mode(mode);
            fs::set_permissions(path, permissions)?;
        }
    }
    #[cfg(not(unix))]
    let _ = (fs::metadata(path)?, mode);
    Ok(())
}

/// Waits until the names in a folder are on the disk.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

/// The file whose name goes on with `suffix`, as `SQLite` names what belongs to a database.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The path as a URI that promises `SQLite` that nobody writes to it.
pub(crate) fn immutable(path: &Path) -> String {
    let mut uri = String::from("file:");
    let text = path.to_string_lossy().replace('\\', "/");
    if !text.starts_with('/') {
        uri.push('/');
    }
    for character in text.chars() {
        match character {
            '%' => uri.push_str("%25"),
            '?' => uri.push_str("%3f"),
            '#' => uri.push_str("%23"),
            other => uri.push(other),
        }
    }
    uri + "?immutable=1"
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
