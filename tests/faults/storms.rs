//! An actor that dies whenever it comes back (R12): what it does is refused, the rest works, and the log stays readable.

use std::fs::File;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::binary::Binary;
use crate::support::{PATIENCE, client, figures, say};

const STORM: Duration = Duration::from_secs(4);
/// R12, and the few lines that tell of the start.
const LINES_PER_SECOND: usize = 10;
const LINES_AT_START: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn r12_a_storm_of_crashes_stays_with_its_actor_and_passes() {
    let mut most = 0;
    let mut healed = Vec::new();
    for actor in ["database", "router", "events", "qwen-sessions"] {
        let dir = TempDir::new().expect("a directory");
        let log = dir.path().join("log");
        let binary = Binary::logging(
            &dir.path().join("data"),
            &[],
            File::create(&log).expect("a file"),
        );
        let client = client();
        let began = Instant::now();
        let (mut crashes, mut looks) = (0_u32, 0_u32);
        while began.elapsed() < STORM {
            let crash = client.post(format!("{}/api/fault/crash/{actor}", binary.management));
            let answer = crash.send().await.expect("an answer");
            crashes += u32::from(answer.status() == 200);
            let live = client.get(format!("{}/api/health", binary.management));
            assert_eq!(
                live.send().await.expect("an answer").status(),
                200,
                "{actor}"
            );
            let models = client.get(format!("{}/health", binary.router));
            assert_eq!(
                models.send().await.expect("an answer").status(),
                200,
                "{actor}"
            );
            looks += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(
            crashes > 5 && looks > 5,
            "{actor}: {crashes} crashes, {looks} looks"
        );
        let lines = std::fs::read_to_string(&log)
            .expect("a log")
            .lines()
            .count();
        let allowed =
            LINES_AT_START + LINES_PER_SECOND * usize::try_from(STORM.as_secs()).expect("few");
        assert!(lines <= allowed, "{actor}: {lines} lines in {STORM:?}");
        most = most.max(lines);
        let over = Instant::now();
        loop {
            let health = client
                .get(format!("{}/api/health", binary.management))
                .send();
            let health: Value = health.await.expect("an answer").json().await.expect("JSON");
            if health["actors"][actor]["state"] == "running" {
                assert!(
                    health["actors"][actor]["restarts"].as_u64() > Some(5),
                    "{actor}: {health}"
                );
                break;
            }
            assert!(
                over.elapsed() < PATIENCE + PATIENCE,
                "{actor} does not heal: {health}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        healed.push(over.elapsed());
        let chat = client.post(format!("{}/v1/chat/completions", binary.router));
        let answer = chat
            .json(&say("echo", "hi"))
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 200, "{actor}");
    }
    figures::record("R12", "most log lines in a storm of 4 s", most);
    figures::record_times("R12", "from the end of the storm to healed", &mut healed);
}
