//! docs/openapi.json is made of what the source says: routes of src/desk/api.rs, types of
//! src/desk/view with their doc comments. `POUCH_UPDATE=1 cargo test --test openapi` writes it.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

/// What a handler's signature does not say: its purpose, and the type of its body.
const CALLS: &[(&str, &str, Option<&str>)] = &[
    ("send", "Hands in a dispatch; durable in the outbox when answered", Some("NewDispatch")),
    ("inbox", "Lists the inbox in register order", None),
    ("incoming", "One dispatch of the inbox with its text; marks nothing", None),
    (
        "evidence",
        "All that can be proven of a dispatch, sent or received; 404 `not-proven` where the log holds nothing of it",
        None,
    ),
    ("proven_roster", "A roster version that the desk holds, and that the log has it", None),
    ("read", "A person has read a dispatch: its sender gets a receipt", Some("Mark")),
    ("acknowledge", "A person has acknowledged a dispatch: its sender gets a receipt", Some("Mark")),
    ("outbox", "Lists the outbox, newest first", None),
    ("outgoing", "One dispatch of the outbox; with `wait`, once it has come so far", None),
    ("cursor", "How far a named reader has come", None),
    ("take_cursor", "Gives a reader the cursor for a while; another one is told so", Some("TakeCursor")),
    ("commit", "Moves a named reader", Some("Commit")),
    ("changes", "Server-sent events: one after each change. `Last-Event-ID` resumes", None),
    ("status", "The desk and its link", None),
    ("trust", "The trust bundle that names the roster in force", None),
    ("alarms", "All alarms that the desk keeps", None),
    ("take_alarm", "Somebody looks after an alarm", Some("Mark")),
    ("close_alarm", "An alarm is over", Some("Mark")),
    ("order", "At the hub: gives an order", Some("NewOrder")),
    ("publish_roster", "At the hub: puts a signed roster note in force", Some("")),
];

#[test]
fn the_committed_document_says_what_routes_and_types_say() {
    let path = root().join("docs/openapi.json");
    let now = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::env::var_os("POUCH_UPDATE").is_some() {
        fs::write(&path, &now).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == now, "run POUCH_UPDATE=1 cargo test --test openapi, and read what changed");
}

#[test]
fn every_named_type_is_described_and_every_purpose_has_a_route() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name} is not described");
    }
    for (handler, _, _) in CALLS {
        assert!(text.contains(&format!("\"operationId\":\"{handler}\"")), "{handler} has no route");
    }
}

fn document() -> Value {
    let types = types(&["mod", "evidence"].map(|file| source(&format!("src/desk/view/{file}.rs"))).concat());
    let api = source("src/desk/api.rs");
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (path, method, handler) in routes(&api) {
        let call = operation(&path, &handler, &api, &types);
        paths.entry(path).or_default().insert(method, call);
    }
    let mut schemas: Map<String, Value> =
        types.iter().map(|(name, fields)| (name.clone(), fields.schema())).collect();
    schemas
        .insert("Step".into(), json!({"type": "string", "enum": ["accepted", "delivered", "read", "ack"]}));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "The desk's API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "HTTP and JSON on the desk's unix socket. Times are RFC 3339 in UTC, ids UUID text, parties roster codes, hashes lower hex.",
        },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

/// Path, method and handler of each `.route(…)`.
fn routes(api: &str) -> Vec<(String, String, String)> {
    let mut routes = Vec::new();
    for line in api.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")) {
        let (path, rest) = line.split_once("\", ").unwrap();
        for method in ["get", "post"] {
            if let Some((_, handler)) = rest.split_once(&format!("{method}(")) {
                let handler = handler.split(')').next().unwrap();
                routes.push((path.to_owned(), method.to_owned(), handler.to_owned()));
            }
        }
    }
    routes
}

fn operation(path: &str, handler: &str, api: &str, types: &BTreeMap<String, Type>) -> Value {
    let (_, purpose, body) =
        CALLS.iter().find(|(name, _, _)| *name == handler).expect("its purpose in CALLS");
    let signature = api.split(&format!("async fn {handler}(")).nth(1).unwrap().split('{').next().unwrap();
    let between = |start: &str| Some(signature.split_once(start)?.1.split(['>', ' ', ',']).next().unwrap());
    let answer = match signature.split_once("-> Answer<") {
        Some((_, answer)) => {
            json!({ "application/json": { "schema": schema(answer.trim().strip_suffix('>').unwrap()) } })
        }
        None => json!({ "text/event-stream": { "schema": { "type": "string" } } }),
    };
    let error = json!({ "description": "Why not, and what to do", "content": { "application/json": { "schema": schema("ApiError") } } });
    let mut parameters: Vec<Value> = path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    for field in between("Asked<").map(|query| &types[query]).iter().flat_map(|query| &query.fields) {
        let schema = schema(field.of.trim_start_matches("Option<"));
        parameters
            .push(json!({ "name": field.name, "in": "query", "description": field.doc, "schema": schema }));
    }
    let mut operation = json!({
        "operationId": handler,
        "summary": purpose,
        "parameters": parameters,
        "responses": { "200": { "description": "Done", "content": answer }, "default": error },
    });
    if let Some(body) = body {
        let content = match *body {
            "" => json!({ "text/plain": { "schema": { "type": "string" } } }),
            name => json!({ "application/json": { "schema": schema(name) } }),
        };
        operation["requestBody"] = json!({ "content": content });
    }
    operation
}

/// A type of the API.
struct Type {
    doc: String,
    fields: Vec<Field>,
    /// Whether it is only ever an answer, all of whose fields are there.
    answer: bool,
}

struct Field {
    name: String,
    doc: String,
    of: String,
    has_default: bool,
    flat: bool,
}

impl Type {
    fn schema(&self) -> Value {
        let mut properties = Map::new();
        let mut flat = Vec::new();
        for field in &self.fields {
            match field.flat {
                true => flat.push(schema(&field.of)),
                false => {
                    let mut of = schema(&field.of);
                    of["description"] = field.doc.clone().into();
                    properties.insert(field.name.clone(), of);
                }
            }
        }
        let needed = |field: &&Field| {
            !field.flat && !field.has_default && (self.answer || !field.of.starts_with("Option<"))
        };
        let required: Vec<&str> =
            self.fields.iter().filter(needed).map(|field| field.name.as_str()).collect();
        let mut own = json!({ "type": "object", "description": self.doc, "properties": properties, "required": required });
        if !flat.is_empty() {
            own["allOf"] = flat.into();
        }
        own
    }
}

/// The public structs of `view` that JSON is made of, by name.
fn types(view: &str) -> BTreeMap<String, Type> {
    let mut types = BTreeMap::new();
    let (mut doc, mut attributes) = (Vec::new(), String::new());
    let mut open: Option<(String, Type)> = None;
    for line in view.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim());
        } else if line.starts_with("#[") {
            attributes.push_str(line);
        } else if let Some(name) = line.strip_prefix("pub struct ").and_then(|line| line.strip_suffix(" {")) {
            let answer = !attributes.contains("deny_unknown_fields");
            open = Some((name.to_owned(), Type { doc: doc.join(" "), fields: Vec::new(), answer }));
            (doc, attributes) = (Vec::new(), String::new());
        } else if let (Some((_, open)), Some(field)) = (&mut open, line.strip_prefix("pub ")) {
            let (name, of) = field.trim_end_matches(',').split_once(": ").unwrap();
            open.fields.push(Field {
                name: name.to_owned(),
                doc: doc.join(" "),
                of: of.to_owned(),
                has_default: attributes.contains("default"),
                flat: attributes.contains("flatten"),
            });
            (doc, attributes) = (Vec::new(), String::new());
        } else {
            types.extend(open.take_if(|_| line == "}"));
            (doc, attributes) = (Vec::new(), String::new());
        }
    }
    types
}

/// A Rust type of `view` as JSON Schema.
fn schema(of: &str) -> Value {
    let inner = |wrapper: &str| of.strip_prefix(wrapper).map(|of| of.strip_suffix('>').unwrap_or(of));
    if let Some(of) = inner("Option<") {
        return json!({ "anyOf": [schema(of), { "type": "null" }] });
    }
    if let Some(of) = inner("Vec<") {
        return json!({ "type": "array", "items": schema(of) });
    }
    match of.trim_end_matches('>') {
        "String" => json!({ "type": "string" }),
        "bool" => json!({ "type": "boolean" }),
        "u32" | "u64" => json!({ "type": "integer", "minimum": 0 }),
        "(String, String)" => {
            json!({ "type": "array", "items": { "type": "string" }, "minItems": 2, "maxItems": 2 })
        }
        name => json!({ "$ref": format!("#/components/schemas/{name}") }),
    }
}

fn source(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
