//! One row a rule: realistic texts and facts, and that each is claimed by the diagnosis that it is
//! about and by no other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod facts;
mod texts;
mod texts_of_pods;

use super::*;
use crate::facts::{Kernel, Kvm, Network, Runtime};
use crate::names::placeholder;
use facts::{controllers, gvisor, kernel, network, rows, runtime, storage, strings, vm};
use std::collections::BTreeSet;
use texts::{NOTHING, OUTPUT, SYSTEM};
use texts_of_pods::OF_PODS;

fn ids(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(|f| f.id).collect()
}

#[test]
fn each_text_of_the_system_is_claimed_by_its_diagnosis_alone() {
    let mut wrong = Vec::new();
    for (id, text) in SYSTEM.iter().chain(OF_PODS) {
        for world in [World::Machine, World::Cluster] {
            let heard = Heard {
                text,
                world,
                ..Heard::default()
            };
            let found = diagnose_text(&heard);
            if ids(&found) != [*id] {
                wrong.push(format!("{text}\n    is {id}, and is taken for {:?}", ids(&found)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_output_is_claimed_by_its_diagnosis_alone() {
    for (id, enclosure, text) in OUTPUT {
        let heard = Heard {
            text,
            voice: Voice::Container,
            enclosure: *enclosure,
            ..Heard::default()
        };
        assert_eq!(ids(&diagnose_text(&heard)), [*id], "{text}");
    }
}

#[test]
fn what_gvisor_lacks_says_nothing_of_other_enclosures() {
    let text = "socket: Operation not supported";
    for enclosure in [Enclosure::Shared, Enclosure::Vm, Enclosure::Unknown] {
        let heard = Heard {
            text,
            voice: Voice::Container,
            enclosure,
            ..Heard::default()
        };
        assert_eq!(diagnose_text(&heard), [], "{enclosure:?}");
    }
}

#[test]
fn an_unrelated_text_is_claimed_by_nobody() {
    for text in NOTHING {
        for voice in [Voice::System, Voice::Container] {
            for enclosure in [Enclosure::Unknown, Enclosure::Shared, Enclosure::Gvisor, Enclosure::Vm] {
                let heard = Heard {
                    text,
                    voice,
                    enclosure,
                    ..Heard::default()
                };
                assert_eq!(diagnose_text(&heard), [], "{text}");
            }
        }
    }
}

#[test]
fn a_text_of_several_causes_gives_each() {
    let text = "0/5 nodes are available: 2 Insufficient cpu, 3 node(s) had untolerated taint {dedicated: gpu}.";
    let found = diagnose_text(&Heard {
        text,
        world: World::Cluster,
        ..Heard::default()
    });
    assert_eq!(ids(&found), ["taint-not-tolerated", "resources-insufficient"]);
    assert!(found[0].explanation.contains("dedicated=gpu"), "{}", found[0].explanation);
    assert!(found[1].explanation.contains("left of cpu."), "{}", found[1].explanation);
}

#[test]
fn each_mirror_is_told_of_by_its_own_cause() {
    let text = "image r.example/a:1 cannot be pulled: no host gave r.example/a:1: no trusted connection to m.example: its certificate is by an authority that is not trusted here, name it; n.example has no address (none is known): look at the name; r.example answers no more requests for now (429): try again later";
    let found = diagnose_text(&Heard { text, ..Heard::default() });
    assert_eq!(
        ids(&found),
        ["registry-rate-limit", "registry-untrusted", "registry-name-unresolved"]
    );
    assert!(found[2].explanation.contains("an address of n.example:"), "{}", found[2].explanation);
    assert!(found[1].remedy.iter().any(|c| c.contains("-connect m.example:443")), "{:?}", found[1].remedy);
}

#[test]
fn real_names_stand_in_explanations_and_commands() {
    let rows: &[(&str, World, &str)] = &[
        (SYSTEM[0].1, World::Cluster, "  name: gvisor\nhandler: HANDLER"),
        (
            r#"failed quota: team: must specify limits.cpu for: app"#,
            World::Cluster,
            "kubectl describe resourcequota team --namespace=NAMESPACE",
        ),
        (
            r#"handler "g" needs /opt/my runsc, which is not an executable file"#,
            World::Machine,
            "chmod 0755 '/opt/my runsc'",
        ),
        ("/run/cofferdam/l is locked by process 4242: stop it", World::Machine, "ps -fp 4242"),
        (r#"no runtime for "$(reboot)" is configured"#, World::Machine, "cofferdam handlers"),
    ];
    for (text, world, command) in rows {
        let found = diagnose_text(&Heard {
            text,
            world: *world,
            ..Heard::default()
        });
        assert!(found[0].remedy.iter().any(|c| c.contains(command)), "{:?}", found[0]);
    }
    let found = diagnose_text(&Heard {
        text: r#"image "a'; reboot #" is not on this machine"#,
        ..Heard::default()
    });
    assert!(
        found[0]
            .remedy
            .contains(&r"cofferdam image pull 'a'\''; reboot #'".to_owned()),
        "{:?}",
        found[0].remedy
    );
}

#[test]
fn each_fact_shows_its_diagnosis_alone() {
    for (id, severity, facts) in rows() {
        let found = diagnose_facts(&facts);
        assert_eq!(ids(&found).join(" "), id, "{facts:?}");
        assert_eq!(found[0].severity, severity, "{id}");
        assert!(!found[0].evidence.is_empty(), "{id}");
    }
}

#[test]
fn bridged_packets_are_told_of_beside_what_drops_them() {
    let facts = network(Network {
        bridge_nf_call_iptables: Some(true),
        forward_drops: Some(vec!["ip filter FORWARD".into()]),
        ..Network::default()
    });
    let found = diagnose_facts(&facts);
    assert_eq!(ids(&found), ["docker-forward-drop", "bridged-packets-filtered"]);
    assert_eq!(found[1].remedy[1], "iptables -I FORWARD -i cofferdam0 -o cofferdam0 -j ACCEPT");
    let harmless = network(Network {
        bridge_nf_call_iptables: Some(true),
        forward_drops: Some(vec![]),
        ..Network::default()
    });
    assert_eq!(diagnose_facts(&harmless), []);
}

#[test]
fn a_sound_or_unknown_machine_shows_nothing() {
    assert_eq!(diagnose_facts(&Facts::default()), []);
    let sound = [
        storage(|_| ()),
        Facts {
            runtimes: vec![runtime("runc", "runc version 1.3.3"), runtime("crun", "crun version 1.24")],
            ..Facts::default()
        },
        Facts {
            runtimes: vec![Runtime {
                repaired: strings(&["CVE-2024-21626", "CVE-2025-31133"]),
                ..runtime("runc", "runc version 1.1.5+ds1")
            }],
            ..Facts::default()
        },
        gvisor("go1.26.1", 20_260_701),
        gvisor("go1.25.3", 20_250_205),
        vm(Kvm::Opens, Some(true)),
        kernel(Kernel {
            release: "6.1.0".into(),
            filesystem_modules: strings(&["overlay"]),
            filesystems: strings(&["ext4"]),
            ..Kernel::default()
        }),
        Facts {
            cgroups: Some(controllers("hybrid", &["cpu", "memory", "pids"], &[])),
            runtimes: vec![runtime("crun", "crun version 1.24")],
            ..Facts::default()
        },
    ];
    for facts in sound {
        assert_eq!(diagnose_facts(&facts), [], "{facts:?}");
    }
}

#[test]
fn every_diagnosis_is_well_formed_and_has_a_row() {
    // Those that a pod's story or a cluster's objects show: rows of `pod_tests` and `cluster::tests`.
    const ELSEWHERE: [&str; 9] = [
        "handler-unusable",
        "keeper-gone",
        "stuck-terminating",
        "stuck-container-creating",
        "handler-removed",
        "handler-changed",
        "class-edited",
        "container-failed",
        "bridged-packets-filtered",
    ];
    let facts: BTreeSet<_> = rows().iter().flat_map(|r| r.0.split(' ')).collect();
    let texts = || SYSTEM.iter().chain(OF_PODS).map(|r| r.0).chain(OUTPUT.iter().map(|r| r.0));
    let mut seen = BTreeSet::new();
    for d in diagnoses() {
        let id = d.id;
        assert!(seen.insert(id), "{id} stands twice");
        assert!(
            id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            "{id}"
        );
        assert!(d.says.is_empty() || texts().any(|t| t == id), "{id} has texts and no row with one");
        assert!(
            d.machine.is_none() || facts.contains(id) || ELSEWHERE.contains(&id),
            "{id} has a rule and no row of facts"
        );
        assert!(
            !d.says.is_empty() || d.machine.is_some() || ELSEWHERE.contains(&id),
            "{id} is recognised by nothing"
        );
        let sentences = d.explanation.matches(". ").count() + usize::from(d.explanation.ends_with('.'));
        assert_eq!(sentences, 2, "{id}: {}", d.explanation);
        assert!(!d.remedy.is_empty() && d.title.len() < 90, "{id}");
        for command in d.remedy.iter().chain(d.cluster_remedy) {
            assert_eq!(
                quoted_placeholder(command),
                None,
                "{id}: a name inside quotes would break them: {command}"
            );
        }
    }
    assert!(seen.len() >= 40);
}

/// A placeholder between single or double quotes.
fn quoted_placeholder(command: &str) -> Option<&str> {
    let mut quote = None;
    for (at, c) in command.char_indices() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            (Some(_), '<') if placeholder(&command[at..]).is_some() => return placeholder(&command[at..]),
            _ => {}
        }
    }
    None
}

#[test]
fn what_is_taken_for_a_name_is_one() {
    for (id, text) in SYSTEM.iter().chain(OF_PODS) {
        for finding in diagnose_text(&Heard { text, ..Heard::default() }) {
            // What reached too far has quotes in it, and more than one part of a sentence.
            let told = &finding.explanation;
            assert!(!told.contains('"') && !told.contains("failed: "), "{id}: {text}\n{told}");
        }
    }
}
