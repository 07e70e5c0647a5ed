//! Shows that something is going on, for whatever takes more than a moment.
//!
//! On the error stream: a terminal shows one line that is kept up to date and then removed, anything else gets a line
//! every few seconds.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(100);
const EVERY: Duration = Duration::from_secs(3);

/// Waits for the work, and meanwhile shows what `now` says.
pub async fn during<T>(work: impl Future<Output = T>, now: impl Fn() -> String) -> T {
    let mut work = std::pin::pin!(work);
    let mut line = Line { start: Instant::now(), said: Duration::ZERO, shown: false };
    loop {
        match tokio::time::timeout(LOOK, &mut work).await {
            Ok(result) => return result,
            Err(_) => line.show(&now()),
        }
    }
}

struct Line {
    start: Instant,
    said: Duration,
    shown: bool,
}

impl Line {
    fn show(&mut self, text: &str) {
        let elapsed = self.start.elapsed();
        if std::io::stderr().is_terminal() {
            eprint!("\r\u{1b}[2K  … {text}");
            std::io::stderr().flush().ok();
            self.shown = true;
        } else if elapsed >= self.said + EVERY {
            eprintln!("  … {text}");
            self.said = elapsed;
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\u{1b}[2K");
            std::io::stderr().flush().ok();
        }
    }
}
