//! The rows of `docs/documents.md`: each is tried on a fresh state, with manifests of the same
//! content (`documents/NNN-*`, by row), and every sentence that the page quotes must be said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

#[path = "documents/answers.rs"]
mod answers;
#[path = "documents/cluster.rs"]
mod cluster;
#[path = "documents/image.rs"]
mod image;
#[path = "documents/mirror.rs"]
mod mirror;
#[path = "documents/page.rs"]
mod page;
#[path = "documents/trial.rs"]
mod trial;

use answers::{
    a_handler_is_immutable, a_label_makes_a_node_eligible, a_namespace_has_its_pods, a_running_pod_is_described, a_taint_keeps_others_away,
    an_untrusted_build, an_updated_class_is_placed_by, gvisor_shows_in_what_is_tried, labels_decide, overhead_is_described,
    the_limit_range_sets_defaults, the_quota_counts_overhead, three_classes_in_one_text, three_common_errors, three_replicas_of_a_class,
};
use common::traces;
use page::Verdict::{self, Counterpart, Later, Own, Refused, Restored, Works, Wrong};
use serde_json::{Value, json};
use trial::Kernel::{Gvisor, Machine};
use trial::{LOST_CLASS, LOST_DEPLOYMENT, Trial};

/// How a row is tried; gives everything that Cofferdam said.
type Try = fn(&Trial) -> String;

/// Handlers of our own that the proposal's classes name.
const PROPOSED: &str = "[handlers.gvisor]\nbinary = \"runsc\"\n";
const UNTRUSTED: &str = "untrusted_handler = \"runsc\"";

const UP: Try = |t| t.unknown("up");
const CRI: Try = |t| t.help("cri");

/// Every row of the page; `None` where nothing of Cofferdam's has a part in it.
const ROWS: &[(usize, Verdict, Option<Try>)] = &[
    // How to Create Kubernetes RuntimeClass
    (1, Own, None),
    (2, Own, None),
    (
        3,
        Counterpart,
        Some(|t| t.help("cri") + &t.with(&[24]).lists(&["runc", "runsc", "kata-qemu", "kata-fc"])),
    ),
    (4, Works, Some(|t| t.ran(&[4], "standard", "runc", Machine))),
    (5, Works, Some(gvisor_shows_in_what_is_tried)),
    (
        6,
        Later,
        Some(|t| t.unavailable(&[6], "kata", "kata-qemu") + &t.with(&[24]).unavailable(&[6], "kata", "kata-qemu")),
    ),
    (7, Counterpart, Some(three_classes_in_one_text)),
    (
        8,
        Later,
        Some(|t| t.unknown("up") + &t.classes_are_right(&[7], &["standard", "gvisor", "kata"])),
    ),
    (9, Works, Some(|t| t.serves(&[5, 9], &["sandboxed-app"], "runsc"))),
    (10, Later, Some(three_replicas_of_a_class)),
    (
        11,
        Works,
        Some(|t| t.ran(&[11], "gvisor", "runsc", Gvisor) + &labels_decide(t, &[11, 9], 13, &["worker-1", "worker-2"])),
    ),
    (
        12,
        Later,
        Some(|t| {
            t.with(&[24]).unavailable(&[12], "kata", "kata-qemu") + &t.lands(&[12, 10], &trial::workers(15), &["worker-3", "worker-4"])
        }),
    ),
    (
        13,
        Later,
        Some(|t| t.unknown("up") + &labels_decide(t, &[11, 9], 13, &["worker-1", "worker-2"])),
    ),
    (
        14,
        Later,
        Some(|t| t.unknown("up") + &labels_decide(t, &[12, 10], 14, &["worker-3", "worker-4"])),
    ),
    (15, Later, Some(a_taint_keeps_others_away)),
    (16, Works, Some(|t| t.ran(&[16], "gvisor", "runsc", Gvisor))),
    (17, Later, Some(|t| t.with(&[24]).unavailable(&[17], "kata", "kata-qemu"))),
    (18, Works, Some(overhead_is_in_the_pods_cgroup)),
    (19, Wrong, Some(overhead_is_described)),
    (20, Works, Some(|t| t.ran(&[20], "standard", "runc", Machine))),
    (21, Works, Some(|t| t.ran(&[21], "gvisor", "runsc", Gvisor))),
    (22, Later, Some(|t| t.with(&[24]).unavailable(&[22], "kata", "kata-qemu"))),
    (23, Later, Some(|t| t.with(&[24]).unavailable(&[23], "kata-fc", "kata-fc"))),
    (24, Works, Some(containerd_of_several_runtimes)),
    (
        25,
        Later,
        Some(|t| {
            t.with(&[24]).listed_unproved(&[
                ("kata-qemu", "containerd-shim-kata-qemu-v2"),
                ("kata-fc", "containerd-shim-kata-fc-v2"),
            ])
        }),
    ),
    (26, Own, None),
    (27, Works, Some(crio_of_several_runtimes)),
    (
        28,
        Wrong,
        Some(|t| t.with(&[27]).listed_unproved(&[("kata-qemu", "/usr/bin/kata-runtime")])),
    ),
    (29, Own, None),
    (30, Later, Some(|t| t.undecoded(&[30]))),
    (31, Later, Some(|t| t.undecoded(&[31]))),
    (32, Later, Some(|t| t.undecoded(&[32]))),
    (33, Later, Some(|t| t.undecoded(&[33]))),
    (34, Later, Some(UP)),
    (35, Later, Some(|t| t.unknown("up") + &t.check(&[16, 18], &[], &[], 0).0)),
    (36, Counterpart, Some(three_common_errors)),
    (
        37,
        Counterpart,
        Some(|t| t.help("cri") + &t.with(&[24]).lists(&["runc", "runsc", "kata-qemu", "kata-fc"])),
    ),
    (
        38,
        Own,
        Some(|t| {
            t.having("[handlers.runsc]\nbinary = \"/nowhere/runsc\"\n")
                .doctor_finds("handler-binary-missing", "runsc")
        }),
    ),
    (39, Own, Some(|t| t.with(&[27]).doctor_finds("handler-not-built", "kata-qemu"))),
    (40, Own, None),
    (41, Own, Some(|t| t.with(&[24]).doctor_finds("handler-not-built", "kata-qemu"))),
    (42, Wrong, Some(CRI)),
    (43, Works, Some(a_namespace_has_its_pods)),
    (44, Works, Some(the_quota_counts_overhead)),
    (45, Works, Some(the_limit_range_sets_defaults)),
    // RuntimeClass
    (46, Wrong, Some(containerd_without_a_version)),
    (47, Own, None),
    (48, Works, Some(crio_of_two_paths)),
    (
        49,
        Wrong,
        Some(|t| t.with(&[48]).listed_unproved(&[("kata", "/usr/bin/kata-runtime")])),
    ),
    (50, Own, None),
    (51, Works, Some(|t| t.ran(&[51], "runc", "runc", Machine))),
    (52, Later, Some(|t| t.with(&[46]).unavailable(&[52], "kata", "kata"))),
    (
        53,
        Works,
        Some(|t| t.with(&[46]).ran(&[53], "gvisor", "gvisor", Gvisor) + &t.with(&[48]).unavailable(&[53], "gvisor", "gvisor")),
    ),
    (
        54,
        Counterpart,
        Some(|t| t.unknown("up") + &t.classes_are_right(&[51], &["runc"]) + &t.ran(&[51], "runc", "runc", Machine)),
    ),
    (55, Later, Some(|t| t.unknown("up") + &t.classes_are_right(&[52], &["kata"]))),
    (
        56,
        Counterpart,
        Some(|t| t.unknown("up") + &t.classes_are_right(&[53], &["gvisor"]) + &t.with(&[46]).ran(&[53], "gvisor", "gvisor", Gvisor)),
    ),
    (
        57,
        Later,
        Some(|t| t.unknown("up") + &t.classes_are_right(&[51, 52, 53], &["runc", "kata", "gvisor"])),
    ),
    (58, Later, Some(|t| t.with(&[46]).none_of(&[52, 58], 1))),
    (
        59,
        Later,
        Some(|t| t.with(&[46]).unavailable(&[52, 59], "kata", "kata") + &an_updated_class_is_placed_by(t)),
    ),
    (60, Wrong, Some(|t| t.with(&[60]).ran(&[61], "gvisor", "runsc", Gvisor))),
    (61, Wrong, Some(a_handler_is_immutable)),
    (62, Works, Some(|t| t.with(&[60]).serves(&[61, 62], &["nginx-gvisor"], "runsc"))),
    (63, Wrong, Some(|t| t.with(&[63]).unavailable(&[64], "kata-fc", "kata-fc"))),
    (64, Later, Some(|t| t.with(&[63]).unavailable(&[64], "kata-fc", "kata-fc"))),
    (65, Later, Some(a_label_makes_a_node_eligible)),
    (66, Later, Some(|t| t.with(&[63]).none_of(&[64, 66], 1))),
    // Runtime Class Overview
    (
        67,
        Later,
        Some(|t| t.flat(67) + &t.unavailable(&[67], "kata-qemu-handler", "kata-qemu")),
    ),
    (68, Later, Some(|t| t.flat(68) + &t.none_of(&[67, 68], 1))),
    (69, Wrong, None),
    (70, Counterpart, Some(|t| t.installs())),
    (71, Later, Some(UP)),
    (72, Counterpart, Some(a_running_pod_is_described)),
    (
        73,
        Wrong,
        Some(|t| t.lands(&[11, 9], &trial::workers(13), &["worker-1", "worker-2"])),
    ),
    (74, Wrong, None),
    (
        75,
        Wrong,
        Some(|t| {
            t.lands(&[67, 68], &[trial::node("worker-1", &[])], &["worker-1"]);
            t.none_of(&[67, 68], 1) + &t.lands_nowhere(&[67, 68], &[], &[trial::node("worker-1", &["runc", "runsc"])])
        }),
    ),
    (76, Wrong, None),
    // Runtime Class
    (77, Wrong, Some(|t| t.undecoded(&[77]))),
    (78, Works, Some(|t| t.ended(&[78], "no-class", "runc", Machine))),
    (79, Works, Some(the_legacy_class_is_none)),
    (
        80,
        Restored,
        Some(|t| t.lost(LOST_CLASS) + &t.ran(&[80], "native", "runc", Machine)),
    ),
    (
        81,
        Restored,
        Some(|t| t.unavailable(&[81], "gvisor", "gvisor") + &t.having(PROPOSED).ran(&[81], "gvisor", "gvisor", Gvisor)),
    ),
    (82, Later, Some(|t| t.unavailable(&[82], "kata-containers", "kata-containers"))),
    (83, Restored, Some(|t| t.having(PROPOSED).ran(&[83], "sandboxed", "gvisor", Gvisor))),
    (
        84,
        Restored,
        Some(|t| {
            t.lost(LOST_DEPLOYMENT)
                + &t.having(PROPOSED)
                    .serves(&[83, 84], &["sandboxed-nginx-", "sandboxed-nginx-"], "gvisor")
        }),
    ),
    (85, Counterpart, Some(CRI)),
    (
        86,
        Works,
        Some(|t| t.denied(&[86], &[]) + &t.having(UNTRUSTED).ended(&[86], "untrusted", "runsc", Gvisor)),
    ),
    (
        87,
        Works,
        Some(|t| t.denied(&[87], &[]) + &t.having(UNTRUSTED).ended(&[87], "untrusted", "runsc", Gvisor)),
    ),
    (88, Restored, Some(fraktis_two_annotations)),
    (89, Refused, Some(|t| t.denied(&[89], &[]))),
    (
        90,
        Later,
        Some(|t| t.without_its_table(90) + &t.with(&[90]).listed_unproved(&[("kata-runtime", "/opt/kata/bin/kata-runtime")])),
    ),
    // Kubernetes gVisor and Kata Containers RuntimeClass
    (91, Restored, Some(|t| t.flat(91) + &t.ran(&[91], "gvisor", "runsc", Gvisor))),
    (92, Later, Some(|t| t.flat(92) + &t.with(&[99]).unavailable(&[92], "kata", "kata"))),
    (93, Wrong, Some(gvisors_own_configuration)),
    (94, Own, None),
    (95, Own, None),
    (96, Own, None),
    (97, Own, None),
    (98, Own, None),
    (99, Wrong, Some(|t| t.with(&[99]).unavailable(&[92], "kata", "kata"))),
    (100, Restored, Some(an_untrusted_build)),
    (101, Later, Some(|t| t.flat(101) + &t.with(&[99]).none_of(&[92, 101], 1))),
    (
        102,
        Wrong,
        Some(|t| {
            t.having("[handlers.slow]\nbinary = \"runsc\"\nargs = [\"--directfs=false\"]\n")
                .ran_own("slow", "slow", Gvisor)
                + &t.having("[handlers.slow]\nbinary = \"runsc\"\nargs = [\"--directfs=false\"]\n")
                    .doctor_finds("gvisor-slow-files", "slow")
        }),
    ),
];

/// 100m of the container and 50m of the class.
fn overhead_is_in_the_pods_cgroup(t: &Trial) -> String {
    let world = t.world();
    let said = trial::up(&world, &[16, 18]);
    assert_eq!(world.ps()[0]["handler"], "runsc");
    let id = world.id_of("overhead-example");
    let read = |file: &str| traces::cgroups(&id).find_map(|dir| std::fs::read_to_string(dir.join(file)).ok());
    // Version 1 has the shares, version 2 what Kubernetes makes of them: 1 + (shares - 2) * 9999 / 262142.
    match (read("cpu.shares"), read("cpu.weight")) {
        (Some(shares), _) => assert_eq!(shares.trim(), "153"),
        (None, weight) => assert_eq!(weight.unwrap().trim(), "6"),
    }
    said
}

fn containerd_of_several_runtimes(t: &Trial) -> String {
    let t = t.with(&[24]);
    let config = t.bare().call(&["config", "-o", "json"]).good();
    let table = config.json();
    assert_eq!(table["default"][0], "runc");
    assert_eq!(table["default"][1]["place"]["line"], 4);
    for name in ["runc", "runsc"] {
        assert_eq!(table["handlers"][name]["driver"]["oci"]["binary"]["search"], name);
        assert_eq!(table["handlers"][name]["unusable"], Value::Null);
    }
    config.err + &t.ran(&[4], "standard", "runc", Machine) + &t.ran(&[5], "gvisor", "runsc", Gvisor)
}

fn containerd_without_a_version(t: &Trial) -> String {
    let t = t.with(&[46]);
    t.ran(&[53], "gvisor", "gvisor", Gvisor) + &t.listed_unproved(&[("kata", "containerd-shim-kata-v2")])
}

fn fraktis_two_annotations(t: &Trial) -> String {
    let world = t.having(UNTRUSTED).world();
    let (said, report) = trial::run(&world, &[88], &[], 0);
    for (pod, handler, kernel) in [("os-container", "runc", Machine), ("unikernel", "runsc", Gvisor)] {
        trial::ended_under(&report, pod, handler, kernel);
    }
    said
}

/// A handler runs the file that it names where that is there, and nothing where not.
fn by_path(t: &Trial, files: &[usize], (class, handler): (&str, &str), path: &str, kernel: trial::Kernel) -> String {
    let missing = format!("handler {handler:?} needs {path}, which does not exist");
    if std::path::Path::new(path).exists() {
        return t.ran(files, class, handler, kernel) + &missing;
    }
    let said = t.unavailable(files, class, handler);
    assert!(said.contains(&missing), "{said}");
    said
}

fn crio_of_several_runtimes(t: &Trial) -> String {
    let t = t.with(&[27]);
    let table = t.bare().call(&["config", "-o", "json"]).good().json();
    for (name, path) in [("runc", "/usr/bin/runc"), ("runsc", "/usr/local/bin/runsc")] {
        let oci = &table["handlers"][name]["driver"]["oci"];
        assert_eq!(
            (&oci["binary"]["path"], &oci["root"]),
            (&json!(path), &json!(format!("/run/{name}")))
        );
    }
    by_path(&t, &[4], ("standard", "runc"), "/usr/bin/runc", Machine)
        + &by_path(&t, &[5], ("gvisor", "runsc"), "/usr/local/bin/runsc", Gvisor)
}

fn crio_of_two_paths(t: &Trial) -> String {
    let t = t.with(&[48]);
    by_path(&t, &[51], ("runc", "runc"), "/usr/local/bin/runc", Machine)
        + &by_path(&t, &[5], ("gvisor", "runsc"), "/usr/local/bin/runsc", Gvisor)
}

fn the_legacy_class_is_none(t: &Trial) -> String {
    let said = t.ended(&[79], "legacy", "runc", Machine);
    let refused = t.lost("kind: RuntimeClass\nmetadata:\n  name: legacy\nspec:\n  runtimeHandler: runc\n");
    assert!(refused.contains("\"legacy\" is reserved"), "{refused}");
    said
}

/// The file that the fragment names is not there; where it is, its flags count.
fn gvisors_own_configuration(t: &Trial) -> String {
    let path = "/etc/containerd/runsc.toml";
    let missing = format!("its configuration {path:?} is not there");
    let mut said = t.with(&[93]).bare().call(&["config"]).good().err;
    said += &match std::path::Path::new(path).exists() {
        true => missing,
        false => t.with(&[93]).unavailable(&[91], "gvisor", "runsc"),
    };
    let there = t.bare();
    let (own, fragment) = (there.dir.join("runsc.toml"), there.dir.join("containerd.toml"));
    std::fs::write(&own, "[runsc_config]\ndirectfs = \"false\"\n").unwrap();
    let text = std::fs::read_to_string(trial::file(93)).unwrap();
    std::fs::write(&fragment, text.replace(path, own.to_str().unwrap())).unwrap();
    let t = t.importing(vec![fragment]);
    let table = t.bare().call(&["config", "-o", "json"]).good().json();
    assert_eq!(table["handlers"]["runsc"]["driver"]["oci"]["flags"], json!({"directfs": "false"}));
    said + &t.ran(&[91], "gvisor", "runsc", Gvisor)
}

/// Tries rows; what the page quotes must have been said.
fn try_rows(numbers: std::ops::RangeInclusive<usize>) {
    let page = page::rows();
    for (number, _, how) in ROWS.iter().filter(|(number, ..)| numbers.contains(number)) {
        let row = page
            .iter()
            .find(|row| row.number == *number)
            .unwrap_or_else(|| panic!("the page has no row {number}"));
        println!("row {number}");
        let said = how.map(|how| how(&Trial::default())).unwrap_or_default();
        for sentence in &row.says {
            assert!(
                said.contains(sentence.as_str()),
                "row {number} quotes {sentence:?}, but this was said:\n{said}"
            );
        }
    }
}

/// The page and the table here have the same rows with the same verdicts; a row that works has a
/// file, and every file has a row.
#[test]
fn the_page_and_the_trials_agree() {
    let page: Vec<(usize, Verdict)> = page::rows().iter().map(|row| (row.number, row.verdict)).collect();
    let here: Vec<(usize, Verdict)> = ROWS.iter().map(|(number, verdict, _)| (*number, *verdict)).collect();
    assert_eq!(page, here);
    assert!(
        page.iter().map(|(number, _)| *number).eq(1..=page.len()),
        "rows are not numbered one by one"
    );
    for (number, verdict, how) in ROWS {
        match verdict {
            Works | Restored => drop((trial::file(*number), how.expect("a row that works is tried"))),
            Counterpart | Later | Refused => assert!(how.is_some(), "row {number} is not tried"),
            Own => {
                let row = &page::rows()[number - 1];
                assert_eq!(
                    how.is_some(),
                    !row.says.is_empty(),
                    "row {number} is tried without a sentence, or the other way round"
                );
            }
            Wrong => {}
        }
    }
    for name in common::names(&trial::folder()).iter().filter(|name| !name.ends_with(".rs")) {
        let number: usize = name.split('-').next().unwrap().parse().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(
            ROWS.iter().any(|(row, _, how)| *row == number && how.is_some()),
            "{name} belongs to no row that is tried"
        );
    }
}

#[test]
fn the_page_counts_its_rows() {
    for (verdict, count) in page::counts() {
        let rows = page::rows().iter().filter(|row| row.verdict == verdict).count();
        assert_eq!(rows, count, "{verdict:?}");
    }
}

#[test]
fn an_image_that_cannot_be_had_is_named() {
    let sentence = "image docker.io/library/nginx:alpine cannot be pulled";
    assert!(page::text().contains(sentence));
    let (said, _) = trial::run(&Trial::default().bare(), &[5, 9], &[], 125);
    assert!(said.contains(sentence), "{said}");
}

#[test]
fn every_row_that_comes_later_or_is_refused_quotes_a_sentence() {
    let silent: Vec<usize> = page::rows()
        .iter()
        .filter(|row| matches!(row.verdict, Counterpart | Later | Refused) && row.says.is_empty())
        .map(|row| row.number)
        .collect();
    assert!(silent.is_empty(), "rows {silent:?}");
}

#[test]
fn rows_001_to_017() {
    try_rows(1..=17);
}

#[test]
fn rows_018_to_036() {
    try_rows(18..=36);
}

#[test]
fn rows_037_to_049() {
    try_rows(37..=49);
}

#[test]
fn rows_050_to_066() {
    try_rows(50..=66);
}

#[test]
fn rows_067_to_084() {
    try_rows(67..=84);
}

#[test]
fn rows_085_to_102() {
    try_rows(85..=102);
}
