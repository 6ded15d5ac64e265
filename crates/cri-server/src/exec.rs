//! Verbs that run something in a container or connect to it.

use crate::convert::filter::container_state;
use crate::core::{Core, Note};
use crate::error::{self, Absent};
use crate::images::Counted;
use crate::streams;
use cofferdam_cri_api::v1;
use cofferdam_model::ContainerId;
use cofferdam_model::cri::{ContainerState, Error, SandboxState};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tonic::Status;

/// Most that is kept of the output of all commands at once, about, bytes of each stream: where many run, each
/// keeps its part. It is the daemon's memory, and who may add a probe to a pod fills it.
const ALL_OUTPUT: usize = 256 << 20;

/// What containerd's errors of ExecSync begin with.
const EXEC: &str = "failed to exec in container";

impl Core {
    pub(crate) fn exec_sync(&self, request: v1::ExecSyncRequest, note: &mut Note) -> Result<v1::ExecSyncResponse, Status> {
        // containerd's words (`container_execsync.go`).
        let words: Absent = |id| format!("{EXEC}: failed to find container {id:?} in store");
        let id = self.running(&request.container_id, words, note)?;
        let id = id.map_err(|why| Status::unknown(format!("{EXEC}: {why}")))?;
        if request.cmd.is_empty() {
            return Err(Status::invalid_argument("cmd: it is empty"));
        }
        // Zero and less is without a limit.
        let limit = Duration::from_secs(request.timeout.try_into().unwrap_or(0));
        let _counted = Counted::of(&self.running);
        let share = ALL_OUTPUT / usize::try_from(self.running.load(Relaxed)).unwrap_or(1).max(1);
        let most = self.options.max_exec_output.min(share);
        let output = self.engine.exec_sync_within(&id, &request.cmd, limit, most).map_err(|e| match e {
            // A kubelet knows a probe that took too long by the code, people by containerd's words.
            Error::Timeout(_) => {
                let seconds = limit.as_secs();
                Status::deadline_exceeded(format!("{EXEC}: timeout {seconds}s exceeded: context deadline exceeded"))
            }
            other => error::within(EXEC, other),
        })?;
        Ok(v1::ExecSyncResponse {
            stdout: output.stdout,
            stderr: output.stderr,
            exit_code: output.exit_code,
        })
    }

    pub(crate) fn exec(&self, request: v1::ExecRequest, note: &mut Note) -> Result<v1::ExecResponse, Status> {
        check_streams(request.tty, request.stdin, request.stdout, request.stderr)?;
        if request.cmd.is_empty() {
            return Err(Status::invalid_argument("cmd: it is empty"));
        }
        // `container_exec.go`.
        let words: Absent = |id| format!("failed to find container {id:?} in store");
        let id = self.running(&request.container_id, words, note)?.map_err(Status::unknown)?;
        let url = self.streams()?.exec_url(cofferdam_streaming::ExecRequest {
            container: id.to_string(),
            command: request.cmd,
            tty: request.tty,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        });
        Ok(v1::ExecResponse {
            url: url.map_err(streams::status)?,
        })
    }

    pub(crate) fn attach(&self, request: v1::AttachRequest, note: &mut Note) -> Result<v1::AttachResponse, Status> {
        check_streams(request.tty, request.stdin, request.stdout, request.stderr)?;
        // `container_attach.go`.
        let words: Absent = |id| format!("failed to find container {id:?} in store");
        let id = self.running(&request.container_id, words, note)?.map_err(Status::unknown)?;
        let url = self.streams()?.attach_url(cofferdam_streaming::AttachRequest {
            container: id.to_string(),
            tty: request.tty,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        });
        Ok(v1::AttachResponse {
            url: url.map_err(streams::status)?,
        })
    }

    pub(crate) fn port_forward(&self, request: v1::PortForwardRequest, note: &mut Note) -> Result<v1::PortForwardResponse, Status> {
        // `sandbox_portforward.go`.
        let pod = self.named_pod(&request.pod_sandbox_id, |id| format!("failed to find sandbox {id:?}"), note)?;
        if pod.state != SandboxState::Ready {
            return Err(Status::unknown("sandbox container is not running"));
        }
        let port = |port: &i32| {
            u16::try_from(*port)
                .ok()
                .filter(|p| *p > 0)
                .ok_or_else(|| Status::invalid_argument(format!("port: {port} is no port")))
        };
        let ports = request.port.iter().map(port).collect::<Result<_, _>>()?;
        let url = self.streams()?.port_forward_url(cofferdam_streaming::PortForwardRequest {
            pod: pod.id.to_string(),
            ports,
        });
        Ok(v1::PortForwardResponse {
            url: url.map_err(streams::status)?,
        })
    }

    fn streams(&self) -> Result<&cofferdam_streaming::Server, Status> {
        self.streams.as_ref().ok_or_else(|| Status::unavailable("streams are not served"))
    }

    /// A container that runs, or containerd's sentence on its state.
    fn running(&self, text: &str, words: Absent, note: &mut Note) -> Result<Result<ContainerId, String>, Status> {
        let (_, container) = self.named_container(text, words, note)?;
        Ok(match container.state {
            ContainerState::Running => Ok(container.id),
            other => Err(is_in(other)),
        })
    }
}

/// containerd's words for a container whose state forbids a verb.
pub(crate) fn is_in(state: ContainerState) -> String {
    format!("container is in {} state", container_state(state).as_str_name())
}

/// Kubernetes' rule (`k8s.io/kubelet/pkg/cri/streaming`): at least one stream, and a terminal has no standard error.
fn check_streams(tty: bool, stdin: bool, stdout: bool, stderr: bool) -> Result<(), Status> {
    if tty && stderr {
        return Err(Status::invalid_argument("tty and stderr cannot both be true"));
    }
    if !stdin && !stdout && !stderr {
        return Err(Status::invalid_argument("one of stdin, stdout, or stderr must be set"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_terminal_has_no_standard_error_and_something_is_streamed() {
        for (tty, stdin, stdout, stderr, fits) in [
            (true, true, true, false, true),
            (true, true, true, true, false),
            (false, false, false, true, true),
            (false, false, false, false, false),
        ] {
            assert_eq!(check_streams(tty, stdin, stdout, stderr).is_ok(), fits);
        }
    }
}
