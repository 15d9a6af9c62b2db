//! Short ways to load policies and to ask them.

use std::net::SocketAddr;

use callgate_model::{
    Ancestor, Arguments, ArgumentsState, CallId, Caller, CgroupId, ConnectionId, Decision, Executable, FailMode,
    Function, Lineage, LineageEnd, MaskKinds, Mode, Placement, Process, Protocol, Service, Unfit, Workload,
};

use crate::{CallPermit, CallRequest, ConnectPermit, ConnectRequest, Finding, LoadErrors, PolicySet};

/// A small table of kinds, as the masker has a large one.
pub fn kinds(word: &str) -> Option<MaskKinds> {
    match word {
        "email" => Some(MaskKinds(1)),
        "card" => Some(MaskKinds(2)),
        "jwt" => Some(MaskKinds(4)),
        "pii" => Some(MaskKinds(3)),
        "secrets" => Some(MaskKinds(4)),
        "all" => Some(MaskKinds(7)),
        _ => None,
    }
}

pub fn parse(text: &str) -> Result<(PolicySet, Vec<Finding>), LoadErrors> {
    PolicySet::parse(&[("p.cedar".to_owned(), text.to_owned())], kinds)
}

/// A set that must load, with or without warnings.
pub fn set(text: &str) -> PolicySet {
    match parse(text) {
        Ok((set, _)) => set,
        Err(errors) => panic!("{errors}\n{text}"),
    }
}

/// The errors of a set that must be refused, as text.
pub fn errors(text: &str) -> Vec<String> {
    match parse(text) {
        Ok((_, warnings)) => panic!("loaded with {warnings:?}: {text}"),
        Err(errors) => errors.errors().map(ToString::to_string).collect(),
    }
}

/// Who asks, and from where to where.
#[derive(Debug)]
pub struct Asker {
    pub workload: Workload,
    pub groups: Vec<String>,
    pub process: Process,
    pub destination: SocketAddr,
    pub declared: bool,
    pub tls: bool,
    pub sni: String,
    pub caller: Option<Caller>,
    pub arguments: ArgumentsState,
}

impl Asker {
    pub fn new(workload: &str) -> Self {
        Self {
            workload: Workload {
                id: workload.to_owned(),
                cgroup: CgroupId(7),
                cgroup_path: "callgate/run-1".into(),
                mode: Mode::Enforce,
                fail: FailMode::Closed,
                session: None,
                weakened: Vec::new(),
            },
            groups: Vec::new(),
            process: Process {
                pid: 1,
                start_time: 1,
                uid: 1000,
                gid: 1000,
                executable: None,
                lineage: Lineage::default(),
                placement: Placement::default(),
            },
            destination: "93.184.216.34:443".parse().unwrap(),
            declared: false,
            tls: true,
            sni: String::new(),
            caller: None,
            arguments: ArgumentsState::NotRead,
        }
    }

    pub fn executable(mut self, path: &str, sha256: &str) -> Self {
        let (path, sha256) = (path.to_owned(), sha256.to_owned());
        self.process.executable = Some(Executable { path, device: 1, inode: 1, sha256 });
        self
    }

    /// Started by programs of these digests, nearest first; none: one of which it is not known.
    pub fn started_by(mut self, sha256: &[Option<&str>], end: LineageEnd) -> Self {
        let ancestor = |sha256: &Option<&str>| Ancestor {
            pid: 1,
            start_time: 1,
            path: "/bin/x".to_owned(),
            device: 1,
            inode: 1,
            sha256: sha256.map(str::to_owned),
        };
        self.process.lineage = Lineage { ancestors: sha256.iter().map(ancestor).collect(), end };
        self
    }

    pub fn on_behalf(mut self, sub: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        self.caller = Some(Caller { sub: sub.to_owned(), iss: "https://id.x".to_owned(), groups });
        self
    }

    pub fn sending(mut self, state: Result<Arguments, Unfit>) -> Self {
        self.arguments = state.map_or_else(ArgumentsState::Unfit, ArgumentsState::Complete);
        self
    }

    pub fn at(mut self, destination: &str) -> Self {
        self.destination = destination.parse().unwrap();
        self
    }

    pub fn connect(&self, set: &PolicySet, service: &str) -> Result<ConnectPermit, Decision> {
        set.decide_connect(&self.request(&service.parse().unwrap()))
    }

    pub fn request<'a>(&'a self, service: &'a Service) -> ConnectRequest<'a> {
        ConnectRequest {
            connection: ConnectionId::new(),
            workload: &self.workload,
            groups: &self.groups,
            process: &self.process,
            service,
            destination: self.destination,
            address_declared: self.declared,
            tls: self.tls,
            sni: &self.sni,
        }
    }

    /// Connects, which must be allowed, then calls.
    pub fn call(&self, set: &PolicySet, call: &str) -> Result<CallPermit, Decision> {
        let function = self.function(call);
        let connect = self.connect(set, &function.service.to_string()).expect("the connect is allowed");
        set.decide_call(&self.ask(&connect, &function))
    }

    pub fn ask<'a>(&'a self, connect: &'a ConnectPermit, function: &'a Function) -> CallRequest<'a> {
        let (caller, arguments) = (self.caller.as_ref(), &self.arguments);
        CallRequest { connect, call: CallId::new(), function, caller, arguments }
    }

    /// `METHOD host/path` or `METHOD host:port/path`.
    pub fn function(&self, call: &str) -> Function {
        let (method, target) = call.split_once(' ').unwrap();
        let at = target.find('/').unwrap();
        let authority = &target[..at];
        let port = if self.tls { 443 } else { 80 };
        let service = authority.parse().unwrap_or_else(|_| Service::new(authority, port).unwrap());
        Function {
            protocol: Protocol::Http,
            service,
            tls: self.tls,
            method: method.to_owned(),
            path: target[at..].to_owned(),
        }
    }
}

/// The verdict in one word: `allow`, or the reason of a denial.
pub fn word<T>(answer: &Result<T, Decision>) -> &'static str {
    match answer {
        Ok(_) => "allow",
        Err(decision) => decision.reason.as_str(),
    }
}
