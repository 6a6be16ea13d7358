//! The sandbox's server: its thread and its routes.

use super::{Neighbours, State, build, control, npm, reply, warehouse};
use actix_web::{App, HttpServer, web};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A client that uses no proxy.
pub(super) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().build()
}

/// The server's thread: ends when the server was stopped.
pub(super) fn serve(
    state: Arc<State>,
    listener: TcpListener,
    started: oneshot::Sender<io::Result<actix_web::dev::ServerHandle>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error))),
    };
    runtime.block_on(async {
        match server(state, listener) {
            Ok(server) => {
                let _ = started.send(Ok(server.handle()));
                let _ = server.await;
            }
            Err(error) => drop(started.send(Err(error))),
        }
    });
}

/// A package name in a path: `root`, `@s/c`, `%40s%2Fc`.
const NAME: &str = "(?:@[^/]+/)?[^/]+";

fn server(state: Arc<State>, listener: TcpListener) -> io::Result<actix_web::dev::Server> {
    // One client for each run: its connections live on the worker's runtime.
    let client = client().map_err(io::Error::other)?;
    let here = web::Data::new(Neighbours { state, client });
    let server = HttpServer::new(move || {
        let path = |text: &str| text.replace("NAME", NAME);
        App::new()
            .app_data(here.clone())
            .app_data(web::PayloadConfig::new(64 * 1024 * 1024))
            .service(web::resource("/build/v2/build").route(web::post().to(build::build)))
            .service(
                web::resource(path("/warehouse/{name:NAME}"))
                    .route(web::put().to(warehouse::publish)),
            )
            .service(web::resource("/npm/-/v1/search").route(web::get().to(npm::search)))
            .service(
                web::resource(path("/npm/-/package/{name:NAME}/dist-tags"))
                    .route(web::get().to(npm::tags)),
            )
            .service(
                web::resource(path("/npm/-/package/{name:NAME}/dist-tags/{tag}"))
                    .route(web::put().to(npm::put_tag))
                    .route(web::post().to(npm::put_tag)),
            )
            .service(
                web::resource([
                    path("/npm/-/moved/{name:NAME}/-/{file:NAME}"),
                    path("/npm/{name:NAME}/-/{file:NAME}"),
                ])
                .route(web::get().to(npm::tarball))
                .route(web::head().to(npm::tarball)),
            )
            .service(
                web::resource(path("/npm/{name:NAME}"))
                    .route(web::get().to(npm::packument))
                    .route(web::head().to(npm::packument)),
            )
            .service(
                web::resource("/control/requests")
                    .route(web::get().to(control::requests))
                    .route(web::delete().to(control::forget)),
            )
            .service(
                web::resource("/control/faults")
                    .route(web::post().to(control::faults))
                    .route(web::delete().to(control::clear_faults)),
            )
            .service(web::resource("/control/report-to").route(web::post().to(control::report_to)))
            .service(web::resource("/control/publish").route(web::post().to(control::publish)))
    })
    .on_connect(|stream, data| {
        if let Some(connection) = reply::Connection::of(stream) {
            data.insert(connection);
        }
    })
    .tcp_nodelay(true)
    .workers(1)
    .disable_signals()
    .shutdown_timeout(1)
    .keep_alive(Duration::from_secs(75))
    .client_request_timeout(Duration::ZERO)
    .listen(listener)?
    .run();
    Ok(server)
}
