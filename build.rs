//! Puts the dashboard's files into the binary: `dashboard/` becomes a table of path, type, bytes and packed bytes, and one
//! hash of them all. Needs neither Node nor anything else that is not in this repository.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// Stands for the hash in what names other files.
const BUILD: &str = "/assets/BUILD/";
/// Stands for the links to what the first page is made of.
const MODULES: &str = "<!-- modules -->";
/// Where a browser begins, and the page that most begin with.
const FIRST: [&str; 2] = ["app.js", "pages/home.js"];
/// Packing these gains nothing.
const PACKED: [&str; 1] = ["png"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=dashboard");
    let mut files = Vec::new();
    walk(Path::new("dashboard"), &mut files)?;
    files.sort();
    let mut read = Vec::new();
    let mut hash = Sha256::new();
    for file in &files {
        let bytes = fs::read(file)?;
        let name = name(file)?;
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
        read.push((name, bytes));
    }
    let hash = hex(&hash.finalize())[..16].to_owned();
    let preloads: Vec<_> = modules(&read)
        .iter()
        .map(|name| format!(r#"<link rel="modulepreload" href="{BUILD}{name}">"#))
        .collect();
    let preloads = preloads.join("\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| missing("OUT_DIR"))?);
    let mut table =
        format!("pub(crate) const BUILD: &str = {hash:?};\npub(crate) const FILES: &[File] = &[\n");
    for (at, (name, bytes)) in read.iter().enumerate() {
        let kind = kind(name)?;
        let bytes = if ["html", "webmanifest"].contains(&end(name)) {
            let text = String::from_utf8_lossy(bytes).replace(MODULES, &preloads);
            text.replace(BUILD, &format!("/assets/{hash}/"))
                .into_bytes()
        } else {
            bytes.clone()
        };
        fs::write(out.join(at.to_string()), &bytes)?;
        let packed = if PACKED.contains(&end(name)) {
            "None".to_owned()
        } else {
            fs::write(out.join(format!("{at}.gz")), pack(&bytes)?)?;
            format!(r#"Some(include_bytes!(concat!(env!("OUT_DIR"), "/{at}.gz")))"#)
        };
        writeln!(
            table,
            r#"    File {{ path: {name:?}, kind: {kind:?}, bytes: include_bytes!(concat!(env!("OUT_DIR"), "/{at}")), packed: {packed} }},"#
        )
        .map_err(io::Error::other)?;
    }
    table.push_str("];\n");
    fs::write(out.join("dashboard.rs"), table)
}

/// What is for those who write pages stays out.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.to_string_lossy();
        if path.is_dir() {
            walk(&path, files)?;
        } else if !["md", "ts"].contains(&end(&name)) {
            files.push(path);
        }
    }
    Ok(())
}

/// The path below `dashboard/`, as a browser writes it.
fn name(file: &Path) -> io::Result<String> {
    let inside = file.strip_prefix("dashboard").map_err(io::Error::other)?;
    let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
    Ok(parts.join("/"))
}

/// What the first page imports, level by level: a browser that is told of all of it at once need not find one module in another.
fn modules(files: &[(String, Vec<u8>)]) -> Vec<String> {
    let mut found: Vec<String> = FIRST.iter().map(ToString::to_string).collect();
    let mut at = 0;
    while let Some(name) = found.get(at).cloned() {
        at += 1;
        let Some((_, bytes)) = files.iter().find(|(file, _)| *file == name) else {
            continue;
        };
        let text = String::from_utf8_lossy(bytes);
        for import in text.lines().flat_map(imported) {
            let import = beside(&name, import);
            if !found.contains(&import) && files.iter().any(|(file, _)| *file == import) {
                found.push(import);
            }
        }
    }
    found
}

/// The modules that a line imports when it is loaded: `import .. from "./.."`, `export .. from "./.."`, also of packed code.
fn imported(line: &str) -> impl Iterator<Item = &str> {
    let is_import = ["import", "export", "} from"]
        .iter()
        .any(|start| line.starts_with(start));
    let parts = line
        .split("from")
        .skip(if is_import { 1 } else { usize::MAX });
    parts.filter_map(|part| part.trim_start().strip_prefix('"')?.split('"').next())
}

/// The path of what `name` calls `import`.
fn beside(name: &str, import: &str) -> String {
    let mut parts: Vec<_> = name.split('/').collect();
    parts.pop();
    for part in import.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn end(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, end)| end)
}

fn kind(name: &str) -> io::Result<&'static str> {
    Ok(match end(name) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webmanifest" => "application/manifest+json",
        _ if name.contains("LICENSE") => "text/plain; charset=utf-8",
        _ => return Err(missing(&format!("a content type for dashboard/{name}"))),
    })
}

fn pack(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(bytes)?;
    packer.finish()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn missing(what: &str) -> io::Error {
    io::Error::other(format!("there is no {what}"))
}
