//! What values make of the chart: one table, each row a rendering with what must be in it, or how it must fail.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Renderer, Rendering};

/// A rendering.
struct Case {
    name: &'static str,
    kube: &'static str,
    sets: &'static [&'static str],
    must: &'static [Must],
}

/// What must hold of it.
enum Must {
    /// An object, a JSON pointer into it, and the JSON there.
    Be(&'static str, &'static str, &'static str),
    /// An object that must not be there, or has nothing at the pointer.
    Lack(&'static str, &'static str),
    /// An object, a pointer to a text, and a part of it.
    Say(&'static str, &'static str, &'static str),
    /// An object, a pointer to a text, and what must not be a part of it.
    Hush(&'static str, &'static str, &'static str),
    /// Nothing is rendered, and the message has this in it.
    Fail(&'static str),
}

use Must::{Be, Fail, Hush, Lack, Say};

const AGENT: &str = "DaemonSet/callgate-agent";
const CONFIG: &str = "ConfigMap/callgate-agent";
const TOML: &str = "/data/agent.toml";
const NEW: &str = "v1.36.0";

const CASES: &[Case] = &[
    Case {
        name: "an agent is not privileged, and its way to the host is what it needs",
        kube: NEW,
        sets: &[],
        must: &[
            Be(AGENT, "/spec/template/spec/hostPID", "true"),
            Lack(AGENT, "/spec/template/spec/hostNetwork"),
            Lack(AGENT, "/spec/template/spec/hostIPC"),
            Be(AGENT, "/spec/template/spec/containers/0/securityContext/privileged", "false"),
            Be(AGENT, "/spec/template/spec/containers/0/securityContext/readOnlyRootFilesystem", "true"),
            Be(
                AGENT,
                "/spec/template/spec/containers/0/securityContext/capabilities",
                r#"{"drop": ["ALL"], "add": ["BPF", "PERFMON", "NET_ADMIN", "SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE", "KILL",
                    "DAC_OVERRIDE"]}"#,
            ),
            Be(AGENT, "/spec/template/spec/automountServiceAccountToken", "false"),
        ],
    },
    Case {
        name: "tokens of service accounts name callers where an audience is named",
        kube: NEW,
        sets: &["agent.tokens.audience={callgate,mesh}"],
        must: &[Say(
            CONFIG,
            TOML,
            "tokens = { audience = [\"callgate\",\"mesh\"], header = \"x-callgate-caller\", forward = false }",
        )],
    },
    Case { name: "no header is looked at by default", kube: NEW, sets: &[], must: &[Hush(CONFIG, TOML, "tokens =")] },
    Case {
        name: "a new agent starts beside the old one where there is surge",
        kube: "v1.22.0",
        sets: &[],
        must: &[
            Be(AGENT, "/spec/updateStrategy/rollingUpdate", r#"{"maxSurge": 1, "maxUnavailable": 0}"#),
            Lack(AGENT, "/spec/template/spec/containers/0/securityContext/appArmorProfile"),
        ],
    },
    Case {
        name: "an old cluster gets no field that it does not know",
        kube: "v1.20.2",
        sets: &[],
        must: &[
            Be(AGENT, "/spec/updateStrategy/rollingUpdate", r#"{"maxUnavailable": 1}"#),
            Lack(AGENT, "/spec/template/spec/containers/0/securityContext/appArmorProfile"),
            Be(
                AGENT,
                "/spec/template/metadata/annotations/container.apparmor.security.beta.kubernetes.io~1agent",
                r#""unconfined""#,
            ),
        ],
    },
    Case { name: "an older one is refused", kube: "v1.19.0", sets: &[], must: &[Fail("incompatible with Kubernetes")] },
    Case {
        name: "another generation is a DaemonSet of its own, with pods of its own",
        kube: "v1.20.2",
        sets: &["agent.generation=next"],
        must: &[
            Lack(AGENT, ""),
            Be("DaemonSet/callgate-agent-next", "/spec/selector/matchLabels/callgate.dev~1generation", r#""next""#),
            Be(
                "DaemonSet/callgate-agent-next",
                "/spec/template/spec/volumes/0/configMap/name",
                r#""callgate-agent-next""#,
            ),
            Say("ConfigMap/callgate-agent-next", TOML, "cgroup_root"),
            Be("DaemonSet/callgate-agent-next", "/spec/template/spec/serviceAccountName", r#""callgate-agent""#),
        ],
    },
    Case {
        name: "strict mode stands at the root of all pods",
        kube: NEW,
        sets: &["agent.strict=true", "agent.cgroupRoot=kubepods", "agent.unenrolled={kubepods/x,kubepods/y}"],
        must: &[
            Say(CONFIG, TOML, "\nstrict = \"kubepods\"\nunenrolled = [\"kubepods/x\",\"kubepods/y\"]\n"),
            Say(CONFIG, TOML, "cgroup_root = \"kubepods\"\n"),
        ],
    },
    Case { name: "and is off by default", kube: NEW, sets: &[], must: &[Hush(CONFIG, TOML, "strict")] },
    Case {
        name: "the release's namespace is left alone, also where others are named",
        kube: NEW,
        sets: &["agent.exemptNamespaces={infra}"],
        must: &[Say(CONFIG, TOML, "exempt_namespaces = [\"infra\",\"callgate-system\"]")],
    },
    Case {
        name: "more configuration stands between keys and tables",
        kube: NEW,
        sets: &["agent.config=net_raw = \"refuse\""],
        must: &[Say(CONFIG, TOML, "\nnet_raw = \"refuse\"\n\n[collector_tls]\n")],
    },
    Case {
        name: "without a collector nothing of one is there",
        kube: NEW,
        sets: &["collector.enabled=false"],
        must: &[
            Lack("StatefulSet/callgate-collector", ""),
            Lack("Service/callgate-collector", ""),
            Lack("NetworkPolicy/callgate-collector", ""),
            Hush(CONFIG, TOML, "collector"),
            Hush("DaemonSet/callgate-agent", "/spec/template/spec/volumes", "callgate-ca"),
        ],
    },
    Case {
        name: "a collector elsewhere is trusted by its own CA",
        kube: NEW,
        sets: &[
            "collector.enabled=false",
            "collector.external.url=https://c.example:7443",
            "collector.external.ca=PEM",
        ],
        must: &[
            Say(CONFIG, TOML, "collector = \"https://c.example:7443\"\n"),
            Be("ConfigMap/callgate-collector-ca", "/data/ca.pem", "\"PEM\\n\""),
            Be(AGENT, "/spec/template/spec/volumes/2/configMap/name", r#""callgate-collector-ca""#),
        ],
    },
    Case {
        name: "and without it is refused",
        kube: NEW,
        sets: &["collector.enabled=false", "collector.external.url=https://c.example:7443"],
        must: &[Fail("collector.external.ca")],
    },
    Case {
        name: "plain text to a collector is refused",
        kube: NEW,
        sets: &["collector.enabled=false", "collector.external.url=http://c.example:7443"],
        must: &[Fail("collector.external.url")],
    },
    Case {
        name: "a fixed address is the Service's, the agents' and the certificate's",
        kube: NEW,
        sets: &["collector.clusterIP=fd00::7"],
        must: &[
            Be("Service/callgate-collector", "/spec/clusterIP", r#""fd00::7""#),
            Say(CONFIG, TOML, "collector = \"https://[fd00::7]:7443\"\n"),
            Say("Deployment/callgate-controller", "/spec/template/spec/containers/0/args", "--collector-name=fd00::7"),
        ],
    },
    Case {
        name: "cert-manager makes the CA, and the controller only reads it",
        kube: NEW,
        sets: &["tls.issuer=cert-manager", "tls.certManager.issuerRef.name=root"],
        must: &[
            Be("Certificate/callgate-ca", "/spec/isCA", "true"),
            Be("Certificate/callgate-ca", "/spec/secretName", r#""callgate-ca""#),
            Be("Certificate/callgate-ca", "/spec/issuerRef/name", r#""root""#),
            Be(
                "Role/callgate-controller",
                "/rules/0",
                r#"{"apiGroups": [""], "resources": ["secrets"],
                "resourceNames": ["callgate-ca"], "verbs": ["get"]}"#,
            ),
        ],
    },
    Case {
        name: "cert-manager without an issuer is refused",
        kube: NEW,
        sets: &["tls.issuer=cert-manager"],
        must: &[Fail("tls.certManager.issuerRef.name")],
    },
    Case {
        name: "records without a volume go with the pod",
        kube: NEW,
        sets: &["collector.persistence.enabled=false"],
        must: &[
            Lack("StatefulSet/callgate-collector", "/spec/volumeClaimTemplates"),
            Be("StatefulSet/callgate-collector", "/spec/template/spec/volumes/3/emptyDir", "{}"),
        ],
    },
    Case {
        name: "removal ends all agents, then runs uninstall on each node",
        kube: NEW,
        sets: &["agent.remove=true"],
        must: &[
            Be(AGENT, "/spec/updateStrategy/rollingUpdate", r#"{"maxUnavailable": "100%"}"#),
            Be(AGENT, "/spec/template/spec/initContainers/0/command/1", r#""uninstall""#),
            Be(AGENT, "/spec/template/spec/containers/0/args/2", r#""--idle""#),
        ],
    },
    Case {
        name: "agents and collector mean no right to read Secrets",
        kube: NEW,
        sets: &[],
        must: &[
            Hush("ClusterRole/callgate-agent", "/rules", "secrets"),
            Hush("ClusterRole/callgate-controller", "/rules", "secrets"),
        ],
    },
    Case { name: "an unknown value is refused", kube: NEW, sets: &["agent.strikt=true"], must: &[Fail("strikt")] },
    Case { name: "and one of the wrong kind", kube: NEW, sets: &["agent.strict=yes"], must: &[Fail("agent.strict")] },
    Case { name: "and an unknown issuer", kube: NEW, sets: &["tls.issuer=vault"], must: &[Fail("tls.issuer")] },
];

/// Renders every case, and says how many there were.
pub fn check(renderer: &Renderer) -> Result<String> {
    for case in CASES {
        one(renderer, case).with_context(|| format!("`{}` ({} {:?})", case.name, case.kube, case.sets))?;
    }
    let notes = renderer.notes(&Rendering::default())?;
    ensure!(notes.contains("callgate.dev/enroll=observe"), "NOTES.txt says no next step: {notes}");
    let helm = if renderer.has_helm() { "helm says the same" } else { "no helm here to compare with" };
    Ok(format!("{} cases, {helm}", CASES.len()))
}

fn one(renderer: &Renderer, case: &Case) -> Result<()> {
    let rendered = renderer.objects(&Rendering { kube: case.kube, sets: case.sets, ..Rendering::default() });
    for must in case.must {
        if let Fail(why) = must {
            let Err(error) = &rendered else { anyhow::bail!("is rendered, and should fail for `{why}`") };
            ensure!(format!("{error:#}").contains(why), "fails for another reason than `{why}`: {error:#}");
            continue;
        }
        let objects = rendered.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let at = |name: &str, pointer: &str| objects.get(name).and_then(|object| object.pointer(pointer));
        let text = |name: &str, pointer: &str| -> Result<String> {
            let value = at(name, pointer).with_context(|| format!("nothing at {name} {pointer}"))?;
            Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        };
        match *must {
            Be(name, pointer, wanted) => {
                let wanted: Value = serde_json::from_str(wanted).context("the case's own JSON")?;
                let found = at(name, pointer);
                ensure!(found == Some(&wanted), "{name} {pointer} is {}, not {wanted}", json!(found));
            }
            Lack(name, pointer) => {
                ensure!(at(name, pointer).is_none(), "{name} {pointer} is there");
                // Else a renamed object would lack everything.
                ensure!(pointer.is_empty() || objects.contains_key(name), "there is no {name}");
            }
            Say(name, pointer, part) => {
                let text = text(name, pointer)?;
                ensure!(text.contains(part), "{name} {pointer} does not say `{part}`: {text}");
            }
            Hush(name, pointer, part) => {
                let text = text(name, pointer)?;
                ensure!(!text.contains(part), "{name} {pointer} says `{part}`: {text}");
            }
            Fail(_) => {}
        }
    }
    Ok(())
}
