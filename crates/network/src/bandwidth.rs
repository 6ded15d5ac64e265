//! Limits of what passes between a pod and the rest, and where they come from: the annotations
//! `kubernetes.io/ingress-bandwidth` and `kubernetes.io/egress-bandwidth`, read and bounded as
//! `k8s.io/kubernetes/pkg/util/bandwidth` does it.
//!
//! They are set at the machine's end of the pod's link, where nothing in the pod can undo them: a
//! token bucket on what goes into the pod, and for what comes out an intermediate device (ifb)
//! with one, as the CNI plugin `bandwidth` has it.

use crate::link;
use crate::netlink::{CREATE, Connection, nest, put};
use crate::{Error, Result};
use cofferdam_model::Quantity;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use std::collections::BTreeMap;
use std::io;

/// Bits per second into the pod.
pub const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
/// Bits per second out of the pod.
pub const EGRESS: &str = "kubernetes.io/egress-bandwidth";
const LEAST: i64 = 1_000;
const MOST: i64 = 1_000_000_000_000_000;

/// Limits of one pod, bits per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// Into the pod.
    pub ingress: Option<u64>,
    /// Out of the pod.
    pub egress: Option<u64>,
}

impl Bandwidth {
    /// Reads the two annotations.
    pub fn of(annotations: &BTreeMap<String, String>) -> Result<Self> {
        let read = |name: &'static str| annotations.get(name).map(|text| rate(name, text)).transpose();
        Ok(Self {
            ingress: read(INGRESS)?,
            egress: read(EGRESS)?,
        })
    }

    /// Whether there is no limit.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

fn rate(annotation: &'static str, text: &str) -> Result<u64> {
    let refuse = |rule: String| Error::Bandwidth {
        annotation,
        value: text.chars().take(64).collect(),
        rule,
    };
    let quantity: Quantity = text.parse().map_err(|e| refuse(format!("is no quantity ({e})")))?;
    let bits = quantity.value();
    if bits < LEAST {
        return Err(refuse("is less than 1k, one kilobit per second".to_owned()));
    }
    if bits > MOST {
        return Err(refuse("is more than 1P, one petabit per second".to_owned()));
    }
    u64::try_from(bits).map_err(|_| refuse("is negative".to_owned()))
}

/// What may pass at once, bytes: what the rate gives in 50 ms, and a packet or two at least.
pub(crate) fn burst(bits: u64, mtu: u32) -> u32 {
    let least = u64::from(mtu).saturating_add(64).max(8 << 10);
    u32::try_from((bits / 8 / 20).max(least))
        .unwrap_or(u32::MAX >> 1)
        .min(u32::MAX >> 1)
}

// `include/uapi/linux/rtnetlink.h` and `pkt_sched.h`.
const NEW_QDISC: u16 = 36;
const NEW_FILTER: u16 = 44;
const ROOT: u32 = 0xffff_ffff;
const INGRESS_PARENT: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
const FIRST_HANDLE: u32 = 1 << 16;
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
/// Time that a packet may wait, as a part of a second: 25 ms, as the plugin has it.
const LATENCY: u64 = 40;

/// What the names of devices begin with.
const DEVICE: &str = "cb";

/// What the machine's ifb device of a pod with an egress limit is called: `cb` and the first 12
/// digits of its id.
pub fn device(pod_id: &str) -> Result<String> {
    Ok(link::host_link(pod_id)?.replacen(link::PREFIX, DEVICE, 1))
}

/// Sets the limits on a pod's link, which has just been made. What cannot be set is an error that
/// says so; what was set by then goes with the link, or by [`remove`].
pub(crate) fn limit(pod_id: &str, limits: Bandwidth, mtu: u32) -> Result<()> {
    if limits.is_none() {
        return Ok(());
    }
    let name = link::host_link(pod_id)?;
    let fail = |what: &str| Error::netlink(format!("{what} of pod {pod_id}"));
    let mut connection = Connection::route().map_err(fail("open a netlink socket for the limits"))?;
    let found = link::by_name(&mut connection, &name).map_err(fail("look for the link"))?;
    let index = found
        .map(|l| l.index)
        .ok_or(io::ErrorKind::NotFound.into())
        .map_err(fail("look for the link"))?;
    let refuse = |direction, action, missing| {
        move |source| Error::Shape {
            direction,
            pod: pod_id.to_owned(),
            action,
            missing,
            source,
        }
    };
    if let Some(bits) = limits.ingress {
        token_bucket(&mut connection, index, bits, mtu).map_err(refuse("ingress", "shape by a token bucket", "CONFIG_NET_SCH_TBF"))?;
    }
    if let Some(bits) = limits.egress {
        let device = device(pod_id)?;
        let made = create_device(&mut connection, &device, mtu);
        let through = made.map_err(refuse("egress", "make an intermediate device", "CONFIG_IFB"))?;
        token_bucket(&mut connection, through, bits, mtu).map_err(refuse("egress", "shape by a token bucket", "CONFIG_NET_SCH_TBF"))?;
        let ingress = discipline(index, INGRESS_HANDLE, INGRESS_PARENT, "ingress", |_| {});
        connection
            .request_raw(NEW_QDISC, CREATE, &ingress)
            .map_err(refuse("egress", "look at what comes in", "CONFIG_NET_SCH_INGRESS"))?;
        redirect(&mut connection, index, through).map_err(refuse(
            "egress",
            "send what comes in elsewhere",
            "CONFIG_NET_CLS_U32 or CONFIG_NET_CLS_MATCHALL, and CONFIG_NET_ACT_MIRRED",
        ))?;
    }
    Ok(())
}

/// Removes the device of a pod; none is no error. All else of the limits goes with the pod's link.
pub(crate) fn remove(connection: &mut Connection, pod_id: &str) -> Result<()> {
    remove_of(connection, &link::host_link(pod_id)?)
}

/// As [`remove`], of the pod that has the link `host_link`.
pub(crate) fn remove_of(connection: &mut Connection, host_link: &str) -> Result<()> {
    let name = host_link.replacen(link::PREFIX, DEVICE, 1);
    let work = |connection: &mut Connection| match link::by_name(connection, &name)? {
        Some(link) if link.kind == "ifb" => link::delete(connection, link.index),
        _ => Ok(()),
    };
    work(connection).map_err(Error::netlink(format!("delete the link {name}")))
}

fn create_device(connection: &mut Connection, name: &str, mtu: u32) -> io::Result<u32> {
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
    ];
    connection
        .request(vec![(RouteNetlinkMessage::NewLink(message), CREATE)])
        .map_err(|(_, e)| e)?;
    link::by_name(connection, name)?
        .map(|l| l.index)
        .ok_or(io::ErrorKind::NotFound.into())
}

/// `struct tcmsg`, the kind and its options.
fn discipline(index: u32, handle: u32, parent: u32, kind: &str, options: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for word in [index, handle, parent, 0] {
        bytes.extend(word.to_ne_bytes());
    }
    put(&mut bytes, KIND, &[kind.as_bytes(), &[0]].concat());
    nest(&mut bytes, OPTIONS, options);
    bytes
}

/// tbf(8): `struct tc_tbf_qopt`, and the rate and burst in full, so that no table of the caller's
/// clock is needed.
fn token_bucket(connection: &mut Connection, index: u32, bits: u64, mtu: u32) -> io::Result<()> {
    const PARAMETERS: u16 = 1;
    const RATE64: u16 = 4;
    const BURST: u16 = 6;
    const ETHERNET: u8 = 1;
    let (rate, burst) = ((bits / 8).max(1), burst(bits, mtu));
    let limit = u32::try_from(u64::from(burst) + rate / LATENCY).unwrap_or(u32::MAX);
    // `struct tc_ratespec`: cell_log, linklayer, overhead, cell_align, mpu, rate.
    let mut parameters = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    parameters.extend(u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
    parameters.extend([0; 12]);
    for word in [limit, 0, 0] {
        parameters.extend(word.to_ne_bytes());
    }
    let message = discipline(index, FIRST_HANDLE, ROOT, "tbf", |options| {
        put(options, PARAMETERS, &parameters);
        put(options, BURST, &burst.to_ne_bytes());
        if rate >= u64::from(u32::MAX) {
            put(options, RATE64, &rate.to_ne_bytes());
        }
    });
    connection.request_raw(NEW_QDISC, CREATE, &message)
}

/// Sends all that comes in by `from` through `to`: by `u32`, or where the kernel lacks that by
/// `matchall`.
fn redirect(connection: &mut Connection, from: u32, to: u32) -> io::Result<()> {
    const U32_SELECTOR: u16 = 5;
    const U32_ACTION: u16 = 7;
    const MATCHALL_ACTION: u16 = 2;
    // `struct tc_u32_sel`: terminal, one key, which matches anything.
    let mut selector = vec![0; 16 + 16];
    (selector[0], selector[2]) = (1, 1);
    let by_u32 = filter(from, "u32", |options| {
        put(options, U32_SELECTOR, &selector);
        nest(options, U32_ACTION, |list| mirror(list, to));
    });
    match connection.request_raw(NEW_FILTER, CREATE, &by_u32) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
        other => return other,
    }
    let by_matchall = filter(from, "matchall", |options| nest(options, MATCHALL_ACTION, |list| mirror(list, to)));
    connection.request_raw(NEW_FILTER, CREATE, &by_matchall)
}

fn filter(index: u32, kind: &str, options: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = discipline(index, 0, INGRESS_HANDLE, kind, options);
    // Priority 1, all protocols (ETH_P_ALL in network order).
    let information = 1 << 16 | u32::from(3u16.to_be());
    bytes[16..20].copy_from_slice(&information.to_ne_bytes());
    bytes
}

/// One action, `mirred egress redirect` to a link (tc-mirred(8)).
fn mirror(list: &mut Vec<u8>, to: u32) {
    const ACTION_KIND: u16 = 1;
    const ACTION_OPTIONS: u16 = 2;
    const PARAMETERS: u16 = 2;
    const STOLEN: u32 = 4;
    const EGRESS_REDIRECT: u32 = 1;
    nest(list, 1, |action| {
        put(action, ACTION_KIND, b"mirred\0");
        nest(action, ACTION_OPTIONS, |options| {
            // `struct tc_mirred`: index, capab, action, refcnt, bindcnt, eaction, ifindex.
            let words = [0, 0, STOLEN, 0, 0, EGRESS_REDIRECT, to];
            put(options, PARAMETERS, &words.map(u32::to_ne_bytes).concat());
        });
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn annotations_are_read_as_kubernetes_reads_them() {
        let of = |text: &str| Bandwidth::of(&BTreeMap::from([(EGRESS.to_owned(), text.to_owned())]));
        for (text, bits) in [
            ("1k", 1000),
            ("10M", 10_000_000),
            ("1Gi", 1 << 30),
            ("1P", 1_000_000_000_000_000),
            ("1500.5", 1501),
            ("2e3", 2000),
        ] {
            assert_eq!(
                of(text).unwrap(),
                Bandwidth {
                    ingress: None,
                    egress: Some(bits)
                },
                "{text}"
            );
        }
        for (text, expected) in [
            ("999", "is less than 1k"),
            ("0", "is less than 1k"),
            ("-5M", "is less than 1k"),
            ("2P", "is more than 1P"),
            ("9E", "is more than 1P"),
            ("", "is no quantity"),
            ("10 M", "is no quantity"),
            ("10Mbit", "is no quantity"),
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(EGRESS), "{text}: {error}");
        }
        assert!(Bandwidth::of(&BTreeMap::new()).unwrap().is_none());
    }

    #[test]
    fn a_burst_holds_a_packet_and_never_overflows() {
        for (bits, mtu, expected) in [
            (1000, 1500, 8192),
            (1000, 65535, 65599),
            (800_000_000, 1500, 5_000_000),
            (MOST as u64, 1500, u32::MAX >> 1),
        ] {
            assert_eq!(burst(bits, mtu), expected, "{bits}");
        }
    }

    #[test]
    fn a_kernel_that_cannot_is_named() {
        let error = Error::Shape {
            direction: "ingress",
            pod: "p".into(),
            action: "shape by a token bucket",
            missing: "CONFIG_NET_SCH_TBF",
            source: io::Error::from_raw_os_error(libc::ENOENT),
        };
        assert!(
            error.to_string().starts_with(
                "the ingress limit of the pod p cannot be set: this kernel cannot shape by a token bucket (CONFIG_NET_SCH_TBF)"
            )
        );
    }
}
