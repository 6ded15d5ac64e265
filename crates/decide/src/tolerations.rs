//! Tolerations: their rules (`ValidateTolerations` in `pkg/apis/core/validation`) and their merging
//! (`pkg/util/tolerations`).

use crate::field::{Errors, Path};
use crate::format;
use cofferdam_model::pod::Toleration;

/// Taints of nodes that do not answer, and how long pods stay on them where they do not say.
const UNWELL: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const STAYS_SECONDS: i64 = 300;

/// Adds what a pod tolerates without saying so: nodes that are not ready or unreachable, for five
/// minutes (`plugin/pkg/admission/defaulttolerationseconds`). Adding twice changes nothing.
pub fn add_defaults(tolerations: &mut Vec<Toleration>) {
    for taint in UNWELL {
        let says = |t: &Toleration| (t.key.is_empty() || t.key == taint) && (t.effect.is_empty() || t.effect == "NoExecute");
        if !tolerations.iter().any(says) {
            tolerations.push(Toleration {
                key: taint.to_string(),
                operator: "Exists".to_string(),
                value: String::new(),
                effect: "NoExecute".to_string(),
                toleration_seconds: Some(STAYS_SECONDS),
            });
        }
    }
}

/// Two lists as one, the first one's entries first. An entry that another covers is dropped; of
/// equal ones the first stays.
pub fn merge(first: &[Toleration], second: &[Toleration]) -> Vec<Toleration> {
    let all: Vec<&Toleration> = first.iter().chain(second).collect();
    let mut merged: Vec<Toleration> = Vec::new();
    for (at, candidate) in all.iter().enumerate() {
        let by_kept = merged.iter().any(|kept| covers(kept, candidate));
        let by_later = all[at + 1..].iter().any(|later| later != candidate && covers(later, candidate));
        if !by_kept && !by_later {
            merged.push((*candidate).clone());
        }
    }
    merged
}

/// Whether everything that `narrow` tolerates `wide` tolerates too.
///
/// An empty operator counts as `Equal` in `wide` only: upstream keeps both of two tolerations that
/// differ in just that, which is harmless.
pub fn covers(wide: &Toleration, narrow: &Toleration) -> bool {
    if wide == narrow {
        return true;
    }
    let every_key = wide.key.is_empty() && wide.operator == "Exists";
    if wide.key != narrow.key && !every_key {
        return false;
    }
    if wide.effect != narrow.effect && !wide.effect.is_empty() {
        return false;
    }
    if let (true, Some(most)) = (wide.effect == "NoExecute", wide.toleration_seconds)
        && narrow.toleration_seconds.is_none_or(|seconds| seconds > most)
    {
        return false;
    }
    match wide.operator.as_str() {
        "Exists" => true,
        "Equal" | "" => narrow.operator == "Equal" && narrow.value == wide.value,
        _ => false,
    }
}

/// Checks each toleration of the list at `path`.
pub(crate) fn validate(tolerations: &[Toleration], path: &Path, errors: &mut Errors) {
    for (at, toleration) in tolerations.iter().enumerate() {
        validate_one(toleration, &path.index(at), errors);
    }
}

fn validate_one(t: &Toleration, path: &Path, errors: &mut Errors) {
    let operator = path.child("operator");
    if !t.key.is_empty() {
        errors.invalid_each(&path.child("key"), &t.key, format::qualified_name(&t.key));
    } else if t.operator != "Exists" {
        let rule = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.invalid(&operator, &t.operator, rule);
    }
    if t.toleration_seconds.is_some() && t.effect != "NoExecute" {
        errors.invalid(
            &path.child("effect"),
            &t.effect,
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        );
    }
    match t.operator.as_str() {
        "Equal" | "" => {
            let wrong = format::label_value(&t.value);
            if !wrong.is_empty() {
                errors.invalid(&operator, &t.value, &wrong.join(";"));
            }
        }
        "Exists" if !t.value.is_empty() => errors.invalid(&operator, &t.value, "value must be empty when `operator` is 'Exists'"),
        "Exists" => {}
        other => errors.not_supported(&operator, other, &["Equal", "Exists"]),
    }
    if !["", "NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&t.effect.as_str()) {
        errors.not_supported(&path.child("effect"), &t.effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn toleration(text: &str) -> Toleration {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn covering_follows_upstream() {
        let rows = [
            // wide, narrow, covers
            (r#"{"key":"a","operator":"Exists"}"#, r#"{"key":"a","operator":"Exists"}"#, true),
            (
                r#"{"operator":"Exists"}"#,
                r#"{"key":"a","operator":"Equal","value":"v","effect":"NoSchedule"}"#,
                true,
            ),
            (r#"{"operator":"Equal"}"#, r#"{"key":"a","operator":"Equal"}"#, false),
            (r#"{"key":"a","operator":"Exists"}"#, r#"{"key":"b","operator":"Exists"}"#, false),
            (
                r#"{"key":"a","operator":"Exists"}"#,
                r#"{"key":"a","operator":"Equal","value":"v","effect":"NoExecute"}"#,
                true,
            ),
            (
                r#"{"key":"a","operator":"Exists","effect":"NoSchedule"}"#,
                r#"{"key":"a","operator":"Exists"}"#,
                false,
            ),
            (
                r#"{"key":"a","operator":"Equal","value":"v"}"#,
                r#"{"key":"a","operator":"Equal","value":"v","effect":"NoSchedule"}"#,
                true,
            ),
            (
                r#"{"key":"a","operator":"Equal","value":"v"}"#,
                r#"{"key":"a","operator":"Equal","value":"w"}"#,
                false,
            ),
            (
                r#"{"key":"a","operator":"Equal","value":"v"}"#,
                r#"{"key":"a","operator":"Exists"}"#,
                false,
            ),
            (r#"{"key":"a","value":"v"}"#, r#"{"key":"a","operator":"Equal","value":"v"}"#, true),
            (r#"{"key":"a","operator":"Equal","value":"v"}"#, r#"{"key":"a","value":"v"}"#, false),
            (
                r#"{"key":"a","operator":"Exists","effect":"NoExecute","tolerationSeconds":9}"#,
                r#"{"key":"a","operator":"Exists","effect":"NoExecute","tolerationSeconds":5}"#,
                true,
            ),
            (
                r#"{"key":"a","operator":"Exists","effect":"NoExecute","tolerationSeconds":5}"#,
                r#"{"key":"a","operator":"Exists","effect":"NoExecute","tolerationSeconds":9}"#,
                false,
            ),
            (
                r#"{"key":"a","operator":"Exists","effect":"NoExecute","tolerationSeconds":5}"#,
                r#"{"key":"a","operator":"Exists","effect":"NoExecute"}"#,
                false,
            ),
            (
                r#"{"key":"a","operator":"Exists","effect":"NoExecute"}"#,
                r#"{"key":"a","operator":"Exists","effect":"NoExecute","tolerationSeconds":9}"#,
                true,
            ),
        ];
        for (wide, narrow, expected) in rows {
            assert_eq!(covers(&toleration(wide), &toleration(narrow)), expected, "{wide} over {narrow}");
        }
    }

    #[test]
    fn unwell_nodes_are_tolerated_for_five_minutes_unless_the_pod_says_otherwise() {
        let (ready, reach) = (UNWELL[0], UNWELL[1]);
        let row = |key: &str, effect: &str| Toleration {
            key: key.into(),
            operator: "Exists".into(),
            effect: effect.into(),
            ..Toleration::default()
        };
        let rows = [
            (vec![], vec![ready, reach]),
            (vec![row("a", "")], vec!["a", ready, reach]),
            (vec![row(ready, "NoExecute")], vec![ready, reach]),
            (vec![row(reach, "")], vec![reach, ready]),
            // of another effect it says nothing of these
            (vec![row(ready, "NoSchedule")], vec![ready, ready, reach]),
            (vec![row("", "")], vec![""]),
            (vec![row("", "NoExecute")], vec![""]),
        ];
        for (given, expected) in rows {
            let mut list = given.clone();
            add_defaults(&mut list);
            assert_eq!(list.iter().map(|t| t.key.as_str()).collect::<Vec<_>>(), expected, "{given:?}");
            assert!(
                list[given.len()..]
                    .iter()
                    .all(|t| t.toleration_seconds == Some(300) && t.effect == "NoExecute" && t.operator == "Exists")
            );
            let once = list.clone();
            add_defaults(&mut list);
            assert_eq!(list, once);
        }
    }

    #[test]
    fn merging_keeps_order_and_drops_what_is_covered() {
        let narrow = toleration(r#"{"key":"a","operator":"Equal","value":"v","effect":"NoSchedule"}"#);
        let wide = toleration(r#"{"key":"a","operator":"Exists"}"#);
        let other = toleration(r#"{"key":"b","operator":"Exists"}"#);
        assert_eq!(
            merge(&[narrow.clone(), other.clone()], std::slice::from_ref(&wide)),
            [other.clone(), wide.clone()]
        );
        assert_eq!(merge(&[wide.clone(), other.clone()], &[narrow, wide.clone()]), [wide, other]);
        assert_eq!(merge(&[], &[]), []);
    }

    /// A taint as the scheduler sees it.
    #[derive(Debug, Clone)]
    struct Taint {
        key: &'static str,
        value: &'static str,
        effect: &'static str,
    }

    /// How long a taint is tolerated: not at all, some seconds, or for ever. The greatest counts.
    fn tolerated(tolerations: &[Toleration], taint: &Taint) -> Option<i64> {
        let matches = |t: &&Toleration| {
            (t.effect.is_empty() || t.effect == taint.effect)
                && (t.key.is_empty() || t.key == taint.key)
                && (t.operator == "Exists" || t.value == taint.value)
        };
        tolerations
            .iter()
            .filter(matches)
            .map(|t| t.toleration_seconds.unwrap_or(i64::MAX))
            .max()
    }

    fn any_toleration() -> impl Strategy<Value = Toleration> {
        let key = prop::sample::select(vec!["", "a", "b"]);
        let operator = prop::sample::select(vec!["", "Equal", "Exists"]);
        let value = prop::sample::select(vec!["", "v", "w"]);
        let effect = prop::sample::select(vec!["", "NoSchedule", "NoExecute"]);
        (key, operator, value, effect, prop::option::of(0..3_i64)).prop_map(|(key, operator, value, effect, seconds)| {
            // Only what validation lets through.
            let operator = if key.is_empty() { "Exists" } else { operator };
            Toleration {
                key: key.into(),
                operator: operator.into(),
                value: if operator == "Exists" { String::new() } else { value.into() },
                effect: effect.into(),
                toleration_seconds: seconds.filter(|_| effect == "NoExecute"),
            }
        })
    }

    fn any_list() -> impl Strategy<Value = Vec<Toleration>> {
        prop::collection::vec(any_toleration(), 0..6)
    }

    fn taints() -> Vec<Taint> {
        let mut all = Vec::new();
        for key in ["a", "b", "c"] {
            for value in ["", "v", "w"] {
                for effect in ["NoSchedule", "NoExecute"] {
                    all.push(Taint { key, value, effect });
                }
            }
        }
        all
    }

    proptest! {
        #[test]
        fn merging_loses_nothing_and_adds_nothing(pod in any_list(), class in any_list()) {
            let merged = merge(&pod, &class);
            for taint in taints() {
                let before = tolerated(&pod, &taint).max(tolerated(&class, &taint));
                prop_assert_eq!(tolerated(&merged, &taint), before, "{:?}", taint);
            }
            prop_assert!(merged.iter().all(|t| pod.contains(t) || class.contains(t)));
        }

        #[test]
        fn merging_keeps_the_order_of_first_mention(pod in any_list(), class in any_list()) {
            let first = |t: &Toleration| pod.iter().chain(&class).position(|o| o == t);
            let mentioned: Vec<_> = merge(&pod, &class).iter().map(first).collect();
            prop_assert!(mentioned.is_sorted_by(|a, b| a < b), "{:?}", mentioned);
        }

        #[test]
        fn merging_again_changes_nothing(pod in any_list(), class in any_list()) {
            let merged = merge(&pod, &class);
            prop_assert_eq!(merge(&merged, &class), merged.clone());
            prop_assert_eq!(merge(&merged, &[]), merged);
        }

        #[test]
        fn nothing_merged_covers_another(pod in any_list(), class in any_list()) {
            let merged = merge(&pod, &class);
            for (i, a) in merged.iter().enumerate() {
                for (j, b) in merged.iter().enumerate() {
                    prop_assert!(i == j || !covers(a, b), "{:?} covers {:?}", a, b);
                }
            }
        }
    }
}
