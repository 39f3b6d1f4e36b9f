//! Who is told a password or a token, and when it is asked for again.

use std::sync::atomic::{AtomicUsize, Ordering};

use ampoule_image::registry::{Registry, RegistrySettings, pull, push};
use ampoule_image::{Digest, ImageError};
use ampoule_loopback::{Answer, Server};
use ampoule_net::{Client, ClientConfig};

use crate::servers::{
    Answers, MANIFEST, client, config, host, image, layer, manifest, never, plain, reference, registry,
    serving, taking_mounts, write_config,
};
use crate::support::cache;

#[test]
fn tokens_are_fetched_from_the_realm_and_sent_to_the_registry() {
    let token_server = Server::start(|asked| {
        let good = asked.header("authorization") == Some("Basic am9lOnNlY3JldA==")
            && asked.path.contains("scope=repository%3Aa%2Fb%3Apull%2Cpush")
            && asked.path.contains("service=reg");
        if good { Answer::ok(r#"{"token":"t0ken"}"#) } else { Answer::status(401) }
    });
    let realm = token_server.url("/token");
    let server = Server::start(move |asked| {
        if asked.header("authorization") != Some("Bearer t0ken") {
            let ask = format!(r#"Bearer realm="{realm}",service="reg",scope="repository:a/b:pull,push""#);
            return Answer::status(401).header("WWW-Authenticate", &ask);
        }
        Answer::status(404)
    });
    let dir = tempfile::tempdir().unwrap();
    let settings = write_config(dir.path(), &host(&server), "am9lOnNlY3JldA==");
    let registry = registry(&reference(&server), settings);
    let (_dir, cache) = cache();
    let error = pull(&registry, &cache, None).err().expect("there is no such image");
    assert!(error.to_string().contains("404"), "{error}");
    assert!(!error.to_string().contains("secret") && !error.to_string().contains("t0ken"));
}

/// A token that runs out between the manifest and a layer is renewed.
#[test]
fn a_token_that_runs_out_is_renewed() {
    let given = std::sync::Arc::new(AtomicUsize::new(0));
    let count = given.clone();
    let tokens = Server::start(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        Answer::ok(format!(r#"{{"token":"t{number}"}}"#))
    });
    let realm = tokens.url("/token");
    let config = config();
    let document = manifest(&config, &layer(Digest::of(b"layer"), 5));
    let whole = serving(document, MANIFEST, vec![config, b"layer".to_vec()]);
    let of_layer = Digest::of(b"layer").to_hex();
    let server = Server::start(move |asked| {
        // The second token is the first that layers take.
        let wanted = if asked.path.contains(&of_layer) { "Bearer t1" } else { "Bearer t" };
        if asked.header("authorization").is_some_and(|token| token.starts_with(wanted)) {
            return whole(asked);
        }
        Answer::status(401).header("WWW-Authenticate", format!(r#"Bearer realm="{realm}",service="s""#))
    });
    let (_dir, cache) = cache();
    let registry = plain(&reference(&server));
    pull(&registry, &cache, None).unwrap();
    assert_eq!(given.load(Ordering::Relaxed), 2);
}

/// A token that runs out while blobs go up is renewed, and the bytes are sent again.
#[test]
fn a_token_that_runs_out_in_a_push_is_renewed() {
    let given = std::sync::Arc::new(AtomicUsize::new(0));
    let count = given.clone();
    let tokens = Server::start(move |_| {
        Answer::ok(format!(
            r#"{{"access_token":"t{}","expires_in":60}}"#,
            count.fetch_add(1, Ordering::Relaxed)
        ))
    });
    let realm = tokens.url("/token");
    let server = taking_mounts(move |asked| {
        let token = asked.header("authorization").unwrap_or_default();
        // The first token is good until the first body comes.
        let good = token.starts_with("Bearer t") && (asked.method != "PUT" || token != "Bearer t0");
        let ask = format!(r#"Bearer realm="{realm}",service="s",scope="repository:a/b:pull,push""#);
        (!good).then(|| Answer::status(401).header("WWW-Authenticate", ask))
    });
    let (_dir, cache) = cache();
    let image = image(&cache);
    let settings =
        RegistrySettings { parallel: std::num::NonZeroUsize::new(1), ..RegistrySettings::default() };
    let name = reference(&server);
    let report = push(&registry(&name, settings), &image, &cache, &never).unwrap();
    assert_eq!(given.load(Ordering::Relaxed), 2);
    let asked = server.asked();
    let bodies: Vec<usize> = asked
        .iter()
        .filter(|asked| asked.method == "PUT" && asked.header("authorization") == Some("Bearer t1"))
        .map(|asked| asked.body.len())
        .collect();
    assert_eq!(bodies.len(), report.blobs.len() + 1, "every blob and the manifest: {bodies:?}");
    assert!(bodies.iter().all(|&len| len > 0));
}

#[test]
fn case_104_no_credentials_for_a_redirects_other_host() {
    let other = Server::start(|_| Answer::ok("layer"));
    let elsewhere = other.url("/blob");
    let config = config();
    let document = manifest(&config, &layer(Digest::of(b"layer"), 5));
    let server = Server::start(move |asked| {
        if asked.header("authorization").is_none() {
            return Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
        }
        if asked.path.contains(&Digest::of(b"layer").to_hex()) {
            return Answer::status(307).header("Location", &elsewhere);
        }
        serving(document.clone(), MANIFEST, vec![config.clone()])(asked)
    });
    let dir = tempfile::tempdir().unwrap();
    let settings = write_config(dir.path(), &host(&server), "am9lOnNlY3JldA==");
    let (_dir, cache) = cache();
    pull(&registry(&reference(&server), settings), &cache, None).unwrap();
    let asked = other.asked();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].header("authorization").is_none(), "credentials went to another host");
}

#[test]
fn who_never_lets_us_in_is_not_asked_forever() {
    let tokens = Server::start(|_| Answer::ok(r#"{"token":"t"}"#));
    let realm = tokens.url("/token");
    let server = Server::start(move |_| {
        Answer::status(401).header("WWW-Authenticate", format!(r#"Bearer realm="{realm}",service="s""#))
    });
    let (_dir, cache) = cache();
    let registry = plain(&reference(&server));
    let error = pull(&registry, &cache, None).err().unwrap().to_string();
    assert!(error.contains("does not take our credentials"), "{error}");
    assert!(server.asked().len() <= 4 && tokens.asked().len() <= 2);

    // A token server that asks for a token, that answers nonsense, and that sends in a circle.
    let answers: [(&str, Answers); 3] = [
        ("token server does not take", || Answer::status(401)),
        ("has no token", || Answer::ok("<html>")),
        ("redirect", || Answer::redirect(302, "/token")),
    ];
    for (words, answer) in answers {
        let tokens = Server::start(move |_| answer());
        let realm = tokens.url("/token");
        let server = Server::start(move |_| {
            Answer::status(401).header("WWW-Authenticate", format!(r#"Bearer realm="{realm}""#))
        });
        let registry = plain(&reference(&server));
        let error = pull(&registry, &cache, None).err().unwrap().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn passwords_go_to_no_server_without_tls_and_to_no_other_scheme() {
    let dir = tempfile::tempdir().unwrap();
    for realm in [
        "ftp://127.0.0.1/token",
        "file:///etc/passwd",
        "http://192.0.2.1/token",
        "javascript:x",
        "/token",
        "",
    ] {
        let server = Server::start(move |_| {
            Answer::status(401).header("WWW-Authenticate", format!(r#"Bearer realm="{realm}",service="s""#))
        });
        for settings in
            [RegistrySettings::default(), write_config(dir.path(), &host(&server), "am9lOnNlY3JldA==")]
        {
            let (_dir, cache) = cache();
            let registry = registry(&reference(&server), settings);
            let error = pull(&registry, &cache, None).err().unwrap().to_string();
            let told = ["without TLS", "is reached by", "token server", "asks who we are"];
            assert!(told.iter().any(|words| error.contains(words)), "{realm}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
    // A registry with TLS that names a token server without.
    let tokens = Server::start(|_| Answer::ok(r#"{"token":"t"}"#));
    let realm = tokens.url("/token");
    let (server, pem) = Server::start_tls(move |_| {
        Answer::status(401).header("WWW-Authenticate", format!(r#"Bearer realm="{realm}""#))
    });
    let client =
        Client::new(ClientConfig { extra_roots_pem: vec![pem.into_bytes()], ..ClientConfig::default() });
    let name = server.url("").trim_start_matches("https://").trim_end_matches('/').to_owned();
    let settings = write_config(dir.path(), &name, "am9lOnNlY3JldA==");
    let (_dir, cache) = cache();
    let registry = Registry::new(client, settings, format!("{name}/a/b:x").parse().unwrap()).unwrap();
    let error = pull(&registry, &cache, None).err().unwrap().to_string();
    assert!(error.contains("without TLS"), "{error}");
    assert!(tokens.asked().is_empty());
}

/// A refresh token is the body of a request, which a redirect would take along.
#[test]
fn an_identity_token_follows_no_redirect() {
    let other = Server::start(|_| Answer::ok(r#"{"token":"t"}"#));
    let elsewhere = other.url("/token");
    let tokens = Server::start(move |_| Answer::redirect(307, &elsewhere));
    let realm = tokens.url("/token");
    let server = Server::start(move |_| {
        Answer::status(401).header("WWW-Authenticate", format!(r#"Bearer realm="{realm}",service="s""#))
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    std::fs::write(&path, format!(r#"{{"auths":{{"{}":{{"identitytoken":"s3cret"}}}}}}"#, host(&server)))
        .unwrap();
    let mut settings = RegistrySettings::default();
    settings.credentials.files = vec![path];
    let (_dir, cache) = cache();
    let registry = registry(&reference(&server), settings);
    let error = pull(&registry, &cache, None).err().unwrap().to_string();
    assert!(!error.contains("s3cret"), "{error}");
    assert_eq!(tokens.asked()[0].method, "POST");
    assert!(other.asked().is_empty(), "the token went to another host");
}

#[test]
fn http_is_for_loopback_and_for_named_hosts_only() {
    // 192.0.2.1 is for documents: nothing answers there, and nothing is to be asked in http.
    let offline = Client::new(ClientConfig { offline: true, ..ClientConfig::default() });
    let reference = "192.0.2.1:5000/a/b".parse().unwrap();
    let registry = Registry::new(offline, RegistrySettings::default(), reference).unwrap();
    let (_dir, cache) = cache();
    let error = pull(&registry, &cache, None).err().unwrap().to_string();
    assert!(error.contains("https://192.0.2.1"), "{error}");
}

/// A registry with a certificate of its own making, which asks for ours.
#[test]
fn certificates_are_found_by_host() {
    let (certificate, key) = ampoule_loopback::certificate();
    let config = config();
    let document = manifest(&config, &layer(Digest::of(b"layer"), 5));
    let whole = serving(document, MANIFEST, vec![config, b"layer".to_vec()]);
    let (server, root) = Server::start_mutual_tls(&certificate, whole);
    let host = server.url("").trim_start_matches("https://").to_owned();
    let dir = tempfile::tempdir().unwrap();
    let of_host = dir.path().join(&host);
    let settings = || RegistrySettings {
        certificates: vec![dir.path().join("nothing"), dir.path().to_owned()],
        ..RegistrySettings::default()
    };
    let try_it = || -> Result<(), ImageError> {
        let (_dir, cache) = cache();
        let registry = Registry::new(client(), settings(), format!("{host}/a/b:x").parse().unwrap())?;
        pull(&registry, &cache, None).map(drop)
    };
    let refused = |words: &str| {
        let error = try_it().expect_err(words).to_string();
        assert!(error.contains(words), "expected `{words}` in: {error}");
    };
    refused("certificate");
    std::fs::create_dir(&of_host).unwrap();
    std::fs::write(of_host.join("ca.crt"), root).unwrap();
    assert!(try_it().is_err(), "it lets us in without a certificate of ours");
    std::fs::write(of_host.join("client.cert"), &certificate).unwrap();
    refused("has no key");
    std::fs::write(of_host.join("client.key"), "s3cret").unwrap();
    refused("not in PEM form");
    assert!(!try_it().unwrap_err().to_string().contains("s3cret"));
    std::fs::write(of_host.join("client.key"), key).unwrap();
    try_it().unwrap();
}
