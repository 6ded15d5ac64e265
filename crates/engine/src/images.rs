//! Images: pulled, checked, pruned, saved, removed; none that a container has.

use crate::Engine;
use crate::sandbox::failed;
use cofferdam_images::{
    Digest, Finding, FsckReport, Platform, PruneOptions, Pruned, PullEvent, Pulled, Reference, Remote, RemoteManifest, Removed, SaveFormat,
};
use cofferdam_model::cri::{ContainerStatus, Error, FsUsage, Result};
use cofferdam_registry::{Client, Credential, Image};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What is known of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageInfo {
    /// Digest of its configuration, `sha256:…`.
    pub id: String,
    /// Complete references with a tag, sorted.
    pub tags: Vec<String>,
    /// `repository@digest`, sorted.
    pub digests: Vec<String>,
    /// Bytes of all layers, unpacked.
    pub size: u64,
    /// User as the image names it: empty, a name or a number, with a group after a colon or without.
    pub user: String,
    /// Labels.
    pub labels: std::collections::BTreeMap<String, String>,
}

impl ImageInfo {
    fn of(image: cofferdam_images::Image) -> Self {
        let (by_digest, tags): (Vec<_>, Vec<_>) = image.names.into_iter().partition(|name| name.contains('@'));
        let mut digests = image.repo_digests;
        digests.extend(by_digest);
        digests.sort();
        digests.dedup();
        Self { id: image.id.to_string(), tags, digests, size: image.size, user: image.config.user, labels: image.config.labels }
    }
}

/// How an image is pulled.
#[derive(Clone, Copy, Default)]
pub struct PullOptions<'a> {
    /// Contents of docker configurations with credentials, tried before the machine's own.
    pub docker_configs: &'a [Vec<u8>],
    /// Platform to choose; this machine's where `None`.
    pub platform: Option<&'a Platform>,
    /// Is told how the pull gets on, unless another thread pulls the same already.
    pub progress: Option<&'a dyn Fn(&PullEvent)>,
}

impl std::fmt::Debug for PullOptions<'_> {
    /// Without the credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PullOptions").field("docker_configs", &self.docker_configs.len()).field("platform", &self.platform).finish_non_exhaustive()
    }
}

/// What a pull is for: who asks for the same waits for the one that is under way. Credentials are part
/// of it, so that none of them opens anything to somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    name: String,
    platform: Option<String>,
    configs: Vec<Vec<u8>>,
}

/// A pull that is under way.
#[derive(Debug, Default)]
struct Flight {
    outcome: Mutex<Option<Result<Pulled>>>,
    landed: Condvar,
}

/// The pulls that are under way, and the client that they share.
pub(crate) struct Pulls {
    options: cofferdam_registry::Options,
    client: Mutex<Option<Client>>,
    flights: Mutex<HashMap<Key, Arc<Flight>>>,
}

impl std::fmt::Debug for Pulls {
    /// Without credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pulls").finish_non_exhaustive()
    }
}

impl Pulls {
    pub(crate) fn new(options: cofferdam_registry::Options) -> Self {
        Self { options, client: Mutex::default(), flights: Mutex::default() }
    }

    /// The client, made when the first image is pulled.
    fn client(&self) -> Result<Client> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = client.as_ref() {
            return Ok(client.clone());
        }
        Ok(client.insert(Client::new(self.options.clone()).map_err(failed)?).clone())
    }
}

/// Ends a flight however its pull ended: nobody waits for ever.
struct Landing<'a> {
    pulls: &'a Pulls,
    key: Key,
    flight: Arc<Flight>,
}

impl Landing<'_> {
    fn tell(&self, outcome: Result<Pulled>) {
        *self.flight.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.pulls.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        let mut outcome = self.flight.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.get_or_insert_with(|| Err(Error::Failed(format!("the pull of {} broke off", self.key.name))));
        self.flight.landed.notify_all();
    }
}

impl Engine {
    /// Pulls an image, or waits for another thread that pulls the same.
    pub fn pull(&self, reference: &str, options: PullOptions<'_>) -> Result<Pulled> {
        let name = Reference::parse(reference).map_err(|e| Error::Invalid(e.to_string()))?;
        let key = Key { name: name.to_string(), platform: options.platform.map(ToString::to_string), configs: options.docker_configs.to_vec() };
        let (flight, first) = {
            let mut flights = self.pulls.flights.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(&key) {
                Some(flight) => (flight.clone(), false),
                None => (flights.entry(key.clone()).or_default().clone(), true),
            }
        };
        if first {
            let landing = Landing { pulls: &self.pulls, key, flight: flight.clone() };
            landing.tell(self.pull_now(&name, options));
        }
        let outcome = flight.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = flight.landed.wait_while(outcome, |o| o.is_none()).unwrap_or_else(PoisonError::into_inner);
        outcome.clone().unwrap_or_else(|| Err(Error::Failed(format!("the pull of {name} broke off"))))
    }

    fn pull_now(&self, name: &Reference, options: PullOptions<'_>) -> Result<Pulled> {
        let mut credentials = Vec::new();
        for config in options.docker_configs {
            // One pull secret that is wrong does not keep the others from being tried (kubelet,
            // `pkg/credentialprovider/secrets`), but it is not passed over in silence.
            let found = Credential::from_docker_config(config, "a pull secret").map_err(|e| Error::Invalid(e.to_string()))?;
            credentials.extend(found);
        }
        let mut client = self.pulls.client()?;
        if !credentials.is_empty() {
            client = client.with_credentials(credentials);
        }
        let repository = Repository::new(client, place(name));
        let how = cofferdam_images::PullOptions { platform: options.platform, parallel: None, progress: options.progress };
        self.store.pull(name, &repository, how).map_err(|e| match e {
            cofferdam_images::Error::Platform { .. } => Error::Invalid(e.to_string()),
            e @ cofferdam_images::Error::Pull { .. } => repository.judged(e.to_string()),
            e => failed(e),
        })
    }

    /// Who runs from an image or mounts it, if anybody.
    fn image_user(&self, containers: &[ContainerStatus], id: &Digest) -> Option<String> {
        let id = id.to_string();
        let user = containers.iter().find(|c| c.image_id == id || self.mounts_image(c, &id))?;
        Some(format!("container \"{}\" of pod {}", user.config.name, user.pod.short()))
    }

    /// Removes an image, unless a container runs from it or mounts it.
    pub fn remove_image(&self, image: &str) -> Result<Removed> {
        let containers = self.list_containers(None)?;
        self.store.remove(image, &|id| self.image_user(&containers, id)).map_err(|e| match e {
            cofferdam_images::Error::NotFound(_) => Error::NotFound(e.to_string()),
            cofferdam_images::Error::InUse { .. } => Error::Precondition(e.to_string()),
            e => failed(e),
        })
    }

    /// Removes an image with all its names, whichever of them, or its id, is given: what CRI's
    /// `RemoveImage` means. One that is not there is removed already; one that a container has loses its
    /// names now, and goes with its last container.
    pub fn remove_image_wholly(&self, image: &str) -> Result<Removed> {
        let found = match self.store.resolve(image) {
            Err(cofferdam_images::Error::NotFound(_)) => return Ok(Removed::default()),
            Err(e @ (cofferdam_images::Error::Reference { .. } | cofferdam_images::Error::Ambiguous { .. })) => return Err(Error::Invalid(e.to_string())),
            found => found.map_err(failed)?,
        };
        match self.remove_image(&found.id.to_string()) {
            Err(Error::NotFound(_)) => Ok(Removed::default()),
            Err(Error::Precondition(_)) => self.untag_image(&found.id),
            done => done,
        }
    }

    /// All images, by their first name.
    pub fn image_list(&self) -> Result<Vec<ImageInfo>> {
        Ok(self.store.list().map_err(failed)?.into_iter().map(ImageInfo::of).collect())
    }

    /// One image, by a name, an id or the beginning of one; `None` where there is none.
    pub fn image_info(&self, name: &str) -> Result<Option<ImageInfo>> {
        match self.store.resolve(name) {
            Ok(image) => Ok(Some(ImageInfo::of(image))),
            Err(cofferdam_images::Error::NotFound(_)) => Ok(None),
            Err(e @ (cofferdam_images::Error::Reference { .. } | cofferdam_images::Error::Ambiguous { .. })) => Err(Error::Invalid(e.to_string())),
            Err(e) => Err(failed(e)),
        }
    }

    /// An image's configuration as it came, JSON.
    pub fn image_configuration(&self, name: &str) -> Result<Vec<u8>> {
        let image = self.store.resolve(name).map_err(|e| match e {
            cofferdam_images::Error::NotFound(_) => Error::NotFound(e.to_string()),
            e => failed(e),
        })?;
        self.store.configuration(&image).map_err(failed)
    }

    /// What images hold on their file system. The first count reads all of them, later ones only what
    /// is new.
    pub fn image_fs(&self) -> FsUsage {
        self.counts.images(self.store.root())
    }

    /// Removes images that have no name, or with `all` those that no container has, and what no image
    /// needs any more; of broken pulls what is older than `partial_older`.
    pub fn prune_images(&self, all: bool, content: bool, partial_older: Duration) -> Result<Pruned> {
        let containers = self.list_containers(None)?;
        let in_use = |id: &Digest| self.image_user(&containers, id);
        self.store.prune(&PruneOptions { all, content, partial_older, in_use: &in_use }).map_err(failed)
    }

    /// Reads all of the image store. With `repair`, what is damaged is made anew, where need be from the
    /// registries with the machine's own credentials. `seen` is told the bytes read so far. Containers
    /// that have a damaged layer are findings too: they keep what they have.
    pub fn fsck_images(&self, repair: bool, seen: &dyn Fn(u64)) -> Result<FsckReport> {
        if !repair {
            return self.store.fsck(None, seen).map_err(failed);
        }
        let client = self.pulls.client()?;
        let reach = |name: &Reference| -> Option<Box<dyn Remote>> { Some(Box::new(Repository::new(client.clone(), place(name)))) };
        let mut report = self.store.fsck(Some(&reach), seen).map_err(failed)?;
        if report.findings.iter().any(|f| f.repaired) {
            let running = self.list_containers(None)?.len();
            if running > 0 {
                let sentence = format!("{running} containers that are there already keep the files that they began with; make them anew where they had what was damaged");
                report.findings.push(Finding { sentence, repaired: true });
            }
        }
        Ok(report)
    }

    /// Writes images to `out` as an archive.
    pub fn save_images(&self, names: &[&str], out: impl Write, format: SaveFormat) -> Result<()> {
        self.store.save(names, out, format).map_err(|e| match e {
            cofferdam_images::Error::NotFound(_) => Error::NotFound(e.to_string()),
            e => failed(e),
        })
    }
}

/// Registry and path of a complete reference: the registry is what comes before the first slash.
fn place(name: &Reference) -> Image {
    let (registry, repository) = name.repository().split_once('/').unwrap_or((name.repository(), ""));
    Image { registry: registry.to_owned(), repository: repository.to_owned() }
}

/// A repository of a registry, as the image store asks it.
struct Repository {
    client: Client,
    image: Image,
    /// What its last error was: asking again may help, or not.
    last: Mutex<Option<Answer>>,
}

/// What a registry's error means for who asks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It may pass.
    Passing,
    /// There is no such image.
    Absent,
    /// It will be the same.
    Final,
}

impl Repository {
    fn new(client: Client, image: Image) -> Self {
        Self { client, image, last: Mutex::default() }
    }

    fn told(&self, error: &cofferdam_registry::Error) -> String {
        let answer = match error {
            e if e.is_not_found() => Answer::Absent,
            e if e.is_transient() => Answer::Passing,
            _ => Answer::Final,
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        error.to_string()
    }

    /// The error of a pull, so that nobody waits for what does not come.
    fn judged(&self, text: String) -> Error {
        match *self.last.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Answer::Absent) => Error::NotFound(text),
            Some(Answer::Final) => Error::Precondition(text),
            Some(Answer::Passing) | None => Error::Failed(text),
        }
    }
}

impl Remote for Repository {
    fn manifest(&self, reference: &str) -> std::result::Result<RemoteManifest, String> {
        let manifest = self.client.manifest(&self.image, reference).map_err(|e| self.told(&e))?;
        Ok(RemoteManifest { media_type: manifest.media_type, bytes: manifest.bytes })
    }

    fn blob(&self, digest: &Digest, size: u64, offset: u64) -> std::result::Result<Box<dyn Read + Send + '_>, String> {
        let blob = self.client.blob(&self.image, &digest.to_string(), size, offset).map_err(|e| self.told(&e))?;
        Ok(Box::new(blob))
    }
}

/// How registries are reached where nobody says otherwise: `hosts.toml` where containerd has it too, and
/// credentials where docker and the kubelet look for them.
pub fn default_registries() -> cofferdam_registry::Options {
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from);
    let own = ["/etc/cofferdam/auth.json", "/var/lib/kubelet/config.json"].map(Into::into);
    cofferdam_registry::Options {
        hosts_dirs: ["/etc/cofferdam/certs.d", "/etc/containerd/certs.d", "/etc/docker/certs.d"].map(Into::into).to_vec(),
        auth_files: own.into_iter().chain(home.map(|home| home.join(".docker/config.json"))).collect(),
        ..cofferdam_registry::Options::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reference_says_where_its_image_is() {
        for (text, registry, repository) in [
            ("busybox", "docker.io", "library/busybox"),
            ("localhost:5000/a/b:1", "localhost:5000", "a/b"),
            ("quay.io/x/y", "quay.io", "x/y"),
        ] {
            let image = place(&Reference::parse(text).unwrap());
            assert_eq!((image.registry.as_str(), image.repository.as_str()), (registry, repository));
        }
    }
}
