//! Which kind of enclosure a handler of this machine makes.

use cofferdam_decide::enclosure::Enclosure;
use cofferdam_handlers::{Driver, Flavor, HandlerTable};

/// The kind of a handler, of the default one where `name` is empty; `None` where this machine does not
/// have it, or cannot tell what it makes.
pub(crate) fn of(table: &HandlerTable, name: &str) -> Option<Enclosure> {
    let handler = match name {
        "" => table.handlers.get(&table.default.as_ref()?.0),
        name => table.handlers.values().find(|h| h.name.as_str() == name),
    };
    match &handler?.driver {
        Driver::Oci(oci) if oci.flavor == Flavor::Runsc => Some(Enclosure::Gvisor),
        Driver::Oci(_) => Some(Enclosure::SharedKernel),
        Driver::Vm(_) => Some(Enclosure::Vm),
        Driver::Shim(_) | Driver::Unknown => None,
    }
}
