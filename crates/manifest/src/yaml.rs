//! YAML text to a tree with places, within bounds.
//!
//! JSON is read by the same parser, as it is YAML. Aliases share their nodes, so an alias bomb
//! costs nothing to hold; its size when followed is counted, and refused, while the tree grows.

mod mistake;

use crate::error::{Error, Place, Problem};
use crate::path::{quoted, shown};
use crate::scalar::{Plain, resolve};
use crate::{MAX_BYTES, MAX_DEPTH, MAX_NODES};
use serde_saphyr::granit_parser::{self, Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Line and column, both from 1. 32 bits hold those of every text that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Mark {
    pub(crate) fn place(self, source: &Arc<str>) -> Place {
        Place {
            source: source.clone(),
            line: self.line as usize,
            column: self.column as usize,
        }
    }
}

impl From<Marker> for Mark {
    fn from(m: Marker) -> Self {
        let held = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            line: held(m.line()),
            column: held(m.col() + 1),
        }
    }
}

/// A value with its place.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Mark,
    pub(crate) value: Value,
    size: Size,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// In a box, as few are, and wide enough for every number that is refused by its value.
    Int(Box<i128>),
    Float(f64),
    Text(String),
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Mark,
    pub(crate) value: Rc<Node>,
}

/// How much a node is with all below it, aliases followed.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    nodes: u32,
    bytes: u32,
    depth: u32,
}

impl Size {
    fn add(&mut self, below: Size) {
        self.nodes = self.nodes.saturating_add(below.nodes);
        self.bytes = self.bytes.saturating_add(below.bytes);
        self.depth = self.depth.max(below.depth + 1);
    }
}

impl Node {
    /// The value of a key that is there and not null.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &*e.value).filter(|n| !n.is_null())
    }

    /// A key, null or not.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|e| e.key == key)
    }

    /// The keys of a mapping; none of anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The items of a list; none of anything else.
    pub(crate) fn items(&self) -> &[Rc<Node>] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// What it is, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// A document that is not empty.
pub(crate) struct Document {
    pub(crate) root: Rc<Node>,
    pub(crate) start: Start,
}

/// Where a document begins: a line, by its number and its place in the text in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) line: u32,
    pub(crate) offset: u32,
}

/// The documents of a text, one after the other, so that only one tree is there at a time.
pub(crate) struct Documents<'t> {
    source: &'t Arc<str>,
    text: &'t str,
    parser: Parser<'t, StrInput<'t>>,
    builder: Builder,
    /// Where the text begins in the whole one.
    base: Start,
}

impl<'t> Documents<'t> {
    /// The documents of a whole text.
    pub(crate) fn of(source: &'t Arc<str>, text: &'t str) -> Self {
        Self::from(source, text, Start { line: 1, offset: 0 })
    }

    /// The document that begins at `start`, and those after it.
    pub(crate) fn from(source: &'t Arc<str>, text: &'t str, start: Start) -> Self {
        // Depths are checked by the builder too, which follows aliases; these guard the parser itself.
        let options = granit_parser::options! {
            emit_comments: false,
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
        };
        let text = text.get(start.offset as usize..).unwrap_or_default();
        let parser = Parser::new_from_str_with_options(text, options);
        let builder = Builder {
            lines: start.line.saturating_sub(1),
            ..Builder::default()
        };
        Self {
            source,
            text,
            parser,
            builder,
            base: start,
        }
    }

    /// The next document that is not empty; `None` at the end. There is nothing after an error.
    pub(crate) fn read_next(&mut self) -> Result<Option<Document>, Box<Error>> {
        self.read().map_err(|(at, problem)| {
            Box::new(Error {
                place: at.place(self.source),
                subject: String::new(),
                problem,
            })
        })
    }

    fn read(&mut self) -> Result<Option<Document>, Fail> {
        let mut start = self.base;
        for event in self.parser.by_ref() {
            let (event, span) = event.map_err(|e| mistake::of(&e, self.text))?;
            match event {
                Event::DocumentStart(..) => {
                    start = start_of(self.text, &span, self.base);
                    self.builder.anchors.clear();
                }
                Event::DocumentEnd => {
                    if let Some(root) = self.builder.document.take() {
                        return Ok(Some(Document { root, start }));
                    }
                }
                event => self.builder.take(event, span)?,
            }
        }
        Ok(None)
    }
}

/// The line that a document begins in.
fn start_of(text: &str, span: &Span, base: Start) -> Start {
    let line = Mark::from(span.start).line;
    let before = span.start.byte_offset().and_then(|at| text.get(..at)).unwrap_or_default();
    let offset = before.rfind(['\n', '\r']).map_or(0, |at| at + 1);
    let add = |a: u32, b: u32| a.saturating_add(b);
    Start {
        line: add(base.line, line - 1),
        offset: add(base.offset, u32::try_from(offset).unwrap_or(u32::MAX)),
    }
}

type Fail = (Mark, Problem);

/// Makes the tree from the parser's events, without recursion.
#[derive(Default)]
struct Builder {
    /// The document that has ended.
    document: Option<Rc<Node>>,
    /// Lines of the text in front of what is read.
    lines: u32,
    open: Vec<Frame>,
    anchors: HashMap<usize, Rc<Node>>,
    total: Size,
}

/// A list or mapping that has begun.
struct Frame {
    at: Mark,
    anchor: usize,
    size: Size,
    children: Children,
}

enum Children {
    List(Vec<Rc<Node>>),
    Map(Mapping),
}

#[derive(Default)]
struct Mapping {
    entries: Vec<Entry>,
    /// Where each key stands in `entries`.
    index: HashMap<String, usize>,
    key: Option<Key>,
    merges: Vec<Rc<Node>>,
}

enum Key {
    Field(String, Mark),
    /// `<<`, YAML 1.1's merge key.
    Merge,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fail> {
        let mut at = Mark::from(span.start);
        at.line = at.line.saturating_add(self.lines);
        match event {
            Event::Alias(id) => {
                let node = self
                    .anchors
                    .get(&id)
                    .cloned()
                    .ok_or_else(|| feature(at, "an alias inside of its own anchor"))?;
                return self.place(node, at, false);
            }
            Event::Scalar(text, style, anchor, tag) => {
                return self.scalar(&text, style, anchor, tag.as_deref(), at);
            }
            Event::SequenceStart(_, anchor, tag) => {
                collection_tag(tag.as_deref(), "seq", at)?;
                self.begin(at, anchor, Children::List(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                collection_tag(tag.as_deref(), "map", at)?;
                self.begin(at, anchor, Children::Map(Mapping::default()))?;
            }
            Event::SequenceEnd | Event::MappingEnd => return self.end(),
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, at: Mark, anchor: usize, children: Children) -> Result<(), Fail> {
        if self.open.len() >= MAX_DEPTH {
            return Err((at, Problem::TooDeep));
        }
        let size = Size {
            nodes: 1,
            bytes: 0,
            depth: 1,
        };
        self.open.push(Frame {
            at,
            anchor,
            size,
            children,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fail> {
        let Some(frame) = self.open.pop() else {
            return Ok(());
        };
        let value = match frame.children {
            Children::List(items) => Value::List(items),
            Children::Map(mapping) => Value::Map(merged(mapping)),
        };
        let node = Rc::new(Node {
            at: frame.at,
            value,
            size: frame.size,
        });
        if frame.anchor != 0 {
            self.anchors.insert(frame.anchor, node.clone());
        }
        self.place(node, frame.at, false)
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, anchor: usize, tag: Option<&Tag>, at: Mark) -> Result<(), Fail> {
        let plain = style == ScalarStyle::Plain && tag.is_none();
        if let Some(tag) = tag.filter(|t| !t.is_yaml_core_schema_tag("str")) {
            return Err(feature(at, &format!("the tag {}", shown(&tag.original()))));
        }
        let resolved = if plain { resolve(text) } else { Plain::Text };
        let value = match resolved {
            Plain::Null => Value::Null,
            Plain::Bool(b) => Value::Bool(b),
            Plain::Int(i) => Value::Int(Box::new(i)),
            Plain::Float(f) => Value::Float(f),
            Plain::Text => Value::Text(text.to_owned()),
        };
        if self.wants_key() {
            return self.key(text, &value, plain, at);
        }
        let size = Size {
            nodes: 1,
            bytes: text.len() as u32,
            depth: 0,
        };
        let node = Rc::new(Node { at, value, size });
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node, at, true)
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Frame { children: Children::Map(m), .. }) if m.key.is_none())
    }

    fn key(&mut self, text: &str, value: &Value, plain: bool, at: Mark) -> Result<(), Fail> {
        let Some(Frame {
            children: Children::Map(mapping),
            size,
            ..
        }) = self.open.last_mut()
        else {
            return Ok(());
        };
        size.add(Size {
            nodes: 1,
            bytes: text.len() as u32,
            depth: 0,
        });
        if plain && text == "<<" {
            mapping.key = Some(Key::Merge);
            return Ok(());
        }
        let kind = match value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(i) if i.to_string() != text => "a number",
            Value::Float(_) => "a number",
            _ => {
                mapping.key = Some(Key::Field(text.to_owned(), at));
                return Ok(());
            }
        };
        Err((at, Problem::KeyNotText { key: shown(text), kind }))
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Rc<Node>, at: Mark, is_scalar: bool) -> Result<(), Fail> {
        let Some(frame) = self.open.last_mut() else {
            self.total.add(node.size);
            check_size(self.total, at)?;
            self.document = Some(node).filter(|n| !n.is_null());
            return Ok(());
        };
        frame.size.add(node.size);
        check_size(frame.size, at)?;
        if self.open.len() + node.size.depth as usize > MAX_DEPTH {
            return Err((at, Problem::TooDeep));
        }
        let Some(frame) = self.open.last_mut() else {
            return Ok(());
        };
        match &mut frame.children {
            Children::List(items) => items.push(node),
            Children::Map(mapping) => match mapping.key.take() {
                Some(Key::Field(key, key_at)) => mapping.insert(key, key_at, node)?,
                Some(Key::Merge) => mapping.merge(&node, at)?,
                // Only aliases and collections come here: scalars went to `key`.
                None if is_scalar => {}
                None => return Err(feature(at, "a key that is an alias, a list or a mapping")),
            },
        }
        Ok(())
    }
}

impl Mapping {
    fn insert(&mut self, key: String, at: Mark, value: Rc<Node>) -> Result<(), Fail> {
        if let Some(first) = self.index.get(&key).and_then(|i| self.entries.get(*i)) {
            return Err((
                at,
                Problem::DuplicateKey {
                    key: quoted(&key),
                    line: first.at.line as usize,
                },
            ));
        }
        self.index.insert(key.clone(), self.entries.len());
        self.entries.push(Entry { key, at, value });
        Ok(())
    }

    fn merge(&mut self, node: &Rc<Node>, at: Mark) -> Result<(), Fail> {
        match &node.value {
            Value::Map(_) => self.merges.push(node.clone()),
            Value::List(items) if items.iter().all(|i| matches!(i.value, Value::Map(_))) => {
                self.merges.extend(items.iter().cloned());
            }
            _ => return Err(feature(at, "a merge key (<<) with anything but mappings")),
        }
        Ok(())
    }
}

/// The entries with what `<<` brings: a mapping's own keys win, then the earlier merge.
fn merged(mut mapping: Mapping) -> Vec<Entry> {
    for node in &mapping.merges {
        for entry in node.entries() {
            if !mapping.index.contains_key(&entry.key) {
                mapping.index.insert(entry.key.clone(), mapping.entries.len());
                mapping.entries.push(entry.clone());
            }
        }
    }
    mapping.entries
}

fn check_size(size: Size, at: Mark) -> Result<(), Fail> {
    if u64::from(size.nodes) > MAX_NODES || u64::from(size.bytes) > MAX_BYTES {
        Err((at, Problem::TooMuch))
    } else {
        Ok(())
    }
}

fn collection_tag(tag: Option<&Tag>, core: &str, at: Mark) -> Result<(), Fail> {
    match tag.filter(|t| !t.is_yaml_core_schema_tag(core)) {
        Some(tag) => Err(feature(at, &format!("the tag {}", shown(&tag.original())))),
        None => Ok(()),
    }
}

fn feature(at: Mark, what: &str) -> Fail {
    (at, Problem::YamlFeature { what: what.to_owned() })
}
