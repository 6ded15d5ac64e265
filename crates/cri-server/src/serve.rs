//! The socket, the threads, and the end.

use crate::Options;
use crate::core::{Core, THREADS};
use crate::grpc::Service;
use crate::hooks::Hooks;
use crate::{cleanups, connections, observe};
use crate::streams::Bridge;
use cofferdam_cri_api::v1::image_service_server::ImageServiceServer;
use cofferdam_cri_api::v1::runtime_service_server::RuntimeServiceServer;
use cofferdam_engine::Engine;
use cofferdam_telemetry::Telemetry;
use std::future::Future;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tonic::service::Routes;

/// Greatest message that is taken, bytes; a kubelet takes as much.
const MAX_MESSAGE: usize = 16 << 20;
/// Threads that requests are read and answered with. The work itself is done by others.
const WORKERS: usize = 2;
/// Stack of a thread, bytes: of what a thread does not use, nothing is memory.
const STACK: usize = 2 << 20;
/// How long a thread without work stays.
const KEEP: Duration = Duration::from_secs(3);
/// How long requests that are under way may take when the server ends.
const PARTING: Duration = Duration::from_secs(10);

/// Why CRI is not served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket cannot be listened on.
    #[error("CRI cannot be served on {}: {why}", socket.display())]
    Listen {
        /// The socket.
        socket: PathBuf,
        /// Why.
        why: String,
    },
    /// The streaming server cannot be started.
    #[error("exec, attach and port-forward cannot be served on {at}: {why}")]
    Streaming {
        /// Where.
        at: std::net::SocketAddr,
        /// Why.
        why: String,
    },
    /// Nothing can be told of what is done.
    #[error("telemetry cannot be started: {0}")]
    Telemetry(#[from] cofferdam_telemetry::Error),
    /// The engine cannot be asked.
    #[error("the engine does not say what runs: {0}")]
    Engine(#[from] cofferdam_model::cri::Error),
    /// The operating system refuses threads.
    #[error("no threads to serve CRI with: {0}")]
    Threads(std::io::Error),
}

/// Serves until `stop` is ready, on a runtime of its own, whose threads are few and end when they have
/// nothing to do. Requests that are under way then have ten seconds to end; what they began goes on in
/// their threads, and a next server finds it.
///
/// # Errors
/// Where it cannot listen, or the engine cannot say what runs.
pub fn run(
    options: Options,
    engine: Arc<Engine>,
    hooks: Arc<dyn Hooks>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(THREADS)
        .thread_stack_size(STACK)
        .thread_keep_alive(KEEP)
        .thread_name("cri")
        .enable_all()
        .build()
        .map_err(Error::Threads)?;
    let served = threads.block_on(serve(options, engine, hooks, stop));
    threads.shutdown_timeout(Duration::ZERO);
    served
}

/// As [`run`], within a runtime that the caller has.
///
/// # Errors
/// As those of [`run`].
pub async fn serve(
    options: Options,
    engine: Arc<Engine>,
    hooks: Arc<dyn Hooks>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let (socket, at) = (options.socket.clone(), options.streaming);
    let telemetry = match &options.telemetry {
        Some(telemetry) => telemetry.clone(),
        None => Telemetry::start(cofferdam_telemetry::Options::default())?,
    };
    let mut core = Core::new(options, engine.clone(), hooks, telemetry)?;
    let streams = cofferdam_streaming::Server::start(at, Arc::new(Bridge::new(engine)), cofferdam_streaming::Options::default())
        .await
        .map_err(|e| Error::Streaming { at, why: e.to_string() })?;
    core.streams = Some(streams);
    let core = Arc::new(core);
    core.follow().map_err(Error::Threads)?;
    cleanups::retry(&core).map_err(Error::Threads)?;
    observe::attach(&core);
    // Last: who can connect finds all of it.
    let listener = listen(&socket)?;
    let (ended, mut ending) = (core.ending.clone(), core.ending.subscribe());
    let stop = async move {
        stop.await;
        ended.send_replace(true);
    };
    let service = Service(core);
    let routes = Routes::new(RuntimeServiceServer::new(service.clone()).max_decoding_message_size(MAX_MESSAGE))
        .add_service(ImageServiceServer::new(service).max_decoding_message_size(MAX_MESSAGE))
        .prepare();
    let served = connections::serve(listener, routes, stop);
    // A command that is run, a pull, or a client that does not take its answer.
    let too_long = async {
        let _ = ending.wait_for(|ended| *ended).await;
        tokio::time::sleep(PARTING).await;
    };
    tokio::select! {
        () = served => {}
        () = too_long => {}
    }
    // Ours, unless the next server has made its own in its place already.
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

/// Listens on `socket`. One that nobody listens on is removed; one that somebody does is left alone.
fn listen(socket: &Path) -> Result<UnixListener, Error> {
    let wrong = |why: &dyn std::fmt::Display| Error::Listen {
        socket: socket.to_owned(),
        why: why.to_string(),
    };
    if let Some(parent) = socket.parent() {
        std::fs::create_dir_all(parent).map_err(|e| wrong(&e))?;
    }
    match std::fs::symlink_metadata(socket) {
        Ok(meta) if !meta.file_type().is_socket() => return Err(wrong(&"something else than a socket is there")),
        Ok(_) if std::os::unix::net::UnixStream::connect(socket).is_ok() => return Err(wrong(&"another process listens there")),
        Ok(_) => std::fs::remove_file(socket).map_err(|e| wrong(&e))?,
        Err(_) => {}
    }
    // Bound under a name of its own and renamed, so that nobody connects before the mode is set.
    let fresh = socket.with_extension("new");
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(|e| wrong(&e))?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600)).map_err(|e| wrong(&e))?;
    std::fs::rename(&fresh, socket).map_err(|e| wrong(&e))?;
    Ok(listener)
}
