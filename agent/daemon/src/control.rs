//! The control socket: enrol, unenrol, list, status; root alone, and never for a peer in an enrolled cgroup.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use callgate_enroll::peer_is_enrolled;
use callgate_model::{FailMode, Mode, Workload, WorkloadName};
use callgate_proto::v1::control_server::{Control, ControlServer};
use callgate_proto::v1::{
    EnrollReply, EnrollRequest, EnrolledWorkload, FailMode as ProtoFailMode, Mode as ProtoMode, StatusReply,
    StatusRequest, UnenrollReply, UnenrollRequest, WorkloadsReply, WorkloadsRequest,
};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::warn;

use crate::Agent;

/// Path of the control socket below the runtime directory.
#[must_use]
pub fn socket_path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("agent.sock")
}

/// Listens at `path`, in place of a socket that a killed agent left.
///
/// # Errors
/// If the socket cannot be made.
pub fn listen(path: &Path) -> Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace `{}`", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on `{}`", path.display()))?;
    rustix::fs::chmod(path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
        .with_context(|| format!("cannot protect `{}`", path.display()))?;
    Ok(listener)
}

/// Serves the control socket that [`listen`] made at `path` until `stopping`.
///
/// # Errors
/// If serving fails.
pub async fn serve(
    agent: Arc<Agent>,
    listener: UnixListener,
    path: PathBuf,
    stopping: CancellationToken,
) -> Result<()> {
    let guard = Arc::clone(&agent);
    let handed_over = agent.handed_over().clone();
    let peers = UnixListenerStream::new(listener).filter(move |peer| match peer {
        Ok(stream) => admitted(&guard, stream),
        Err(_) => true,
    });
    tonic::transport::Server::builder()
        .add_service(ControlServer::new(Service { agent }))
        .serve_with_incoming_shutdown(peers, stopping.cancelled_owned())
        .await
        .context("the control socket failed")?;
    // A successor listens at the same path by then.
    if !handed_over.is_cancelled() {
        let _ = std::fs::remove_file(&path);
    }
    Ok(())
}

/// A peer in an enrolled cgroup is turned away, whatever its uid.
fn admitted(agent: &Agent, stream: &UnixStream) -> bool {
    let Ok(peer) = stream.peer_cred() else { return false };
    let Some(pid) = peer.pid().and_then(|pid| u32::try_from(pid).ok()) else { return false };
    match peer_is_enrolled(pid, agent.roster()) {
        Ok(false) => true,
        Ok(true) => {
            warn!(pid, "a process of an enrolled workload was turned away from the control socket");
            false
        }
        Err(error) => {
            warn!(pid, %error, "a peer of the control socket could not be placed: turned away");
            false
        }
    }
}

struct Service {
    agent: Arc<Agent>,
}

#[tonic::async_trait]
impl Control for Service {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollReply>, Status> {
        let request = request.into_inner();
        let mode = match request.mode() {
            ProtoMode::Observe => Mode::Observe,
            ProtoMode::Enforce | ProtoMode::Unspecified => Mode::Enforce,
        };
        let fail = match request.fail() {
            ProtoFailMode::Open => FailMode::Open,
            ProtoFailMode::Observe => FailMode::Observe,
            ProtoFailMode::Closed | ProtoFailMode::Unspecified => FailMode::Closed,
        };
        let name = Some(request.name).filter(|name| !name.is_empty()).map(WorkloadName::try_from).transpose();
        let name = name.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let agent = Arc::clone(&self.agent);
        let enrol = move || agent.enrol_path(Path::new(&request.path), name.as_ref(), (mode, fail), request.replace);
        let (workload, already) = tokio::task::spawn_blocking(enrol)
            .await
            .map_err(|_| Status::internal("the enrolment failed"))?
            .map_err(|error| Status::failed_precondition(format!("{error:#}")))?;
        Ok(Response::new(EnrollReply { workload: Some(self.shown(&workload)), already }))
    }

    async fn unenroll(&self, request: Request<UnenrollRequest>) -> Result<Response<UnenrollReply>, Status> {
        let path = request.into_inner().path;
        let agent = Arc::clone(&self.agent);
        tokio::task::spawn_blocking(move || agent.unenrol_path(Path::new(&path)))
            .await
            .map_err(|_| Status::internal("the enrolment could not be ended"))?
            .map_err(|error| Status::not_found(format!("{error:#}")))?;
        Ok(Response::new(UnenrollReply {}))
    }

    async fn workloads(&self, _: Request<WorkloadsRequest>) -> Result<Response<WorkloadsReply>, Status> {
        let mut workloads: Vec<_> = self.agent.roster().list().iter().map(|workload| self.shown(workload)).collect();
        workloads.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Response::new(WorkloadsReply { workloads }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let agent = Arc::clone(&self.agent);
        let told = tokio::task::spawn_blocking(move || agent.status()).await;
        Ok(Response::new(told.map_err(|_| Status::internal("the status could not be told"))?))
    }
}

impl Service {
    fn shown(&self, workload: &Workload) -> EnrolledWorkload {
        let tally = self.agent.tally(workload.cgroup);
        EnrolledWorkload {
            id: workload.id.clone(),
            cgroup: workload.cgroup.0,
            cgroup_path: workload.cgroup_path.display().to_string(),
            mode: match workload.mode {
                Mode::Enforce => ProtoMode::Enforce,
                Mode::Observe => ProtoMode::Observe,
            } as i32,
            fail: match workload.fail {
                FailMode::Closed => ProtoFailMode::Closed,
                FailMode::Open => ProtoFailMode::Open,
                FailMode::Observe => ProtoFailMode::Observe,
            } as i32,
            session: workload.session.map(|session| session.0.as_bytes().to_vec()).unwrap_or_default(),
            weakened: workload.weakened.clone(),
            trust: self.agent.trust_of(workload),
            connections: tally.open.load(std::sync::atomic::Ordering::Relaxed),
            calls: tally.calls.load(std::sync::atomic::Ordering::Relaxed),
        }
    }
}
