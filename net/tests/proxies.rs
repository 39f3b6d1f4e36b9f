//! Proxies: what they are told, what they are not told, and who is reached without them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use ampoule_loopback::{Answer, Server, tunnel};
use ampoule_net::{Client, ClientConfig, Credentials, NetError, ProxyConfig, Request};

fn config(proxy: &str, no_proxy: Option<&str>) -> ClientConfig {
    ClientConfig {
        connect_timeout: Duration::from_secs(20),
        backoff: Duration::from_millis(10),
        max_attempts: 2,
        proxy: ProxyConfig {
            http: Some(proxy.to_owned()),
            https: Some(proxy.to_owned()),
            no_proxy: no_proxy.map(str::to_owned),
        },
        ..ClientConfig::default()
    }
}

fn get(config: ClientConfig, url: &str) -> Result<String, NetError> {
    let request = Request::get(url)?.credentials(Some(Credentials::basic("joe", "s3cret")));
    let body = Client::new(config).send(&request)?.error_for_status()?.bytes(1 << 20)?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// `base64("proxy-user:proxy-pw")`.
const PROXY_BASIC: &str = "Basic cHJveHktdXNlcjpwcm94eS1wdw==";

#[test]
fn https_goes_through_a_tunnel_and_the_proxy_sees_nothing() {
    let (server, certificate) = Server::start_tls(|asked| Answer::ok(format!("secret {}", asked.path)));
    let port = server.port();
    let proxy = Server::start(move |_| Answer::tunnel(port));
    for proxy_url in [
        format!("http://proxy-user:proxy-pw@127.0.0.1:{}", proxy.port()),
        // People leave the scheme out.
        format!("proxy-user:proxy-pw@127.0.0.1:{}", proxy.port()),
    ] {
        let config = ClientConfig {
            extra_roots_pem: vec![certificate.clone().into_bytes()],
            ..config(&proxy_url, None)
        };
        let url = format!("https://localhost:{port}/x");
        assert_eq!(get(config, &url).expect("through the tunnel"), "secret /x");
        let asked = proxy.asked().pop().expect("the proxy was asked");
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("CONNECT", &*format!("localhost:{port}")));
        assert_eq!(asked.header("proxy-authorization"), Some(PROXY_BASIC));
        assert_eq!(asked.header("authorization"), None, "the server's credentials are not the proxy's");
        let asked = server.asked().pop().expect("the server was asked");
        assert_eq!(asked.header("proxy-authorization"), None, "the proxy's credentials are not the server's");
        assert!(asked.header("authorization").is_some());
    }
}

#[test]
fn http_goes_by_its_whole_address() {
    let proxy = Server::start(|asked| Answer::ok(format!("proxied {}", asked.path)));
    let url = format!("http://proxy-user:proxy-pw@127.0.0.1:{}", proxy.port());
    // A name that nobody resolves here: the proxy does.
    let body = get(config(&url, None), "http://host.invalid/x").expect("the proxy answers");
    assert_eq!(body, "proxied http://host.invalid/x");
    assert_eq!(proxy.asked()[0].header("proxy-authorization"), Some(PROXY_BASIC));
}

#[test]
fn case_105_a_proxy_that_refuses_is_told_without_its_password() {
    let proxy = Server::start(|asked| match asked.path.as_str() {
        "a.invalid:443" => Answer::status(407).header("Proxy-Authenticate", "Basic realm=\"x\""),
        "b.invalid:443" => Answer::status(403).body("not for you"),
        "c.invalid:443" => Answer::raw().body("garbage\r\n\r\n"),
        "d.invalid:443" => Answer::raw(),
        _ => Answer::status(407),
    });
    let url = format!("http://proxy-user:proxy-pw@127.0.0.1:{}", proxy.port());
    for asked in [
        "https://a.invalid/",
        "https://b.invalid/",
        "https://c.invalid/",
        "https://d.invalid/",
        "http://e.invalid/",
    ] {
        let error = get(config(&url, None), asked).expect_err("refused");
        let told = format!("{error} {error:?}");
        assert!(!told.contains("proxy-pw") && !told.contains("s3cret"), "{told}");
        assert!(told.contains(asked), "{told}");
    }
    let error = get(config(&url, None), "http://e.invalid/").expect_err("refused").to_string();
    assert!(error.contains("407: the proxy asks for credentials; put them into the proxy's URL"), "{error}");
    let error = get(config(&url, None), "https://a.invalid/").expect_err("refused").to_string();
    assert!(error.contains("proxy"), "{error}");
    // Nobody listens: the proxy cannot be reached, and nothing goes past it.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let server = Server::start(|_| Answer::ok("direct"));
    let error = get(config(&format!("http://u:proxy-pw@127.0.0.1:{port}"), None), &server.url("/x"));
    let error = error.expect_err("nobody listens").to_string();
    assert!(error.contains("cannot connect") && !error.contains("proxy-pw"), "{error}");
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn addresses_that_are_no_proxies_are_told_and_nothing_goes_past_them() {
    let server = Server::start(|_| Answer::ok("direct"));
    for (url, words) in [
        ("ftp://u:proxy-pw@127.0.0.1:9", "scheme `ftp`"),
        ("http://u:proxy-pw@[bad", "the proxy's URL cannot be read"),
        ("http://", "the proxy's URL"),
    ] {
        let error = get(config(url, None), &server.url("/x")).expect_err(url).to_string();
        assert!(
            error.contains(words) && !error.contains("proxy-pw") && !error.contains("certificate"),
            "{error}"
        );
    }
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn who_is_reached_directly() {
    let proxy = Server::start(|_| Answer::ok("proxied"));
    let server = Server::start(|_| Answer::ok("direct"));
    let url = format!("http://127.0.0.1:{}", proxy.port());
    let named = format!("http://localhost:{}/", server.port());
    for (no_proxy, asked, expected) in [
        ("localhost", &named, "direct"),
        ("LOCALHOST", &named, "direct"),
        (" example.org , localhost ", &named, "direct"),
        ("127.0.0.1", &server.url("/"), "direct"),
        ("127.0.0.0/8", &server.url("/"), "direct"),
        ("*", &named, "direct"),
        ("", &named, "proxied"),
        ("host", &named, "proxied"),
        ("ocalhost", &named, "proxied"),
        ("10.0.0.0/8", &server.url("/"), "proxied"),
        ("example.org", &"http://notexample.org/".to_owned(), "proxied"),
    ] {
        let config = ClientConfig { max_attempts: 1, ..config(&url, Some(no_proxy)) };
        assert_eq!(get(config, asked).expect("an answer"), expected, "`{no_proxy}` for {asked}");
    }
}

/// The few words of SOCKS 5 that a client says.
fn socks_server() -> u16 {
    fn serve(mut client: TcpStream) -> std::io::Result<()> {
        let mut greeting = [0; 2];
        client.read_exact(&mut greeting)?;
        let mut methods = vec![0; usize::from(greeting[1])];
        client.read_exact(&mut methods)?;
        client.write_all(&[5, 0])?;
        let mut head = [0; 4];
        client.read_exact(&mut head)?;
        let len = match head[3] {
            1 => 4,
            3 => {
                let mut len = [0];
                client.read_exact(&mut len)?;
                usize::from(len[0])
            }
            _ => 16,
        };
        let mut place = vec![0; len + 2];
        client.read_exact(&mut place)?;
        let port = u16::from_be_bytes([place[len], place[len + 1]]);
        let server = TcpStream::connect(("127.0.0.1", port))?;
        client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0])?;
        tunnel(&client, &server)
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || serve(client));
        }
    });
    port
}

#[test]
fn socks_proxies() {
    let server = Server::start(|_| Answer::ok("answered"));
    let socks = socks_server();
    // Where nobody would be reached directly.
    let asked = format!("http://host.invalid:{}/x", server.port());
    let body = get(config(&format!("socks5h://127.0.0.1:{socks}"), None), &asked).expect("through the proxy");
    assert_eq!(body, "answered");
    let by_number = get(config(&format!("socks5://127.0.0.1:{socks}"), None), &server.url("/x"));
    assert_eq!(by_number.expect("through the proxy"), "answered");
}
