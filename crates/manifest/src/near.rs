//! What was meant, perhaps.

/// The candidate that `word` was most likely meant to be: equal but for case, or few edits away
/// (insert, delete, replace, swap of neighbours), and no further than a third of its length.
pub fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Longer words are no typing mistakes, and comparing costs the product of the lengths.
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|c| {
            (
                distance(lower.as_bytes(), c.to_ascii_lowercase().as_bytes()),
                c,
            )
        })
        .filter(|(d, c)| *d <= 3.min(c.len() / 3))
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Optimal string alignment distance.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let width = b.len() + 1;
    let mut before: Vec<usize> = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; width];
        for (j, y) in b.iter().enumerate() {
            let replace = last[j] + usize::from(x != y);
            row[j + 1] = replace.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_are_found_and_other_words_are_not() {
        let words = [
            "containers",
            "initContainers",
            "runtimeClassName",
            "env",
            "Pod",
            "Deployment",
        ];
        for (word, near) in [
            ("contianers", Some("containers")),
            ("runtimeclassname", Some("runtimeClassName")),
            ("runtimeClass", None),
            ("Pdo", Some("Pod")),
            ("Pods", Some("Pod")),
            ("Deplyoment", Some("Deployment")),
            ("envv", Some("env")),
            ("image", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, words), near, "{word}");
        }
    }
}
