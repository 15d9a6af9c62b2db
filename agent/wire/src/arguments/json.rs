//! JSON bodies: serde_json reads the grammar, and what it leaves open is settled here.
//!
//! serde_json takes the last of two equal keys and turns `1000.00000000000000001` into 1000; a rule judged by that
//! would not hold for a service that does otherwise. So keys are refused when they repeat, and numbers are read from
//! their own text: a lexer gives it, in step with the parser.

use std::fmt;

use callgate_model::{Argument, Arguments, Unfit};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::form::escape;
use super::number;
use crate::limits::ARGUMENTS_DEPTH_MAX;

/// Reads one JSON text, with nothing after it.
pub(super) fn read(text: &str) -> Result<Arguments, Unfit> {
    let mut reader = Reader {
        arguments: Arguments::new(),
        numbers: Numbers { rest: text },
        pointer: String::new(),
        depth: 0,
        fault: None,
    };
    let mut parser = serde_json::Deserializer::from_str(text);
    let read = Place(&mut reader).deserialize(&mut parser).and_then(|_| parser.end());
    match read {
        Ok(()) => Ok(reader.arguments),
        Err(_) => Err(reader.fault.unwrap_or(Unfit::Malformed)),
    }
}

struct Reader<'t> {
    arguments: Arguments,
    numbers: Numbers<'t>,
    /// Of the value that is read now.
    pointer: String,
    depth: usize,
    /// Why reading stopped, if it was not the grammar.
    fault: Option<Unfit>,
}

impl Reader<'_> {
    fn put<E: Error>(&mut self, argument: Argument) -> Result<(), E> {
        let put = self.arguments.insert(self.pointer.clone(), argument);
        put.map_err(|fault| self.stop(fault))
    }

    fn put_number<E: Error>(&mut self) -> Result<bool, E> {
        let token = self.numbers.next().ok_or_else(|| self.stop(Unfit::Malformed))?;
        self.put(number::read(token))?;
        Ok(false)
    }

    fn stop<E: Error>(&mut self, fault: Unfit) -> E {
        self.fault = Some(fault);
        E::custom("unfit")
    }

    fn enter<E: Error>(&mut self) -> Result<(), E> {
        self.put(Argument::Nested)?;
        self.depth += 1;
        if self.depth > ARGUMENTS_DEPTH_MAX { Err(self.stop(Unfit::TooDeep)) } else { Ok(()) }
    }
}

/// Reads the value at the reader's pointer; tells whether it is a text.
struct Place<'r, 't>(&'r mut Reader<'t>);

impl<'de> DeserializeSeed<'de> for Place<'_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        self.0.put(Argument::Other).map(|()| false)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<bool, E> {
        self.0.put(Argument::Flag(flag)).map(|()| false)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<bool, E> {
        self.0.put_number()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<bool, E> {
        self.0.put_number()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<bool, E> {
        self.0.put_number()
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        self.0.put(Argument::Text(text.to_owned())).map(|()| true)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        let reader = self.0;
        reader.enter()?;
        let length = reader.pointer.len();
        let (mut count, mut texts) = (0_usize, true);
        loop {
            reader.pointer.push('/');
            reader.pointer.push_str(&count.to_string());
            let item = items.next_element_seed(Place(reader))?;
            reader.pointer.truncate(length);
            match item {
                Some(text) => texts &= text,
                None => break,
            }
            count += 1;
        }
        reader.depth -= 1;
        if texts {
            let text_at = |at: usize| match reader.arguments.get(&format!("{}/{at}", reader.pointer)) {
                Some(Argument::Text(text)) => Some(text.clone()),
                _ => None,
            };
            let list = (0..count).filter_map(text_at).collect();
            reader.arguments.refine(&reader.pointer, Argument::List(list));
        }
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<bool, A::Error> {
        let reader = self.0;
        reader.enter()?;
        let length = reader.pointer.len();
        while let Some(key) = fields.next_key::<String>()? {
            reader.pointer.push('/');
            reader.pointer.push_str(&escape(&key));
            fields.next_value_seed(Place(reader))?;
            reader.pointer.truncate(length);
        }
        reader.depth -= 1;
        Ok(false)
    }
}

/// The numbers of a JSON text in the order of their places, as written.
struct Numbers<'t> {
    rest: &'t str,
}

impl<'t> Iterator for Numbers<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        loop {
            let at = self.rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit())?;
            let found = self.rest.get(at..)?;
            if let Some(string) = found.strip_prefix('"') {
                self.rest = string.get(end_of_string(string)..)?;
                continue;
            }
            let in_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
            let end = found.find(|c| !in_number(c)).unwrap_or(found.len());
            let (token, rest) = found.split_at_checked(end)?;
            self.rest = rest;
            return Some(token);
        }
    }
}

/// Where the text after a string's end begins.
fn end_of_string(string: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in string.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    string.len()
}
