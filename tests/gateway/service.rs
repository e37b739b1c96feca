//! Under a service manager: what it is told, and the sockets it hands over.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::binary::{self, Binary};
use crate::support::{PATIENCE, client, say};

/// Long enough for a busy machine to answer within half of it.
const PERIOD: Duration = Duration::from_secs(4);

/// Waits for a message that holds `words`, and returns it.
fn told(manager: &UnixDatagram, words: &str) -> String {
    let until = Instant::now() + PATIENCE;
    let mut heard = Vec::new();
    while Instant::now() < until {
        let mut message = [0; 2_048];
        if let Ok(length) = manager.recv(&mut message) {
            let message = String::from_utf8_lossy(&message[..length]).into_owned();
            if message.contains(words) {
                return message;
            }
            heard.push(message);
        }
    }
    panic!("`{words}` is not told, only {heard:?}");
}

async fn ready(base: &str) -> (u16, Value) {
    let answer = client().get(format!("{base}/api/health/ready")).send();
    let answer = answer.await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_is_fed_only_while_the_writer_answers_and_readiness_says_the_same() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager
        .set_read_timeout(Some(Duration::from_millis(500)))
        .expect("a timeout");
    let period = PERIOD.as_micros().to_string();
    let variables = [
        ("NOTIFY_SOCKET", path.to_str().expect("text")),
        ("WATCHDOG_USEC", period.as_str()),
    ];
    let data = dir.path().join("data");
    let mut gateway = Binary::with(&data, &[], &variables, std::process::Stdio::null());
    told(&manager, "READY=1");
    told(&manager, "WATCHDOG=1");
    assert_eq!(ready(&gateway.management).await.0, 200);

    let stalling = TcpStream::connect(gateway.management.trim_start_matches("http://"));
    let mut stalling = stalling.expect("a connection");
    stalling
        .write_all(b"GET /api/fault/stalled-writer HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .expect("it is sent");
    let status = told(&manager, "STATUS=not fed");
    assert!(
        status.contains("the database writer does not answer"),
        "{status}"
    );
    assert!(
        !status.contains("root") && !status.contains("port"),
        "{status}"
    );
    let (code, body) = ready(&gateway.management).await;
    assert_eq!((code, &body["status"]), (503, &json!("not_ready")));
    let reasons = body["reasons"].to_string();
    assert!(
        reasons.contains("the database writer does not answer"),
        "{reasons}"
    );
    // Completions go on meanwhile (R4).
    let url = format!("{}/v1/chat/completions", gateway.router);
    let answer = client().post(&url).json(&say("echo", "still here")).send();
    assert_eq!(answer.await.expect("an answer").status(), 200);
    let quiet = Instant::now();
    let mut message = [0; 2_048];
    while quiet.elapsed() < PERIOD {
        if let Ok(length) = manager.recv(&mut message) {
            let message = String::from_utf8_lossy(&message[..length]);
            assert!(!message.contains("WATCHDOG=1"), "it is fed all the same");
        }
    }

    drop(stalling);
    told(&manager, "STATUS=serving");
    told(&manager, "WATCHDOG=1");
    assert_eq!(ready(&gateway.management).await.0, 200);
    gateway.signal("TERM");
    told(&manager, "STOPPING=1");
    assert!(gateway.wait().success());
}

/// The head of the answer to a request that was sent before anybody accepted the connection.
fn answered(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut head = [0; 15];
    stream.read_exact(&mut head).expect("an answer");
    String::from_utf8_lossy(&head).into_owned()
}

fn asking(listener: &TcpListener) -> TcpStream {
    let address = listener.local_addr().expect("an address");
    let mut stream = TcpStream::connect(address).expect("nobody is refused");
    stream
        .write_all(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .expect("it is sent");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn r29_on_an_inherited_socket_nobody_is_refused_while_the_gateway_is_away() {
    let dir = TempDir::new().expect("a directory");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener
        .local_addr()
        .expect("an address")
        .port()
        .to_string();
    let early = asking(&listener);
    let mut gateway = Binary::inheriting(dir.path(), &["--port", &port], &listener);
    assert_eq!(gateway.router, format!("http://127.0.0.1:{port}"));
    assert_eq!(answered(early), "HTTP/1.1 200 OK");

    gateway.kill();
    let between = asking(&listener);
    let mut gateway = Binary::inheriting(dir.path(), &["--port", &port], &listener);
    assert_eq!(answered(between), "HTTP/1.1 200 OK");

    // The service manager listens on, so a closed gateway is one that makes its clients wait.
    let ask = |path: &str| {
        client()
            .post(format!("{}{path}", gateway.management))
            .send()
    };
    assert_eq!(
        ask("/api/proxy/stop").await.expect("an answer").status(),
        200
    );
    let waiting = asking(&listener);
    assert_eq!(
        ask("/api/proxy/start").await.expect("an answer").status(),
        200
    );
    assert_eq!(answered(waiting), "HTTP/1.1 200 OK");
    gateway.signal("TERM");
    assert!(gateway.wait().success());
}

#[test]
fn a_socket_that_listens_elsewhere_is_refused_at_the_start() {
    let dir = TempDir::new().expect("a directory");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (status, said) = binary::fails_inheriting(dir.path(), &[], &listener);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains(&address) && said.contains("server.port"),
        "{said}"
    );
}
