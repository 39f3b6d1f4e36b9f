//! How long something may compute that nobody asked for, such as a completion.
//!
//! Processor time is what counts: a crowded machine makes an answer later, and not another one. Where the system does
//! not tell it, and for what waits instead of computing, it is the time of the clock.

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// By how much the clock may run ahead of the processor.
const CROWDED: u32 = 20;

/// How much processor time was used, from here on.
#[derive(Debug)]
pub struct Watch {
    counter: Counter,
    began: Option<Duration>,
    since: Instant,
    limit: Duration,
}

#[derive(Debug)]
enum Counter {
    /// `schedstat` of a thread: its first number is nanoseconds.
    Thread(PathBuf),
    /// `/proc/self/stat`: user and system time in hundredths of a second.
    Process,
}

impl Counter {
    fn read(&self) -> Option<Duration> {
        match self {
            Self::Thread(path) => {
                let text = std::fs::read_to_string(path).ok()?;
                text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
            }
            Self::Process => {
                let text = std::fs::read_to_string("/proc/self/stat").ok()?;
                // Behind the program's name, which may hold anything: fields 14 and 15 of the line.
                let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
                let ticks: u64 =
                    fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
                Some(Duration::from_millis(ticks * 10))
            }
        }
    }
}

impl Watch {
    /// Watches the thread that calls this.
    pub fn this_thread(limit: Duration) -> Self {
        let own = std::fs::read_link("/proc/thread-self").unwrap_or_default();
        Self::over(Counter::Thread(PathBuf::from("/proc").join(own).join("schedstat")), limit)
    }

    /// Watches all threads of this process.
    pub fn process(limit: Duration) -> Self {
        Self::over(Counter::Process, limit)
    }

    fn over(counter: Counter, limit: Duration) -> Self {
        Self { began: counter.read(), since: Instant::now(), counter, limit }
    }

    /// Whether the time is up.
    pub fn is_over(&self) -> bool {
        let passed = self.since.elapsed();
        let computed = self.began.zip(self.counter.read()).map(|(before, now)| now.saturating_sub(before));
        computed.unwrap_or(passed) >= self.limit || passed >= self.limit * CROWDED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computing_uses_the_time_up_and_another_thread_does_not() {
        for watch in [Watch::this_thread, Watch::process] {
            let short = watch(Duration::from_millis(20));
            let mut sum = 0_u64;
            while !short.is_over() {
                sum = std::hint::black_box((0..100_000).fold(sum, u64::wrapping_add));
            }
        }
        let long = Watch::this_thread(Duration::from_secs(1000));
        assert!(long.began.is_none() || long.counter.read().is_some());
        assert!(!long.is_over());
    }
}
