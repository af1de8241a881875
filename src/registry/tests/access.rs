use super::super::fake::{Access, Act, When, basic};
use super::super::{CredentialFiles, ErrorKind};
use super::{Bench, content, descriptor, login};
use crate::image::media_type::OCI_MANIFEST;

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"layers":[],"config":{}}"#;

fn refusal(challenge: &str) -> Act {
    Act::Answer(401, vec![("WWW-Authenticate", challenge.to_owned())], String::new())
}

async fn resolves(bench: &Bench) -> Result<(), ErrorKind> {
    bench.fake.add_manifest("a/b", "v1", OCI_MANIFEST, MANIFEST);
    bench.client.resolve(&bench.reference("a/b:v1")).await.map(drop).map_err(|error| error.kind())
}

#[tokio::test]
async fn basic_needs_a_login() {
    assert_eq!(resolves(&Bench::logged_in(Access::Basic).await).await, Ok(()));
    let anonymous = Bench::new(Access::Basic).await;
    assert_eq!(resolves(&anonymous).await, Err(ErrorKind::Authentication));
    let error = anonymous.client.resolve(&anonymous.reference("a/b:v1")).await.unwrap_err();
    assert!(error.hint().unwrap().contains(&format!("`docker login {}`", anonymous.fake.address)));
}

#[tokio::test]
async fn wrong_passwords_are_tried_once() {
    let bench = Bench::with(Access::Basic, |config, fake| {
        let text = format!(r#"{{"auths":{{"{}":{{"username":"user","password":"wrong"}}}}}}"#, fake.address);
        config.credentials.docker_auth_config = Some(text);
    });
    let bench = bench.await;
    assert_eq!(resolves(&bench).await, Err(ErrorKind::Authentication));
    assert_eq!(bench.fake.count("GET", "/manifests/"), 1);
}

#[tokio::test]
async fn anonymous_tokens() {
    let bench = Bench::new(Access::Bearer).await;
    assert_eq!(resolves(&bench).await, Ok(()));
    assert_eq!(resolves(&bench).await, Ok(()));
    let tokens = bench.fake.seen("", "/token");
    assert_eq!(tokens.len(), 1, "tokens are kept");
    assert_eq!(tokens[0].path, "/token?service=fake&scope=repository%3Aa%2Fb%3Apull");
    assert_eq!(tokens[0].header("authorization"), None);
    // The probe told the challenge: no request is made in vain.
    assert_eq!(bench.fake.count("GET", "/manifests/"), 2);
}

#[tokio::test]
async fn scopes_follow_the_operation() {
    let bench = Bench::logged_in(Access::Bearer).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blob");
    let bytes = content(1000);
    std::fs::write(&file, &bytes).unwrap();
    bench.fake.add_blob("base/x", &bytes);
    let from = [bench.repository("base/x")];
    bench
        .client
        .push_blob(&bench.repository("a/b"), &descriptor(&bytes), &file, &from, &|_| {})
        .await
        .unwrap();
    let scopes: Vec<String> = bench
        .fake
        .seen("", "/token")
        .iter()
        .map(|seen| seen.path.replace("%3A", ":").replace("%2F", "/").replace("%2C", ","))
        .collect();
    assert_eq!(
        scopes,
        [
            "/token?service=fake&scope=repository:a/b:pull,push",
            "/token?service=fake&scope=repository:a/b:pull,push&scope=repository:base/x:pull",
        ]
    );
    assert!(bench.fake.seen("", "/token").iter().all(|seen| seen.header("authorization") == Some(&basic())));
}

#[tokio::test]
async fn refused_tokens_are_replaced_once() {
    let bench = Bench::new(Access::Bearer).await;
    assert_eq!(resolves(&bench).await, Ok(()));
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"fake\",error=\"invalid_token\"",
        bench.fake.address
    );
    bench.fake.rule("GET", "/manifests/", When::First(1), refusal(&challenge));
    assert_eq!(resolves(&bench).await, Ok(()));
    assert_eq!((bench.fake.count("", "/token"), bench.retries()), (2, 0), "a 401 is no try");
    bench.fake.rule("GET", "/manifests/", When::Always, refusal(&challenge));
    assert_eq!(resolves(&bench).await, Err(ErrorKind::Authentication));
    assert_eq!(bench.fake.count("", "/token"), 3);
}

#[tokio::test]
async fn insufficient_scope_widens() {
    let bench = Bench::logged_in(Access::Bearer).await;
    assert_eq!(resolves(&bench).await, Ok(()));
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"fake\",scope=\"repository:a/b:pull repository:c/d:pull\",error=\"insufficient_scope\"",
        bench.fake.address
    );
    bench.fake.rule("GET", "/manifests/", When::First(1), refusal(&challenge));
    assert_eq!(resolves(&bench).await, Ok(()));
    assert!(bench.fake.seen("", "/token")[1].path.contains("c%2Fd"));
}

#[tokio::test]
async fn identity_tokens() {
    for (rule, requests) in [(None, 1), (Some(404), 2), (Some(405), 2)] {
        let bench = Bench::with(Access::Bearer, |config, fake| {
            let text = format!(
                r#"{{"auths":{{"{}":{{"auth":"dXNlcjo=","identitytoken":"identity"}}}}}}"#,
                fake.address
            );
            config.credentials.docker_auth_config = Some(text);
        });
        let bench = bench.await;
        let body = |status| Act::Answer(status, Vec::new(), String::new());
        if let Some(status) = rule {
            bench.fake.rule("POST", "/token", When::Always, body(status));
            bench.fake.rule(
                "GET",
                "/token",
                When::Always,
                Act::Answer(200, Vec::new(), r#"{"access_token":"MXxyZXBvc2l0b3J5OmEvYjpwdWxs"}"#.into()),
            );
        }
        assert_eq!(resolves(&bench).await, Ok(()));
        let seen = bench.fake.seen("", "/token");
        assert_eq!(seen.len(), requests);
        let form = String::from_utf8(seen[0].body.clone()).unwrap();
        assert!(
            form.starts_with(
                "grant_type=refresh_token&client_id=fanfold&service=fake&scope=repository%3Aa%2Fb%3Apull"
            ),
            "{form}"
        );
    }
}

#[tokio::test]
async fn faults_of_the_token_server() {
    let answer = |status, text: &str| Act::Answer(status, Vec::new(), text.to_owned());
    for (act, times, want) in [
        (answer(500, ""), 2, Ok(())),
        (Act::Reset, 2, Ok(())),
        (Act::Hang, 1, Ok(())),
        (answer(500, ""), 99, Err(ErrorKind::Retryable)),
        (answer(200, ""), 99, Err(ErrorKind::Protocol)),
        (answer(200, "<html>"), 99, Err(ErrorKind::Protocol)),
        (answer(200, "{\"token\":\"\"}"), 99, Err(ErrorKind::Protocol)),
        (answer(200, "{\"token\":\"a\\nb\"}"), 99, Err(ErrorKind::Protocol)),
        (answer(401, ""), 99, Err(ErrorKind::Authentication)),
        (answer(404, ""), 99, Err(ErrorKind::Protocol)),
    ] {
        let bench = Bench::new(Access::Bearer).await;
        bench.fake.rule("", "/token", When::First(times), act);
        assert_eq!(resolves(&bench).await, want);
    }
}

#[tokio::test]
async fn helpers_are_asked_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker-credential-test");
    let script = format!(
        "#!/bin/sh\nread server\necho $server >> {0}/calls\n[ $(wc -l < {0}/calls) = 1 ] && P=stale || P=pass:word\necho \"{{\\\"Username\\\":\\\"user\\\",\\\"Secret\\\":\\\"$P\\\"}}\"\n",
        directory.path().display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let bench = Bench::with(Access::Basic, |config, fake| {
        config.credentials = CredentialFiles {
            docker_auth_config: Some(format!(r#"{{"credHelpers":{{"{}":"test"}}}}"#, fake.address)),
            path: Some(
                std::env::join_paths([directory.path(), "/bin".as_ref(), "/usr/bin".as_ref()]).unwrap(),
            ),
            ..CredentialFiles::default()
        };
    });
    let bench = bench.await;
    assert_eq!(resolves(&bench).await, Ok(()));
    assert_eq!(resolves(&bench).await, Ok(()));
    let calls = std::fs::read_to_string(directory.path().join("calls")).unwrap();
    assert_eq!(calls, format!("{0}\n{0}\n", bench.fake.address));
}

#[tokio::test]
async fn secrets_stay_out_of_errors() {
    let bench = Bench::with(Access::Bearer, |config, fake| {
        config.credentials = login(&fake.address.to_string());
    });
    let bench = bench.await;
    assert_eq!(resolves(&bench).await, Ok(()));
    let token = bench.fake.seen("GET", "/manifests/")[0].header("authorization").unwrap()["Bearer ".len()..]
        .to_owned();
    let text = format!(r#"{{"errors":[{{"code":"DENIED","message":"\u001b[2J {token} is bad"}}]}}"#);
    bench.fake.rule("GET", "/manifests/", When::Always, Act::Answer(403, Vec::new(), text));
    let error = bench.client.resolve(&bench.reference("a/b:v1")).await.unwrap_err();
    let shown = format!("{error} {error:?} {:?}", bench.client);
    assert!(shown.contains("*** is bad"), "{shown}");
    for secret in [token.as_str(), "pass:word", "\u{1b}"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
