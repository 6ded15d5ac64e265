//! Connections to the socket. Not tonic's own loop: that answers a call whose `grpc-timeout` has passed with
//! CANCELLED (its `TimeoutExpired`), where gRPC has DEADLINE_EXCEEDED. Here a caller keeps his own time, and leaves;
//! what he began is done to its end all the same.

use crate::authority::Plain;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::time::Duration;
use tokio::net::UnixListener;
use tonic::service::Routes;

/// How long is waited where no connection can be taken, for want of descriptors as a rule.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes connections until `stop` is ready, then waits until the calls that are under way have been answered.
pub(crate) async fn serve(listener: UnixListener, routes: Routes, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            // As many as are asked: what waits is bounded by pods.
            .max_concurrent_streams(None)
            .serve_connection(TokioIo::new(Plain::new(stream)), TowerToHyperService::new(routes.clone()));
        let connection = graceful.watch(connection);
        // One that breaks off concerns nobody else.
        tokio::spawn(async move { connection.await.ok() });
    }
    drop(listener);
    graceful.shutdown().await;
}
