//! Arguments in policies: which ones a policy names, whether a call's fit them, and the maps that Cedar reads.
//!
//! A rule about an argument holds only in a closed world: what it names must be known for certain, and be there as
//! the kind that it names, or not at all. [`load`](crate::load) reads the names, [`decide`](crate::decide) asks here.

use callgate_model::{Argument, ArgumentKind, Arguments};
use cedar_policy::{Entity, EntityTypeName, EntityUid, RestrictedExpression as Value};

use crate::entities::{Unbuildable, uid};

/// What a policy names: a map, and in it a pointer, or, by a computed tag, any.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Named {
    pub kind: ArgumentKind,
    pub pointer: Option<String>,
}

impl Named {
    /// Whether what is there at the pointer stands in the map that is named. What is absent fits.
    pub fn fits(&self, arguments: &Arguments) -> bool {
        match &self.pointer {
            Some(pointer) => arguments.get(pointer).is_none_or(|argument| argument.stands_in(self.kind)),
            // What an object holds is looked at by itself.
            None => {
                arguments.iter().all(|(_, argument)| *argument == Argument::Nested || argument.stands_in(self.kind))
            }
        }
    }
}

/// Names of the maps in the schema.
#[derive(Clone, Debug)]
pub struct Maps([(ArgumentKind, EntityUid); 5]);

impl Maps {
    pub fn new() -> Result<Self, Unbuildable> {
        let map = |kind: ArgumentKind| {
            let name = type_name(kind).parse::<EntityTypeName>().map_err(|_| Unbuildable)?;
            // One call is judged at a time, so there is one map of each kind.
            Ok((kind, uid(&name, "call")))
        };
        let [a, b, c, d, e] = ArgumentKind::ALL.map(map);
        Ok(Self([a?, b?, c?, d?, e?]))
    }

    /// `context.arguments`.
    pub fn record(&self) -> Result<Value, Unbuildable> {
        let fields = self.0.iter().map(|(kind, uid)| (kind.as_str().to_owned(), Value::new_entity_uid(uid.clone())));
        Value::new_record(fields).map_err(|_| Unbuildable)
    }

    /// Whether `name` is the type of such a map.
    pub fn is_map(&self, name: &EntityTypeName) -> bool {
        self.0.iter().any(|(_, uid)| uid.type_name() == name)
    }

    /// The maps that `named` names, holding what is named and no more; those of no name are left out.
    ///
    /// A map that is left out has no tags for Cedar, so `hasTag` is false.
    pub fn build<'a>(
        &self,
        named: impl Iterator<Item = &'a Named> + Clone,
        arguments: &Arguments,
    ) -> Result<Vec<Entity>, Unbuildable> {
        let mut maps = Vec::new();
        for (kind, uid) in &self.0 {
            let mut wanted = named.clone().filter(|named| named.kind == *kind).peekable();
            if wanted.peek().is_none() {
                continue;
            }
            let mut tags: Vec<(&str, Value)> = Vec::new();
            for named in wanted {
                let tag = |(pointer, argument): (_, &Argument)| Some((pointer, value(argument, *kind)?));
                match named.pointer.as_deref() {
                    Some(pointer) => tags.extend(arguments.get(pointer).and_then(|found| tag((pointer, found)))),
                    None => tags.extend(arguments.iter().filter_map(tag)),
                }
            }
            tags.sort_by_key(|(pointer, _)| *pointer);
            tags.dedup_by_key(|(pointer, _)| *pointer);
            let tags = tags.into_iter().map(|(pointer, value)| (pointer.to_owned(), value));
            maps.push(Entity::new_with_tags(uid.clone(), [], [], tags).map_err(|_| Unbuildable)?);
        }
        Ok(maps)
    }
}

fn type_name(kind: ArgumentKind) -> &'static str {
    match kind {
        ArgumentKind::Text => "Callgate::TextArguments",
        ArgumentKind::Number => "Callgate::NumberArguments",
        ArgumentKind::Decimal => "Callgate::DecimalArguments",
        ArgumentKind::Flag => "Callgate::FlagArguments",
        ArgumentKind::List => "Callgate::ListArguments",
    }
}

/// The value as the map of `kind` holds it; none if it does not stand there.
fn value(argument: &Argument, kind: ArgumentKind) -> Option<Value> {
    match (argument, kind) {
        (Argument::Text(text), ArgumentKind::Text) => Some(Value::new_string(text.clone())),
        (Argument::Number { whole, .. }, ArgumentKind::Number) => whole.map(Value::new_long),
        (Argument::Number { decimal, .. }, ArgumentKind::Decimal) => {
            decimal.map(|decimal| Value::new_decimal(decimal.to_string()))
        }
        (Argument::Flag(flag), ArgumentKind::Flag) => Some(Value::new_bool(*flag)),
        (Argument::List(items), ArgumentKind::List) => {
            Some(Value::new_set(items.iter().map(|item| Value::new_string(item.clone()))))
        }
        _ => None,
    }
}
