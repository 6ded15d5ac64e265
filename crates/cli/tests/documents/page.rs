//! The rows of `docs/documents.md`.

use std::path::Path;

/// What the page says of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Works as written.
    Works,
    /// Works with its indentation restored.
    Restored,
    /// A command to a server that comes later, which one of Cofferdam's own stands for.
    Counterpart,
    /// Comes later, and is refused by name until then.
    Later,
    /// The document is wrong.
    Wrong,
    /// Is refused by name, and will not come.
    Refused,
    /// A command to another program of the reader's machine.
    Own,
}

/// A row of the page.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) number: usize,
    pub(crate) verdict: Verdict,
    /// Sentences that Cofferdam must say.
    pub(crate) says: Vec<String>,
}

/// The page.
pub(crate) fn text() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/documents.md");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All rows, in their order.
pub(crate) fn rows() -> Vec<Row> {
    text().lines().filter_map(row).collect()
}

/// What the page's first table says: how many rows have each verdict.
pub(crate) fn counts() -> Vec<(Verdict, usize)> {
    let text = text();
    let (_, table) = text
        .split_once("| verdict | rows | meaning |")
        .expect("the page has no table of verdicts");
    let lines = table.lines().skip(2).take_while(|line| line.starts_with("| "));
    let cells = lines.map(|line| line.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect::<Vec<_>>());
    let counts: Vec<_> = cells.map(|cells| (verdict_of(cells[0], 0), cells[1].parse().unwrap())).collect();
    assert_eq!(counts.len(), 7, "{counts:?}");
    counts
}

fn row(line: &str) -> Option<Row> {
    // A pipe within a cell is written `\|`.
    let line = line.strip_prefix("| ")?.strip_suffix(" |")?.replace("\\|", "\0");
    let cells: Vec<String> = line.split(" | ").map(|cell| cell.replace('\0', "|")).collect();
    let number = cells[0].parse().ok()?;
    let [_, _, verdict, happens] = &cells[..] else {
        panic!("row {number} has {} cells", cells.len())
    };
    Some(Row {
        number,
        verdict: verdict_of(verdict, number),
        says: says(happens, number),
    })
}

fn verdict_of(text: &str, row: usize) -> Verdict {
    match text {
        "works as written" => Verdict::Works,
        "works with its indentation restored" => Verdict::Restored,
        "a counterpart works" => Verdict::Counterpart,
        "comes later" => Verdict::Later,
        "the document is wrong" => Verdict::Wrong,
        "refused by name" => Verdict::Refused,
        "the reader's own" => Verdict::Own,
        other => panic!("row {row} has the unknown verdict {other:?}"),
    }
}

/// The code after each "says". Code that has a backtick in it stands between two, and may have a
/// space before them.
fn says(text: &str, row: usize) -> Vec<String> {
    let mut all = Vec::new();
    for part in text.split("says `").skip(1) {
        let (fence, part) = part.strip_prefix('`').map_or(("`", part), |part| ("``", part));
        let (sentence, _) = part
            .split_once(fence)
            .unwrap_or_else(|| panic!("row {row}: a sentence without an end"));
        all.push(sentence.trim().to_owned());
    }
    all
}
