//! `callgate status`: how the agent of this host is, for people and for programs.
//!
//! The JSON's field names are an interface: they are added to and never changed. What each means stands in
//! deploy/README.md, "Status".

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use callgate_collector::{days_until, show_time};
use callgate_proto::v1::{
    Alarm, EnrolledWorkload, HookedCgroup, StatusReply, StatusRequest, UplinkState, UplinkStatus, WorkloadsRequest,
};
use clap::Args;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::control::{SocketArgs, connect, fail, mode, object, refused};

/// `callgate status`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  callgate status\n  callgate status --json | jq '.spool.oldest_unacked'\n\nExit codes: 0 ready, 1 not ready or no agent, 2 usage. Alarms alone change nothing: read `.alarms`."
)]
pub struct StatusArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Where agents and runs keep their state
    #[arg(long, value_name = "DIR", default_value = callgate_daemon::STATE_DIR)]
    state_dir: PathBuf,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Tells how the agent is; also ends what crashed runs left.
///
/// # Errors
/// If no agent answers.
pub async fn status(args: StatusArgs) -> Result<ExitCode> {
    if rustix::process::geteuid().is_root() {
        let config =
            callgate_daemon::Config { state_dir: args.state_dir.clone(), ..callgate_daemon::Config::default() };
        for stale in crate::sweep::sweep(&config).await? {
            eprintln!("callgate: removed what the crashed `{stale}` left");
        }
    }
    let mut agent = connect(&args.socket.socket).await?;
    let status = agent.status(StatusRequest {}).await.map_err(refused)?.into_inner();
    let workloads = agent.workloads(WorkloadsRequest {}).await.map_err(refused)?.into_inner().workloads;
    if args.json {
        println!("{}", whole(&status, &workloads));
    } else {
        for (name, text) in lines(&status) {
            println!("{name:<10} {text}");
        }
        if !workloads.is_empty() {
            println!("\n{}", table(&status, &workloads));
        }
    }
    Ok(if status.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is said of everything but single workloads.
fn lines(status: &StatusReply) -> Vec<(&'static str, String)> {
    let spool = status.spool.clone().unwrap_or_default();
    let policy = status.policy.clone().unwrap_or_default();
    let mut lines = vec![
        (
            "agent",
            format!(
                "{} {} (pid {}, since {})",
                status.instance,
                status.version,
                status.pid,
                show_time(status.started_us)
            ),
        ),
        ("ready", if status.ready { "yes".into() } else { format!("no: {}", status.faults.join("; ")) }),
    ];
    lines.extend(status.alarms.iter().map(|alarm| ("alarm", format!("{} ({})", alarm.text, since(alarm)))));
    lines.push(("workloads", format!("{}, open connections {}", status.workloads, status.connections)));
    lines.push(("hooks", hooks(&status.hooks)));
    let lacking: Vec<_> = status.warden.iter().filter(|part| !part.works).map(|part| part.name.as_str()).collect();
    lines.push(match (status.warden.len(), lacking.as_slice()) {
        (0, _) => ("warden", "could not be started".into()),
        (all, []) => ("warden", format!("all {all} parts")),
        (all, names) => {
            ("warden", format!("{} of {all} parts, this kernel lacks {}", all - names.len(), names.join(", ")))
        }
    });
    let sources = if policy.sources.is_empty() { "none".into() } else { policy.sources.join(", ") };
    let taken = show_time(policy.taken_us);
    lines.push(("policies", format!("{}, set {}, taken {taken} from {sources}", status.policies, status.policy_set)));
    let oldest = if spool.oldest_unacked_us == 0 {
        String::new()
    } else {
        format!(", the oldest that is not is of {}", show_time(spool.oldest_unacked_us))
    };
    lines.push((
        "spool",
        format!(
            "{:.1} of {} MiB; record {} of {} acknowledged{oldest}",
            spool.bytes as f64 / f64::from(1 << 20),
            spool.max_bytes >> 20,
            spool.acked_seq,
            spool.last_seq
        ),
    ));
    lines.push(("collector", status.uplink.as_ref().map_or_else(|| "none: records stay in the spool".into(), uplink)));
    if let Some(cluster) = &status.cluster {
        let api = match (cluster.error.as_str(), cluster.listed) {
            ("", true) => "the API answers".to_owned(),
            ("", false) => "the API has not listed the pods yet".to_owned(),
            (error, _) => format!("the API has failed for {} s: {error}", cluster.failing_s),
        };
        lines.push(("cluster", format!("node {}: {api}", cluster.node)));
    }
    lines
}

fn hooks(cgroups: &[HookedCgroup]) -> String {
    let all: usize = cgroups.iter().map(|cgroup| cgroup.programs.len()).sum();
    let missing: Vec<String> = cgroups
        .iter()
        .flat_map(|cgroup| cgroup.programs.iter().filter(|p| !p.attached).map(move |p| (cgroup, &p.name)))
        .map(|(cgroup, name)| format!("{name} at {}", cgroup.cgroup_path))
        .collect();
    match missing.as_slice() {
        [] => format!("all {all} attached"),
        missing => format!("{} of {all} attached, missing: {}", all - missing.len(), missing.join(", ")),
    }
}

fn uplink(uplink: &UplinkStatus) -> String {
    let state = match (uplink.connected, uplink.state()) {
        (true, _) => "connected".to_owned(),
        (false, UplinkState::Broken) => format!("disagrees on what was recorded: {}", uplink.error),
        (false, _) => format!("not connected: {}", uplink.error),
    };
    let acked = match uplink.acked_us {
        0 => "nothing acknowledged since the start".to_owned(),
        at => format!("last acknowledged {}", show_time(at)),
    };
    let ends = |whose: &str, at: u64| match at {
        0 => String::new(),
        at => {
            let end = SystemTime::UNIX_EPOCH + Duration::from_micros(at);
            match days_until(end) {
                // Those of a cluster live for a day.
                0 | 1 => {
                    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
                    format!("; {whose} certificate ends in {} hours", left.as_secs() / 3_600)
                }
                days => format!("; {whose} certificate ends in {days} days"),
            }
        }
    };
    format!(
        "{} {state}; {} records to go, {acked}{}{}",
        uplink.endpoint,
        uplink.unacked,
        ends("the agent's", uplink.certificate_expires_us),
        ends("its", uplink.collector_certificate_expires_us),
    )
}

fn table(status: &StatusReply, workloads: &[EnrolledWorkload]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["WORKLOAD", "MODE", "FAIL", "HOOKS", "CONNECTIONS", "CALLS", "CGROUP"]);
    for w in workloads {
        let found = status.hooks.iter().find(|hooked| hooked.cgroup == w.cgroup);
        let hooks = found.map_or_else(
            || "gone".to_owned(),
            |hooked| format!("{}/{}", hooked.programs.iter().filter(|p| p.attached).count(), hooked.programs.len()),
        );
        let counts = (w.connections.to_string(), w.calls.to_string());
        table.add_row([w.id.as_str(), mode(w), fail(w), &hooks, &counts.0, &counts.1, &w.cgroup_path]);
    }
    table
}

/// The whole of it as one JSON object. Times are in two forms: `NAME_us` as a number, `NAME` for people, null for none.
fn whole(status: &StatusReply, workloads: &[EnrolledWorkload]) -> Value {
    let spool = status.spool.clone().unwrap_or_default();
    let policy = status.policy.clone().unwrap_or_default();
    let programs = |hooked: &HookedCgroup| -> Vec<Value> {
        hooked.programs.iter().map(|p| json!({ "name": p.name, "attached": p.attached })).collect()
    };
    let uplink = status.uplink.clone().unwrap_or_default();
    let state = match uplink.state() {
        UplinkState::Connecting => "connecting",
        UplinkState::Connected => "connected",
        UplinkState::Broken => "broken",
        UplinkState::Stopped => "stopped",
        UplinkState::Unspecified => "none",
    };
    json!({
        "version": status.version, "instance": status.instance, "pid": status.pid,
        "started_us": status.started_us, "started": time(status.started_us),
        "ready": status.ready, "faults": status.faults,
        "alarms": status.alarms.iter().map(alarm).collect::<Vec<_>>(),
        "workloads": status.workloads, "connections": status.connections,
        "enrolled": workloads.iter().map(object).collect::<Vec<_>>(),
        "hooks": status.hooks.iter().map(|hooked| json!({
            "cgroup": hooked.cgroup, "cgroup_path": hooked.cgroup_path,
            "workload": (!hooked.workload.is_empty()).then_some(&hooked.workload), "programs": programs(hooked),
        })).collect::<Vec<_>>(),
        "warden": status.warden.iter().map(|part| json!({
            "name": part.name, "works": part.works, "detail": part.detail, "degrades": part.degrades,
        })).collect::<Vec<_>>(),
        "policy_set": status.policy_set, "policies": status.policies,
        "policy": { "taken_us": policy.taken_us, "taken": time(policy.taken_us), "sources": policy.sources },
        "spool": { "stream": spool.stream, "last_seq": spool.last_seq, "durable_seq": spool.durable_seq,
            "acked_seq": spool.acked_seq, "bytes": spool.bytes, "max_bytes": spool.max_bytes,
            "oldest_unacked_us": spool.oldest_unacked_us, "oldest_unacked": time(spool.oldest_unacked_us) },
        "uplink": { "endpoint": uplink.endpoint, "connected": uplink.connected, "error": uplink.error,
            "state": state, "unacked": uplink.unacked, "acked_us": uplink.acked_us, "acked": time(uplink.acked_us),
            "certificate_expires": time(uplink.certificate_expires_us),
            "collector_certificate_expires": time(uplink.collector_certificate_expires_us) },
        "cluster": status.cluster.as_ref().map(|cluster| json!({
            "node": cluster.node, "listed": cluster.listed, "failing_s": cluster.failing_s, "error": cluster.error,
        })),
    })
}

fn alarm(alarm: &Alarm) -> Value {
    json!({ "text": alarm.text, "first_us": alarm.first_us, "first": show_time(alarm.first_us),
        "last_us": alarm.last_us, "last": show_time(alarm.last_us), "count": alarm.count })
}

/// None for a time that never was.
fn time(us: u64) -> Option<String> {
    (us > 0).then(|| show_time(us))
}

/// Since when an alarm is there, and how often.
fn since(alarm: &Alarm) -> String {
    let first = show_time(alarm.first_us);
    match alarm.count {
        0 | 1 => format!("since {first}"),
        n => format!("since {first}, {n} times, last {}", show_time(alarm.last_us)),
    }
}

#[cfg(test)]
mod tests {
    use callgate_proto::v1::{ClusterStatus, KernelProgram, SpoolStatus, WardenPart};

    use super::*;

    fn program(name: &str, attached: bool) -> KernelProgram {
        KernelProgram { name: name.into(), attached }
    }

    fn troubled() -> StatusReply {
        StatusReply {
            faults: vec!["the disk is full".into()],
            hooks: vec![HookedCgroup {
                cgroup: 7,
                cgroup_path: "/cg/shop".into(),
                workload: "cgroup/shop".into(),
                programs: vec![program("connect4", true), program("egress", false)],
            }],
            warden: vec![
                WardenPart { name: "guard".into(), works: true, ..Default::default() },
                WardenPart { name: "lsm".into(), works: false, ..Default::default() },
            ],
            spool: Some(SpoolStatus {
                bytes: 3 << 19,
                max_bytes: 8 << 20,
                last_seq: 9,
                acked_seq: 4,
                oldest_unacked_us: 1_795_348_800_000_000,
                ..Default::default()
            }),
            uplink: Some(UplinkStatus {
                endpoint: "unix:/x".into(),
                error: "nobody listens".into(),
                unacked: 5,
                ..Default::default()
            }),
            cluster: Some(ClusterStatus { node: "n1".into(), listed: true, failing_s: 12, error: "refused".into() }),
            ..Default::default()
        }
    }

    #[test]
    fn trouble_is_spelt_out() {
        let text: Vec<String> = lines(&troubled()).into_iter().map(|(name, text)| format!("{name} {text}")).collect();
        for said in [
            "ready no: the disk is full",
            "hooks 1 of 2 attached, missing: egress at /cg/shop",
            "warden 1 of 2 parts, this kernel lacks lsm",
            "spool 1.5 of 8 MiB; record 4 of 9 acknowledged, the oldest that is not is of 2026-11-22T12:00:00",
            "collector unix:/x not connected: nobody listens; 5 records to go, nothing acknowledged since the start",
            "cluster node n1: the API has failed for 12 s: refused",
        ] {
            assert!(text.iter().any(|line| line.starts_with(said)), "no `{said}` in {text:#?}");
        }
    }

    #[test]
    fn what_is_not_there_is_null() {
        let said = whole(&StatusReply::default(), &[]);
        assert_eq!(said["cluster"], Value::Null);
        assert_eq!(said["spool"]["oldest_unacked"], Value::Null);
        assert_eq!(said["uplink"]["state"], "none");
        let said = whole(&troubled(), &[]);
        assert_eq!(said["hooks"][0]["programs"][1], json!({ "name": "egress", "attached": false }));
        assert_eq!(said["uplink"]["acked"], Value::Null);
    }
}
