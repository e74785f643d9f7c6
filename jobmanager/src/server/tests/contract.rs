//! The document as a contract: which answers it allows, and which operations nobody has asked for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::running::Answered;

pub(super) struct Contract {
    document: Value,
    /// Statuses that were seen, by method and path.
    seen: BTreeMap<(String, String), BTreeSet<u16>>,
}

impl Contract {
    pub(super) fn new(document: Value) -> Self {
        assert_eq!(document["openapi"].as_str().map(|version| &version[..3]), Some("3.1"));
        let this = Self { document, seen: BTreeMap::new() };
        let id = |(method, path): &(String, String)| this.operation(method, path)["operationId"].to_string();
        let operations = this.operations();
        assert_eq!(
            operations.iter().map(id).collect::<BTreeSet<_>>().len(),
            operations.len(),
            "ids are unique"
        );
        this
    }

    /// Methods and paths.
    pub(super) fn operations(&self) -> Vec<(String, String)> {
        let paths = self.document["paths"].as_object().unwrap();
        let all = paths.iter().flat_map(|(path, operations)| {
            operations.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
        });
        all.collect()
    }

    fn operation(&self, method: &str, path: &str) -> &Value {
        &self.document["paths"][path][method.to_lowercase()]
    }

    pub(super) fn is_signed(&self, method: &str, path: &str) -> bool {
        !self.operation(method, path)["security"].is_null()
    }

    /// The path that a target is of: one without parameters, if there are two.
    fn path_of(&self, method: &str, target: &str) -> String {
        let target = target.split('?').next().unwrap_or_default();
        let matches = |path: &str| {
            let (these, those): (Vec<_>, Vec<_>) = (path.split('/').collect(), target.split('/').collect());
            these.len() == those.len()
                && these.iter().zip(&those).all(|(this, that)| this.starts_with('{') || this == that)
        };
        let paths = self.operations().into_iter().filter(|(m, path)| m == method && matches(path));
        let path = paths.map(|(_, path)| path).min_by_key(|path| path.matches('{').count());
        path.unwrap_or_else(|| panic!("{method} {target} is not in the document"))
    }

    /// Compares an answer with the document.
    pub(super) fn hold(&mut self, method: &str, target: &str, answered: &Answered) {
        let path = self.path_of(method, target);
        let Answered { status, body, has_proof } = answered;
        let responses = &self.operation(method, &path)["responses"];
        let response = self.resolved(&responses[status.to_string()]);
        assert!(
            !response.is_null(),
            "{method} {path} has answered {status}, which is not documented: {body}"
        );
        let schema = &response["content"]["application/json"]["schema"];
        assert!(!schema.is_null(), "{method} {path}, {status}: no schema");
        if let Err(error) = self.validator(schema).validate(body) {
            panic!("{method} {path}, {status}: {error}: {body}");
        }
        if *status == 200 {
            assert_eq!(*has_proof, self.is_signed(method, &path), "{method} {path}: its proof");
        }
        self.has_seen(method, &path, *status);
    }

    /// Whether a body is what the document says.
    pub(super) fn takes(&self, method: &str, target: &str, body: &Value) -> bool {
        let path = self.path_of(method, target);
        let schema = &self.operation(method, &path)["requestBody"]["content"]["application/json"]["schema"];
        assert!(!schema.is_null(), "{method} {path}: no schema");
        self.validator(schema).is_valid(body)
    }

    /// What a reference refers to; anything else is what it is.
    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let reference = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        reference.map_or(value, |pointer| self.document.pointer(pointer).unwrap_or(&Value::Null))
    }

    /// A field that the document does not have is not valid.
    fn validator(&self, schema: &Value) -> jsonschema::Validator {
        let mut whole = json!({"allOf": [schema], "components": self.document["components"]});
        if !schema["$ref"].is_null() {
            whole["unevaluatedProperties"] = false.into();
        }
        jsonschema::validator_for(&whole).expect("the document has valid schemas")
    }

    pub(super) fn has_seen(&mut self, method: &str, path: &str, status: u16) {
        self.seen.entry((method.to_owned(), path.to_owned())).or_default().insert(status);
    }

    /// Operations that were not seen to succeed.
    pub(super) fn not_done(&self) -> Vec<String> {
        let is_done = |operation: &(String, String)| {
            self.seen.get(operation).is_some_and(|statuses| statuses.iter().any(|status| *status < 300))
        };
        let missing = self.operations().into_iter().filter(|operation| !is_done(operation));
        missing.map(|(method, path)| format!("{method} {path}")).collect()
    }
}
