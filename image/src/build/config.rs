//! How an image runs, from what a person writes to what the format wants.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Builder;
use crate::accounts::{Accounts, NONROOT};
use crate::error::{ImageError, Result};
use crate::oci::{Empty, Healthcheck, RunConfig};
use crate::spec::{self, ConfigSpec, OneOrMany};

impl Builder<'_> {
    pub(super) fn run_config(&self, accounts: &Accounts) -> Result<RunConfig> {
        let config = &self.spec.config;
        let words = |list: &Option<OneOrMany<String>>| list.as_ref().map(|list| list.as_slice().to_vec());
        let user = match &config.user {
            None | Some(Value::Null) => NONROOT.0.to_string(),
            Some(Value::Number(n)) => n.to_string(),
            Some(Value::String(user)) => user.clone(),
            Some(other) => {
                return Err(ImageError::invalid(format!(
                    "`config.user` is {other}: expected a name or number"
                )));
            }
        };
        let (name, group) = user.split_once(':').map_or((&*user, None), |(u, g)| (u, Some(g)));
        if self.spec.base.is_none() {
            accounts.uid(name)?;
            group.map_or(Ok(0), |group| accounts.gid(group))?;
        }
        let mut env = environment(config.env.as_ref())?;
        if self.spec.ca_bundle.is_some() && !env.iter().any(|line| line.starts_with("SSL_CERT_FILE=")) {
            env.push("SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt".to_owned());
        }
        let labels = (!config.labels.is_empty()).then(|| config.labels.clone());
        Ok(RunConfig {
            user,
            exposed_ports: ports(config.exposed_ports.as_ref())?,
            env: (!env.is_empty()).then_some(env),
            entrypoint: words(&config.entrypoint),
            cmd: words(&config.cmd),
            healthcheck: config.healthcheck.as_ref().map(healthcheck).transpose()?,
            volumes: names("volumes", config.volumes.as_ref())?,
            working_dir: config.working_dir.clone().unwrap_or_default(),
            labels,
            stop_signal: config.stop_signal.clone(),
            other: BTreeMap::new(),
        })
    }
}

pub(super) fn config_texts(config: &ConfigSpec) -> Vec<String> {
    fn strings(value: &Value, out: &mut Vec<String>) {
        match value {
            Value::String(text) => out.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| strings(item, out)),
            Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                out.push(name.clone());
                strings(value, out);
            }),
            _ => {}
        }
    }
    let mut out = Vec::new();
    for list in [&config.entrypoint, &config.cmd].into_iter().flatten() {
        out.extend(list.as_slice().iter().cloned());
    }
    for value in [&config.env, &config.volumes].into_iter().flatten() {
        strings(value, &mut out);
    }
    out.extend(config.working_dir.clone());
    out.extend(config.labels.values().cloned());
    if let Some(health) = &config.healthcheck {
        out.extend(health.test.as_slice().iter().cloned());
    }
    out
}

fn environment(env: Option<&Value>) -> Result<Vec<String>> {
    let fail = |value: &Value| {
        ImageError::invalid(format!(
            "`config.env` has {value}: expected a set of strings, or a list of `NAME=value`"
        ))
    };
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(n) => Ok(n.to_string()),
        other => Err(fail(other)),
    };
    match env {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(fields)) => {
            fields.iter().map(|(name, value)| Ok(format!("{name}={}", text(value)?))).collect()
        }
        Some(Value::Array(lines)) => lines
            .iter()
            .map(|line| match line {
                Value::String(line) if line.contains('=') && !line.starts_with('=') => Ok(line.clone()),
                other => Err(fail(other)),
            })
            .collect(),
        Some(other) => Err(fail(other)),
    }
}

/// Reads a list of strings and numbers, or a set whose names count.
fn names(what: &str, value: Option<&Value>) -> Result<Option<BTreeMap<String, Empty>>> {
    let fail =
        |value: &Value| ImageError::invalid(format!("`config.{what}` has {value}: expected a list or a set"));
    let list: Vec<String> = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(fields)) => fields.keys().cloned().collect(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(text.clone()),
                Value::Number(n) => Ok(n.to_string()),
                other => Err(fail(other)),
            })
            .collect::<Result<_>>()?,
        Some(other) => return Err(fail(other)),
    };
    Ok((!list.is_empty()).then(|| list.into_iter().map(|name| (name, Empty {})).collect()))
}

fn ports(value: Option<&Value>) -> Result<Option<BTreeMap<String, Empty>>> {
    let Some(ports) = names("exposedPorts", value)? else { return Ok(None) };
    let port = |port: String| -> Result<(String, Empty)> {
        let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
        let range = number.split('-').all(|n| n.parse::<u16>().is_ok_and(|n| n > 0));
        if !range || !matches!(protocol, "tcp" | "udp" | "sctp") {
            return Err(ImageError::invalid(format!(
                "`{port}` is not a port: expected `80`, `80/tcp`, `53/udp`"
            )));
        }
        Ok((format!("{number}/{protocol}"), Empty {}))
    };
    ports.into_keys().map(port).collect::<Result<_>>().map(Some)
}

fn healthcheck(spec: &spec::HealthcheckSpec) -> Result<Healthcheck> {
    let time = |value: &Option<Value>| value.as_ref().map(spec::duration).transpose();
    let test = match &spec.test {
        OneOrMany::One(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
        OneOrMany::Many(words) => match words.first().map(String::as_str) {
            Some("CMD" | "CMD-SHELL" | "NONE") => words.clone(),
            _ => std::iter::once("CMD".to_owned()).chain(words.iter().cloned()).collect(),
        },
    };
    Ok(Healthcheck {
        test,
        interval: time(&spec.interval)?,
        timeout: time(&spec.timeout)?,
        start_period: time(&spec.start_period)?,
        start_interval: time(&spec.start_interval)?,
        retries: spec.retries,
    })
}
