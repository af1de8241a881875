//! A real `docker-registry` on a free port, with a configuration and data of
//! its own. It ends with the guard, and also when the test program is killed.

mod token;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::image::{Blobs, Index};
use super::run::tool;
use token::{TokenRequest, TokenServer};

/// How a registry is to be set up.
#[derive(Debug, Default, Clone)]
pub(crate) struct RegistryOptions {
    credentials: Option<(String, String)>,
    tokens: bool,
    tls: bool,
}

impl RegistryOptions {
    /// Only this user with this password may come in (Basic).
    pub(crate) fn credentials(mut self, user: &str, password: &str) -> Self {
        self.credentials = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Credentials are shown to a token server, and its tokens to the registry (Bearer). Without
    /// credentials tokens are good for pulls below `public/`.
    pub(crate) fn tokens(mut self) -> Self {
        self.tokens = true;
        self
    }

    /// HTTPS, with a certificate of an authority that is the registry's own:
    /// [`Registry::authority`].
    pub(crate) fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Starts it.
    pub(crate) fn start(self) -> Registry {
        Registry::launch(&self)
    }
}

/// A running registry.
#[derive(Debug)]
pub(crate) struct Registry {
    dir: PathBuf,
    port: u16,
    child: Child,
    token_server: Option<TokenServer>,
    /// The registry's shell waits for the end of this pipe.
    lifeline: Option<ChildStdin>,
}

impl Registry {
    /// A registry without credentials, on HTTP.
    pub(crate) fn start() -> Self {
        RegistryOptions::default().start()
    }

    fn launch(options: &RegistryOptions) -> Self {
        for attempt in 0.. {
            // Each attempt has a folder of its own, since its shell removes it.
            let dir =
                tempfile::Builder::new().prefix("fanfold-registry-").tempdir().expect("a folder").keep();
            let token_server = options.credentials.as_ref().filter(|_| options.tokens);
            let token_server = token_server.map(|(user, password)| TokenServer::start(&dir, user, password));
            // Another test may take the port between the look and the start.
            let port = free_port();
            write_config(&dir, port, options, token_server.as_ref());
            let mut child = Command::new("sh")
                .args(["-c", SUPERVISOR, "registry"])
                .arg(&dir)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(dir.join("log")).expect("a log"))
                .spawn()
                .expect("sh");
            let lifeline = child.stdin.take();
            if ready(port, &mut child, options.tls) {
                return Self { dir, port, child, token_server, lifeline };
            }
            let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
            drop(lifeline);
            let _ = child.wait();
            assert!(attempt < 5, "docker-registry did not start (package docker-registry):\n{log}");
        }
        unreachable!("the loop returns or panics")
    }

    /// `localhost:PORT`.
    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The port on the loopback interface.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `localhost:PORT/NAME`.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.host())
    }

    /// The certificate of the authority, PEM.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// What the token server was asked for.
    pub(crate) fn token_requests(&self) -> Vec<TokenRequest> {
        self.token_server.as_ref().map(TokenServer::requests).unwrap_or_default()
    }

    /// The digest that a tag points at.
    pub(crate) fn tag(&self, name: &str, tag: &str) -> Option<String> {
        let link = self.repository(name).join(format!("_manifests/tags/{tag}/current/link"));
        std::fs::read_to_string(link).ok().map(|digest| digest.trim().to_owned())
    }

    /// Digests of all manifests of a repository.
    pub(crate) fn manifests(&self, name: &str) -> Vec<String> {
        let folder = self.repository(name).join("_manifests/revisions/sha256");
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        entries.flatten().map(|entry| format!("sha256:{}", entry.file_name().to_string_lossy())).collect()
    }

    /// The file that holds a blob.
    pub(crate) fn blob_path(&self, digest: &str) -> PathBuf {
        self.blobs().path(digest)
    }

    /// Reads and checks what a tag points at.
    #[track_caller]
    pub(crate) fn index(&self, name: &str, tag: &str) -> Index {
        let digest = self.tag(name, tag).unwrap_or_else(|| panic!("{name} has no tag {tag}"));
        Index::read(&self.blobs(), &digest)
    }

    fn blobs(&self) -> Blobs {
        Blobs::Registry(self.dir.join("data/docker/registry/v2/blobs"))
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.dir.join("data/docker/registry/v2/repositories").join(name)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.child.wait();
    }
}

/// Serves until the test program closes the pipe, by intention or by dying.
const SUPERVISOR: &str = r#"
docker-registry serve "$1/config.yml" &
registry=$!
cat >/dev/null
kill "$registry" 2>/dev/null
wait "$registry" 2>/dev/null
rm -rf "$1"
"#;

/// A port that nobody listens on, below those that the kernel gives to whoever asks for any.
pub(super) fn free_port() -> u16 {
    loop {
        let port = 10_000 + (RandomState::new().build_hasher().finish() % 20_000) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Waits until the registry answers. False if it has ended, or if it is not
/// ours that listens there.
fn ready(port: u16, child: &mut Child, tls: bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(15);
    while Instant::now() < deadline {
        if child.try_wait().expect("wait").is_some() {
            return false;
        }
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            if tls {
                return true;
            }
            let _ = stream.write_all(b"GET /v2/ HTTP/1.0\r\nHost: localhost\r\n\r\n");
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            return answer.to_ascii_lowercase().contains("docker-distribution-api-version");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn write_config(dir: &Path, port: u16, options: &RegistryOptions, tokens: Option<&TokenServer>) {
    let shown = dir.display();
    let mut config = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  \
         filesystem: {{rootdirectory: {shown}/data}}\n  delete: {{enabled: true}}\n"
    );
    if let Some(server) = tokens {
        config.push_str(&format!(
            "auth:\n  token: {{realm: \"{}\", service: {}, issuer: {}, rootcertbundle: {}}}\n",
            server.realm(),
            token::SERVICE,
            token::ISSUER,
            token::certificate(dir).display()
        ));
    } else if let Some((user, password)) = &options.credentials {
        let file = tool("htpasswd", ["-Bbn", user, password]).success().stdout;
        std::fs::write(dir.join("htpasswd"), file).expect("write");
        config.push_str(&format!("auth:\n  htpasswd: {{realm: tests, path: {shown}/htpasswd}}\n"));
    }
    config.push_str(&format!("http:\n  addr: 127.0.0.1:{port}\n"));
    if options.tls {
        make_certificates(dir);
        config.push_str(&format!("  tls: {{certificate: {shown}/server.pem, key: {shown}/server.key}}\n"));
    }
    std::fs::write(dir.join("config.yml"), config).expect("write");
}

/// An authority, and a certificate of it for localhost.
pub(super) fn make_certificates(dir: &Path) {
    let run = |args: &str| {
        let args = args.replace("DIR", dir.to_str().expect("UTF-8"));
        tool("openssl", args.split(' ')).success();
    };
    std::fs::write(
        dir.join("server.ext"),
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n",
    )
    .expect("write");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    run(&format!("req -x509 {key} -days 30 -subj /CN=fanfold-tests -keyout DIR/ca.key -out DIR/ca.pem"));
    run(&format!("req -new {key} -subj /CN=localhost -keyout DIR/server.key -out DIR/server.csr"));
    run("x509 -req -days 30 -in DIR/server.csr -CA DIR/ca.pem -CAkey DIR/ca.key -CAcreateserial \
         -extfile DIR/server.ext -out DIR/server.pem");
}
