//! The card processor that the example calls. It charges once for each key, as real ones do, and remembers each call.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq)]
pub enum Reply {
    Charged,
    Declined,
    /// It charges, and the answer gets lost: the connection stays open and silent.
    Never,
    Broken,
}

struct State {
    reply: Reply,
    /// The key of each call, in order.
    calls: Vec<String>,
    /// The keys that were charged.
    charged: Vec<String>,
    /// Connections that wait, and what they would have been told.
    silent: Vec<(TcpStream, String)>,
}

pub struct Processor {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Processor {
    /// Listens until the process ends.
    pub fn start() -> Processor {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State { reply: Reply::Charged, calls: Vec::new(), charged: Vec::new(), silent: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = Arc::clone(&served);
                std::thread::spawn(move || serve(stream, &served));
            }
        });
        Processor { port, state }
    }

    pub fn reply(&self, reply: Reply) {
        self.state.lock().unwrap().reply = reply;
    }

    /// The keys of all calls, sorted.
    pub fn calls(&self) -> Vec<String> {
        let mut calls = self.state.lock().unwrap().calls.clone();
        calls.sort();
        calls
    }

    pub fn charges(&self) -> usize {
        self.state.lock().unwrap().charged.len()
    }

    /// What got lost arrives after all.
    pub fn break_silence(&self) {
        for (mut stream, answer) in self.state.lock().unwrap().silent.drain(..) {
            write(&mut stream, "200 OK", &answer);
        }
    }

    pub async fn until_called(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.calls().is_empty() {
            assert!(Instant::now() < deadline, "the processor was not called");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Nothing but a whole call of the example's is understood; others are dropped, as those of a client that was killed.
fn serve(mut stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut call = Vec::new();
    let mut part = [0; 4096];
    while !call.ends_with(b"}") {
        match stream.read(&mut part).ok()? {
            0 => return None,
            count => call.extend_from_slice(&part[..count]),
        }
    }
    let call = String::from_utf8(call).ok()?;
    let mut headers = call.lines().filter_map(|line| line.split_once(": "));
    let (_, key) = headers.find(|(name, _)| name.eq_ignore_ascii_case("idempotency-key"))?;
    let key = key.to_owned();
    let mut state = state.lock().ok()?;
    state.calls.push(key.clone());
    if matches!(state.reply, Reply::Charged | Reply::Never) && !state.charged.contains(&key) {
        state.charged.push(key.clone());
    }
    let number = state.charged.iter().position(|other| *other == key).map_or(0, |at| at + 1);
    let charged = format!("{{\"charge\": \"charge {number}\"}}");
    match state.reply {
        Reply::Charged => write(&mut stream, "200 OK", &charged),
        Reply::Declined => write(&mut stream, "402 Payment Required", "{}"),
        Reply::Broken => write(&mut stream, "503 Service Unavailable", "{}"),
        Reply::Never => {
            state.silent.push((stream, charged));
            Some(())
        }
    }
}

fn write(stream: &mut TcpStream, status: &str, body: &str) -> Option<()> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}");
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).ok()
}
