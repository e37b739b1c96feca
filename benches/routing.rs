//! What a plan costs: `cargo bench --bench routing`, or with ` -- registry` only how the router is made anew.
//!
//! Serves 100 providers with 50 models each and asks the router, in one message each as requests do, where the model goes
//! that every provider has: 100 targets. `echo` has one target and shows what a message costs by itself. Callers that never
//! pause show the most plans there can be, and wait for each other; those that come one after another, 1,000 plans a second
//! in all, what a plan costs a request. Then the way from one incarnation of the router to the next. Prints tables; measures,
//! and judges nothing.
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
use tokio::sync::oneshot;

const PROVIDERS: usize = 100;
const MODELS: usize = 50;
const CALLERS: usize = 8;
const PLANS: usize = 50_000;
const LOADS: usize = 200;
/// Plans of callers that pause, and how far they are apart.
const PACED: usize = 4_000;
const APART: Duration = Duration::from_millis(1);

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if std::env::args().any(|argument| argument == "registry") {
        return runtime.block_on(async {
            let (_dir, gateway, routes) = served("priority").await;
            restart(&routes).await;
            gateway.shutdown(Duration::from_secs(5)).await;
        });
    }
    println!(
        "| {PROVIDERS} targets, by strategy | callers | p10 | p50 | p90 | p99 | p99.9 | plans/s |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    runtime.block_on(bare());
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

/// An actor of the same library that answers at once: what a call costs before there is anything to plan.
struct Bare;

impl ractor::Actor for Bare {
    type Msg = oneshot::Sender<()>;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ractor::ActorRef<Self::Msg>,
        (): (),
    ) -> Result<(), ractor::ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ractor::ActorRef<Self::Msg>,
        reply: Self::Msg,
        (): &mut (),
    ) -> Result<(), ractor::ActorProcessingErr> {
        let _ = reply.send(());
        Ok(())
    }
}

async fn bare() {
    let (bare, running) = ractor::Actor::spawn(None, Bare, ())
        .await
        .expect("an actor");
    for (callers, pauses) in [(1, false), (CALLERS, false), (CALLERS, true)] {
        let bare = bare.clone();
        let ask = move || {
            let bare = bare.clone();
            async move {
                let (reply, answer) = oneshot::channel();
                bare.send_message(reply).expect("it lives");
                answer.await.expect("an answer");
            }
        };
        timed("no plan, the actor library alone", callers, pauses, ask).await;
    }
    bare.stop(None);
    running.await.expect("it ends");
}

async fn plans(strategy: &str) {
    let (_dir, gateway, routes) = served(strategy).await;
    assert!(routes.plan(EVERYWHERE).await.expect("a plan") > 1);
    for (model, callers, pauses) in [
        ("echo", 1, false),
        ("echo", CALLERS, false),
        ("echo", CALLERS, true),
        (EVERYWHERE, 1, false),
        (EVERYWHERE, CALLERS, false),
        (EVERYWHERE, CALLERS, true),
    ] {
        let routes = routes.clone();
        let ask = move || {
            let routes = routes.clone();
            async move {
                routes.plan(model).await.expect("a plan");
            }
        };
        timed(&format!("{strategy} {model}"), callers, pauses, ask).await;
    }
    restart(&routes).await;
    gateway.shutdown(Duration::from_secs(5)).await;
}

/// Asks again and again from as many tasks, and prints how long each answer took.
async fn timed<F, A>(what: &str, callers: usize, pauses: bool, ask: F)
where
    F: Fn() -> A + Clone + Send + 'static,
    A: Future<Output = ()> + Send,
{
    let began = Instant::now();
    let calls = if pauses { PACED } else { PLANS };
    let asking = (0..callers).map(|caller| {
        let ask = ask.clone();
        tokio::runtime::Handle::current().spawn(async move {
            let mut took = Vec::with_capacity(calls / callers);
            let mut turn = began + APART * u32::try_from(caller).unwrap_or(0);
            for _ in 0..calls / callers {
                if pauses {
                    tokio::time::sleep_until(turn.into()).await;
                    turn += APART * u32::try_from(callers).unwrap_or(1);
                }
                let began = Instant::now();
                ask().await;
                took.push(began.elapsed());
            }
            took
        })
    });
    let mut took = Vec::with_capacity(calls);
    for caller in asking.collect::<Vec<_>>() {
        took.extend(caller.await.expect("a caller"));
    }
    let rate =
        f64::from(u32::try_from(took.len()).unwrap_or(u32::MAX)) / began.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |part: usize| micros(took[(took.len() - 1) * part / 1_000]);
    println!(
        "| {what} | {callers}{} | {:.1} µs | {:.1} µs | {:.1} µs | {:.1} µs | {:.1} µs | {rate:.0} |",
        if pauses { ", one after another" } else { "" },
        at(100),
        at(500),
        at(900),
        at(990),
        at(999),
    );
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
