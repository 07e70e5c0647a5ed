//! An example in a process of its own; requests and answers are lines of JSON.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::ask::{Answer, Example, Refusal};

type Waiting = Arc<Mutex<Asked>>;

#[derive(Default)]
struct Asked {
    next: u64,
    by_id: HashMap<u64, oneshot::Sender<Value>>,
}

pub struct Program {
    child: Child,
    requests: Mutex<Option<ChildStdin>>,
    waiting: Waiting,
}

impl Program {
    pub fn start(mut command: Command) -> Program {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let waiting = Waiting::default();
        let answers = child.stdout.take().unwrap();
        let hearing = Arc::clone(&waiting);
        std::thread::spawn(move || hear(answers, &hearing));
        Program { requests: Mutex::new(child.stdin.take()), child, waiting }
    }
}

fn hear(answers: ChildStdout, waiting: &Waiting) {
    for line in BufReader::new(answers).lines().map_while(Result::ok) {
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let asker = answer["id"].as_u64().and_then(|id| waiting.lock().unwrap().by_id.remove(&id));
        asker.unwrap_or_else(|| panic!("nobody asked for {line}")).send(answer).ok();
    }
    // Whoever still waits hears that nothing comes any more.
    waiting.lock().unwrap().by_id.clear();
}

impl Example for Program {
    async fn ask(&self, mut request: Value) -> Answer {
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().unwrap();
            waiting.next += 1;
            request["id"] = json!(waiting.next);
            let id = waiting.next;
            waiting.by_id.insert(id, sender);
        }
        let written = match self.requests.lock().unwrap().as_mut() {
            Some(requests) => writeln!(requests, "{request}"),
            None => Ok(()),
        };
        written.unwrap_or_else(|error| panic!("the example has ended before {request}: {error}"));
        let answer = answer.await.unwrap_or_else(|_| panic!("the example has ended at {request}"));
        match answer.get("ok") {
            Some(ok) => Ok(ok.clone()),
            None => Err(Refusal {
                sqlstate: answer["sqlstate"].as_str().map(str::to_owned),
                message: answer["message"].as_str().unwrap_or_default().to_owned(),
            }),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Without requests it ends by itself; after a failure it is not waited for.
        drop(self.requests.lock().ok().and_then(|mut requests| requests.take()));
        if std::thread::panicking() {
            self.child.kill().ok();
        }
        let status = self.child.wait();
        if !std::thread::panicking() {
            assert!(status.is_ok_and(|status| status.success()), "the example did not end well");
        }
    }
}
