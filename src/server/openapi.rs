//! The description of everything that answers over HTTP, in OpenAPI 3.1: `docs/openapi.json`, served as `GET /openapi.json`.

use axum::http::HeaderMap;
use axum::response::Response;

use super::answer::carried;

/// The file.
pub const DOCUMENT: &str = include_str!("../../docs/openapi.json");

/// `GET /openapi.json`.
pub async fn document(request: HeaderMap) -> Response {
    carried(&request, "application/json; charset=utf-8", DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;
    use crate::server::access::Right;
    use crate::server::routes::{self, Verb};

    const METHODS: [&str; 8] = ["get", "head", "delete", "options", "patch", "post", "put", "trace"];

    /// The table and the document have the same routes, with the same words, and the same ones need no token.
    #[test]
    fn every_route_is_described_and_nothing_else() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
        let mut described = BTreeMap::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap().iter().filter(|(m, _)| METHODS.contains(&m.as_str())) {
                let is_open = operation["security"] == serde_json::json!([]);
                described.insert((path.clone(), method.clone()), (operation["summary"].as_str().unwrap(), is_open));
            }
        }
        let mut there = BTreeMap::new();
        let table = routes::every_route();
        for route in &table {
            let path = route.path.replace("{*", "{");
            let methods: &[&str] = match route.verb {
                Verb::Get => &["get"],
                Verb::Post => &["post"],
                // It answers every method, most of them with a refusal.
                Verb::Any => &["get", "post"],
            };
            for method in methods {
                let about = described.get(&(path.clone(), (*method).to_owned())).map_or("", |(about, _)| about);
                let about = if route.verb == Verb::Any { about } else { route.about };
                there.insert((path.clone(), (*method).to_owned()), (about, route.right == Right::Open));
            }
        }
        assert!(there.len() > 40, "{there:#?}");
        assert_eq!(described, there);
    }

    /// Every code that the source can answer with is named, and none that it cannot.
    #[test]
    fn every_refusal_is_described_under_its_code() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let codes = document["components"]["schemas"]["Refusal"]["properties"]["code"]["enum"].as_array().unwrap();
        let known: BTreeSet<&str> = codes.iter().filter_map(Value::as_str).collect();
        let mut said = BTreeSet::new();
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for entry in ["src", "crates"].iter().flat_map(|dir| walk(&root.join(dir))) {
            let text = std::fs::read_to_string(entry).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for rest in code.split("Refusal::new(").skip(1) {
                let call = &rest[..rest.len().min(160)];
                let named = call.split('"').nth(1).filter(|_| call.trim_start().starts_with("StatusCode::"));
                said.extend(named.filter(|name| is_code(name)).map(str::to_owned));
            }
        }
        let missing: Vec<&String> = said.iter().filter(|code| !known.contains(code.as_str())).collect();
        assert!(said.len() > 10 && missing.is_empty(), "not described: {missing:?}");
    }

    fn is_code(text: &str) -> bool {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_')
    }

    fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
        entries
            .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] })
            .filter(|path| path.extension().is_some_and(|e| e == "rs"))
            .collect()
    }
}
