//! Builds Cedar's view of a request: entities, context, and the keys into the index.
//!
//! What a connection's calls share is built once per connection, as a [`Subject`]; a call adds its function.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use callgate_model::{Function, Service};
use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression as Value,
};

use crate::ConnectRequest;
use crate::index::Key;

/// The request could not be expressed: a bug of ours, which must end in a denial.
#[derive(Debug)]
pub struct Unbuildable;

/// Names of the schema, parsed once per set.
#[derive(Clone, Debug)]
pub struct Names {
    pub workload: EntityTypeName,
    pub group: EntityTypeName,
    pub service: EntityTypeName,
    pub function: EntityTypeName,
    pub connect: EntityUid,
    pub call: EntityUid,
}

impl Names {
    pub fn new() -> Result<Self, Unbuildable> {
        let name = |text: &str| text.parse::<EntityTypeName>().map_err(|_| Unbuildable);
        let action = name("Callgate::Action")?;
        Ok(Self {
            workload: name("Callgate::Workload")?,
            group: name("Callgate::Group")?,
            service: name("Callgate::Service")?,
            function: name("Callgate::Function")?,
            connect: uid(&action, "connect"),
            call: uid(&action, "call"),
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
    /// Keys of the principal and its ancestors.
    pub principals: Vec<Key>,
    endpoint: EntityUid,
    host: EntityUid,
    /// Keys of the service and its ancestor.
    pub services: Vec<Key>,
    /// The workload with its parents.
    entities: Entities,
    context: Context,
}

impl Subject {
    pub fn new(names: &Names, request: &ConnectRequest<'_>) -> Result<Self, Unbuildable> {
        let principal = uid(&names.workload, &request.workload.id);
        let groups: HashSet<EntityUid> = request.groups.iter().map(|group| uid(&names.group, group)).collect();
        let mut principals: Vec<Key> = vec![None, Some(principal.clone())];
        principals.extend(groups.iter().cloned().map(Some));

        let (kind, name) = request.workload.id.split_once('/').unwrap_or(("", &request.workload.id));
        let attributes = HashMap::from([
            ("kind".to_owned(), Value::new_string(kind.to_owned())),
            ("name".to_owned(), Value::new_string(name.to_owned())),
        ]);
        let workload = Entity::new(principal.clone(), attributes, groups).map_err(|_| Unbuildable)?;
        let entities = Entities::from_entities([workload], None).map_err(|_| Unbuildable)?;

        let (endpoint, host) = (names.endpoint(request.service), names.host(request.service));
        let services = vec![None, Some(endpoint.clone()), Some(host.clone())];
        Ok(Self { principal, principals, endpoint, host, services, entities, context: context(request)? })
    }

    /// The question whether the connection may be opened.
    pub fn connect(&self, names: &Names, service: &Service) -> Result<(Request, Entities), Unbuildable> {
        let attributes = HashMap::from([
            ("host".to_owned(), Value::new_string(service.host().to_owned())),
            ("port".to_owned(), Value::new_long(service.port().into())),
        ]);
        self.ask(&names.connect, self.endpoint.clone(), attributes, HashSet::from([self.host.clone()]))
    }

    /// The question whether `function` may be called, with the keys of the function and its ancestors.
    pub fn call(&self, names: &Names, function: &Function) -> Result<(Request, Entities, Vec<Key>), Unbuildable> {
        let resource = uid(&names.function, &function.to_string());
        let mut keys = self.services.clone();
        keys.push(Some(resource.clone()));
        let attributes = HashMap::from([
            ("protocol".to_owned(), Value::new_string(function.protocol.as_str().to_owned())),
            ("method".to_owned(), Value::new_string(function.method.clone())),
            ("path".to_owned(), Value::new_string(function.path.clone())),
            ("segments".to_owned(), Value::new_long(segments(&function.path))),
            ("host".to_owned(), Value::new_string(function.service.host().to_owned())),
            ("port".to_owned(), Value::new_long(function.service.port().into())),
            ("tls".to_owned(), Value::new_bool(function.tls)),
        ]);
        let parents = HashSet::from([self.endpoint.clone(), self.host.clone()]);
        let (request, entities) = self.ask(&names.call, resource, attributes, parents)?;
        Ok((request, entities, keys))
    }

    fn ask(
        &self,
        action: &EntityUid,
        resource: EntityUid,
        attributes: HashMap<String, Value>,
        parents: HashSet<EntityUid>,
    ) -> Result<(Request, Entities), Unbuildable> {
        // Neither request nor entities are validated against the schema here (it costs more than the decision):
        // a test does it for every shape that is built.
        let entity = Entity::new(resource.clone(), attributes, parents).map_err(|_| Unbuildable)?;
        let entities = self.entities.clone().add_entities([entity], None).map_err(|_| Unbuildable)?;
        let request = Request::new(self.principal.clone(), action.clone(), resource, self.context.clone(), None)
            .map_err(|_| Unbuildable)?;
        Ok((request, entities))
    }
}

/// Parts of a path after its first `/`; 0 for what is not a path (`*`).
fn segments(path: &str) -> i64 {
    i64::try_from(path.bytes().filter(|&byte| byte == b'/').count()).unwrap_or(i64::MAX)
}

fn context(request: &ConnectRequest<'_>) -> Result<Context, Unbuildable> {
    let mut pairs = vec![
        ("approved".to_owned(), Value::new_bool(false)),
        ("uid".to_owned(), Value::new_long(request.process.uid.into())),
        ("address".to_owned(), Value::new_ip(cedar_ip(request.destination))),
        ("tls".to_owned(), Value::new_bool(request.tls)),
        ("sni".to_owned(), Value::new_string(request.sni.to_owned())),
    ];
    if let Some(executable) = &request.process.executable {
        let record = Value::new_record([
            ("path".to_owned(), Value::new_string(executable.path.clone())),
            ("sha256".to_owned(), Value::new_string(executable.sha256.clone())),
        ]);
        pairs.push(("executable".to_owned(), record.map_err(|_| Unbuildable)?));
    }
    Context::from_pairs(pairs).map_err(|_| Unbuildable)
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
fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}
