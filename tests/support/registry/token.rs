//! A token server: signs what a registry with `auth: token` believes.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::super::run::tool;

/// Name of the registry, as tokens are made out to it.
pub(super) const SERVICE: &str = "fanfold tests";
/// Name of the token server, as tokens are signed by it.
pub(super) const ISSUER: &str = "fanfold-tests-tokens";

/// One request for a token.
#[derive(Debug, Clone)]
pub(crate) struct TokenRequest {
    /// Who asked; `None` for nobody in particular.
    pub(crate) user: Option<String>,
    /// Scopes, in the order of the request.
    pub(crate) scopes: Vec<String>,
    /// HTTP status of the answer.
    pub(crate) status: u16,
}

/// A running token server. It serves until the test program ends.
#[derive(Debug)]
pub(super) struct TokenServer {
    port: u16,
    requests: Arc<Mutex<Vec<TokenRequest>>>,
}

struct Authority {
    dir: PathBuf,
    authorization: String,
    user: String,
}

impl TokenServer {
    /// Knows one user, who may do anything; nobody in particular may pull below `public/`. Keys are
    /// kept in `dir`.
    pub(super) fn start(dir: &Path, user: &str, password: &str) -> Self {
        make_key(dir);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let authority = Authority {
            dir: dir.to_owned(),
            authorization: format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))),
            user: user.to_owned(),
        };
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Whoever hangs up early gets no token.
                let _ = authority.serve(client, &seen);
            }
        });
        Self { port, requests }
    }

    /// Where tokens are to be had.
    pub(super) fn realm(&self) -> String {
        format!("http://localhost:{}/token", self.port)
    }

    /// All requests so far.
    pub(super) fn requests(&self) -> Vec<TokenRequest> {
        self.requests.lock().expect("no panic").clone()
    }
}

/// The certificate that tokens are signed with, PEM.
pub(super) fn certificate(dir: &Path) -> PathBuf {
    dir.join("token.pem")
}

fn make_key(dir: &Path) {
    let args = "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=fanfold-tests-tokens -keyout";
    let key = dir.join("token.key");
    let paths = [key.as_os_str(), "-out".as_ref(), certificate(dir).as_os_str()].map(ToOwned::to_owned);
    tool("openssl", args.split(' ').map(Into::into).chain(paths)).success();
}

impl Authority {
    fn serve(&self, client: TcpStream, requests: &Mutex<Vec<TokenRequest>>) -> Option<()> {
        let mut lines = BufReader::new(client.try_clone().ok()?).lines();
        let line = lines.next()?.ok()?;
        let headers: Vec<String> =
            lines.map_while(Result::ok).take_while(|header| !header.is_empty()).collect();
        let given = headers
            .iter()
            .filter_map(|header| header.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("authorization"))
            .map(|(_, value)| value);
        let url = format!("http://localhost{}", line.split(' ').nth(1)?).parse::<reqwest::Url>().ok()?;
        let query = |name: &'static str| url.query_pairs().filter(move |(key, _)| key == name);
        let scopes: Vec<String> = query("scope").map(|(_, value)| value.into_owned()).collect();
        let known = given.is_none_or(|given| given == self.authorization);
        let asked = line.starts_with("GET ") && query("service").any(|(_, value)| value == SERVICE);
        let (status, body) = match (asked, known) {
            (false, _) => (404, json!({"details": "no such thing"})),
            (true, false) => (401, json!({"details": "incorrect username or password"})),
            (true, true) => (200, json!({"token": self.token(given.is_some(), &scopes), "expires_in": 60})),
        };
        let user = given.map(|_| self.user.clone());
        requests.lock().expect("no panic").push(TokenRequest { user, scopes, status });
        let body = body.to_string();
        write!(
            &client,
            "HTTP/1.1 {status} Token\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        )
        .ok()
    }

    /// A token for those of `scopes` that are granted.
    fn token(&self, user: bool, scopes: &[String]) -> String {
        let access: Vec<Value> = scopes
            .iter()
            .filter_map(|scope| {
                let (kind, rest) = scope.split_once(':')?;
                let (name, actions) = rest.rsplit_once(':')?;
                let granted = |action: &&str| user || (*action == "pull" && name.starts_with("public/"));
                let actions: Vec<&str> = actions.split(',').filter(granted).collect();
                Some(json!({"type": kind, "name": name, "actions": actions}))
            })
            .collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let claims = json!({
            "iss": ISSUER, "sub": if user { &self.user } else { "" }, "aud": SERVICE, "access": access,
            "nbf": now - 10, "iat": now, "exp": now + 60, "jti": format!("{now}"),
        });
        let pem = std::fs::read_to_string(certificate(&self.dir)).expect("the certificate");
        let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [der]});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.sign(&signed)))
    }

    /// Only one token is made at a time.
    fn sign(&self, text: &str) -> Vec<u8> {
        let path = |name: &str| self.dir.join(name).display().to_string();
        std::fs::write(path("token.text"), text).expect("write");
        let (key, out, text) = (path("token.key"), path("token.signature"), path("token.text"));
        tool("openssl", ["dgst", "-sha256", "-sign", &key, "-out", &out, &text]).success();
        std::fs::read(out).expect("a signature")
    }
}
