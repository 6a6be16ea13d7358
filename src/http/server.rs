//! The server: what it needs, its limits, and the table of its routes.

use std::net::TcpListener;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::{App, HttpServer, web};
use tokio_util::sync::CancellationToken;

use super::route::{get, package, post, put_delete};
use super::{change, health, plan, read, rebuild, route, wave};
use crate::dispatch::worker::Inbox;
use crate::ingest::Core;

/// What handlers work with.
#[derive(Clone)]
pub struct ApiState {
    /// Store, rules and clock.
    pub core: Core,
    /// The way to the worker.
    pub inbox: Inbox,
    /// Cancelled when the process is told to stop: whoever waits (`?wait=`) is answered at once, instead of holding up the
    /// shutdown.
    pub stopping: CancellationToken,
}

/// Limits and patience.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The most bytes of a body, as sent and decoded (413).
    pub body_limit: u64,
    /// The most bytes of a body without its attachments (413).
    pub document_limit: usize,
    /// How long a request's head may take.
    pub header_timeout: Duration,
    /// How long a body may make no progress (408).
    pub body_timeout: Duration,
    /// How long a connection may be idle between two requests.
    pub keep_alive: Duration,
    /// How long a connection is read on after an early error, so that a client that is still sending hears the answer.
    pub linger: Duration,
    /// How long the store and the worker may take to say that they are ready.
    pub ready_timeout: Duration,
    /// How long a graceful stop waits for requests under way.
    pub shutdown_timeout: Duration,
    /// Threads that serve, at least one.
    pub workers: usize,
}

impl Default for ServerOptions {
    /// 500 MB, 1 MiB, and as many threads as there are processors, between 2 and 8.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            body_limit: 500_000_000,
            document_limit: 1 << 20,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_mins(1),
            keep_alive: Duration::from_secs(75),
            linger: Duration::from_secs(5),
            ready_timeout: Duration::from_secs(2),
            shutdown_timeout: Duration::from_secs(10),
            workers: processors.clamp(2, 8),
        }
    }
}

/// Starts serving on a listener that is bound already. The server is a future: it must be awaited (or spawned) to run, ends
/// when it is stopped, and is stopped by its `handle()`. It does not listen for signals.
///
/// # Errors
/// The listener cannot be made non-blocking.
pub fn serve(
    listener: TcpListener,
    state: ApiState,
    options: &ServerOptions,
) -> std::io::Result<Server> {
    let seconds = options.shutdown_timeout.as_secs();
    let (workers, header_timeout) = (options.workers.max(1), options.header_timeout);
    let (keep_alive, linger) = (options.keep_alive, options.linger);
    let options = web::Data::new(options.clone());
    let state = web::Data::new(state);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(state.clone())
            .app_data(options.clone())
            .configure(routes)
            .default_service(web::to(route::nothing))
            .wrap(from_fn(route::trace))
            .wrap(from_fn(route::tolerate))
            .wrap(
                DefaultHeaders::new()
                    .add(("Cache-Control", "no-store"))
                    .add(("X-Content-Type-Options", "nosniff")),
            )
    })
    // Answers are small and often in pieces: without it each piece waits for the client to acknowledge the one before.
    .tcp_nodelay(true)
    .workers(workers)
    .client_request_timeout(header_timeout)
    .client_disconnect_timeout(linger)
    .keep_alive(keep_alive)
    .shutdown_timeout(seconds)
    .disable_signals()
    .listen(listener)?;
    Ok(server.run())
}

/// The table of routes (design.md 6).
fn routes(config: &mut web::ServiceConfig) {
    config
        .service(post("/v2/change/{env}", change::to_environment))
        .service(post("/change/{env}", change::to_environment))
        .service(post("/change", change::anywhere))
        .service(post("/plan/{env}", plan::for_environment))
        .service(post("/plan", plan::anywhere))
        .service(get("/healthcheck", health::alive))
        .service(get("/healthcheck.html", health::alive))
        .service(get("/livez", health::alive))
        .service(get("/readyz", health::ready))
        .service(get("/status", health::status))
        .service(get(concat!("/release-line/", package!()), read::head_line))
        .service(get(
            concat!("/release-line/", package!(), "/{version}"),
            read::line,
        ))
        .service(get("/changes", read::changes))
        .service(get("/changes/{id}", read::change))
        .service(post("/changes/{id}/replay", wave::replay))
        .service(get("/waves", wave::waves))
        .service(get("/waves/{id}", wave::wave_by_id))
        .service(post("/waves/{id}/approve", wave::approve))
        .service(post("/waves/{id}/cancel", wave::cancel))
        .service(post("/outcomes", wave::outcome))
        .service(get("/holds", wave::holds))
        .service(put_delete(
            concat!("/holds/", package!()),
            wave::hold,
            wave::unhold,
        ))
        .service(get(concat!("/why/", package!()), wave::why))
        .service(get("/packages", read::packages))
        .service(get(
            concat!("/packages/", package!(), "/versions"),
            read::versions,
        ))
        .service(get(
            concat!("/packages/", package!(), "/dependents"),
            read::dependents,
        ))
        .service(get(
            concat!("/packages/", package!(), "/dependent-of"),
            read::parents,
        ))
        .service(get(
            concat!("/packages/", package!(), "/release-lines"),
            read::lines,
        ))
        .service(get(
            concat!("/packages/", package!(), "/impact"),
            read::impact,
        ))
        .service(get(concat!("/packages/", package!()), read::package))
        .service(post("/rebuilds", wave::by_hand))
        .service(get("/rebuilds/{id}", rebuild::rebuild))
        .service(post("/rebuilds/{id}/retry", rebuild::retry));
}
