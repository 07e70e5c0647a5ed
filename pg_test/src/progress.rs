//! Tells the person at the terminal what takes so long.
//!
//! A long command writes its whole output to a log under `target/`. Meanwhile a terminal shows one
//! line that is kept up to date, and anything else (CI) gets a line every ten seconds. When the
//! command fails, the end of the log is part of the error.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const EVERY: Duration = Duration::from_secs(10);
const TAIL_LINES: usize = 40;

/// Says one thing, on the error stream, so that test output stays what cargo makes it.
pub fn say(message: impl AsRef<str>) {
    eprintln!("bulkhead: {}", message.as_ref());
}

/// How a program ends: `Ok(false)` is a failure that it has told of itself.
pub fn conclude(result: Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs `work` and says how long it took; a failure is for the caller to tell.
pub fn stage<T>(title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let result = work()?;
    say(format!("{title} ({:.1} s)", start.elapsed().as_secs_f64()));
    Ok(result)
}

/// Runs a command to its end, with progress, its output in `log`.
pub fn run(title: &str, command: &mut Command, log: &Path) -> Result<()> {
    if let Some(dir) = log.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let last = Arc::new(Mutex::new(String::new()));
    let file = Arc::new(Mutex::new(file));

    command.stdin(Stdio::inherit());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?;
    let mut readers = Vec::new();
    if let Some(stream) = child.stdout.take() {
        readers.push(follow(stream, Arc::clone(&file), Arc::clone(&last)));
    }
    if let Some(stream) = child.stderr.take() {
        readers.push(follow(stream, Arc::clone(&file), Arc::clone(&last)));
    }

    let mut line = Line::new(title);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let latest = last.lock().map(|text| text.clone()).unwrap_or_default();
        line.show(&latest);
        std::thread::sleep(Duration::from_millis(200));
    };
    for reader in readers {
        reader.join().ok();
    }
    line.clear();

    if !status.success() {
        bail!("{title} failed ({status}). The end of {}:\n{}", log.display(), tail(log, TAIL_LINES));
    }
    Ok(())
}

/// The same without a line that is kept up to date, for what runs beside something else that has one.
pub fn run_quietly(title: &str, command: &mut Command, log: &Path) -> Result<()> {
    if let Some(dir) = log.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    let start = Instant::now();
    let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let status = command.status().with_context(|| format!("starting {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{title} failed ({status}). The end of {}:\n{}", log.display(), tail(log, TAIL_LINES));
    }
    say(format!("{title} ({:.1} s)", start.elapsed().as_secs_f64()));
    Ok(())
}

/// The last lines of a file, as far as it can be read.
pub fn tail(path: &Path, lines: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn follow(stream: impl Read + Send + 'static, file: Arc<Mutex<File>>, last: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            if let Ok(mut file) = file.lock() {
                file.write_all(&bytes).ok();
            }
            let text = plain(&String::from_utf8_lossy(&bytes));
            if !text.is_empty()
                && let Ok(mut last) = last.lock()
            {
                *last = text;
            }
            bytes.clear();
        }
    })
}

/// The text without colours and carriage returns, which would move the cursor.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                characters.by_ref().find(|c| c.is_ascii_alphabetic());
            }
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.trim().to_string()
}

struct Line<'a> {
    title: &'a str,
    start: Instant,
    terminal: bool,
    width: usize,
    said: Duration,
}

impl<'a> Line<'a> {
    fn new(title: &'a str) -> Self {
        let columns = std::env::var("COLUMNS").ok().and_then(|n| n.parse().ok());
        Self {
            title,
            start: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
            width: columns.unwrap_or(80),
            said: Duration::ZERO,
        }
    }

    fn show(&mut self, latest: &str) {
        let elapsed = self.start.elapsed();
        if !self.terminal && elapsed < self.said + EVERY {
            return;
        }
        self.said = elapsed;
        let text = format!("bulkhead: {}, {} s: {latest}", self.title, elapsed.as_secs());
        let text: String = text.chars().take(self.width.saturating_sub(1)).collect();
        if self.terminal {
            eprint!("\r\u{1b}[2K{text}");
            std::io::stderr().flush().ok();
        } else {
            eprintln!("{text}");
        }
    }

    fn clear(&self) {
        if self.terminal {
            eprint!("\r\u{1b}[2K");
            std::io::stderr().flush().ok();
        }
    }
}
