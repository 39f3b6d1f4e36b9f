//! When to try again, and after which pause.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::config::ClientConfig;

/// Returns whether a later try may be answered otherwise.
pub(crate) fn status_passes(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Returns what `Retry-After` asks for: seconds, or a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Returns the pause before the next try, or none when it is time to give up.
/// `attempt` counts the tries already made.
pub(crate) fn pause(config: &ClientConfig, attempt: u32, asked: Option<Duration>) -> Option<Duration> {
    if attempt >= config.max_attempts {
        return None;
    }
    match asked {
        Some(asked) if asked > config.max_wait => None,
        Some(asked) => Some(asked),
        None => Some((config.backoff * 2u32.saturating_pow(attempt.saturating_sub(1))).min(config.max_wait)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let config = ClientConfig { max_attempts: 4, ..ClientConfig::default() };
        let pauses: Vec<_> = (1..=4).map(|n| pause(&config, n, None).map(|p| p.as_millis())).collect();
        assert_eq!(pauses, [Some(250), Some(500), Some(1000), None]);
    }

    #[test]
    fn the_server_decides_up_to_a_limit() {
        let config = ClientConfig::default();
        assert_eq!(pause(&config, 1, Some(Duration::from_secs(3))), Some(Duration::from_secs(3)));
        assert_eq!(pause(&config, 1, Some(Duration::from_secs(3600))), None);
    }

    #[test]
    fn seconds_and_dates() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().expect("valid"));
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
    }
}
