//! What a plugin answers to ADD: section 5 of the specification, and the older forms: addresses
//! with a version (0.3.0 to 0.4.0), `ip4` and `ip6` (before 0.3.0). Results come from programs of
//! others: they are bounded and every address in them is one, or they are refused.

use crate::config::cut;
use crate::version::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// What is read of one answer at most, bytes.
pub const MAX_RESULT: usize = 1 << 20;
const MAX_INTERFACES: usize = 256;
const MAX_IPS: usize = 256;
const MAX_ROUTES: usize = 4096;
const MAX_TEXTS: usize = 64;
const MAX_TEXT: usize = 4096;

/// Interfaces, addresses, routes and resolver settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CniResult {
    /// Interfaces, on the machine and in the pod.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<Ip>,
    /// Routes in the pod.
    pub routes: Vec<Route>,
    /// Resolver settings that the network suggests.
    pub dns: Dns,
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address; empty where none was told.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Largest packet, bytes; 0 where none was told.
    #[serde(skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// The pod's namespace as it was given; empty for an interface of the machine.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// Of a user space interface.
    #[serde(rename = "socketPath", skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// Of a passed-through device.
    #[serde(rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// An address with its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net {
    /// Address.
    pub address: IpAddr,
    /// Bits of the prefix.
    pub prefix: u8,
}

/// An address of the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ip {
    /// Place of its interface among [`CniResult::interfaces`].
    pub interface: Option<usize>,
    /// The address.
    pub address: Net,
    /// Where its network's packets leave.
    pub gateway: Option<IpAddr>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub dst: Net,
    /// By whom.
    pub gateway: Option<IpAddr>,
    /// Its further fields (`mtu`, `advmss`, `priority`, `table`, `scope`), as numbers.
    pub more: Vec<(&'static str, i64)>,
}

/// Further fields of a route, since 1.1.0.
const ROUTE_FIELDS: [&str; 5] = ["mtu", "advmss", "priority", "table", "scope"];

/// Resolver settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// Servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search domains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl CniResult {
    /// Reads a result. `version` is the configuration's, and counts where the result names none.
    pub fn parse(bytes: &[u8], version: Version) -> Result<Self, String> {
        if bytes.len() > MAX_RESULT {
            return Err(format!("it is larger than {MAX_RESULT} bytes"));
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err("it is empty".into());
        }
        match serde_json::from_slice(bytes) {
            Ok(value) => Self::read(&value, version),
            Err(e) => Err(format!("it is no JSON: {e}")),
        }
    }

    /// As [`CniResult::parse`], of what was parsed.
    pub fn read(value: &Value, version: Version) -> Result<Self, String> {
        let Value::Object(fields) = value else {
            return Err("it is no JSON object".into());
        };
        let version = match fields.get("cniVersion") {
            None => version,
            Some(Value::String(text)) if text.is_empty() => version,
            Some(Value::String(text)) => {
                Version::parse(text).ok_or_else(|| format!("its cniVersion {:?} is none that is known here", cut(text)))?
            }
            Some(_) => return Err("its cniVersion is no text".into()),
        };
        let mut result = Self {
            dns: Dns::read(fields.get("dns"))?,
            ..Self::default()
        };
        if version < Version::V0_3_0 {
            result.read_old(fields)?;
            return Ok(result);
        }
        for one in list(fields, "interfaces", MAX_INTERFACES)? {
            result.interfaces.push(Interface::read(one)?);
        }
        for (at, one) in list(fields, "ips", MAX_IPS)?.iter().enumerate() {
            let ip = Ip::read(one).map_err(|e| format!("ips[{at}]: {e}"))?;
            if ip.interface.is_some_and(|i| i >= result.interfaces.len()) {
                return Err(format!("ips[{at}] is of an interface that is not among them"));
            }
            result.ips.push(ip);
        }
        for (at, one) in list(fields, "routes", MAX_ROUTES)?.iter().enumerate() {
            result.routes.push(Route::read(one).map_err(|e| format!("routes[{at}]: {e}"))?);
        }
        Ok(result)
    }

    /// The form before 0.3.0.
    fn read_old(&mut self, fields: &Map<String, Value>) -> Result<(), String> {
        for key in ["ip4", "ip6"] {
            let one = match fields.get(key) {
                None | Some(Value::Null) => continue,
                Some(Value::Object(one)) => one,
                Some(_) => return Err(format!("its {key} is no object")),
            };
            let address = net(one.get("ip"), "ip").map_err(|e| format!("{key}: {e}"))?;
            let gateway = gateway(one.get("gateway")).map_err(|e| format!("{key}: {e}"))?;
            self.ips.push(Ip {
                interface: None,
                address,
                gateway,
            });
            for (at, route) in list(one, "routes", MAX_ROUTES)?.iter().enumerate() {
                self.routes
                    .push(Route::read(route).map_err(|e| format!("{key}.routes[{at}]: {e}"))?);
            }
        }
        Ok(())
    }

    /// The result in a version's form, as the next plugin reads it and the cache holds it.
    pub fn to_json(&self, version: Version) -> Value {
        let mut fields = Map::new();
        fields.insert("cniVersion".into(), version.as_str().into());
        if version < Version::V0_3_0 {
            self.write_old(&mut fields);
        } else {
            let interfaces: Vec<Value> = self.interfaces.iter().map(|i| i.write(version)).collect();
            let ips: Vec<Value> = self.ips.iter().map(|i| i.write(version)).collect();
            let routes: Vec<Value> = self.routes.iter().map(|r| r.write(version)).collect();
            for (key, list) in [("interfaces", interfaces), ("ips", ips), ("routes", routes)] {
                if !list.is_empty() {
                    fields.insert(key.into(), list.into());
                }
            }
        }
        if self.dns != Dns::default() {
            fields.insert("dns".into(), json!(self.dns));
        }
        Value::Object(fields)
    }

    /// One address a family, and each route with those of its family.
    fn write_old(&self, fields: &mut Map<String, Value>) {
        for (key, four) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = self.ips.iter().find(|i| i.address.address.is_ipv4() == four) else {
                continue;
            };
            let mut one = Map::new();
            one.insert("ip".into(), ip.address.to_string().into());
            if let Some(gateway) = ip.gateway {
                one.insert("gateway".into(), gateway.to_string().into());
            }
            let routes = self.routes.iter().filter(|r| r.dst.address.is_ipv4() == four);
            let routes: Vec<Value> = routes.map(|r| r.write(Version::V0_2_0)).collect();
            if !routes.is_empty() {
                one.insert("routes".into(), routes.into());
            }
            fields.insert(key.into(), one.into());
        }
    }

    /// The pod's addresses: those of its interface `name`, and those of no interface; where there
    /// are none, those of any interface in the pod.
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let interface = |ip: &Ip| ip.interface.and_then(|at| self.interfaces.get(at));
        let pick = |wanted: &dyn Fn(&Ip) -> bool| -> Vec<IpAddr> {
            self.ips.iter().filter(|ip| wanted(ip)).map(|ip| ip.address.address).collect()
        };
        let own = pick(&|ip| interface(ip).is_none_or(|i| i.name == name && !i.sandbox.is_empty()));
        if own.is_empty() {
            pick(&|ip| interface(ip).is_some_and(|i| !i.sandbox.is_empty()))
        } else {
            own
        }
    }
}

impl Interface {
    fn read(value: &Value) -> Result<Self, String> {
        let interface: Self = serde_json::from_value(value.clone()).map_err(|e| format!("an interface of it cannot be read: {e}"))?;
        let texts = [
            &interface.name,
            &interface.mac,
            &interface.sandbox,
            &interface.socket_path,
            &interface.pci_id,
        ];
        if interface.name.is_empty() {
            return Err("an interface of it has no name".into());
        }
        texts.into_iter().try_for_each(|t| plain(t))?;
        let hex = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        if !interface.mac.is_empty() && !interface.mac.split([':', '-']).all(hex) {
            return Err(format!("the hardware address {:?} is none", cut(&interface.mac)));
        }
        Ok(interface)
    }

    /// The fields that 1.1.0 brought are kept from older plugins, whose readers may be strict.
    fn write(&self, version: Version) -> Value {
        let mut kept = self.clone();
        if version < Version::V1_1_0 {
            (kept.mtu, kept.socket_path, kept.pci_id) = (0, String::new(), String::new());
        }
        json!(kept)
    }
}

impl Ip {
    fn read(value: &Value) -> Result<Self, String> {
        let interface = match value.get("interface") {
            None | Some(Value::Null) => None,
            Some(number) => Some(
                number
                    .as_u64()
                    .and_then(|n| usize::try_from(n).ok())
                    .ok_or("its interface is no place in the list of interfaces")?,
            ),
        };
        let address = net(value.get("address"), "address")?;
        let gateway = gateway(value.get("gateway"))?;
        Ok(Self {
            interface,
            address,
            gateway,
        })
    }

    fn write(&self, version: Version) -> Value {
        let mut fields = Map::new();
        if version < Version::V1_0_0 {
            fields.insert("version".into(), if self.address.address.is_ipv4() { "4" } else { "6" }.into());
        }
        if let Some(at) = self.interface {
            fields.insert("interface".into(), at.into());
        }
        fields.insert("address".into(), self.address.to_string().into());
        if let Some(gateway) = self.gateway {
            fields.insert("gateway".into(), gateway.to_string().into());
        }
        fields.into()
    }
}

impl Route {
    fn read(value: &Value) -> Result<Self, String> {
        let mut more = Vec::new();
        for key in ROUTE_FIELDS {
            match value.get(key) {
                None | Some(Value::Null) => {}
                Some(number) => more.push((key, number.as_i64().ok_or_else(|| format!("its {key} is no number"))?)),
            }
        }
        Ok(Self {
            dst: net(value.get("dst"), "dst")?,
            gateway: gateway(value.get("gw"))?,
            more,
        })
    }

    fn write(&self, version: Version) -> Value {
        let mut fields = Map::new();
        fields.insert("dst".into(), self.dst.to_string().into());
        if let Some(gateway) = self.gateway {
            fields.insert("gw".into(), gateway.to_string().into());
        }
        if version >= Version::V1_1_0 {
            fields.extend(self.more.iter().map(|(key, number)| ((*key).to_owned(), (*number).into())));
        }
        fields.into()
    }
}

impl Dns {
    fn read(value: Option<&Value>) -> Result<Self, String> {
        let fields = match value {
            None | Some(Value::Null) => return Ok(Self::default()),
            Some(Value::Object(fields)) => fields,
            Some(_) => return Err("its dns is no object".into()),
        };
        let texts = |key: &'static str| -> Result<Vec<String>, String> {
            list(fields, key, MAX_TEXTS)?
                .iter()
                .map(|one| {
                    let text = one.as_str().ok_or_else(|| format!("its dns.{key} has an entry that is no text"))?;
                    plain(text).map(|()| text.to_owned())
                })
                .collect()
        };
        let domain = match fields.get("domain") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => plain(text).map(|()| text.clone())?,
            Some(_) => return Err("its dns.domain is no text".into()),
        };
        Ok(Self {
            nameservers: texts("nameservers")?,
            domain,
            search: texts("search")?,
            options: texts("options")?,
        })
    }
}

impl std::fmt::Display for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// `10.1.2.3/16`; nothing else is one.
fn net(value: Option<&Value>, key: &str) -> Result<Net, String> {
    let text = value.and_then(Value::as_str).ok_or_else(|| format!("it has no text {key}"))?;
    let bad = || format!("its {key} {:?} is no address with a prefix", cut(text));
    let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    if prefix.is_empty() || prefix.len() > 3 || !prefix.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.parse::<u8>().ok().filter(|p| *p <= most).ok_or_else(bad)?;
    Ok(Net { address, prefix })
}

fn gateway(value: Option<&Value>) -> Result<Option<IpAddr>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => text
            .parse()
            .map(Some)
            .map_err(|_| format!("its gateway {:?} is no address", cut(text))),
        Some(_) => Err("its gateway is no text".into()),
    }
}

/// A list of at most `max`; absent and null are empty, as Go reads them.
fn list<'a>(fields: &'a Map<String, Value>, key: &str, max: usize) -> Result<&'a [Value], String> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) if list.len() <= max => Ok(list),
        Some(Value::Array(_)) => Err(format!("it has more than {max} {key}")),
        Some(_) => Err(format!("its {key} is no list")),
    }
}

fn plain(text: &str) -> Result<(), String> {
    if text.len() > MAX_TEXT || text.contains(char::is_control) {
        return Err(format!("its text {:?} is too long or has control characters", cut(text)));
    }
    Ok(())
}
