//! Stand-in neighbours of feedsme on loopback: build service, warehouse and npm registry. See `feedsme::sandbox`.

use clap::Parser;
use feedsme::sandbox::{Sandbox, SandboxOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Plays build service, warehouse and npm registry for feedsme, on loopback.
#[derive(Parser)]
#[command(name = "feedsme-sandbox", version)]
struct Arguments {
    /// Address and port; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Base URL of feedsme, told of every build; can be set later with POST /control/report-to
    #[arg(long, value_name = "URL")]
    report_to: Option<String>,
    /// Status for a version that exists already
    #[arg(long, default_value_t = 403, value_parser = clap::value_parser!(u16).range(400..600))]
    conflict_status: u16,
    /// Most bytes of a request body
    #[arg(long, default_value_t = 1024 * 1024 * 1024, value_name = "BYTES")]
    body_limit: u64,
    /// Milliseconds before each line of the build service
    #[arg(long, default_value_t = 0, value_name = "MS")]
    line_pause: u64,
    /// Do not keep the received documents in the record
    #[arg(long)]
    forget_documents: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut sandbox = Sandbox::start(SandboxOptions {
        listen: arguments.listen,
        report_to: arguments.report_to,
        conflict_status: arguments.conflict_status,
        body_limit: arguments.body_limit,
        line_pause: Duration::from_millis(arguments.line_pause),
        keep_documents: !arguments.forget_documents,
        ..SandboxOptions::default()
    })
    .await?;
    let mut out = io::stdout();
    writeln!(out, "build service {}", sandbox.build_service_url())?;
    writeln!(out, "warehouse     {}", sandbox.warehouse_url())?;
    writeln!(out, "registry      {}", sandbox.registry_url())?;
    writeln!(out, "control       {}", sandbox.control_url())?;
    out.flush()?;
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
    }
    sandbox.stop().await;
    Ok(())
}
