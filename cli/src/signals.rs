//! Signals: the first one asks everything to stop, the second ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use ampoule_eval::Interrupt;
use ampoule_net::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::error::{CliError, ExitStatus, IoContext};

/// The signal that came last.
static LAST: AtomicI32 = AtomicI32::new(SIGINT);

/// The code to end with: one that was interrupted ends with 128 and the number of the signal, as shells expect.
pub fn exit_code(status: ExitStatus) -> u8 {
    match status {
        ExitStatus::Interrupted => 128 + LAST.load(Ordering::SeqCst) as u8,
        status => status as u8,
    }
}

/// Makes a write beyond the limit of a file's size (`ulimit -f`) an error, which is told, instead of the end.
///
/// A handler and not "ignored": what is started from here finds the signal as it was.
pub fn tell_of_large_files() {
    // Where the system refuses, the signal ends us, as it would have.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}

/// Whether a signal came, and what it stops.
#[derive(Clone)]
pub struct Stop {
    /// Stops fetches and builds.
    pub cancel: Cancel,
    /// Stops the evaluation.
    pub interrupt: Interrupt,
    /// Whether it came.
    pub came: Arc<AtomicBool>,
}

impl Stop {
    /// Watches for SIGINT, SIGTERM and SIGHUP from now on.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn watch() -> Result<Self, CliError> {
        Self::start(true, Interrupt::default())
    }

    /// Watches for them, and stops this evaluation with what it fetches and builds.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn watch_for(evaluation: &Interrupt) -> Result<Self, CliError> {
        Self::start(true, evaluation.clone())
    }

    /// Watches for SIGINT only, and never ends the process: a REPL's.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn watch_softly() -> Result<Self, CliError> {
        Self::start(false, Interrupt::default())
    }

    /// Forgets a signal that came: the REPL's next line is not stopped by the last one's ^C.
    pub fn begin_anew(&self) {
        self.came.store(false, Ordering::SeqCst);
    }

    fn start(ends: bool, interrupt: Interrupt) -> Result<Self, CliError> {
        let came = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&came);
        let cancel = Cancel::when(move || asked.load(Ordering::SeqCst));
        let stop = Self { cancel, interrupt, came };
        let watched: &[i32] = if ends { &[SIGINT, SIGTERM, SIGHUP] } else { &[SIGINT] };
        let mut signals = Signals::new(watched).while_doing(|| "cannot watch for signals".to_owned())?;
        let told = stop.clone();
        std::thread::spawn(move || {
            for signal in signals.forever() {
                LAST.store(signal, Ordering::SeqCst);
                if told.came.swap(true, Ordering::SeqCst) && ends {
                    std::process::exit(128 + signal);
                }
                told.interrupt.interrupt();
            }
        });
        Ok(stop)
    }
}
