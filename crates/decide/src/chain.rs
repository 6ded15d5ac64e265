//! The whole way of a pod through the API server, in its order: defaults, then what plugins change
//! (LimitRanger and DefaultTolerationSeconds before RuntimeClass), then the rules of pods, then what
//! plugins check (LimitRanger, RuntimeClass, and ResourceQuota last, which so sees overhead).

use crate::admission::{self, Admitted, Context};
use crate::quota::Used;
use crate::{Denied, app_armor, defaults, limit_range, quota, tolerations, validate};
use cofferdam_model::objects::{LimitRange, Namespace, ResourceQuota, RuntimeClass};
use cofferdam_model::pod::Pod;

/// Everything that decides about a pod beside the pod itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct World<'a> {
    /// All classes.
    pub classes: &'a [RuntimeClass],
    /// All namespaces.
    pub namespaces: &'a [Namespace],
    /// The limit ranges of all namespaces.
    pub limit_ranges: &'a [LimitRange],
    /// The quotas of all namespaces.
    pub quotas: &'a [ResourceQuota],
    /// The handler that old annotations for untrusted pods mean.
    pub untrusted_handler: Option<&'a str>,
}

/// Admits one pod, or says why not. After an admission, charge `used` with the admitted pod.
pub fn admit_pod(mut pod: Pod, world: &World<'_>, used: &Used) -> Result<Admitted, Denied> {
    defaults::apply(&mut pod);
    limit_range::apply_defaults(&mut pod, world.limit_ranges);
    tolerations::add_defaults(&mut pod.spec.tolerations);
    let context = Context {
        classes: world.classes,
        namespaces: world.namespaces,
        untrusted_handler: world.untrusted_handler,
    };
    let mut admitted = admission::mutate(pod, &context)?;
    defaults::drop_disabled(&mut admitted.pod, None);
    admitted.warnings.extend(app_armor::fill_fields(&mut admitted.pod));
    validate::pod(&admitted.pod)?;
    limit_range::check(&admitted.pod, world.limit_ranges)?;
    admission::validate(&admitted, &context)?;
    quota::check(&admitted.pod, world.quotas, used)?;
    Ok(admitted)
}

#[cfg(test)]
mod tests;
