//! Between sqlsmith and the server: hands on everything both say, searches every byte that the server sends, and writes down what was running.
//!
//! It listens on a socket in the cluster's private directory, where there is no encryption to look through. A random query whose words exclusions.rs
//! names goes no further: an error takes its place. And sqlsmith's list of tables lacks those that the context cannot be a tenant of, where each query would
//! only be refused.

use std::io::{BufReader, BufWriter, Error, ErrorKind, Read, Result, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::canary::Place;
use crate::exclusions;
use crate::watch::{self, Statement, Watch};

/// Sent in place of an excluded query, so that the server answers and the session goes on.
const INSTEAD: &str = "SELECT 1 / 0 AS excluded";

/// How sqlsmith asks which tables there are.
const TABLES: &str = "from information_schema.tables";

/// Where it listens: a directory, for PGHOST; the port is the server's.
pub fn start(cluster: &pg_test::Cluster, watch: &Arc<Watch>) -> anyhow::Result<PathBuf> {
    let dir = cluster.dir().join(format!("watch-{}", watch.role));
    let name = format!(".s.PGSQL.{}", cluster.port());
    let server = cluster.socket_dir().join(&name);
    std::fs::create_dir_all(&dir)?;
    let listener = UnixListener::bind(dir.join(&name))?;
    let watch = Arc::clone(watch);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (watch, server) = (Arc::clone(&watch), server.clone());
            std::thread::spawn(move || serve(client, &server, watch));
        }
    });
    Ok(dir)
}

/// One connection, until either side ends it. What goes wrong ends it as well.
fn serve(client: UnixStream, server: &Path, watch: Arc<Watch>) {
    let Ok(server) = UnixStream::connect(server) else { return };
    let running = Arc::new(Mutex::new(Statement::default()));
    let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { return };
    let asking = (Arc::clone(&watch), Arc::clone(&running));
    std::thread::spawn(move || {
        ask(from_client, &to_server, &asking.0, &asking.1).ok();
        lock(&asking.1).given_up = true;
        to_server.shutdown(std::net::Shutdown::Both).ok();
    });
    answer(&server, &client, &watch, &running).ok();
    client.shutdown(std::net::Shutdown::Both).ok();
    let last = lock(&running).clone();
    if last.random && last.error.is_none() && !last.given_up {
        watch.found().lost.push(last.text);
    }
}

fn lock(running: &Mutex<Statement>) -> std::sync::MutexGuard<'_, Statement> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From the client to the server.
fn ask(client: UnixStream, mut server: &UnixStream, watch: &Watch, running: &Mutex<Statement>) -> Result<()> {
    let mut client = BufReader::new(client);
    // The first message has no type.
    let startup = read_body(&mut client)?;
    server.write_all(&startup)?;
    let mut in_transaction = false;
    loop {
        let (kind, body) = read_message(&mut client)?;
        if kind != b'Q' {
            write_message(&mut server, kind, &body)?;
            continue;
        }
        if body.ends_with([TABLES.as_bytes(), b"\0"].concat().as_slice()) {
            let text = String::from_utf8_lossy(&body[4..body.len() - 1]).into_owned();
            watch.found().told = true;
            write_query(&mut server, &format!("{text} WHERE {}", watch.found().shown))?;
            continue;
        }
        let text = String::from_utf8_lossy(body.get(4..body.len() - 1).unwrap_or_default()).into_owned();
        let word = text.trim_start().get(..5).unwrap_or_default().to_ascii_uppercase();
        // sqlsmith's random statement is the one after its BEGIN.
        let random = in_transaction && word != "ROLLB";
        in_transaction = word == "BEGIN";
        let excluded = random && exclusions::reason(watch.role, &text).is_some();
        *lock(running) = Statement { text, random, excluded, ..Statement::default() };
        match excluded {
            false => write_message(&mut server, kind, &body)?,
            true => write_query(&mut server, INSTEAD)?,
        }
    }
}

/// From the server to the client.
fn answer(server: &UnixStream, client: &UnixStream, watch: &Watch, running: &Mutex<Statement>) -> Result<()> {
    let (mut server, mut client) =
        (BufReader::with_capacity(1 << 16, server), BufWriter::with_capacity(1 << 16, client));
    let mut place = Place::default();
    loop {
        let (kind, body) = read_message(&mut server)?;
        watch.found().bytes += 1 + body.len() as u64;
        if let Some(needle) = watch.detector.search(&mut place, &[kind]).or(watch.detector.search(&mut place, &body)) {
            watch.leak(needle, &lock(running).clone(), &body);
        }
        match kind {
            b'D' => lock(running).rows += 1,
            b'E' => lock(running).error = Some(error(&body)),
            b'K' => drop(watch.found().backends.insert(number(&body[4..]))),
            b'Z' => watch.done(std::mem::take(&mut *lock(running))),
            _ => {}
        }
        write_message(&mut client, kind, &body)?;
        if server.buffer().is_empty() {
            client.flush()?;
        }
    }
}

/// The fields of an ErrorResponse that count here: each is a letter and a text that a zero ends.
fn error(body: &[u8]) -> watch::Error {
    let mut error = watch::Error::default();
    for field in body.get(4..).unwrap_or_default().split(|byte| *byte == 0) {
        let Some((letter, text)) = field.split_first() else { continue };
        let text = String::from_utf8_lossy(text).into_owned();
        match letter {
            b'C' => error.state = text,
            b'M' => error.message = text,
            b'F' => error.file = text,
            _ => {}
        }
    }
    error
}

fn read_message(from: &mut impl Read) -> Result<(u8, Vec<u8>)> {
    let mut kind = [0];
    from.read_exact(&mut kind)?;
    Ok((kind[0], read_body(from)?))
}

/// The length, which counts itself, and what it is the length of.
fn read_body(from: &mut impl Read) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let rest = (number(&length) as usize).checked_sub(4).ok_or(ErrorKind::InvalidData)?;
    let mut body = length.to_vec();
    body.resize(4 + rest, 0);
    from.read_exact(&mut body[4..])?;
    Ok(body)
}

fn write_message(to: &mut impl Write, kind: u8, body: &[u8]) -> Result<()> {
    to.write_all(&[&[kind], body].concat())
}

fn write_query(to: &mut impl Write, text: &str) -> Result<()> {
    let length = u32::try_from(text.len() + 5).map_err(Error::other)?;
    write_message(to, b'Q', &[&length.to_be_bytes()[..], text.as_bytes(), b"\0"].concat())
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_by_its_fields() {
        let body = b"\0\0\0\x30SERROR\0CXX000\0Mwhat it was\0Ffile.rs\0\0";
        let error = error(body);
        assert_eq!(
            (error.state.as_str(), error.message.as_str(), error.file.as_str()),
            ("XX000", "what it was", "file.rs")
        );
    }

    #[test]
    fn a_message_is_read_and_written_as_it_was() {
        let bytes = b"Q\0\0\0\x0dSELECT 1\0";
        let (kind, body) = read_message(&mut bytes.as_slice()).unwrap();
        let mut written = Vec::new();
        write_message(&mut written, kind, &body).unwrap();
        assert_eq!(written, bytes);
        assert!(read_message(&mut b"Q\0\0\0\x01".as_slice()).is_err());
    }
}
