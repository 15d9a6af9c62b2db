//! What `callgate status` is told: the state of every part, gathered when it is asked for.

use std::time::SystemTime;

use callgate_proto::v1::{
    HookedCgroup, KernelProgram, PolicyStatus, SpoolStatus, StatusReply, UplinkState as ProtoState, UplinkStatus,
    WardenPart,
};
use callgate_uplink::{ClientTls, UplinkState};
use tracing::warn;

use super::Agent;

impl Agent {
    /// How the agent is. Asks the kernel and reads from the spool: blocking.
    #[must_use]
    pub fn status(&self) -> StatusReply {
        let policies = self.gate.policies.load();
        let faults = self.faults();
        StatusReply {
            version: env!("CARGO_PKG_VERSION").into(),
            instance: self.instance.clone(),
            pid: std::process::id(),
            started_us: micros(self.started),
            ready: faults.is_empty(),
            faults,
            alarms: self.alarms.list(),
            workloads: self.gate.roster.list().len() as u64,
            connections: (self.config.connections_max - self.gate.connections.available_permits()) as u64,
            policy_set: policies.hash().to_owned(),
            policies: policies.len() as u64,
            policy: Some(PolicyStatus {
                taken_us: micros(*super::lock(&self.policies_taken)),
                sources: self.policies.sources(),
            }),
            spool: Some(self.spool_status()),
            uplink: self.uplink_status(),
            hooks: self.hooks(),
            warden: self.warden_parts(),
            cluster: self.cluster_status(),
        }
    }

    fn spool_status(&self) -> SpoolStatus {
        let recorder = &self.gate.recorder;
        let spool = recorder.status();
        // Read back, since nobody keeps the times of what waits.
        let oldest = || {
            let waiting = recorder.reader(spool.acked_seq + 1).next_batch(1).ok()?;
            callgate_proto::decode_record(&waiting.first()?.body).ok().map(|record| record.time_us)
        };
        let waits = spool.acked_seq < spool.durable_seq;
        SpoolStatus {
            stream: recorder.stream().to_string(),
            last_seq: spool.last_seq,
            durable_seq: spool.durable_seq,
            acked_seq: spool.acked_seq,
            bytes: spool.bytes,
            max_bytes: spool.max_bytes,
            oldest_unacked_us: waits.then(oldest).flatten().unwrap_or_default(),
        }
    }

    fn uplink_status(&self) -> Option<UplinkStatus> {
        let status = self.uplink_status.as_ref()?.borrow().clone();
        let spool = self.gate.recorder.status();
        let tls = self.collector_tls.as_ref();
        let state = match status.state {
            UplinkState::Connecting => ProtoState::Connecting,
            UplinkState::Connected => ProtoState::Connected,
            UplinkState::Broken => ProtoState::Broken,
            UplinkState::Stopped => ProtoState::Stopped,
        };
        Some(UplinkStatus {
            endpoint: self.config.collector.clone().unwrap_or_default(),
            connected: status.connected,
            error: status.error.unwrap_or_default(),
            state: state.into(),
            acked_us: status.acked_at.map(micros).unwrap_or_default(),
            unacked: spool.last_seq.saturating_sub(spool.acked_seq),
            certificate_expires_us: tls
                .and_then(|tls| tls.condition().certificate)
                .map(|own| micros(own.expires))
                .unwrap_or_default(),
            collector_certificate_expires_us: tls
                .and_then(ClientTls::collector_certificate)
                .map(|theirs| micros(theirs.expires))
                .unwrap_or_default(),
        })
    }

    fn hooks(&self) -> Vec<HookedCgroup> {
        let found = self.redirect.inspect().unwrap_or_else(|error| {
            warn!(%error, "the kernel does not say what is attached");
            Vec::new()
        });
        found
            .into_iter()
            .map(|found| HookedCgroup {
                cgroup: found.cgroup.0,
                cgroup_path: found.path.display().to_string(),
                workload: self.gate.roster.get(found.cgroup).map(|workload| workload.id.clone()).unwrap_or_default(),
                programs: found
                    .programs
                    .into_iter()
                    .map(|(name, attached)| KernelProgram { name: name.into(), attached })
                    .collect(),
            })
            .collect()
    }

    fn warden_parts(&self) -> Vec<WardenPart> {
        let features = self.warden.iter().flat_map(|warden| warden.features());
        features
            .map(|part| WardenPart {
                name: part.name.into(),
                works: part.ok,
                detail: part.detail.clone(),
                degrades: if part.ok { String::new() } else { part.degrades.into() },
            })
            .collect()
    }
}

/// Unit: microseconds since the Unix epoch.
fn micros(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}
