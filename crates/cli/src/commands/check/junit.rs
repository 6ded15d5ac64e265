//! The answer for continuous integration: JUnit's XML, a suite a file, a case a pod or object.

use super::report::{Finding, Outcome, Report, Row, Spot};
use std::fmt::Write;

/// A suite.
#[derive(Default)]
struct Suite<'a> {
    name: &'a str,
    cases: Vec<Case<'a>>,
    said: Vec<String>,
}

/// A case.
struct Case<'a> {
    kind: &'a str,
    name: String,
    spot: Option<&'a Spot>,
    /// What kind of failure, and its lines.
    failure: Option<(&'static str, Vec<String>)>,
    said: Vec<String>,
}

/// The document.
pub(super) fn document(report: &Report) -> String {
    let mut suites: Vec<Suite<'_>> = report.files.iter().map(|name| Suite { name, ..Suite::default() }).collect();
    for finding in &report.warnings {
        if let Some(suite) = suites.iter_mut().find(|s| *s.name == *finding.spot.file) {
            suite.said.push(line(finding));
        }
    }
    for object in &report.objects {
        let failure = (!object.errors.is_empty()).then(|| ("invalid", object.errors.iter().map(line).collect()));
        let name = object.name.clone().unwrap_or_else(|| format!("line {}", object.spot.line));
        let kind = if object.kind.is_empty() { "text" } else { &object.kind };
        // A Deployment's case is that of its pods, where it has any.
        let has_pods = |row: &Row| row.kind.spot == object.spot;
        if failure.is_none() && object.kind == "Deployment" && report.rows.iter().any(has_pods) {
            continue;
        }
        let said = object.warnings.iter().map(line).collect();
        let name = qualified(object.namespace.as_deref(), &name);
        suites[object.origin].cases.push(Case {
            kind,
            name,
            spot: Some(&object.spot),
            failure,
            said,
        });
    }
    for row in &report.rows {
        let kind = if row.kind.owner.is_some() { "Deployment" } else { "Pod" };
        let name = match (&row.kind.owner, row.pods.first()) {
            (Some(owner), _) => owner.trim_start_matches("Deployment/").to_owned(),
            (None, pod) => pod.map(|p| p.name.clone()).unwrap_or_default(),
        };
        let name = qualified(Some(&row.kind.namespace), &name);
        let said = row.warnings.iter().map(line).collect();
        let case = Case {
            kind,
            name,
            spot: Some(&row.kind.spot),
            failure: failure(row),
            said,
        };
        let cases = &mut suites[row.origin.0].cases;
        // The rows of one Deployment stand together, and are one case.
        match cases.last_mut().filter(|last| row.kind.owner.is_some() && last.spot == case.spot) {
            Some(last) => last.join(case),
            None => cases.push(case),
        }
    }
    for suite in &mut suites {
        suite.cases.sort_by_key(|case| case.spot.map(|spot| (spot.line, spot.column)));
    }
    for node in report.nodes.iter().filter(|n| n.drained) {
        let mut suite = Suite {
            name: &node.name,
            ..Suite::default()
        };
        for moved in report.drained.iter().filter(|m| m.from == node.name) {
            let failure = moved.message.as_ref().map(|why| ("no node", vec![why.clone()]));
            let name = qualified(Some(&moved.namespace), &moved.name);
            suite.cases.push(Case {
                kind: "drained",
                name,
                spot: None,
                failure,
                said: Vec::new(),
            });
        }
        suites.push(suite);
    }
    write(&suites)
}

impl Case<'_> {
    fn join(&mut self, other: Self) {
        self.said.extend(other.said);
        match (&mut self.failure, other.failure) {
            (Some((_, lines)), Some((_, more))) => lines.extend(more),
            (own @ None, other) => *own = other,
            _ => {}
        }
    }
}

fn failure(row: &Row) -> Option<(&'static str, Vec<String>)> {
    let kind = &row.kind;
    match kind.result {
        Outcome::Refused => {
            let denial = row.pods.first().and_then(|p| p.denial.as_deref()).unwrap_or_default();
            let mut lines: Vec<String> = kind.errors.iter().map(line).collect();
            match lines.as_mut_slice() {
                // One error is the denial itself.
                [only] => *only = with_hint(format!("{}: {denial}", kind.errors[0].spot), kind.errors[0].hint.as_deref()),
                _ => lines.insert(0, denial.to_owned()),
            }
            Some(("not admitted", lines))
        }
        Outcome::NoNode => {
            let message = kind.message.as_deref().unwrap_or_default();
            Some((
                "no node",
                vec![with_hint(format!("{}: {message}", kind.spot), kind.hint.as_deref())],
            ))
        }
        _ => None,
    }
}

fn line(finding: &Finding) -> String {
    with_hint(format!("{}: {}", finding.spot, finding.message), finding.hint.as_deref())
}

fn with_hint(line: String, hint: Option<&str>) -> String {
    hint.map_or_else(|| line.clone(), |hint| format!("{line}\n{hint}"))
}

fn qualified(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

fn write(suites: &[Suite<'_>]) -> String {
    let failures = |s: &Suite<'_>| s.cases.iter().filter(|c| c.failure.is_some()).count();
    let (tests, failed) = suites.iter().fold((0, 0), |(t, f), s| (t + s.cases.len(), f + failures(s)));
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"cofferdam check\" tests=\"{tests}\" failures=\"{failed}\">\n"
    );
    for suite in suites {
        let (name, tests, failed) = (escape(suite.name), suite.cases.len(), failures(suite));
        let _ = writeln!(xml, "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failed}\">");
        suite.cases.iter().for_each(|case| write_case(case, &mut xml));
        write_said(&suite.said, "    ", &mut xml);
        xml += "  </testsuite>\n";
    }
    xml + "</testsuites>"
}

fn write_case(case: &Case<'_>, xml: &mut String) {
    let _ = write!(
        xml,
        "    <testcase classname=\"{}\" name=\"{}\"",
        escape(case.kind),
        escape(&case.name)
    );
    if let Some(spot) = case.spot {
        let _ = write!(xml, " file=\"{}\" line=\"{}\"", escape(&spot.file), spot.line);
    }
    if case.failure.is_none() && case.said.is_empty() {
        *xml += "/>\n";
        return;
    }
    *xml += ">\n";
    if let Some((kind, lines)) = &case.failure {
        let first = lines.first().map(|l| l.lines().next().unwrap_or_default()).unwrap_or_default();
        let all = lines.join("\n");
        let _ = writeln!(
            xml,
            "      <failure type=\"{kind}\" message=\"{}\">{}</failure>",
            escape(first),
            lines_of(&all)
        );
    }
    write_said(&case.said, "      ", xml);
    *xml += "    </testcase>\n";
}

fn write_said(said: &[String], indent: &str, xml: &mut String) {
    if !said.is_empty() {
        let _ = writeln!(xml, "{indent}<system-out>{}</system-out>", lines_of(&said.join("\n")));
    }
}

/// Text between elements, where lines may stand as they are.
fn lines_of(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("\n")
}

/// Text as XML 1.0 takes it in text and attributes; what it takes nowhere becomes `?`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\n' => escaped += "&#10;",
            '\t' => escaped += "&#9;",
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_an_element_early() {
        assert_eq!(
            escape("]]> <a b=\"c\"> & 'é'\n\u{1b}[0m\u{ffff}"),
            "]]&gt; &lt;a b=&quot;c&quot;&gt; &amp; 'é'&#10;?[0m?"
        );
    }
}
