//! Builds Cedar's view of a request: entities, context, and the keys into the index.
//!
//! What a connection's calls share is built once per connection, as a [`Subject`]; a call adds its function.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use callgate_model::{Caller, Function, Service};
use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression as Value,
};

use crate::ConnectRequest;
use crate::arguments::Maps;
use crate::index::Key;
use crate::known::Known;

/// Callers of a connection whose context is kept. Source: ours; mostly there is one.
const CALLERS: usize = 4;

/// The request could not be expressed: a bug of ours, which must end in a denial.
#[derive(Debug)]
pub struct Unbuildable;

/// Names of the schema, parsed once per set.
#[derive(Clone, Debug)]
pub struct Names {
    pub workload: EntityTypeName,
    pub group: EntityTypeName,
    pub namespace: EntityTypeName,
    pub service_account: EntityTypeName,
    pub service: EntityTypeName,
    pub function: EntityTypeName,
    pub connect: EntityUid,
    pub call: EntityUid,
    pub maps: Maps,
}

impl Names {
    pub fn new() -> Result<Self, Unbuildable> {
        let name = |text: &str| text.parse::<EntityTypeName>().map_err(|_| Unbuildable);
        let action = name("Callgate::Action")?;
        Ok(Self {
            workload: name("Callgate::Workload")?,
            group: name("Callgate::Group")?,
            namespace: name("Callgate::Namespace")?,
            service_account: name("Callgate::ServiceAccount")?,
            service: name("Callgate::Service")?,
            function: name("Callgate::Function")?,
            connect: uid(&action, "connect"),
            call: uid(&action, "call"),
            maps: Maps::new()?,
        })
    }

    /// `Service::"host:port"`.
    pub fn endpoint(&self, service: &Service) -> EntityUid {
        uid(&self.service, &service.to_string())
    }

    /// `Service::"host"`.
    pub fn host(&self, service: &Service) -> EntityUid {
        uid(&self.service, service.host())
    }
}

/// Who asks and from where: what all calls of one connection share.
#[derive(Debug)]
pub struct Subject {
    principal: EntityUid,
    /// Namespace of the cluster that the workload is in; empty if none.
    pub namespace: String,
    /// Keys of the principal and its ancestors.
    pub principals: Vec<Key>,
    endpoint: EntityUid,
    host: EntityUid,
    /// Keys of the service and its ancestor.
    pub services: Vec<Key>,
    /// The workload with its parents.
    entities: Entities,
    /// Of the connect.
    context: Context,
    /// Of calls that nobody is known to stand behind.
    call_context: Context,
    /// What the context of a call is made of, for the others.
    call_pairs: Vec<(String, Value)>,
    /// The context of calls on behalf of the last callers: making one takes longer than to judge by it.
    callers: Mutex<Vec<(Caller, Context)>>,
    /// What was decided of its calls.
    pub known: Known,
}

impl Subject {
    pub fn new(names: &Names, request: &ConnectRequest<'_>) -> Result<Self, Unbuildable> {
        let principal = uid(&names.workload, &request.workload.id);
        let placement = &request.process.placement;
        let mut pod = placement.pod.clone().unwrap_or_default();
        // What a rule forbids to a namespace is forbidden also while the cluster's API is away.
        if let Some((namespace, account)) = request.workload.account() {
            (pod.namespace, pod.service_account) = (namespace.to_owned(), account.to_owned());
        }
        let mut parents: HashSet<EntityUid> = request.groups.iter().map(|group| uid(&names.group, group)).collect();
        if !pod.namespace.is_empty() {
            let account = format!("{}/{}", pod.namespace, pod.service_account);
            parents.extend([uid(&names.namespace, &pod.namespace), uid(&names.service_account, &account)]);
        }
        if !pod.group.is_empty() {
            parents.insert(uid(&names.group, &pod.group));
        }
        let mut principals: Vec<Key> = vec![None, Some(principal.clone())];
        principals.extend(parents.iter().cloned().map(Some));

        let (kind, name) = request.workload.id.split_once('/').unwrap_or(("", &request.workload.id));
        let attributes = HashMap::from([
            ("kind".to_owned(), Value::new_string(kind.to_owned())),
            ("name".to_owned(), Value::new_string(name.to_owned())),
            ("cgroup".to_owned(), Value::new_string(request.workload.cgroup_path.to_string_lossy().into_owned())),
            ("unit".to_owned(), Value::new_string(placement.unit.clone())),
            ("pod_uid".to_owned(), Value::new_string(placement.pod_uid.clone())),
            ("container_id".to_owned(), Value::new_string(placement.container_id.clone())),
            ("namespace".to_owned(), Value::new_string(pod.namespace.clone())),
            ("service_account".to_owned(), Value::new_string(pod.service_account)),
            ("pod".to_owned(), Value::new_string(pod.name)),
            ("container".to_owned(), Value::new_string(pod.container)),
            ("image".to_owned(), Value::new_string(pod.image)),
        ]);
        let labels = pod.labels.into_iter().map(|(key, value)| (key, Value::new_string(value)));
        let workload =
            Entity::new_with_tags(principal.clone(), attributes, parents, labels).map_err(|_| Unbuildable)?;
        let entities = Entities::from_entities([workload], None).map_err(|_| Unbuildable)?;

        let (endpoint, host) = (names.endpoint(request.service), names.host(request.service));
        let services = vec![None, Some(endpoint.clone()), Some(host.clone())];
        let pairs = context(request)?;
        let mut call_pairs = pairs.clone();
        call_pairs.push(("arguments".to_owned(), names.maps.record()?));
        let context = Context::from_pairs(pairs).map_err(|_| Unbuildable)?;
        let call_context = Context::from_pairs(call_pairs.clone()).map_err(|_| Unbuildable)?;
        Ok(Self {
            principal,
            namespace: pod.namespace,
            principals,
            endpoint,
            host,
            services,
            entities,
            context,
            call_context,
            call_pairs,
            callers: Mutex::default(),
            known: Known::default(),
        })
    }

    /// The question whether the connection may be opened.
    pub fn connect(&self, names: &Names, service: &Service) -> Result<(Request, Entities), Unbuildable> {
        let attributes = HashMap::from([
            ("host".to_owned(), Value::new_string(service.host().to_owned())),
            ("port".to_owned(), Value::new_long(service.port().into())),
        ]);
        let parents = HashSet::from([self.host.clone()]);
        let entity = Entity::new(self.endpoint.clone(), attributes, parents).map_err(|_| Unbuildable)?;
        self.ask(&names.connect, &self.endpoint, self.context.clone(), [entity])
    }

    /// The function's own uid, and the keys of the function and its ancestors.
    pub fn resource(&self, names: &Names, function: &Function) -> (EntityUid, Vec<Key>) {
        let resource = uid(&names.function, &function.to_string());
        let mut keys = self.services.clone();
        keys.push(Some(resource.clone()));
        (resource, keys)
    }

    /// The question whether `function`, which is `resource`, may be called. `maps` are the arguments.
    pub fn call(
        &self,
        names: &Names,
        (function, resource): (&Function, &EntityUid),
        caller: Option<&Caller>,
        maps: Vec<Entity>,
    ) -> Result<(Request, Entities), Unbuildable> {
        let (rpc_service, rpc_method) = rpc(function);
        let attributes = HashMap::from([
            ("protocol".to_owned(), Value::new_string(function.protocol.as_str().to_owned())),
            ("method".to_owned(), Value::new_string(function.method.clone())),
            ("path".to_owned(), Value::new_string(function.path.clone())),
            ("segments".to_owned(), Value::new_long(segments(&function.path))),
            ("host".to_owned(), Value::new_string(function.service.host().to_owned())),
            ("port".to_owned(), Value::new_long(function.service.port().into())),
            ("tls".to_owned(), Value::new_bool(function.tls)),
            ("rpc_service".to_owned(), Value::new_string(rpc_service.to_owned())),
            ("rpc_method".to_owned(), Value::new_string(rpc_method.to_owned())),
        ]);
        let parents = HashSet::from([self.endpoint.clone(), self.host.clone()]);
        let entity = Entity::new(resource.clone(), attributes, parents).map_err(|_| Unbuildable)?;
        let context = match caller {
            None => self.call_context.clone(),
            Some(caller) => self.on_behalf(caller)?,
        };
        self.ask(&names.call, resource, context, std::iter::once(entity).chain(maps))
    }

    /// The context of a call on behalf of `caller`.
    fn on_behalf(&self, caller: &Caller) -> Result<Context, Unbuildable> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, context)) = callers.iter().find(|(known, _)| known == caller) {
            return Ok(context.clone());
        }
        let pair = ("caller".to_owned(), caller_record(caller)?);
        let context = Context::from_pairs(self.call_pairs.iter().cloned().chain([pair])).map_err(|_| Unbuildable)?;
        callers.truncate(CALLERS - 1);
        callers.insert(0, (caller.clone(), context.clone()));
        Ok(context)
    }

    fn ask(
        &self,
        action: &EntityUid,
        resource: &EntityUid,
        context: Context,
        own: impl IntoIterator<Item = Entity>,
    ) -> Result<(Request, Entities), Unbuildable> {
        // Neither request nor entities are validated against the schema here (it costs more than the decision):
        // a test does it for every shape that is built.
        let entities = self.entities.clone().add_entities(own, None).map_err(|_| Unbuildable)?;
        let request = Request::new(self.principal.clone(), action.clone(), resource.clone(), context, None)
            .map_err(|_| Unbuildable)?;
        Ok((request, entities))
    }
}

/// Parts of a path after its first `/`; 0 for what is not a path (`*`).
fn segments(path: &str) -> i64 {
    i64::try_from(path.bytes().filter(|&byte| byte == b'/').count()).unwrap_or(i64::MAX)
}

/// Service and method of a gRPC path `/pkg.Svc/Method`; empty for other protocols.
fn rpc(function: &Function) -> (&str, &str) {
    let path = function.path.strip_prefix('/').filter(|_| function.protocol.as_str() == "grpc");
    path.and_then(|path| path.split_once('/')).unwrap_or(("", ""))
}

fn caller_record(caller: &Caller) -> Result<Value, Unbuildable> {
    Value::new_record([
        ("sub".to_owned(), Value::new_string(caller.sub.clone())),
        ("iss".to_owned(), Value::new_string(caller.iss.clone())),
        ("groups".to_owned(), Value::new_set(caller.groups.iter().cloned().map(Value::new_string))),
    ])
    .map_err(|_| Unbuildable)
}

fn context(request: &ConnectRequest<'_>) -> Result<Vec<(String, Value)>, Unbuildable> {
    let mut pairs = vec![
        ("approved".to_owned(), Value::new_bool(false)),
        ("uid".to_owned(), Value::new_long(request.process.uid.into())),
        ("address".to_owned(), Value::new_ip(cedar_ip(request.destination))),
        ("tls".to_owned(), Value::new_bool(request.tls)),
        ("sni".to_owned(), Value::new_string(request.sni.to_owned())),
    ];
    let lineage = &request.process.lineage;
    let digests = lineage.digests().map(|sha256| Value::new_string(sha256.to_owned()));
    let record = Value::new_record([
        ("ancestors".to_owned(), Value::new_set(digests)),
        ("complete".to_owned(), Value::new_bool(lineage.is_complete())),
    ]);
    pairs.push(("lineage".to_owned(), record.map_err(|_| Unbuildable)?));
    if let Some(executable) = &request.process.executable {
        let record = Value::new_record([
            ("path".to_owned(), Value::new_string(executable.path.clone())),
            ("sha256".to_owned(), Value::new_string(executable.sha256.clone())),
        ]);
        pairs.push(("executable".to_owned(), record.map_err(|_| Unbuildable)?));
    }
    Ok(pairs)
}

/// Cedar reads no v6 text with a v4 tail, which Rust prints for some addresses: all eight groups are always read.
fn cedar_ip(address: SocketAddr) -> String {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{f:x}:{g:x}:{h:x}")
        }
    }
}

/// An entity's uid from its type and its id as it stands: nothing in `id` is parsed.
pub fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}
