//! The description of everything that answers over HTTP, in OpenAPI 3.1: `docs/openapi.json`, served as `GET /openapi.json`.

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;

use super::answer::carried;
use super::routes::App;

/// The file.
pub const DOCUMENT: &str = include_str!("../../docs/openapi.json");

/// The route.
pub fn router() -> Router<Arc<App>> {
    Router::new().route("/openapi.json", get(document))
}

async fn document(request: HeaderMap) -> Response {
    carried(&request, "application/json; charset=utf-8", DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;
    use crate::server::dashboard::{Dashboard, Make};
    use crate::server::routes;

    const METHODS: [&str; 8] = ["get", "head", "delete", "options", "patch", "post", "put", "trace"];

    type Surface = BTreeMap<String, BTreeSet<String>>;

    /// What the router itself says of its routes: axum has no other way to ask it.
    fn routes(router: &Router<Arc<App>>) -> Surface {
        let told = format!("{router:?}");
        let (handlers, paths) = told.split_once("paths: {").expect("axum tells its paths");
        let entry = |text: &'_ str| {
            let (id, rest) = text.split_once("): ").expect("an id and what it stands for");
            (id.to_owned(), rest.to_owned())
        };
        let handlers: BTreeMap<String, String> = handlers.split("RouteId(").skip(1).map(entry).collect();
        let mut surface = Surface::new();
        for (id, rest) in paths.split("RouteId(").skip(1).map(entry) {
            let Some(path) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) else { continue };
            if path.contains("__private") {
                // The fallback.
                continue;
            }
            let of = &handlers[&id];
            let answers = |method: &str| !of.contains(&format!("{method}: None"));
            let methods = METHODS.into_iter().filter(|m| answers(m)).map(str::to_owned).collect();
            surface.insert(path.replace("{*", "{"), methods);
        }
        surface
    }

    fn surface() -> Surface {
        let folder = std::path::PathBuf::from("/nonexistent");
        let theirs = |make| Arc::new(Dashboard { make, page: folder.clone(), statics: Some(folder.clone()) });
        let (built, templates) = (theirs(Make::Built), theirs(Make::Templates));
        let mut all = Surface::new();
        for dashboard in [None, Some(&built), Some(&templates)] {
            all.extend(routes(&routes::table(dashboard, 1)));
        }
        all
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
        let mut described = Surface::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let methods = item.as_object().unwrap().keys().filter(|k| METHODS.contains(&k.as_str()));
            described.insert(path.clone(), methods.cloned().collect());
        }
        let mut there = surface();
        assert!(there.len() > 25, "does axum tell its routes otherwise now? {there:#?}");
        // It answers every method, most of them with a refusal.
        let any = there.get_mut("/socket.io/").expect("Socket.IO's door");
        assert_eq!(any.len(), 0, "{any:?}");
        any.extend(["get".to_owned(), "post".to_owned()]);
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
