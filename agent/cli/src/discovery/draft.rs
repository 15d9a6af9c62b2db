//! A first policy from what was seen, to be read by a human before it is put in force.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use callgate_model::{Protocol, Reason, Uninspected};

use super::{Discovery, Key, Seen, Shape, What};

/// Cedar text that permits what was seen, in the shapes that were seen; what policy refused on purpose stays out.
pub(crate) fn draft(discovery: &Discovery) -> String {
    let mut out = String::from(
        "// Drafted by `callgate policy suggest` from what was recorded. Read every rule before you keep it:\n\
         // it permits what was done, which is not always what should be.\n",
    );
    let mut ids = BTreeSet::new();
    for (key, seen) in &discovery.rows {
        out.push('\n');
        match &key.what {
            What::Undecoded => undecoded(&mut out, key, seen),
            What::Calls { .. } if seen.reasons.contains(Reason::Forbidden.as_str()) => {
                let _ = writeln!(out, "// left out: {}, which a `forbid` holds for", comment(&name(key)));
            }
            What::Calls { protocol, method, shape } => {
                about(&mut out, seen, "call");
                let id = fresh(&mut ids, &format!("{method} {shape}"));
                let _ = write!(
                    out,
                    "@id({id})\npermit (\n  principal == Callgate::Workload::{},\n  \
                     action == Callgate::Action::\"call\",\n  resource in Callgate::Service::{}\n)\nwhen {{ {} }};\n",
                    text(&key.workload),
                    text(&key.service.to_string()),
                    condition(*protocol, method, shape),
                );
            }
        }
    }
    if discovery.left_out > 0 {
        let _ =
            writeln!(out, "\n// {} more calls and connections had no room here: narrow it down.", discovery.left_out);
    }
    out
}

fn condition(protocol: Protocol, method: &str, shape: &Shape) -> String {
    let protocol = format!("resource.protocol == {}", text(protocol.as_str()));
    let method = format!("resource.method == {}", text(method));
    if shape.is_exact() {
        return format!("{protocol} && {method} && resource.path == {}", text(&shape.to_string()));
    }
    let like: String = shape
        .segments()
        .iter()
        .map(|segment| {
            format!("/{}", segment.as_deref().map_or_else(|| "*".to_owned(), |word| word.replace('*', "\\*")))
        })
        .collect();
    // `*` also stands for slashes, so the number of segments is asked too.
    let segments = shape.segments().len();
    format!("{protocol} && {method} && resource.path like {} && resource.segments == {segments}", pattern(&like))
}

fn undecoded(out: &mut String, key: &Key, seen: &Seen) {
    about(out, seen, "connection");
    let is = |why| seen.uninspected.contains(&why);
    let refused = is(Uninspected::CertificateRefused) || seen.reasons.contains(Reason::ClientTls.as_str());
    if refused {
        out.push_str(
            "// Clients do not take our certificate: give them our CA, and their calls are seen and judged.\n",
        );
    }
    let unopened = refused || is(Uninspected::Policy) || is(Uninspected::UpstreamTls);
    let tls = if unopened { "@tls(\"passthrough\") " } else { "" };
    let _ = write!(
        out,
        "// Bytes that are not decoded: neither calls nor data in them would be seen. Take the slashes away if that is meant.\n\
         // {tls}permit (principal == Callgate::Workload::{}, action == Callgate::Action::\"connect\", \
         resource == Callgate::Service::{});\n",
        text(&key.workload),
        text(&key.service.to_string()),
    );
}

fn about(out: &mut String, seen: &Seen, what: &str) {
    let by = seen.executables.iter().map(|path| comment(path)).collect::<Vec<_>>().join(", ");
    let plural = if seen.count == 1 { "" } else { "s" };
    let _ = writeln!(
        out,
        "// {} {what}{plural}{}{}, the last at {}",
        seen.count,
        if by.is_empty() { String::new() } else { format!(" by {by}") },
        if seen.example.is_empty() { String::new() } else { format!(", such as {}", comment(&seen.example)) },
        callgate_collector::show_time(seen.last_us),
    );
}

fn name(key: &Key) -> String {
    match &key.what {
        What::Calls { protocol, method, shape } => format!("{}:{method} {}{shape}", protocol.as_str(), key.service),
        What::Undecoded => key.service.to_string(),
    }
}

/// An id that no other rule has, in words of letters and digits.
fn fresh(taken: &mut BTreeSet<String>, words: &str) -> String {
    let plain = words.replace(|c: char| !c.is_ascii_alphanumeric(), "-").to_ascii_lowercase();
    let parts: Vec<&str> = plain.split('-').filter(|part| !part.is_empty()).take(8).collect();
    let stem = format!("seen-{}", parts.join("-"));
    let id = (1..).map(|n| if n == 1 { stem.clone() } else { format!("{stem}-{n}") }).find(|id| !taken.contains(id));
    let id = id.unwrap_or(stem);
    taken.insert(id.clone());
    text(&id)
}

/// A Cedar string; nothing in `value` ends it.
fn text(value: &str) -> String {
    let escaped: String = value.chars().map(|c| if plain(c) { c.to_string() } else { escape(c) }).collect();
    format!("\"{escaped}\"")
}

/// As [`text`], where `*` and `\*` are already what they are meant to be.
fn pattern(value: &str) -> String {
    let mut out = String::from("\"");
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some('*')) => {
                out.push_str("\\*");
                chars.next();
            }
            (c, _) if plain(c) => out.push(c),
            (c, _) => out.push_str(&escape(c)),
        }
    }
    out.push('"');
    out
}

fn plain(c: char) -> bool {
    (' '..='~').contains(&c) && c != '"' && c != '\\'
}

fn escape(c: char) -> String {
    format!("\\u{{{:x}}}", u32::from(c))
}

/// Text for the end of a line: nothing in it begins a new one.
fn comment(value: &str) -> String {
    value.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use callgate_policy::PolicySet;

    use super::*;

    fn seen(count: u64) -> Seen {
        Seen {
            count,
            executables: ["/usr/bin/curl".to_owned()].into(),
            example: "/v1/users/7".into(),
            ..Seen::default()
        }
    }

    fn key(workload: &str, path: &str) -> Key {
        let what = What::Calls { protocol: Protocol::Http, method: "GET".into(), shape: Shape::of(path) };
        Key { workload: workload.into(), service: "api.x:443".parse().unwrap(), tls: true, what }
    }

    #[test]
    fn drafts_load_whatever_was_called() {
        let mut discovery = Discovery::default();
        for path in ["/v1/users/7", "/v1/users", "/", "/a*b/\"x\"/7", "/\\*/7", "/é\u{7}\n/7", "/a\\\"b"] {
            discovery.rows.insert(key("cgroup/a \"b\"\n", path), seen(2));
        }
        let grpc = What::Calls { protocol: Protocol::Grpc, method: "POST".into(), shape: Shape::exact("/pkg.Svc/Get") };
        discovery.rows.insert(Key { what: grpc, ..key("run/x", "/") }, seen(1));
        discovery.rows.insert(Key { what: What::Undecoded, ..key("run/x", "/") }, seen(1));
        let text = draft(&discovery);
        let parsed = PolicySet::parse(&[("draft.cedar".to_owned(), text.clone())], |_| None);
        let (set, _) = parsed.unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        assert_eq!(set.len(), 8, "{text}");
    }

    #[test]
    fn what_is_forbidden_stays_out() {
        let mut discovery = Discovery::default();
        let forbidden = Seen { reasons: [Reason::Forbidden.as_str()].into(), ..seen(1) };
        discovery.rows.insert(key("run/x", "/v1/keys"), forbidden);
        let text = draft(&discovery);
        assert!(!text.contains("permit (") && text.contains("left out"), "{text}");
    }

    #[test]
    fn what_clients_refused_to_have_opened_is_drafted_as_passing_unopened() {
        let mut discovery = Discovery::default();
        let refused = Seen { uninspected: [Uninspected::CertificateRefused].into(), ..seen(3) };
        discovery.rows.insert(Key { what: What::Undecoded, ..key("run/x", "/") }, refused);
        let text = draft(&discovery);
        assert!(text.contains("give them our CA"), "{text}");
        let taken = text.replace("// @tls", "@tls");
        let parsed = PolicySet::parse(&[("draft.cedar".to_owned(), taken.clone())], |_| None);
        let (set, _) = parsed.unwrap_or_else(|errors| panic!("{errors}\n{taken}"));
        assert_eq!((set.len(), taken.matches("@tls(\"passthrough\")").count()), (1, 1), "{taken}");
    }
}
