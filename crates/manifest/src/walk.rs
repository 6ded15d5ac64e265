//! Reads a tree along a shape: every field of the text is honoured, warned about or refused.
//!
//! What comes out is JSON in the form that the model's types deserialize, so the types' own serde
//! is the last word; the tables only add places and sentences, and cannot let anything else in.

use crate::error::{Log, Problem};
use crate::format::Format;
use crate::near::nearest;
use crate::path::{Path, quoted, shown};
use crate::schema::{Field, Shape, Type, Use};
use crate::yaml::{Entry, Mark, Node, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cofferdam_model::Quantity;
use serde_json::{Map, Value as Json};

/// Greatest size of a ConfigMap's or Secret's data (`MaxSecretSize` of Kubernetes' validation).
const MAX_DATA: usize = 1024 * 1024;

/// Reads one object.
pub(crate) struct Walk<'a> {
    pub(crate) log: &'a mut Log,
    pub(crate) path: Path,
    /// What to do with a thing that is not supported yet.
    pub(crate) instead: &'static str,
}

impl Walk<'_> {
    /// Reads `node` as an object. Errors go to the log; what is returned then is incomplete.
    pub(crate) fn object(&mut self, node: &Node, shape: &Shape) -> Json {
        let Value::Map(entries) = &node.value else {
            return self.wrong(node, "a mapping");
        };
        let mut out = Map::new();
        let mut meant = Vec::new();
        for entry in entries {
            self.path.push(&entry.key);
            match shape.field(&entry.key) {
                Some(field) => self.field(field, entry, &mut out),
                None => meant.extend(self.unknown(entry, node, shape)),
            }
            self.path.pop();
        }
        for field in shape.fields {
            let is_required = matches!(field.usage, Use::Required) && !meant.contains(&field.name);
            if is_required && node.get(field.name).is_none() {
                let path = self.path.key(field.name).to_string();
                self.log.error(node.at, Problem::Missing { path });
            }
        }
        Json::Object(out)
    }

    fn field(&mut self, field: &Field, entry: &Entry, out: &mut Map<String, Json>) {
        let node = &entry.value;
        if node.is_null() {
            return; // null means absent
        }
        match (&field.usage, &field.kind) {
            (Use::Honoured | Use::Required, Some(kind)) => {
                let value = self.value(node, kind);
                out.insert(entry.key.clone(), value);
            }
            (Use::Checked, Some(kind)) => {
                self.value(node, kind);
            }
            (Use::Idle(why), _) => {
                let text = format!("{} does nothing here: {why}", self.path);
                self.log.warn(entry.at, &text, None);
            }
            (Use::Placing(_), Some(kind)) if self.log.is_placing() => {
                let value = self.value(node, kind);
                out.insert(entry.key.clone(), value);
            }
            (Use::Later(harmless) | Use::Placing(harmless), _) if !is_harmless(node, *harmless) => {
                self.not_yet(entry.at, self.path.to_string());
            }
            (Use::Never(why), _) if !is_harmless(node, None) => {
                let why = *why;
                self.log
                    .not_yet(entry.at, self.path.to_string(), |path| Problem::NotHere { path, why });
            }
            (Use::Forbidden(rule), _) if !is_harmless(node, None) => {
                self.log.invalid(entry.at, &self.path, *rule);
            }
            _ => {}
        }
    }

    fn not_yet(&mut self, at: Mark, path: String) {
        let instead = self.instead;
        self.log.not_yet(at, path, |path| Problem::NotYet { path, instead });
    }

    /// Refuses a field that is not in the shape; gives the one that was meant, perhaps.
    fn unknown(&mut self, entry: &Entry, node: &Node, shape: &Shape) -> Option<&'static str> {
        if self.log.is_full() {
            return None; // looking for what was meant costs too much to do it for nothing
        }
        if let Some(field) = lost_parent(&entry.key, node, shape) {
            let (field, child) = (field.to_owned(), entry.key.clone());
            self.log.error(entry.at, Problem::LostIndentation { field, child });
            return None;
        }
        let near = nearest(&entry.key, shape.names());
        let near_path = near.map(|near| {
            let mut path = self.path.clone();
            path.pop();
            path.key(near).to_string()
        });
        self.log.error(
            entry.at,
            Problem::UnknownField {
                path: self.path.to_string(),
                near: near_path,
            },
        );
        near
    }

    fn value(&mut self, node: &Node, kind: &Type) -> Json {
        match kind {
            Type::Text(format) => {
                let Some(text) = self.text(node) else {
                    return Json::Null;
                };
                if let Some(rule) = format.broken_by(text) {
                    self.log.invalid(node.at, &self.path, format!("is {}, but {rule}", quoted(text)));
                }
                Json::from(text)
            }
            Type::OneOf(words) => self.one_of(node, words, &[]),
            Type::OneOfYet(words, later) => self.one_of(node, words, later),
            Type::OneOfOrLike(words, prefixes) => match node.text() {
                Some(text) if prefixes.iter().any(|p| text.starts_with(p)) => Json::from(text),
                _ => self.one_of(node, words, &[]),
            },
            Type::Port => match node.value {
                Value::Int(_) => self.int(node, 1, 65535),
                Value::Text(_) => self.value(node, &Type::Text(Format::PortName)),
                _ => self.wrong(node, "a port's number or name"),
            },
            Type::Bool => match node.value {
                Value::Bool(b) => Json::from(b),
                _ => self.wrong(node, "true or false"),
            },
            Type::Int(min, max) => self.int(node, *min, *max),
            Type::Quantity => self.quantity(node),
            Type::Quantities => self.map(node, |walk, entry| walk.quantity(&entry.value)),
            Type::TextMap(key, value) => self.map(node, |walk, entry| {
                if let Some(rule) = key.broken_by(&entry.key) {
                    walk.log.invalid(entry.at, &walk.path, rule);
                }
                walk.value(&entry.value, &Type::Text(*value))
            }),
            Type::SecretMap => self.map(node, |walk, entry| {
                walk.data_key(entry);
                walk.text(&entry.value).map_or(Json::Null, Json::from)
            }),
            Type::Base64Map => self.map(node, |walk, entry| {
                walk.data_key(entry);
                walk.base64(&entry.value)
            }),
            Type::List(kind) => self.list(node, kind),
            Type::Object(shape) => self.object(node, shape),
        }
    }

    fn list(&mut self, node: &Node, kind: &Type) -> Json {
        let Value::List(items) = &node.value else {
            return self.wrong(node, "a list");
        };
        let mut out = Vec::new();
        for (i, item) in items.iter().enumerate() {
            self.path.push_index(i);
            out.push(if item.is_null() {
                self.wrong(item, "a value")
            } else {
                self.value(item, kind)
            });
            self.path.pop();
        }
        Json::Array(out)
    }

    fn map(&mut self, node: &Node, mut each: impl FnMut(&mut Self, &Entry) -> Json) -> Json {
        let Value::Map(entries) = &node.value else {
            return self.wrong(node, "a mapping");
        };
        let mut out = Map::new();
        for entry in entries {
            self.path.push(&entry.key);
            // A null in a map of texts is the empty text to Kubernetes, but more likely a mistake.
            let value = if entry.value.is_null() {
                self.wrong(&entry.value, "a value")
            } else {
                each(self, entry)
            };
            out.insert(entry.key.clone(), value);
            self.path.pop();
        }
        Json::Object(out)
    }

    fn text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        if node.text().is_none() {
            self.wrong(node, "a string");
        }
        node.text()
    }

    fn one_of(&mut self, node: &Node, words: &[&str], later: &[&str]) -> Json {
        let Some(text) = self.text(node) else {
            return Json::Null;
        };
        if later.contains(&text) {
            self.not_yet(node.at, format!("{}: {text}", self.path));
        } else if !words.contains(&text) {
            let allowed: Vec<_> = words.iter().map(|w| if w.is_empty() { "\"\"" } else { w }).collect();
            let problem = Problem::NotOneOf {
                path: self.path.to_string(),
                value: shown(text),
                allowed: allowed.join(", "),
                near: nearest(text, words.iter().copied()).map(str::to_owned),
            };
            self.log.error(node.at, problem);
        }
        Json::from(text)
    }

    fn int(&mut self, node: &Node, min: i64, max: i64) -> Json {
        let Value::Int(int) = &node.value else {
            return self.wrong(node, "a whole number");
        };
        match i64::try_from(**int) {
            Ok(int) if (min..=max).contains(&int) => Json::from(int),
            _ => {
                let rule = match (min, max) {
                    (min, i64::MAX) => format!("is {int}, but must be at least {min}"),
                    (min, max) => format!("is {int}, but must be between {min} and {max}"),
                };
                self.log.invalid(node.at, &self.path, rule);
                Json::Null
            }
        }
    }

    fn quantity(&mut self, node: &Node) -> Json {
        let text = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Int(int) => int.to_string(),
            Value::Float(float) if float.is_finite() => float.to_string(),
            _ => return self.wrong(node, "a quantity such as 100m or 64Mi"),
        };
        let json = Json::from(text.as_str());
        if let Err(why) = serde_json::from_value::<Quantity>(json.clone()) {
            self.log
                .invalid(node.at, &self.path, format!("is {}, which is no quantity: {why}", quoted(&text)));
        }
        json
    }

    fn data_key(&mut self, entry: &Entry) {
        if let Some(rule) = crate::format::Format::DataKey.broken_by(&entry.key) {
            self.log.invalid(entry.at, &self.path, rule);
        }
    }

    /// Base64 as Go's `encoding/json` reads it: standard alphabet, padded, line breaks ignored.
    fn base64(&mut self, node: &Node) -> Json {
        let Some(text) = self.text(node) else {
            return Json::Null;
        };
        let packed = text.replace(['\r', '\n'], "");
        match STANDARD.decode(&packed) {
            Ok(_) => Json::from(packed),
            Err(_) => {
                self.log.invalid(
                    node.at,
                    &self.path,
                    "is not valid base64; encode the value, or move it to stringData",
                );
                Json::Null
            }
        }
    }

    /// Logs a wrong type; the value itself is not shown, as it may be secret.
    fn wrong(&mut self, node: &Node, expected: &'static str) -> Json {
        let found = match &node.value {
            Value::Bool(_) if expected == "a string" => {
                "a boolean (YAML reads yes, no, on, off, y and n as booleans too); put it in quotes"
            }
            Value::Int(_) | Value::Float(_) if expected == "a string" => "a number; put it in quotes",
            Value::Float(_) if expected == "a whole number" => "a number with a fraction, an exponent or a wrong leading zero",
            Value::Text(_) if matches!(expected, "a whole number" | "true or false") => "a string; write it without quotes",
            Value::Null => "nothing; write \"\" where it shall be empty",
            _ => node.kind(),
        };
        self.log.error(
            node.at,
            Problem::WrongType {
                path: self.path.to_string(),
                expected,
                found,
            },
        );
        Json::Null
    }
}

/// Whether a field that is not honoured asks for nothing.
fn is_harmless(node: &Node, default: Option<&str>) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Bool(b) => default == Some(if *b { "true" } else { "false" }),
        Value::Int(i) => default == Some(i.to_string().as_str()),
        Value::Float(_) => false,
        Value::Text(text) => text.is_empty() || default == Some(text.as_str()),
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
    }
}

/// A field that is empty and beside which `child` stands, which belongs into it.
fn lost_parent<'s>(child: &str, node: &Node, shape: &'s Shape) -> Option<&'s str> {
    let empty = |f: &&Field| node.entry(f.name).is_some_and(|e| e.value.is_null());
    let inside = |f: &&Field| match &f.kind {
        Some(Type::Object(inner) | Type::List(Type::Object(inner))) => inner.field(child).is_some(),
        _ => false,
    };
    shape.fields.iter().filter(empty).find(inside).map(|f| f.name)
}

/// Whether the data of a ConfigMap or Secret is too much.
pub(crate) fn too_much_data(texts: impl Iterator<Item = usize>, base64: impl Iterator<Item = usize>) -> bool {
    texts.sum::<usize>() + base64.map(|n| n / 4 * 3).sum::<usize>() > MAX_DATA
}
