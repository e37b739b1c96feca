//! `qwarden serve`: runs the gateway until it is told to stop.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::data_dir;
use crate::cli::logging::{self, Format};
use crate::cli::service::{self, Service};
use crate::gateway::{Config, Gateway};
use crate::settings;

/// Flags win over stored settings, which win over the environment's older names.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Address to listen on.
    #[arg(long, env = "QWARDEN_HOST")]
    host: Option<String>,
    /// Port of the router [default: 3001].
    #[arg(long, env = "QWARDEN_PORT")]
    port: Option<u16>,
    /// Port of the Qwen proxy [default: 3000].
    #[arg(long, env = "QWARDEN_QWEN_PORT")]
    qwen_port: Option<u16>,
    /// Port of the management API [default: 3002].
    #[arg(long, env = "QWARDEN_API_PORT")]
    api_port: Option<u16>,
    /// Port that speaks Ollama's API; 0 is off [default: 0].
    #[arg(long, env = "QWARDEN_OLLAMA_PORT")]
    ollama_port: Option<u16>,
    /// Where the database lives [default: the platform's data directory].
    #[arg(long, env = "QWARDEN_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Serve management only; POST /api/proxy/start opens the other ports.
    #[arg(long)]
    no_gateway: bool,
    /// Do not look for local model servers.
    #[arg(long)]
    no_discovery: bool,
    /// Least severe level to log: debug, info, warn, error.
    #[arg(long, env = "QWARDEN_LOG_LEVEL")]
    log_level: Option<String>,
    /// How log lines look.
    #[arg(long, env = "QWARDEN_LOG_FORMAT", value_enum, default_value = "auto")]
    log_format: Format,
    /// Listen on any address, even without an admin token or where API keys are never required.
    #[arg(long)]
    insecure: bool,
    /// Any setting, for this run: --set server.timeout=60000.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Holds the admin token: a flag would show it to every user of the machine.
const ADMIN_TOKEN: &str = "QWARDEN_ADMIN_TOKEN";

/// Exit code of a second signal: the shell's own for SIGINT.
const INTERRUPTED: u8 = 130;

pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let sockets = service::sockets()?;
    let service = Service::of(|name| std::env::var(name).ok());
    let level = logging::start(
        options.log_format,
        options.log_level.as_deref().unwrap_or("info"),
    )?;
    let config = Config {
        sockets,
        ..options.config()?
    };
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    let code = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be heard")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be heard")?;
        let mut gateway = Gateway::start(config).await?;
        for warning in gateway.warnings() {
            tracing::warn!(warning, "a stored setting is not in force");
        }
        announce(&gateway);
        service.ready();
        let asked_to_end = gateway.asked_to_end();
        let pulse = gateway.pulse().clone();
        let levels = gateway.follow_log_level(|now| level.set(now));
        tokio::select! {
            never = service.watch(&pulse) => match never {},
            () = levels => {}
            () = gateway.ended() => {
                tracing::error!("the root supervisor ended; the process ends with it, so that it can be started anew");
                return Ok(ExitCode::FAILURE);
            }
            () = either(&mut terminate, &mut interrupt) => {}
            () = asked_to_end => {}
        }
        service.stopping();
        tracing::info!("stopping: open requests may finish; a second signal ends them at once");
        let grace = gateway.drain_timeout();
        tokio::select! {
            orderly = gateway.shutdown(grace) => {
                Ok(if orderly { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            () = either(&mut terminate, &mut interrupt) => Ok(ExitCode::from(INTERRUPTED)),
        }
    });
    // Whatever still runs now was told to end and did not: it must not hold up the exit.
    runtime.shutdown_background();
    code
}

/// A soft limit is a default of shells, often 1,024; two descriptors per stream need more. Failing is no reason not to serve:
/// fewer connections are taken then.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of file descriptors stays as it is");
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

impl Options {
    fn config(self) -> anyhow::Result<Config> {
        let mut given: Vec<(String, Value)> = Vec::new();
        let mut put = |key: &str, value: Option<Value>| {
            given.extend(value.map(|value| (key.to_owned(), value)));
        };
        put(settings::SERVER_HOST, self.host.map(Value::from));
        put(settings::SERVER_PORT, self.port.map(Value::from));
        put(settings::SERVER_QWEN_PORT, self.qwen_port.map(Value::from));
        put(settings::SERVER_API_PORT, self.api_port.map(Value::from));
        put(settings::OLLAMA_PORT, self.ollama_port.map(Value::from));
        put(settings::LOGGING_LEVEL, self.log_level.map(Value::from));
        put(
            settings::AUTO_START,
            self.no_gateway.then_some(Value::Bool(false)),
        );
        put(
            settings::DISCOVERY,
            self.no_discovery.then_some(Value::Bool(false)),
        );
        put(
            settings::AUTH_ADMIN_TOKEN,
            std::env::var(ADMIN_TOKEN).ok().map(Value::from),
        );
        for pair in self.set {
            let (key, value) = pair
                .split_once('=')
                .with_context(|| format!("`--set {pair}` is not KEY=VALUE"))?;
            if key == settings::AUTH_ADMIN_TOKEN {
                anyhow::bail!(
                    "`{key}` does not belong in a command line, where others see it; use {ADMIN_TOKEN}"
                );
            }
            given.push((
                key.to_owned(),
                serde_json::from_str(value).unwrap_or_else(|_| Value::from(value)),
            ));
        }
        Ok(Config {
            data_dir: data_dir::or_default(self.data_dir)?,
            settings: given,
            insecure: self.insecure,
            ..Config::default()
        })
    }
}

/// The first lines a user sees.
fn announce(gateway: &Gateway) {
    let router = callable(gateway.router_address());
    let text = format!(
        "qwarden {version} is running\n\
         \n  \
           router      http://{router}/v1   OpenAI-compatible, many providers\n  \
           qwen proxy  http://{qwen}/v1   your chat.qwen.ai login\n  \
           management  http://{management}      the dashboard in a browser, and the API\n{ollama}  \
           database    {database}\n\
         \ntry:\n  \
           curl http://{router}/v1/chat/completions -H 'content-type: application/json' \\\n    \
             -d '{{\"model\":\"echo\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello there\"}}]}}'\n\n",
        version = env!("CARGO_PKG_VERSION"),
        qwen = callable(gateway.qwen_address()),
        management = callable(gateway.management_address()),
        ollama = gateway
            .ollama_address()
            .map_or_else(String::new, |address| {
                format!(
                    "  ollama      http://{}      Ollama's API\n",
                    callable(address)
                )
            }),
        database = gateway.database_path().display(),
    );
    // A closed standard output is no reason not to serve.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}

/// What listens everywhere is called here by this machine's own address.
fn callable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}
