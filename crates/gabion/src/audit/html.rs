//! An audit as one page: no scripts, nothing from elsewhere, to hand on and to print.

use gabion_baseline::report::printable;
use gabion_baseline::{Action, Finding};

use super::{Audit, Audited, title};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8886;--soft:#8882;--bad:#b3261e;--good:#1b6e3c}\
@media(prefers-color-scheme:dark){:root{--bad:#ff8a80;--good:#81c995}}\
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2rem}\
.sum{font-size:1.1rem}.bad{color:var(--bad);font-weight:600}.good{color:var(--good);font-weight:600}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;\
border-bottom:1px solid var(--line);overflow-wrap:anywhere}th{background:var(--soft)}\
th,td .bad{overflow-wrap:normal;white-space:nowrap}td:first-child{min-width:5rem}th.n,td.n{text-align:right;white-space:nowrap}\
code{font:.9em ui-monospace,monospace;overflow-wrap:anywhere}\
details{border:1px solid var(--line);border-radius:6px;margin:.5rem 0;padding:.4rem .8rem}\
summary{cursor:pointer;overflow-wrap:anywhere}.note{opacity:.75}\
@media(max-width:45rem){body{margin:1rem auto}th,td{padding:.3rem .4rem}\
.found tr:first-child{display:none}.found,.found tbody,.found tr,.found td{display:block;width:auto}\
.found td{border:0;padding:.1rem 0}.found tr{border-bottom:1px solid var(--line);padding:.4rem 0}}\
@media print{:root{--bad:#b3261e;--good:#1b6e3c}body{margin:0;max-width:none;font-size:9.5pt}tr{break-inside:avoid}\
h2,summary,details>p{break-after:avoid}th,td{padding:.2rem .4rem}}";

pub(crate) fn page(audit: &Audit) -> String {
    let (all, refused) = (audit.containers.len(), audit.refused());
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>gabion audit of {host}</title><style>{STYLE}</style></head><body>\n\
         <h1>Containers on {host}</h1><p class=\"note\">{time}, judged by the profile <b>{profile}</b> of gabion. \
         Nothing was stopped or changed.</p>\n<p class=\"sum\">{counted}: <span class=\"bad\">{refused} would be \
         refused</span>, <span class=\"good\">{} would run</span>.</p>\n",
        all - refused,
        counted = super::containers(all),
        host = escape(&audit.host),
        time = escape(&minute(&audit.time)),
        profile = escape(audit.profile),
    );
    let by_rule = audit.by_rule();
    if !by_rule.is_empty() {
        out.push_str(
            "<h2>By rule</h2><table><tr><th>Rule<th>What it demands<th class=\"n\">Containers</tr>\n",
        );
        for (rule, ids) in by_rule {
            out.push_str(&format!(
                "<tr><td><code>{}</code><td>{}<td class=\"n\">{}</tr>\n",
                escape(rule),
                escape(title(rule)),
                ids.len()
            ));
        }
        out.push_str("</table>\n");
    }
    if !audit.containers.is_empty() {
        out.push_str("<h2>By container</h2>\n");
    }
    // Those that would be refused first, open.
    let (bad, good): (Vec<&Audited>, Vec<&Audited>) = audit
        .containers
        .iter()
        .partition(|container| container.is_refused());
    bad.into_iter()
        .chain(good)
        .for_each(|container| one(&mut out, container));
    if !audit.findings.is_empty() {
        out.push_str("<h2>The host itself</h2><p class=\"note\">Nothing is refused because of it.</p>\n");
        table(&mut out, audit.findings.iter());
    }
    out.push_str("</body></html>\n");
    out
}

fn one(out: &mut String, container: &Audited) {
    let (open, class, verdict) = match container.is_refused() {
        true => (" open", "bad", "would be refused"),
        false => ("", "good", "would run"),
    };
    out.push_str(&format!(
        "<details{open}><summary><code>{}</code> ({}) <span class=\"{class}\">{verdict}</span></summary>\
         <p class=\"note\"><code>{}</code></p>\n",
        escape(&container.id),
        container.engine_name(),
        escape(&container.bundle)
    ));
    match &container.outcome {
        Err(error) => out.push_str(&format!("<p>{}</p>", escape(error))),
        Ok(findings) => {
            let order = [Action::Deny, Action::Harden, Action::Audit];
            table(
                out,
                order
                    .iter()
                    .flat_map(|action| findings.iter().filter(move |finding| finding.action == *action)),
            );
        }
    }
    out.push_str("</details>\n");
}

fn table<'a>(out: &mut String, findings: impl Iterator<Item = &'a Finding>) {
    out.push_str("<table class=\"found\"><tr><th>Rule<th>What happens<th>Found<th>Accepted</tr>\n");
    for finding in findings {
        let what = match finding.action {
            Action::Deny => "<span class=\"bad\">refused</span>",
            Action::Harden => "made safe",
            Action::Audit => "recorded",
        };
        let place = match finding.pointer.as_str() {
            "" => String::new(),
            pointer => format!("<code>{}</code>: ", escape(pointer)),
        };
        out.push_str(&format!(
            "<tr><td><code>{}</code><td>{what}<td>{place}{}<td>{}</tr>\n",
            escape(&finding.rule),
            escape(&finding.found),
            escape(&finding.accepted)
        ));
    }
    out.push_str("</table>\n");
}

/// A time as people write it: the day and the minute.
fn minute(rfc3339: &str) -> String {
    match (rfc3339.get(..10), rfc3339.get(11..16)) {
        (Some(day), Some(minute)) if rfc3339.ends_with('Z') => format!("{day}, {minute} UTC"),
        _ => rfc3339.to_owned(),
    }
}

/// Text as text, whatever it holds: no markup, no attribute's end, and no character that reorders or hides others.
fn escape(text: &str) -> String {
    printable(text)
        .chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&#39;"),
                other => out.push(other),
            }
            out
        })
}

#[cfg(test)]
mod tests {
    use super::super::tests::audit;

    #[test]
    fn hostile_names_are_text_and_nothing_comes_from_elsewhere() {
        let hostile = "</title><script>alert(1)</script>\"' onload=x \u{202e}&amp;";
        let page = super::page(&audit(hostile, hostile));
        assert!(!page.contains("<script") && !page.contains('\u{202e}'), "{page}");
        assert!(page.contains(
            "&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39; onload=x \\u{202e}&amp;amp;"
        ));
        for from_elsewhere in ["http:", "https:", "src=", "href=", "url(", "@import"] {
            assert!(!page.contains(from_elsewhere), "{from_elsewhere}");
        }
        assert!(
            page.contains("<p class=\"note\">2026-11-26, 12:00 UTC, judged by the profile"),
            "{page}"
        );
        assert!(page.contains("3 containers: <span class=\"bad\">2 would be refused</span>"));
    }
}
