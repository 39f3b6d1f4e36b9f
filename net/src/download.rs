//! Downloads that go on where they were cut.
//!
//! The first answer's entity tag (or its date, if it has no strong tag) is kept; a try
//! after a cut asks for the rest with `Range` and `If-Range`. A server that knows
//! ranges and still has the same file sends the rest (206); any other sends all of
//! it again (200), and the sink is told to start over. Progress renews the number of
//! tries: a long download over a bad line ends, a server that gives nothing does not
//! keep us.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};

use crate::client::Client;
use crate::error::{NetError, NetErrorKind};
use crate::request::Request;
use crate::response::Response;
use crate::retry::pause;

/// Where a download goes.
pub trait Sink {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// What ends the download.
    fn take(&mut self, bytes: &[u8]) -> std::io::Result<()>;

    /// Forgets what was taken: the server starts from the first byte again.
    ///
    /// # Errors
    /// What ends the download.
    fn start_over(&mut self) -> std::io::Result<()>;

    /// Learns how many bytes the whole has, when the server says.
    fn announced(&mut self, _size_bytes: u64) {}

    /// Learns that a pause begins before the next try, and why.
    fn waits(&mut self, _time: Duration, _reason: &NetError) {}
}

/// What to download.
#[derive(Clone, Debug)]
pub struct Download {
    /// The request; its method is GET.
    pub request: Request,
    /// Ends the download at more than these bytes.
    pub limit_bytes: Option<u64>,
    /// The same, where the server does not say how much will come: it may never end.
    pub unannounced_limit_bytes: Option<u64>,
    /// How many tries in a row may bring nothing, where somebody else can be asked; as many as the client's
    /// settings say, if none are given. Tries that bring bytes go on.
    pub max_fruitless: Option<u32>,
}

/// What came.
#[derive(Clone, Debug)]
pub struct Downloaded {
    /// The URL that answered, without secrets.
    pub url: String,
    /// How many bytes the sink took.
    pub size_bytes: u64,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`, unless it is `identity`. The bytes are as they came.
    pub content_encoding: Option<String>,
    /// How many requests it took.
    pub attempts: u32,
    /// How often it went on in the middle.
    pub resumed: u32,
}

/// What is known of the file between two tries.
#[derive(Default)]
struct State {
    received_bytes: u64,
    validator: Option<String>,
    resumed: u32,
}

impl State {
    /// Whether an answer says that it is a part of another file than the one that we have a part of.
    fn is_of_another(&self, response: &Response) -> bool {
        let strong = |tag: &str| tag.starts_with('"');
        let ours = self.validator.as_deref().filter(|tag| strong(tag));
        let theirs = response.header(ETAG).filter(|tag| strong(tag));
        ours.zip(theirs).is_some_and(|(ours, theirs)| ours != theirs)
    }
}

impl Client {
    /// Downloads into `sink`, going on after cuts where the server allows it.
    ///
    /// # Errors
    /// When the tries are used up, the last error; a status that will not pass, at once.
    pub fn download(&self, download: &Download, sink: &mut dyn Sink) -> Result<Downloaded, NetError> {
        let mut state = State::default();
        let (mut attempts, mut fruitless) = (0, 0);
        loop {
            attempts += 1;
            let before = state.received_bytes;
            let error = match self.download_once(download, &mut state, sink) {
                Ok(done) => return Ok(Downloaded { attempts, resumed: state.resumed, ..done }),
                Err(error) => error.tried(attempts),
            };
            fruitless = if state.received_bytes > before { 1 } else { fruitless + 1 };
            let asked = match *error.kind {
                NetErrorKind::Status { retry_after, .. } => retry_after,
                _ => None,
            };
            // Thirty is for servers that cut after every few bytes: each try is progress.
            let again = error.passes() && attempts < 30 && download.request.retries;
            let is_stuck = state.received_bytes <= before
                && download.max_fruitless.is_some_and(|most| fruitless >= most);
            let Some(time) = pause(self.config(), fruitless, asked).filter(|_| again && !is_stuck) else {
                return Err(error);
            };
            sink.waits(time, &error);
            self.wait(time, &download.request)?;
        }
    }

    fn download_once(
        &self,
        download: &Download,
        state: &mut State,
        sink: &mut dyn Sink,
    ) -> Result<Downloaded, NetError> {
        let mut request = download.request.clone();
        if let (1.., Some(validator)) = (state.received_bytes, &state.validator) {
            request = request
                .header(RANGE, &format!("bytes={}-", state.received_bytes))
                .header(IF_RANGE, validator);
        }
        let response = self.send_once(&request)?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && state.received_bytes > 0 {
            // Shorter than before: another file. The next try asks for all of it.
            state.validator = None;
            return Err(response.error(NetErrorKind::Cut {
                received_bytes: state.received_bytes,
                announced_bytes: None,
                reason: "the file changed on the server".to_owned(),
            }));
        }
        let mut response = response.error_for_status()?;
        let sink_error = |response: &Response, error: std::io::Error| {
            response.error(NetErrorKind::Sink { reason: error.to_string() })
        };
        let mut whole_bytes = None;
        if response.status() == StatusCode::PARTIAL_CONTENT {
            let range = content_range(&response);
            let is_range = range.is_some_and(|(start, _)| start == state.received_bytes);
            whole_bytes = range.and_then(|(_, whole)| whole);
            if !is_range || state.is_of_another(&response) {
                state.validator = None;
                let reason = match is_range {
                    true => "the file changed on the server".to_owned(),
                    false => "the server sent another range than asked for".to_owned(),
                };
                return Err(response.error(NetErrorKind::Cut {
                    received_bytes: state.received_bytes,
                    announced_bytes: None,
                    reason,
                }));
            }
            if state.received_bytes == 0 {
                state.validator = validator(&response);
            } else {
                state.resumed += 1;
            }
        } else {
            if state.received_bytes > 0 {
                sink.start_over().map_err(|e| sink_error(&response, e))?;
                state.received_bytes = 0;
            }
            state.validator = validator(&response);
        }
        let announced = response.content_length().map(|len| len.saturating_add(state.received_bytes));
        let total = whole_bytes.or(announced);
        if let Some(total) = total {
            sink.announced(total);
        }
        // What a range says of the whole file is not kept to by anybody; a length is, by the protocol.
        let unannounced = || match announced {
            Some(_) => None,
            None => whole_bytes.or(download.unannounced_limit_bytes),
        };
        let limit = download.limit_bytes.or_else(unannounced);
        if let Some(limit_bytes) = limit.filter(|limit| total.is_some_and(|total| total > *limit)) {
            return Err(response.error(NetErrorKind::TooLarge { limit_bytes }));
        }
        while let Some(chunk) = response.next_chunk()? {
            state.received_bytes += chunk.len() as u64;
            if let Some(limit_bytes) = limit.filter(|limit| state.received_bytes > *limit) {
                return Err(response.error(NetErrorKind::TooLarge { limit_bytes }));
            }
            sink.take(&chunk).map_err(|e| sink_error(&response, e))?;
        }
        if whole_bytes.is_some_and(|whole| state.received_bytes < whole) {
            // A server may send less than it was asked for; the next try asks for the rest.
            return Err(response.error(NetErrorKind::Cut {
                received_bytes: state.received_bytes,
                announced_bytes: whole_bytes,
                reason: "the server sent a part of what was asked for".to_owned(),
            }));
        }
        Ok(Downloaded {
            url: response.shown_url(),
            size_bytes: state.received_bytes,
            content_type: response.header(CONTENT_TYPE).map(str::to_owned),
            content_encoding: response
                .header(CONTENT_ENCODING)
                .filter(|e| *e != "identity")
                .map(str::to_owned),
            attempts: 0,
            resumed: 0,
        })
    }
}

/// Returns what says that the file is the same one: a strong entity tag, else a date.
fn validator(response: &Response) -> Option<String> {
    let tag = response.header(ETAG).filter(|tag| !tag.starts_with("W/"));
    tag.or_else(|| response.header(LAST_MODIFIED)).map(str::to_owned)
}

/// Returns where a partial answer starts, and how long the whole is if it says: `bytes 100-199/200`.
fn content_range(response: &Response) -> Option<(u64, Option<u64>)> {
    let (start, rest) = response.header(CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('-')?;
    let whole = rest.split_once('/').and_then(|(_, whole)| whole.trim().parse().ok());
    Some((start.trim().parse().ok()?, whole))
}
