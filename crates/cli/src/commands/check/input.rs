//! The manifests: decoded, what is not a pod validated, and laid over what the cluster has.

use super::CheckArgs;
use super::given::Given;
use super::report::{Finding, ObjectRow, Spot};
use crate::world::Manifests;
use anyhow::{Result, bail};
use cofferdam_decide::{Denied, limit_range, quota, runtime_class};
use cofferdam_manifest::{Error, MAX_ERRORS, MAX_REPLICAS, Object, ObjectKind, Places, Purpose, decode_all};
use cofferdam_model::meta::ObjectMeta;
use cofferdam_model::objects::{LimitRange, Namespace, ResourceQuota, RuntimeClass};
use std::collections::{BTreeSet, HashMap};

/// Most pods that are checked at once; each costs a few KiB.
const MAX_PODS: usize = 200_000;

/// One text.
#[derive(Debug)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) text: String,
    /// The objects that could be read.
    pub(super) objects: Vec<Object>,
}

/// All that was read, and what pods are admitted by.
#[derive(Debug, Default)]
pub(super) struct Input {
    pub(super) files: Vec<File>,
    /// Everything but pods, and what could not be read.
    pub(super) objects: Vec<ObjectRow>,
    pub(super) warnings: Vec<Finding>,
    pub(super) notes: Vec<String>,
    pub(super) classes: Vec<RuntimeClass>,
    pub(super) namespaces: Vec<Namespace>,
    pub(super) limit_ranges: Vec<LimitRange>,
    pub(super) quotas: Vec<ResourceQuota>,
    /// The quotas among them that are of the manifests, or have no status: by namespace and name.
    pub(super) unstated: BTreeSet<(String, String)>,
    /// Names of classes that are defined, but wrong.
    pub(super) broken_classes: BTreeSet<String>,
}

impl Input {
    /// Reads the manifests of the command line.
    pub(super) fn read(args: &CheckArgs, given: Option<&Given>) -> Result<Self> {
        let mut input = Self::default();
        if let Some(given) = given {
            input.take_over(given);
        }
        for (name, text) in Manifests::texts(&args.add_classes)? {
            input.add(name, text, None);
            input.supposed_classes()?;
        }
        for (name, text) in Manifests::texts(&args.files)? {
            input.add(name, text, given.and_then(|g| g.default_namespace.as_deref()));
            input.last_file();
        }
        input.refuse_twins();
        let nothing = |f: &File| f.objects.is_empty();
        if input.files.iter().all(nothing) && input.objects.is_empty() && input.warnings.is_empty() {
            bail!("the manifests hold no objects: there is nothing to check");
        }
        let pods = input
            .files
            .iter()
            .flat_map(|f| &f.objects)
            .map(|o| count(&o.kind))
            .fold(0, usize::saturating_add);
        if pods > MAX_PODS {
            bail!("the manifests ask for {pods} pods, but at most {MAX_PODS} are checked at once; name fewer files");
        }
        Ok(input)
    }

    /// The classes of manifests that are good.
    pub(super) fn own_classes(&self) -> impl Iterator<Item = &RuntimeClass> {
        let classes = self.files.iter().flat_map(|f| &f.objects).filter_map(|o| match &o.kind {
            ObjectKind::RuntimeClass(class) => Some(&**class),
            _ => None,
        });
        classes.filter(|c| !self.broken_classes.contains(&c.metadata.name))
    }

    fn take_over(&mut self, given: &Given) {
        let cluster = &given.cluster;
        self.classes.clone_from(&cluster.classes);
        self.namespaces.clone_from(&cluster.namespaces);
        self.limit_ranges.clone_from(&cluster.limit_ranges);
        for quota in &cluster.quotas {
            if quota.used.is_none() && !given.is_live {
                self.unstated.insert(key(&quota.quota.metadata));
            }
            self.quotas.push(quota.quota.clone());
        }
    }

    /// Decodes a text; objects that name no namespace get the default one.
    fn add(&mut self, name: String, text: String, default_namespace: Option<&str>) {
        let (mut decoded, errors) = decode_all(&name, &text, Purpose::Check);
        self.refuse(errors);
        let file = self.files.len();
        for warning in decoded.warnings {
            self.warnings.push(Finding {
                spot: warning.place.into(),
                field: None,
                message: warning.text,
                hint: warning.today,
            });
        }
        for object in &mut decoded.objects {
            if let Some(namespace) = default_namespace.filter(|_| object.kind.is_namespaced()) {
                metadata(&mut object.kind).namespace.get_or_insert_with(|| namespace.to_owned());
            }
            if let ObjectKind::Pod(pod) = &mut object.kind {
                // Given by an API server; a pod that is created has none yet.
                pod.metadata.uid = None;
            } else {
                let meta = object.kind.metadata();
                self.objects.push(ObjectRow {
                    origin: file,
                    kind: object.kind.name().to_owned(),
                    namespace: object.kind.is_namespaced().then(|| meta.namespace_or_default().to_owned()),
                    name: Some(name_of(meta)),
                    spot: object.place.clone().into(),
                    errors: Vec::new(),
                    warnings: Vec::new(),
                });
            }
        }
        self.files.push(File {
            name,
            text,
            objects: decoded.objects,
        });
    }

    /// What could not be read: one object for each that errors are about.
    fn refuse(&mut self, errors: Vec<Error>) {
        if let Some(first) = errors.first().filter(|_| errors.len() >= MAX_ERRORS) {
            let source = &first.place.source;
            self.notes.push(format!(
                "{source} may have more errors than these: no more than {MAX_ERRORS} are told of one text"
            ));
        }
        let origin = self.files.len();
        for error in errors {
            let (kind, name) = split(&error.subject);
            let finding = Finding {
                spot: error.place.clone().into(),
                field: None,
                message: sentence(&error),
                hint: None,
            };
            if let ("RuntimeClass", Some(name)) = (kind.as_str(), &name) {
                self.broken_classes.insert(name.clone());
            }
            let known = |o: &&mut ObjectRow| o.origin == origin && name.is_some() && o.kind == kind && o.name == name;
            match self.objects.iter_mut().rev().find(known) {
                Some(object) => object.errors.push(finding),
                None => self.objects.push(ObjectRow {
                    origin,
                    kind,
                    namespace: None,
                    name,
                    spot: error.place.into(),
                    errors: vec![finding],
                    warnings: Vec::new(),
                }),
            }
        }
    }

    /// The classes of the text read last, as if they existed: one of the same name is replaced.
    fn supposed_classes(&mut self) -> Result<()> {
        let Some(file) = self.files.last() else { return Ok(()) };
        if let Some(other) = file.objects.iter().find(|o| !matches!(o.kind, ObjectKind::RuntimeClass(_))) {
            bail!(
                "{}: {}: only RuntimeClasses are added by --add-class; give this with -f",
                other.place,
                other.kind.subject()
            );
        }
        let mut verdicts = Vec::new();
        for object in &file.objects {
            if let ObjectKind::RuntimeClass(class) = &object.kind {
                let checked = runtime_class::validate_create(class);
                if checked.is_ok() {
                    self.classes.retain(|c| c.metadata.name != class.metadata.name);
                    self.classes.push((**class).clone());
                }
                verdicts.push((object.place.clone(), checked));
            }
        }
        self.judge(verdicts);
        Ok(())
    }

    /// The objects of the text read last, as created one after another.
    fn last_file(&mut self) {
        let Some(file) = self.files.pop() else { return };
        let mut verdicts = Vec::new();
        for object in &file.objects {
            let checked = match &object.kind {
                ObjectKind::RuntimeClass(class) => self.add_class(class),
                ObjectKind::LimitRange(range) => limit_range::validate(range).inspect(|()| {
                    replace(&mut self.limit_ranges, (**range).clone(), |r| &r.metadata);
                }),
                ObjectKind::ResourceQuota(quota) => quota::validate(quota).inspect(|()| {
                    self.unstated.insert(key(&quota.metadata));
                    replace(&mut self.quotas, (**quota).clone(), |q| &q.metadata);
                }),
                ObjectKind::Namespace(namespace) => {
                    replace(&mut self.namespaces, (**namespace).clone(), |n| &n.metadata);
                    Ok(())
                }
                _ => continue,
            };
            verdicts.push((object.place.clone(), checked));
        }
        self.files.push(file);
        self.judge(verdicts);
    }

    /// A class is created, or updates the one of its name: its handler is immutable.
    fn add_class(&mut self, class: &RuntimeClass) -> Result<(), Denied> {
        match self.classes.iter_mut().find(|c| c.metadata.name == class.metadata.name) {
            Some(old) => {
                let mut new = class.clone();
                // A manifest carries no resourceVersion; here it names the one that it replaces.
                new.metadata.resource_version.get_or_insert_with(|| "1".into());
                runtime_class::validate_update(&new, old)?;
                *old = new;
            }
            None => {
                runtime_class::validate_create(class)?;
                self.classes.push(class.clone());
            }
        }
        Ok(())
    }

    /// Writes what was said of objects of the text read last beside them, each error at its field.
    fn judge(&mut self, verdicts: Vec<(cofferdam_manifest::Place, Result<(), Denied>)>) {
        let Some(file) = self.files.last() else { return };
        let origin = self.files.len() - 1;
        let mut places = Places::new(&file.text);
        let mut objects = file.objects.iter();
        for (place, verdict) in verdicts {
            // Both are in the order of the text.
            let Some(object) = objects.find(|o| o.place == place) else {
                continue;
            };
            let spot = Spot::from(place);
            let Some(row) = self.objects.iter_mut().find(|o| o.origin == origin && o.spot == spot) else {
                continue;
            };
            let mut at = |field: &str| Spot::from(places.of(object, field));
            if let Err(denied) = verdict {
                if let ObjectKind::RuntimeClass(class) = &object.kind {
                    self.broken_classes.insert(class.metadata.name.clone());
                }
                row.errors.extend(denied.causes().into_iter().map(|cause| Finding {
                    spot: at(&cause.field),
                    message: envelope(&denied) + &cause.text,
                    field: Some(cause.field),
                    hint: None,
                }));
            }
            if let ObjectKind::RuntimeClass(class) = &object.kind {
                row.warnings
                    .extend(runtime_class::placed_warnings(class).into_iter().map(|warning| Finding {
                        spot: at(&warning.field),
                        message: format!("{}: {warning}", object.kind.subject()),
                        field: Some(warning.field),
                        hint: None,
                    }));
            }
        }
    }

    /// The same pods in two texts are an error; any other object that stands twice is an update. (In one
    /// text, decoding refuses both.)
    fn refuse_twins(&mut self) {
        let mut seen: HashMap<(&'static str, String, String), Spot> = HashMap::new();
        for (origin, file) in self.files.iter_mut().enumerate() {
            file.objects.retain(|object| {
                let meta = object.kind.metadata();
                if meta.name.is_empty() || !matches!(object.kind, ObjectKind::Pod(_) | ObjectKind::Deployment(_)) {
                    return true;
                }
                let (namespace, name) = key(meta);
                let id = (object.kind.name(), namespace, name);
                let spot = Spot::from(object.place.clone());
                let Some(first) = seen.get(&id) else {
                    seen.insert(id, spot);
                    return true;
                };
                let finding = Finding {
                    message: format!(
                        "{}: the same object stands already at {first}; remove one or rename it",
                        object.kind.subject()
                    ),
                    spot: spot.clone(),
                    field: None,
                    hint: None,
                };
                let row = self.objects.iter_mut().find(|o| o.origin == origin && o.spot == spot);
                match row {
                    Some(row) => row.errors.push(finding),
                    None => self.objects.push(ObjectRow {
                        origin,
                        kind: object.kind.name().to_owned(),
                        namespace: Some(id.1),
                        name: Some(id.2),
                        spot,
                        errors: vec![finding],
                        warnings: Vec::new(),
                    }),
                }
                false
            });
        }
    }
}

/// How many pods an object asks for.
pub(super) fn count(kind: &ObjectKind) -> usize {
    match kind {
        ObjectKind::Pod(_) => 1,
        ObjectKind::Deployment(d) => usize::try_from(d.spec.replicas.unwrap_or(1).clamp(0, MAX_REPLICAS)).unwrap_or_default(),
        _ => 0,
    }
}

/// The object's name; with a `*` at its end where the rest is still to be generated.
pub(super) fn name_of(meta: &ObjectMeta) -> String {
    match &meta.generate_name {
        Some(prefix) if meta.name.is_empty() => format!("{prefix}*"),
        _ => meta.name.clone(),
    }
}

/// Namespace and name.
pub(super) fn key(meta: &ObjectMeta) -> (String, String) {
    (meta.namespace_or_default().to_owned(), meta.name.clone())
}

/// The API server's words before an error of one field.
pub(super) fn envelope(denied: &Denied) -> String {
    match denied {
        Denied::Forbidden { resource, name, .. } => format!("{resource} {name:?} is forbidden: "),
        Denied::Invalid { kind, name, .. } => format!("{kind} {name:?} is invalid: "),
        Denied::NotFound { .. } => String::new(),
    }
}

fn metadata(kind: &mut ObjectKind) -> &mut ObjectMeta {
    match kind {
        ObjectKind::RuntimeClass(o) => &mut o.metadata,
        ObjectKind::Namespace(o) => &mut o.metadata,
        ObjectKind::Pod(o) => &mut o.metadata,
        ObjectKind::Deployment(o) => &mut o.metadata,
        ObjectKind::ConfigMap(o) => &mut o.metadata,
        ObjectKind::Secret(o) => &mut o.metadata,
        ObjectKind::LimitRange(o) => &mut o.metadata,
        ObjectKind::ResourceQuota(o) => &mut o.metadata,
    }
}

fn replace<T>(all: &mut Vec<T>, new: T, meta: impl Fn(&T) -> &ObjectMeta) {
    let same = |old: &T| {
        let (old, new) = (meta(old), meta(&new));
        old.name == new.name && old.namespace_or_default() == new.namespace_or_default()
    };
    match all.iter().position(same) {
        Some(at) => all[at] = new,
        None => all.push(new),
    }
}

/// An error without its place, which stands beside it.
fn sentence(error: &Error) -> String {
    match error.subject.as_str() {
        "" => error.problem.to_string(),
        subject => format!("{subject}: {}", error.problem),
    }
}

/// Kind and name of `Pod "web"`.
fn split(subject: &str) -> (String, Option<String>) {
    match subject.split_once(' ') {
        Some((kind, name)) => (kind.to_owned(), Some(name.trim_matches('"').to_owned())),
        None => (subject.to_owned(), None),
    }
}
