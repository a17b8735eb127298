//! Which names have secret values.

/// What makes a name secret wherever it stands in it: `SECRETKEY`, `ngrok_authtoken`, `dbPassword`.
const STEMS: [&str; 32] = [
    "accesskey",
    "auth",
    "bearer",
    "clientkey",
    "connectionstring",
    "connstr",
    "cookie",
    "cred",
    "encryptionkey",
    "jwt",
    "key",
    "kubeconfig",
    "mnemonic",
    "otp",
    "pass",
    "pfx",
    "privatekey",
    "psk",
    "pwd",
    "recoverycode",
    "requirepass",
    "sastoken",
    "secret",
    "seedphrase",
    "signature",
    "signing",
    "token",
    "totp",
    "unlock",
    "vault",
    "verifier",
    "webhook",
];
/// What makes a name secret as one of its words.
const WORDS: [&str; 20] = [
    "assertion",
    "code2fa",
    "dsn",
    "hmac",
    "mfa",
    "nonce",
    "pat",
    "pem",
    "pepper",
    "pin",
    "pincode",
    "pkcs12",
    "pw",
    "salt",
    "seed",
    "sid",
    "sig",
    "passphrase",
    "p12",
    "jwk",
];
/// What makes a name secret at the end of one of its words.
const ENDS: [&str; 4] = ["pass", "passwd", "pw", "pwd"];
/// Words that have one of the stems and say nothing of a secret.
const HARMLESS: [&str; 49] = [
    "accredited",
    "authenticated",
    "author",
    "authored",
    "authority",
    "authorities",
    "authorized",
    "authors",
    "bypass",
    "bypassed",
    "capslock",
    "compass",
    "compassion",
    "credible",
    "credit",
    "credits",
    "hotkey",
    "hotkeys",
    "incredible",
    "keyboard",
    "keychain",
    "keyed",
    "keyframe",
    "keynote",
    "keypress",
    "keystroke",
    "keystrokes",
    "keyword",
    "keywords",
    "monkey",
    "monkeys",
    "option",
    "options",
    "optional",
    "passed",
    "passenger",
    "passes",
    "passing",
    "passive",
    "sacred",
    "secretary",
    "stopthe",
    "tokenize",
    "tokenized",
    "tokenizer",
    "turkey",
    "unauthenticated",
    "unauthorized",
    "unlocked",
];
/// Last words of names that say where a secret is, or of what kind, and not what it is.
const ABOUT: [&str; 42] = [
    "age",
    "alg",
    "algorithm",
    "at",
    "class",
    "count",
    "dir",
    "directory",
    "enabled",
    "endpoint",
    "env",
    "expires",
    "expiry",
    "file",
    "files",
    "format",
    "host",
    "id",
    "ids",
    "kind",
    "length",
    "limit",
    "max",
    "method",
    "min",
    "mode",
    "name",
    "names",
    "path",
    "paths",
    "port",
    "required",
    "size",
    "status",
    "stdin",
    "timeout",
    "ttl",
    "type",
    "uri",
    "url",
    "user",
    "version",
];
/// Names whose values are a whole line: they hold `; ` and `, name=` of their own.
const LINES: [&str; 3] = ["authorization", "cookie", "cookies"];
/// Parameters of URLs that give access, and say nothing elsewhere.
const PARAMETERS: [&str; 8] = ["code", "policy", "ticket", "t", "k", "s", "hash", "state"];

/// Whether a value of this name is secret: `ANTHROPIC_API_KEY`, `access.token`, `authToken`.
pub fn is_secret_name(name: &str) -> bool {
    let mut parts = parts(name);
    if parts.last().is_some_and(|last| ABOUT.contains(&last.as_str())) {
        return false;
    }
    parts.retain(|p| !HARMLESS.contains(&p.as_str()));
    let joined = parts.concat();
    STEMS.iter().any(|stem| joined.contains(stem))
        || parts.iter().any(|p| WORDS.contains(&p.as_str()) || ENDS.iter().any(|end| p.ends_with(end)))
}

/// Whether a parameter of this name in a URL gives access.
pub fn is_secret_parameter(name: &str) -> bool {
    PARAMETERS.contains(&name.to_ascii_lowercase().as_str()) || is_secret_name(name)
}

/// Whether the value of this name is the rest of the line.
pub fn is_of_whole_line(name: &str) -> bool {
    parts(name).iter().any(|p| LINES.contains(&p.as_str()))
}

/// Whether this name counts things: `max_tokens`, `keys`.
pub fn is_count(name: &str) -> bool {
    parts(name).iter().any(|p| matches!(p.as_str(), "tokens" | "keys" | "cookies" | "passes" | "webhooks"))
}

/// The words in a name, in lower case.
pub fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut before_is_lower = false;
    for c in name.chars() {
        let is_break = !c.is_ascii_alphanumeric();
        if (is_break || (c.is_ascii_uppercase() && before_is_lower)) && parts.last().is_some_and(|p| !p.is_empty()) {
            parts.push(String::new());
        }
        if !is_break && let Some(part) = parts.last_mut() {
            part.push(c.to_ascii_lowercase());
        }
        before_is_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
    }
    parts.retain(|p| !p.is_empty());
    parts
}
