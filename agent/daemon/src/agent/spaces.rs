//! The network namespaces that the agent listens in: entered with the first workload there, left with the last one.
//!
//! A namespace lives as long as anybody holds a descriptor, a socket or a thread of it, and the agent holds all three.
//! The agent's own one is never left.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use anyhow::Result;
use callgate_enroll::cgroup;
use callgate_model::{CgroupId, NetnsCookie};
use callgate_proxy::{DnsListener, Listener, Pulse};
use callgate_redirect::{Bound, Listeners, NetnsRef};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Agent, lock};
use crate::handover::Standing;

/// By the inode of the namespace's file, which nothing else can have while the agent holds it open.
pub(super) type Spaces = HashMap<u64, Space>;

/// One network namespace.
#[derive(Debug)]
pub(super) struct Space {
    cookie: NetnsCookie,
    own: bool,
    /// Enrolled cgroups of which processes were seen in it.
    users: BTreeSet<CgroupId>,
    /// Ends the loops that accept in it.
    leave: CancellationToken,
}

impl Space {
    fn is_needed(&self) -> bool {
        self.own || !self.users.is_empty()
    }
}

impl Agent {
    /// Opens listeners in `netns`, unless there are some, for the workload of cgroup `user`.
    pub(super) fn listen(&self, netns: &NetnsRef, user: Option<CgroupId>) -> Result<()> {
        if self.is_used(netns, user)? {
            return Ok(());
        }
        let listeners = self.redirect.listen(netns)?;
        self.stand(netns.try_clone()?, listeners)?;
        self.is_used(netns, user).map(drop)
    }

    /// Goes on with listeners of the agent before.
    pub(super) fn adopt(&self, standing: Standing) -> Result<()> {
        let Standing { netns, bound } = standing;
        let listeners = self.redirect.adopt(&netns, bound)?;
        self.stand(netns, listeners)
    }

    /// Serves `listeners`, and keeps a copy of each for a successor.
    fn stand(&self, netns: NetnsRef, listeners: Listeners) -> Result<()> {
        let Listeners { netns: cookie, v4, v6, dns4, dns6, sockets } = listeners;
        let copy = |listener: &Option<std::net::TcpListener>| listener.as_ref().map(|one| one.try_clone()).transpose();
        let copy_dns = |socket: &Option<std::net::UdpSocket>| socket.as_ref().map(|one| one.try_clone()).transpose();
        let bound = Bound { v4: copy(&v4)?, v6: copy(&v6)?, dns4: copy_dns(&dns4)?, dns6: copy_dns(&dns6)? };
        let leave = self.enter_space(&netns, cookie)?;
        lock(&self.standing).push(Standing { netns, bound });
        self.ground.add(cookie, sockets);
        for socket in [v4, v6].into_iter().flatten() {
            let listener = Listener::new(socket, cookie)?;
            match &mut *lock(&self.waiting) {
                Some(waiting) => waiting.push((listener, leave.clone())),
                None => self.accept_on(listener, leave.clone()),
            }
        }
        for socket in [dns4, dns6].into_iter().flatten() {
            let listener = DnsListener::new(socket, cookie)?;
            match &mut *lock(&self.unread) {
                Some(unread) => unread.push((listener, leave.clone())),
                None => self.answer_on(listener, leave.clone()),
            }
        }
        Ok(())
    }

    /// Accepts on every listener, those to come included.
    pub(super) fn accept(&self) {
        for (listener, leave) in lock(&self.waiting).take().unwrap_or_default() {
            self.accept_on(listener, leave);
        }
    }

    /// Until the agent stops, or `leave` is cancelled.
    fn accept_on(&self, listener: Listener, leave: CancellationToken) {
        let pulse = listener.pulse();
        self.serve_until(leave, pulse, listener.serve(Arc::clone(&self.gate)));
    }

    /// Answers DNS on every socket for it, those to come included.
    pub(super) fn answer(&self) {
        for (listener, leave) in lock(&self.unread).take().unwrap_or_default() {
            self.answer_on(listener, leave);
        }
    }

    fn answer_on(&self, listener: DnsListener, leave: CancellationToken) {
        let pulse = listener.pulse();
        self.serve_until(leave, pulse, listener.serve(Arc::clone(&self.gate)));
    }

    /// Whether the agent listens in `netns`; then `user` is one more who needs that.
    fn is_used(&self, netns: &NetnsRef, user: Option<CgroupId>) -> Result<bool> {
        let inode = inode(netns)?;
        let mut spaces = lock(&self.spaces);
        let Some(space) = spaces.get_mut(&inode) else { return Ok(false) };
        space.users.extend(user);
        Ok(true)
    }

    /// The agent is about to listen in `netns`; gives what ends that.
    fn enter_space(&self, netns: &NetnsRef, cookie: NetnsCookie) -> Result<CancellationToken> {
        let leave = CancellationToken::new();
        let space = Space { cookie, own: netns.is_own(), users: BTreeSet::new(), leave: leave.clone() };
        lock(&self.spaces).insert(inode(netns)?, space);
        Ok(leave)
    }

    /// Runs a loop that accepts until it ends by itself, or `leave` is cancelled; then its sockets are closed, and the
    /// heart beats without it.
    fn serve_until(
        &self,
        leave: CancellationToken,
        pulse: Arc<Pulse>,
        serving: impl Future<Output = ()> + Send + 'static,
    ) {
        self.pulses.watch(Arc::clone(&pulse));
        let pulses = self.pulses.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = serving => {}
                () = leave.cancelled() => pulses.forget(&pulse),
            }
        });
    }

    /// Leaves the namespaces in which no workload is any more: all that were there are unenrolled, or gone. Blocking.
    pub(super) fn leave_spaces(&self) {
        // Whoever enrols has a turn of its own: nobody finds listeners there that are just being closed.
        let _turn = self.wanted();
        let handing_over = lock(&self.handing_over);
        if *handing_over {
            // A successor was given these very listeners.
            return;
        }
        let mut spaces = lock(&self.spaces);
        for space in spaces.values_mut() {
            space.users.retain(|user| self.gate.roster.get(*user).is_some());
        }
        if spaces.values().all(Space::is_needed) {
            return;
        }
        // Another workload may have entered since it was looked for who is there.
        for (inode, user) in self.inhabited() {
            if let Some(space) = spaces.get_mut(&inode) {
                space.users.insert(user);
            }
        }
        for (inode, space) in spaces.extract_if(|_, space| !space.is_needed()) {
            self.ground.remove(space.cookie);
            space.leave.cancel();
            lock(&self.standing).retain(|standing| self::inode(&standing.netns).ok() != Some(inode));
            info!(netns = space.cookie.0, "left a network namespace: no workload is in it any more");
        }
    }

    /// Where the processes of workloads are.
    fn inhabited(&self) -> Vec<(u64, CgroupId)> {
        let Ok(mount) = cgroup::cgroup2_mount() else { return Vec::new() };
        let mut found = Vec::new();
        for workload in self.gate.roster.list().iter() {
            for pid in cgroup::processes(&mount.join(&workload.cgroup_path)).unwrap_or_default() {
                if let Ok(status) = std::fs::metadata(format!("/proc/{pid}/ns/net")) {
                    found.push((status.ino(), workload.cgroup));
                }
            }
        }
        found
    }
}

fn inode(netns: &NetnsRef) -> Result<u64> {
    Ok(netns.file().metadata()?.ino())
}
