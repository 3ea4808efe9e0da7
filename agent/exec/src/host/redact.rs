//! What programs say, without what nobody may read: secrets are replaced before a text leaves the helper,
//! whatever becomes of it then.

use zeroize::Zeroizing;

/// What stands where a secret stood.
const GONE: &str = "[redacted]";
const PEM_BEGIN: &str = "-----BEGIN ";
const PEM_END: &str = "-----END ";
/// Letters of the two parts of a bootstrap token.
const TOKEN: (usize, usize) = (6, 16);
/// Digits of a certificate key, which kubeadm prints like a digest without a name before it.
const CERTIFICATE_KEY: usize = 64;
/// What precedes a digest that is public.
const DIGEST: &str = "sha256:";
/// How each part of a JWT begins, and its shortest one that is worth the name.
const JWT: (&str, usize) = ("eyJ", 8);
/// How a kubeconfig calls what it holds as base64.
const DATA: &str = "-data:";

/// Removes secrets from texts: bootstrap tokens, certificate keys, PEM blocks, JWTs, what a kubeconfig
/// holds, and the values that it was given.
#[derive(Default)]
pub(crate) struct Redactor {
    values: Vec<Zeroizing<String>>,
}

impl Redactor {
    /// One that also removes these values; short ones are left out, since they would be everywhere.
    pub(crate) fn new(values: impl IntoIterator<Item = Zeroizing<String>>) -> Self {
        let mut values: Vec<_> = values.into_iter().filter(|value| value.len() >= JWT.1).collect();
        // A value that contains another one goes as a whole.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { values }
    }

    /// The text without secrets, its control characters escaped but for line ends.
    pub(crate) fn clean(&self, bytes: &[u8]) -> String {
        let mut text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
        for value in &self.values {
            *text = text.replace(value.as_str(), GONE);
        }
        let text = Zeroizing::new(without_pem(&text));
        let mut out = String::new();
        for (at, line) in text.split('\n').enumerate() {
            if at > 0 {
                out.push('\n');
            }
            escape(&words(line), &mut out);
        }
        out
    }
}

/// PEM blocks become one word; one that has no end goes to the end of the text.
fn without_pem(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(begin) = rest.find(PEM_BEGIN) {
        out.push_str(&rest[..begin]);
        out.push_str(GONE);
        let Some(end) = rest[begin..].find(PEM_END).map(|end| begin + end) else { return out };
        // To the end of that line, or of the five dashes that follow the name.
        let after = end + PEM_END.len();
        let stop = rest[after..].find("-----").map_or(rest.len(), |dashes| after + dashes + 5);
        rest = &rest[stop..];
    }
    // What begins before the text does, since it was cut.
    if let Some(end) = rest.find(PEM_END) {
        out.push_str(GONE);
        let after = end + PEM_END.len();
        rest = &rest[rest[after..].find("-----").map_or(rest.len(), |dashes| after + dashes + 5)..];
    }
    out.push_str(rest);
    out
}

/// One line without tokens. A token is found wherever it stands: what surrounds it may be anything.
fn words(line: &str) -> String {
    if let Some(at) = line.find(DATA) {
        let (name, value) = line.split_at(at + DATA.len());
        return if value.trim().is_empty() { name.to_owned() } else { format!("{name} {GONE}") };
    }
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let (mut out, mut rest) = (String::new(), line);
    while let Some(begin) = rest.find(inside) {
        out.push_str(&rest[..begin]);
        let word = &rest[begin..];
        let end = word.find(|c| !inside(c)).unwrap_or(word.len());
        let word = &word[..end];
        let public = out.ends_with(DIGEST);
        out.push_str(if !public && is_secret(word) { GONE } else { word });
        rest = &rest[begin + end..];
    }
    out.push_str(rest);
    out
}

fn is_secret(word: &str) -> bool {
    has_token(word) || has_jwt(word) || has_certificate_key(word)
}

fn has_token(word: &str) -> bool {
    let low = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = word.as_bytes();
    (0..bytes.len()).filter(|at| bytes[*at] == b'.').any(|at| {
        let before = bytes[..at].iter().rev().take_while(|c| low(c)).count();
        let after = bytes[at + 1..].iter().take_while(|c| low(c)).count();
        before >= TOKEN.0 && after >= TOKEN.1
    })
}

fn has_jwt(word: &str) -> bool {
    word.find(JWT.0).is_some_and(|at| {
        let parts: Vec<&str> = word[at..].split('.').collect();
        parts.len() >= 3 && parts[..3].iter().all(|part| part.len() >= JWT.1)
    })
}

fn has_certificate_key(word: &str) -> bool {
    word.split(|c: char| !c.is_ascii_hexdigit()).any(|run| run.len() >= CERTIFICATE_KEY)
}

fn escape(line: &str, out: &mut String) {
    for c in line.chars() {
        match c {
            '\t' => out.push(c),
            c if c.is_control() => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_come_through() {
        let hex = "0123456789abcdef".repeat(4);
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLW9mLWl0";
        let pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nAbCd\n-----END RSA PRIVATE KEY-----";
        let told = Redactor::new(["longer-than-short-4711", "short-4711", "x"].map(|v| v.to_owned().into()));
        let table: [(&str, String, &str); 14] = [
            ("token", "join --token abcdef.0123456789abcdef --x".into(), "join --token [redacted] --x"),
            (
                "token in colours",
                "\u{1b}[1mabcdef.0123456789abcdef\u{1b}[0m".into(),
                "\\u{1b}[[redacted]\\u{1b}[0m",
            ),
            ("token with a neighbour", "x=abcdef.0123456789abcdef/".into(), "x=[redacted]/"),
            ("key", format!("--certificate-key {hex}\n"), "--certificate-key [redacted]\n"),
            ("digest", format!("hash sha256:{hex}."), &format!("hash sha256:{hex}.")),
            ("jwt", format!("Bearer {jwt}"), "Bearer [redacted]"),
            ("pem", format!("a {pem} b\n"), "a [redacted] b\n"),
            ("pem without an end", format!("a {}", &pem[..50]), "a [redacted]"),
            ("pem without a beginning", format!("{} b", &pem[40..]), "[redacted] b"),
            ("kubeconfig", "    client-key-data: LS0tLS1CRUdJTg==".into(), "    client-key-data: [redacted]"),
            ("value", "is longer-than-short-4711, short-4711, x".into(), "is [redacted], [redacted], x"),
            (
                "names",
                "k8s.gcr.io/kube-apiserver:v1.20.2 10.96.0.1 node-1.example".into(),
                "k8s.gcr.io/kube-apiserver:v1.20.2 10.96.0.1 node-1.example",
            ),
            ("controls", "a\tb\r\u{7}".into(), "a\tb\\u{d}\\u{7}"),
            ("bytes", "ok".into(), "ok"),
        ];
        for (what, said, shown) in table {
            assert_eq!(told.clean(said.as_bytes()), shown, "{what}");
        }
        assert_eq!(told.clean(b"\xffok"), "\u{fffd}ok");
    }
}
