//! Those who call, in an order of chance, and look whether each answer can be true.

use super::model::{Chance, Container, ENDS_WITH, Listener, Model, Pod, container_key, pod_key};
use crate::common::patience;
use crate::cri::bystander::COUNTS;
use crate::cri::{Kubelet, Tally};
use cofferdam_cri_api::v1;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tonic::{Code, Status};

/// Pods there are at most, about.
const CROWD: usize = 8;

/// The answer to a call.
enum Answer<T> {
    Ok(T),
    /// The server said no.
    Refused(Status),
    /// Nobody knows what became of it: the client left, or the daemon died.
    Unknown,
}

impl<T> Answer<T> {
    fn of(answer: Option<Result<T, Status>>) -> Self {
        match answer {
            Some(Ok(answer)) => Self::Ok(answer),
            Some(Err(status)) if is_broken(&status) => Self::Unknown,
            Some(Err(status)) => Self::Refused(status),
            None => Self::Unknown,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Ok(_) => "ok",
            Self::Refused(_) => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether an error is of the connection.
fn is_broken(status: &Status) -> bool {
    let of_transport = [
        "transport error",
        "h2 protocol",
        "stream closed",
        "connection closed",
        "operation was canceled",
    ];
    let text = status.message().to_ascii_lowercase();
    matches!(status.code(), Code::Unavailable | Code::Cancelled) || of_transport.iter().any(|t| text.contains(t))
}

/// One who calls.
pub(crate) struct Caller<'a> {
    pub(crate) kubelet: &'a Kubelet,
    pub(crate) model: &'a Mutex<Model>,
    pub(crate) tally: &'a Mutex<Tally>,
    pub(crate) listener: &'a Listener,
    pub(crate) chance: Chance,
    pub(crate) parent: &'a str,
}

impl Caller<'_> {
    /// Makes one call.
    pub(crate) fn call(&mut self) {
        let crowd = self.model.lock().unwrap().pods.values().filter(|p| !p.removing).count();
        match self.chance.below(100) {
            _ if crowd == 0 => self.run_pod(),
            0..14 if crowd < CROWD => self.run_pod(),
            0..14 => self.remove_pod(),
            14..32 => self.create(),
            32..52 => self.start(),
            52..58 => self.stop(),
            58..65 => self.remove(),
            65..68 => self.stop_pod(),
            68..72 => self.remove_pod(),
            72..79 => self.look(),
            79..83 => self.look_at_pod(),
            83..91 => self.exec(),
            91..94 => self.change(),
            94..97 => self.reopen(),
            97..98 => drop(
                self.kubelet
                    .ask(async |mut c| c.list_pod_sandbox_stats(v1::ListPodSandboxStatsRequest::default()).await),
            ),
            _ => self.bad(),
        }
    }

    fn counted<T>(&self, verb: &str, answer: Option<Result<T, Status>>) -> Answer<T> {
        let answer = Answer::of(answer);
        let mut tally = self.tally.lock().unwrap();
        tally.add(format!("{verb} {}", answer.name()));
        if let Answer::Refused(status) = &answer {
            let text: String = status.message().chars().filter(|c| !c.is_ascii_hexdigit()).take(60).collect();
            tally.add(format!("  {:?} {text}", status.code()));
        }
        answer
    }

    /// How long this caller waits before it leaves; mostly to the end.
    fn patience(&mut self) -> Duration {
        if self.chance.one_in(12) {
            Duration::from_millis(self.chance.below(40))
        } else {
            patience() * 2
        }
    }

    fn ask<T>(&mut self, verb: &str, question: impl AsyncFnOnce(Client) -> Result<tonic::Response<T>, Status>) -> Answer<T> {
        let wait = self.patience();
        let began = Instant::now();
        let answer = self.kubelet.ask_and_leave(wait, question);
        assert!(answer.is_some() || began.elapsed() < patience(), "{verb} was never answered");
        self.counted(verb, answer.map(|a| a.map(tonic::Response::into_inner)))
    }

    /// A container that is known; seldom one that was removed.
    fn a_container(&mut self) -> Option<(String, Container)> {
        let model = self.model.lock().unwrap();
        let removed = self.chance.one_in(10);
        let all: Vec<_> = model.containers.iter().filter(|(_, c)| c.removed == removed).collect();
        let (id, container) = all.get(self.chance.index(all.len().max(1)))?;
        let mut container = (*container).clone();
        container.removed |= model.pods.get(&container.pod).is_some_and(|p| p.removed);
        Some(((*id).clone(), container))
    }

    /// A container that was not started yet, where there is one.
    fn a_made_container(&mut self) -> Option<(String, Container)> {
        let found: Vec<_> = {
            let model = self.model.lock().unwrap();
            let made = model
                .containers
                .iter()
                .filter(|(_, c)| c.rank == 0 && !c.ending && !model.pod_is_down(&c.pod));
            made.map(|(id, c)| (id.clone(), c.clone())).collect()
        };
        if found.is_empty() || self.chance.one_in(4) {
            return self.a_container();
        }
        Some(found[self.chance.index(found.len())].clone())
    }

    /// A container that was started and that nobody ends, where there is one.
    fn a_running_container(&mut self) -> Option<(String, Container)> {
        let running: Vec<_> = {
            let model = self.model.lock().unwrap();
            let well = |c: &Container| c.started && !c.ending && !c.ends_by_itself && !model.pod_is_down(&c.pod);
            let found = model.containers.iter().filter(|(_, c)| well(c));
            found.map(|(id, c)| (id.clone(), c.clone())).collect()
        };
        if running.is_empty() || self.chance.one_in(5) {
            return self.a_container();
        }
        Some(running[self.chance.index(running.len())].clone())
    }

    fn a_pod(&mut self) -> Option<(String, Pod)> {
        let model = self.model.lock().unwrap();
        let removed = self.chance.one_in(10);
        let all: Vec<_> = model.pods.iter().filter(|(_, p)| p.removed == removed).collect();
        let (id, pod) = all.get(self.chance.index(all.len().max(1)))?;
        Some(((*id).clone(), (*pod).clone()))
    }

    fn run_pod(&mut self) {
        let handler = match self.chance.below(100) {
            0..60 => "crun",
            60..72 => "runc",
            72..80 => "runsc",
            80..94 => "faulty",
            _ => "nosuch",
        };
        let name = format!("r{}-{handler}", self.chance.below(5));
        let attempt = u32::try_from(self.chance.below(3)).unwrap();
        let mut config = self.kubelet.pod_config(&name, attempt);
        if self.chance.one_in(2) {
            config.linux.as_mut().unwrap().cgroup_parent = self.parent.to_owned();
        }
        let request = v1::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: handler.into(),
        };
        let key = pod_key(&name, attempt);
        // Found by a list before the answer comes, it is nobody's.
        let was_unanswered = !self.model.lock().unwrap().unanswered.insert(key.clone());
        let answer = self.ask("RunPodSandbox", async |mut c| c.run_pod_sandbox(request).await);
        let mut model = self.model.lock().unwrap();
        match answer {
            Answer::Ok(made) => {
                assert_ne!(handler, "nosuch", "a pod was made under a handler that is none");
                model.new_pod(&made.pod_sandbox_id, &name, attempt, !was_unanswered);
            }
            Answer::Refused(status) if handler == "nosuch" => {
                let told = status.message();
                let reserved = told.contains("is reserved for");
                assert!(told.contains("no runtime for \"nosuch\" is configured") || reserved, "{told}");
            }
            Answer::Refused(status) => {
                let reserved = status.message().contains("is reserved for");
                assert!(reserved || handler == "faulty", "RunPodSandbox of {name}: {status:?}");
            }
            Answer::Unknown => {}
        }
    }

    fn create(&mut self) {
        let Some((pod, known)) = self.a_pod() else { return };
        let name = {
            let mut model = self.model.lock().unwrap();
            model.made += 1;
            // Seldom a name that another has.
            let number = if self.chance.one_in(8) {
                model.made.saturating_sub(2)
            } else {
                model.made
            };
            format!("{}{number}", if self.chance.one_in(3) { "ends" } else { "stays" })
        };
        let script = if name.starts_with("ends") {
            format!("exit {ENDS_WITH}")
        } else {
            COUNTS.to_owned()
        };
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.clone(),
            config: Some(self.kubelet.container_config(&name, 0, &script)),
            sandbox_config: None,
        };
        let first = self.model.lock().unwrap().unanswered.insert(container_key(&pod, &name));
        let answer = self.ask("CreateContainer", async |mut c| c.create_container(request).await);
        let mut model = self.model.lock().unwrap();
        match answer {
            Answer::Ok(made) => {
                assert!(!known.removed, "a container was made in sandbox {pod}, which is removed");
                // What was made before, and is given again, was told of then.
                let fresh = first && !model.containers.contains_key(&made.container_id);
                model.new_container(&made.container_id, &pod, &name);
                if fresh && !self.listener.is_broken() {
                    self.listener.made.lock().unwrap().push(made.container_id);
                }
            }
            Answer::Refused(status) if status.code() == Code::NotFound => assert!(model.pod_is_going(&pod), "{status:?}"),
            Answer::Refused(status) => {
                let reserved = status.message().contains("is reserved for");
                let well = !model.pod_is_down(&pod) && known.handler != "faulty";
                assert!(!well || reserved, "CreateContainer in {known:?}: {status:?}");
            }
            Answer::Unknown => {}
        }
    }

    fn start(&mut self) {
        let Some((id, known)) = self.a_made_container() else { return };
        let request = v1::StartContainerRequest { container_id: id.clone() };
        let answer = self.ask("StartContainer", async |mut c| c.start_container(request).await);
        let mut model = self.model.lock().unwrap();
        let (down, gone) = (model.pod_is_down(&known.pod), model.may_be_gone(&id));
        let faulty = model.pods.get(&known.pod).is_none_or(|p| p.handler == "faulty");
        let container = model.containers.get_mut(&id).unwrap();
        match answer {
            Answer::Ok(_) => {
                assert!(
                    !known.removed && !known.started,
                    "container {id} was started twice, or is removed: {known:?}"
                );
                (container.started, container.rank) = (true, container.rank.max(1));
            }
            Answer::Refused(status) if status.code() == Code::NotFound => assert!(gone, "{id}: {status:?}"),
            Answer::Refused(status) => {
                let before = status.message().starts_with("failed to set starting state");
                assert!(
                    before || down || container.ending || gone || faulty,
                    "StartContainer of {container:?}: {status:?}"
                );
            }
            // It may run.
            Answer::Unknown => {}
        }
    }

    fn stop(&mut self) {
        let Some((id, known)) = self.a_container() else { return };
        self.model.lock().unwrap().containers.get_mut(&id).unwrap().ending = true;
        let timeout = i64::try_from(self.chance.below(3)).unwrap();
        let request = v1::StopContainerRequest {
            container_id: id.clone(),
            timeout,
        };
        let answer = self.ask("StopContainer", async |mut c| c.stop_container(request).await);
        let mut model = self.model.lock().unwrap();
        let going = model.pod_is_down(&known.pod);
        match answer {
            // What was not started need not have a process that could end.
            Answer::Ok(_) if known.started => model.containers.get_mut(&id).unwrap().rank = 2,
            Answer::Ok(_) => {}
            Answer::Refused(status) => assert!(going || model.may_be_gone(&id), "StopContainer of {known:?}: {status:?}"),
            Answer::Unknown => {}
        }
    }

    fn remove(&mut self) {
        let Some((id, known)) = self.a_container() else { return };
        {
            let mut model = self.model.lock().unwrap();
            let container = model.containers.get_mut(&id).unwrap();
            (container.ending, container.removing) = (true, true);
        }
        let request = v1::RemoveContainerRequest { container_id: id.clone() };
        let answer = self.ask("RemoveContainer", async |mut c| c.remove_container(request).await);
        let mut model = self.model.lock().unwrap();
        match answer {
            Answer::Ok(_) => model.containers.get_mut(&id).unwrap().removed = true,
            Answer::Refused(status) => {
                let faulty = model.pods.get(&known.pod).is_none_or(|p| p.handler == "faulty");
                assert!(faulty || model.pod_is_down(&known.pod), "RemoveContainer of {known:?}: {status:?}");
            }
            Answer::Unknown => {}
        }
    }

    fn stop_pod(&mut self) {
        let Some((id, known)) = self.a_pod() else { return };
        self.model.lock().unwrap().pods.get_mut(&id).unwrap().ending = true;
        let request = v1::StopPodSandboxRequest {
            pod_sandbox_id: id.clone(),
        };
        let answer = self.ask("StopPodSandbox", async |mut c| c.stop_pod_sandbox(request).await);
        let mut model = self.model.lock().unwrap();
        match answer {
            Answer::Ok(_) => model.pods.get_mut(&id).unwrap().seen_down = true,
            Answer::Refused(status) => panic!("StopPodSandbox of {known:?}: {status:?}"),
            Answer::Unknown => {}
        }
    }

    fn remove_pod(&mut self) {
        let Some((id, known)) = self.a_pod() else { return };
        {
            let mut model = self.model.lock().unwrap();
            let pod = model.pods.get_mut(&id).unwrap();
            (pod.ending, pod.removing) = (true, true);
        }
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: id.clone(),
        };
        let answer = self.ask("RemovePodSandbox", async |mut c| c.remove_pod_sandbox(request).await);
        let mut model = self.model.lock().unwrap();
        match answer {
            Answer::Ok(_) => {
                model.pods.get_mut(&id).unwrap().removed = true;
                for container in model.containers.values_mut().filter(|c| c.pod == id) {
                    (container.removing, container.removed) = (true, true);
                }
            }
            Answer::Refused(status) => assert_eq!(known.handler, "faulty", "RemovePodSandbox: {status:?}"),
            Answer::Unknown => {}
        }
    }

    fn look(&mut self) {
        let Some((id, known)) = self.a_container() else { return };
        let request = v1::ContainerStatusRequest {
            container_id: id.clone(),
            verbose: self.chance.one_in(4),
        };
        let answer = self.ask("ContainerStatus", async |mut c| c.container_status(request).await);
        let mut model = self.model.lock().unwrap();
        match answer {
            Answer::Ok(status) => model.saw(&id, &status.status.unwrap(), &known),
            Answer::Refused(status) => {
                assert_eq!(status.code(), Code::NotFound, "{status:?}");
                assert!(model.may_be_gone(&id), "container {id} is lost: {known:?}");
            }
            Answer::Unknown => {}
        }
    }

    fn look_at_pod(&mut self) {
        let Some((id, known)) = self.a_pod() else { return };
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: id.clone(),
            verbose: false,
        };
        let answer = self.ask("PodSandboxStatus", async |mut c| c.pod_sandbox_status(request).await);
        let mut model = self.model.lock().unwrap();
        match answer {
            Answer::Ok(status) => {
                let status = status.status.unwrap();
                model.saw_pod(&id, status.state(), &status.runtime_handler, &known);
            }
            Answer::Refused(status) => {
                assert_eq!(status.code(), Code::NotFound, "{status:?}");
                assert!(model.pod_is_going(&id), "sandbox {id} is lost: {known:?}");
            }
            Answer::Unknown => {}
        }
    }

    fn exec(&mut self) {
        let Some((id, known)) = self.a_running_container() else { return };
        let cmd = ["sh", "-c", "echo hello; exit 5"].map(str::to_owned).to_vec();
        let request = v1::ExecSyncRequest {
            container_id: id.clone(),
            cmd,
            timeout: 20,
        };
        let answer = self.ask("ExecSync", async |mut c| c.exec_sync(request).await);
        let model = self.model.lock().unwrap();
        match answer {
            Answer::Ok(said) => {
                // One that ends meanwhile takes the command with it.
                let now = &model.containers[&id];
                if !now.ending && !now.ends_by_itself && !model.pod_is_down(&known.pod) {
                    assert_eq!((said.stdout.as_slice(), said.exit_code), (&b"hello\n"[..], 5));
                }
            }
            Answer::Refused(status) => {
                let faulty = model.pods.get(&known.pod).is_none_or(|p| p.handler == "faulty");
                let well = known.started && !model.containers[&id].ending && !known.ends_by_itself && !model.pod_is_down(&known.pod);
                assert!(!well || faulty, "ExecSync in {known:?}: {status:?}");
            }
            Answer::Unknown => {}
        }
    }

    fn change(&mut self) {
        let Some((id, known)) = self.a_running_container() else { return };
        let request = v1::UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(v1::LinuxContainerResources {
                memory_limit_in_bytes: i64::try_from(64 + self.chance.below(64)).unwrap() << 20,
                ..Default::default()
            }),
            ..Default::default()
        };
        let answer = self.ask("UpdateContainerResources", async |mut c| {
            c.update_container_resources(request).await
        });
        let model = self.model.lock().unwrap();
        if let Answer::Refused(status) = answer {
            let faulty = model.pods.get(&known.pod).is_none_or(|p| p.handler == "faulty");
            let well = !model.containers[&id].ending && !known.ends_by_itself && !model.pod_is_down(&known.pod);
            assert!(!well || faulty, "UpdateContainerResources of {known:?}: {status:?}");
        }
    }

    fn reopen(&mut self) {
        let Some((id, known)) = self.a_running_container() else { return };
        let request = v1::ReopenContainerLogRequest { container_id: id.clone() };
        let answer = self.ask("ReopenContainerLog", async |mut c| c.reopen_container_log(request).await);
        let model = self.model.lock().unwrap();
        if let Answer::Refused(status) = answer {
            let well = known.started && !model.containers[&id].ending && !known.ends_by_itself && !model.pod_is_down(&known.pod);
            assert!(!well, "ReopenContainerLog of {known:?}: {status:?}");
        }
    }

    /// Ids that nobody was given.
    fn bad(&mut self) {
        let random = format!("{:016x}{:016x}", self.chance.next(), self.chance.next());
        let id = ["", "../../etc", "zz", &random, &random[..12], "0000\u{0}"][self.chance.index(6)].to_owned();
        let kubelet = self.kubelet;
        let looks = [
            kubelet.status(&id).map(drop),
            kubelet.pod_status(&id).map(drop),
            kubelet.start(&id),
            kubelet.exec(&id, "true", 1).map(drop),
            kubelet.reopen(&id),
            kubelet.create(&id, kubelet.container_config("x", 0, "true")).map(drop),
        ];
        for answer in looks {
            let status = answer.expect_err(&id);
            let wanted = if id.is_empty() { Code::InvalidArgument } else { Code::NotFound };
            assert!(status.code() == wanted || is_broken(&status), "{id:?}: {status:?}");
        }
        // These may be repeated: what is not there is done already.
        for done in [
            kubelet.stop(&id, 0),
            kubelet.remove(&id),
            kubelet.stop_pod(&id),
            kubelet.remove_pod(&id),
        ] {
            if let Err(status) = done {
                assert!(id.is_empty() || is_broken(&status), "{id:?}: {status:?}");
            }
        }
        self.tally.lock().unwrap().add("bad ids");
    }
}

type Client = cofferdam_cri_api::v1::runtime_service_client::RuntimeServiceClient<tonic::transport::Channel>;
