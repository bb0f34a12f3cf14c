//! Builds the page in `ui/` with npm and makes a table of its files. Everything is written below `OUT_DIR`. Without npm, or when it fails,
//! the build goes on and a page that says what to install stands in its place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a build script says what is wrong by ending")]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// npm may wait for a network that is not there.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    println!("cargo:rerun-if-env-changed=VIGIL_SKIP_UI");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/fallback.html");

    let ui = here.join("ui");
    let dist = out.join("ui");
    let built = if std::env::var_os("VIGIL_SKIP_UI").is_some_and(|skip| skip != "0") {
        Err("VIGIL_SKIP_UI is set".to_owned())
    } else if ui.join("package.json").exists() {
        build(&ui, &out, &dist)
    } else {
        Err("ui/package.json is not there".to_owned())
    };
    if let Err(why) = &built {
        println!("cargo:warning=the page is not in this build: {why}. Install Node 20 or newer with npm and build again; the API works without");
        if dist.exists() {
            fs::remove_dir_all(&dist).expect("OUT_DIR can be written");
        }
        fs::create_dir_all(&dist).expect("OUT_DIR can be written");
        fs::copy(here.join("src/fallback.html"), dist.join("index.html")).expect("OUT_DIR can be written");
    }
    fs::write(out.join("assets.rs"), table(&dist)).expect("OUT_DIR can be written");
}

/// What git would not take stays out.
fn is_source(name: &str) -> bool {
    !matches!(name, "node_modules" | "dist" | "e2e" | "tests" | "test-results") && !name.starts_with('.')
}

fn build(ui: &Path, out: &Path, dist: &Path) -> Result<(), String> {
    let copy = out.join("ui-src");
    for entry in fs::read_dir(ui).map_err(|error| error.to_string())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_source(&name) {
            println!("cargo:rerun-if-changed=ui/{name}");
        }
    }
    copy_sources(ui, &copy).map_err(|error| format!("ui cannot be copied: {error}"))?;
    let lock = fs::read(copy.join("package-lock.json")).map_err(|error| format!("ui/package-lock.json: {error}"))?;
    let stamp = copy.join("node_modules/.vigil-lock");
    if fs::read(&stamp).ok().as_ref() != Some(&lock) {
        npm(&copy, &["ci", "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts", "--loglevel=error"])?;
        fs::write(&stamp, &lock).map_err(|error| error.to_string())?;
    }
    npm(&copy, &["exec", "--offline", "--", "vite", "build", "--outDir", &dist.to_string_lossy(), "--emptyOutDir", "--logLevel", "warn"])?;
    if dist.join("index.html").exists() { Ok(()) } else { Err("vite wrote no index.html".to_owned()) }
}

/// Sources that are gone leave the copy as well; what npm installed stays.
fn copy_sources(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(to)?.flatten() {
        let name = entry.file_name();
        if name != "node_modules" {
            if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
        }
    }
    copy_folder(from, to)
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)?.flatten() {
        let name = entry.file_name();
        if !is_source(&name.to_string_lossy()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to.join(&name))?;
        } else {
            fs::copy(entry.path(), to.join(&name))?;
        }
    }
    Ok(())
}

fn npm(folder: &Path, arguments: &[&str]) -> Result<(), String> {
    let log = folder.join("npm.log");
    let file = fs::File::create(&log).map_err(|error| error.to_string())?;
    let errors = file.try_clone().map_err(|error| error.to_string())?;
    let mut child = Command::new("npm")
        .args(arguments)
        .current_dir(folder)
        .env("npm_config_update_notifier", "false")
        .env("npm_config_fetch_retries", "1")
        .env("npm_config_fetch_timeout", "30000")
        .env("CI", "1")
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .map_err(|error| format!("npm cannot be started ({error})"))?;
    let started = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if started.elapsed() > PATIENCE => {
                child.kill().map_err(|error| error.to_string())?;
                return Err(format!("npm {} took too long", arguments[0]));
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(&log).unwrap_or_default();
    let last: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).take(12).collect();
    Err(format!("npm {} failed ({status}): {}", arguments[0], last.join(" | ")))
}

/// `ASSETS`: path, kind, ETag, bytes, and the same compressed where that is smaller.
fn table(dist: &Path) -> String {
    let mut files = Vec::new();
    list(dist, dist, &mut files);
    files.sort();
    let compressed = dist.with_file_name("ui-gzip");
    if compressed.exists() {
        fs::remove_dir_all(&compressed).expect("OUT_DIR can be written");
    }
    fs::create_dir_all(&compressed).expect("OUT_DIR can be written");
    let mut source = String::from("pub(crate) static ASSETS: &[Asset] = &[\n");
    for (number, name) in files.iter().enumerate() {
        let path = dist.join(name);
        let bytes = fs::read(&path).expect("a file of the page can be read");
        let etag: String = Sha256::digest(&bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&bytes).expect("memory can be written");
        let small = encoder.finish().expect("memory can be written");
        let gzip = if small.len() < bytes.len() {
            let file = compressed.join(format!("{number}.gz"));
            fs::write(&file, &small).expect("OUT_DIR can be written");
            format!("Some(include_bytes!({:?}))", file.display().to_string())
        } else {
            "None".to_owned()
        };
        writeln!(
            source,
            "    Asset {{ path: {:?}, kind: {:?}, etag: {:?}, bytes: include_bytes!({:?}), gzip: {gzip} }},",
            format!("/{name}"),
            kind(name),
            format!("\"{etag}\""),
            path.display().to_string(),
        )
        .expect("memory can be written");
    }
    source += "];\n";
    source
}

fn list(root: &Path, folder: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("the page's folder can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            list(root, &path, files);
        } else if let Ok(name) = path.strip_prefix(root) {
            files.push(name.to_string_lossy().replace('\\', "/"));
        }
    }
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, end)| end) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
