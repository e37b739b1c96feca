//! What a plan costs: `cargo bench --bench routing`.
//!
//! Serves 100 providers with 50 models each and asks the router, in one message each as requests do, where the model goes
//! that every provider has: 100 targets. `echo` has one target and shows what a message costs by itself. Then the way from
//! one incarnation of the router to the next. Prints tables; measures, and judges nothing.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench's own work"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use qwarden::gateway::{Config, Gateway};
use qwarden::measure::{EVERYWHERE, Routes};
use serde_json::json;

const PROVIDERS: usize = 100;
const MODELS: usize = 50;
const CALLERS: usize = 8;
const PLANS: usize = 50_000;
const LOADS: usize = 20;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    println!(
        "| {PROVIDERS} targets, by strategy | callers | p10 | p50 | p90 | p99 | p99.9 | plans/s |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for strategy in ["priority", "weighted", "least_latency", "sticky"] {
        runtime.block_on(plans(strategy));
    }
}

async fn served(strategy: &str) -> (tempfile::TempDir, Gateway, Arc<Routes>) {
    let dir = tempfile::tempdir().expect("a folder");
    let settings = [
        ("server.port", json!(0)),
        ("server.qwenPort", json!(0)),
        ("server.apiPort", json!(0)),
        ("system.discovery", json!(false)),
        ("routing.strategy", json!(strategy)),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value));
    let gateway = Gateway::start(Config {
        data_dir: dir.path().join("data"),
        settings: settings.to_vec(),
        ..Config::default()
    })
    .await
    .expect("the gateway starts");
    let routes = Routes::fill(&gateway, PROVIDERS, MODELS).await;
    (dir, gateway, Arc::new(routes.expect("providers")))
}

async fn plans(strategy: &str) {
    let (_dir, gateway, routes) = served(strategy).await;
    assert!(routes.plan(EVERYWHERE).await.expect("a plan") > 1);
    for (model, callers) in [
        ("echo", 1),
        ("echo", CALLERS),
        (EVERYWHERE, 1),
        (EVERYWHERE, CALLERS),
    ] {
        let began = Instant::now();
        let asking = (0..callers).map(|_| {
            let routes = routes.clone();
            tokio::runtime::Handle::current().spawn(async move {
                let mut took = Vec::with_capacity(PLANS / callers);
                for _ in 0..PLANS / callers {
                    let began = Instant::now();
                    routes.plan(model).await.expect("a plan");
                    took.push(began.elapsed());
                }
                took
            })
        });
        let mut took = Vec::with_capacity(PLANS);
        for caller in asking.collect::<Vec<_>>() {
            took.extend(caller.await.expect("a caller"));
        }
        let rate = f64::from(u32::try_from(took.len()).unwrap_or(u32::MAX))
            / began.elapsed().as_secs_f64();
        took.sort_unstable();
        let at = |part: usize| micros(took[(took.len() - 1) * part / 1_000]);
        println!(
            "| {strategy} {model} | {callers} | {:.1} µs | {:.1} µs | {:.1} µs | {:.1} µs | {:.1} µs | {rate:.0} |",
            at(100),
            at(500),
            at(900),
            at(990),
            at(999),
        );
    }
    restart(&routes).await;
    gateway.shutdown(Duration::from_secs(5)).await;
}

/// The first crash only: later ones wait for their turn to be restarted.
async fn restart(routes: &Routes) {
    let mut took = Vec::with_capacity(LOADS);
    for _ in 0..LOADS {
        let began = Instant::now();
        routes.refresh().await.expect("tables");
        took.push(began.elapsed());
    }
    took.sort_unstable();
    let began = Instant::now();
    assert!(routes.crash());
    routes.plan(EVERYWHERE).await.expect("a plan");
    println!(
        "| {PROVIDERS} providers, {} models: from a crash to the next plan {:.1?}; read anew from the tables p50 {:.1?}, worst of {LOADS} {:.1?} |",
        PROVIDERS * MODELS,
        began.elapsed(),
        took[LOADS / 2],
        took[LOADS - 1],
    );
}

fn micros(took: Duration) -> f64 {
    took.as_secs_f64() * 1e6
}
