//! Counts the words of what it is sent: `curl --data 'one two one' localhost:8080`.

use std::collections::BTreeMap;
use std::convert::Infallible;

use hyper::service::{make_service_fn, service_fn};
use hyper::{Body, Request, Response, Server};
use regex::Regex;
use serde::Serialize;
use tokio::signal::unix::{signal, SignalKind};

#[derive(Serialize)]
struct Answer {
    words: BTreeMap<String, u32>,
}

async fn answer(request: Request<Body>) -> Result<Response<Body>, hyper::Error> {
    let body = hyper::body::to_bytes(request.into_body()).await?;
    let text = String::from_utf8_lossy(&body);
    let word = Regex::new(r"\w+").expect("a fixed expression");
    let mut words = BTreeMap::new();
    for found in word.find_iter(&text) {
        *words.entry(found.as_str().to_lowercase()).or_insert(0) += 1;
    }
    let json = serde_json::to_string(&Answer { words }).expect("strings and numbers");
    tracing::info!(bytes = body.len(), "answered");
    Ok(Response::new(Body::from(json + "\n")))
}

/// Ends when the container is to stop: the first process gets no signal that it has not asked for.
async fn stopped() {
    let mut terminated = signal(SignalKind::terminate()).expect("signals can be waited for");
    let mut interrupted = signal(SignalKind::interrupt()).expect("signals can be waited for");
    tokio::select! {
        _ = terminated.recv() => (),
        _ = interrupted.recv() => (),
    }
}

#[tokio::main]
async fn main() -> Result<(), hyper::Error> {
    tracing_subscriber::fmt().init();
    let service = make_service_fn(|_| async { Ok::<_, Infallible>(service_fn(answer)) });
    Server::bind(&([0, 0, 0, 0], 8080).into()).serve(service).with_graceful_shutdown(stopped()).await
}
