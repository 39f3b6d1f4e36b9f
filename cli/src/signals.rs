//! Signals: the first one asks everything to stop, the second ends the process.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use ampoule_eval::Interrupt;
use ampoule_net::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

use crate::error::{CliError, ExitStatus, IoContext};

/// Those that ask a command to end.
const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// The signal that came last.
static LAST: LazyLock<Arc<AtomicUsize>> = LazyLock::new(|| Arc::new(AtomicUsize::new(SIGINT as usize)));

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
    let _ = flag::register(SIGXFSZ, Arc::default());
}

/// Lets the signals that are watched stop this evaluation, too: one of several that go on at once.
///
/// # Errors
/// If the system refuses.
pub fn also_stop(evaluation: &Interrupt) -> std::io::Result<()> {
    let (limit, stop) = evaluation.switch();
    for signal in ENDING {
        flag::register_usize(signal, Arc::clone(&limit), stop)?;
    }
    Ok(())
}

/// Whether a signal came, and what it stops.
///
/// The handlers store all that has to be known. A thread that waits for signals would take a tenth of the time of a
/// small evaluation.
#[derive(Clone)]
pub struct Stop {
    /// Stops fetches and builds.
    pub cancel: Cancel,
    /// Whether it came.
    pub came: Arc<AtomicBool>,
}

impl Stop {
    /// Watches for SIGINT, SIGTERM and SIGHUP from now on.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn watch() -> Result<Self, CliError> {
        Self::start(true, &Interrupt::default())
    }

    /// Watches for them, and stops this evaluation with what it fetches and builds.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn watch_for(evaluation: &Interrupt) -> Result<Self, CliError> {
        Self::start(true, evaluation)
    }

    /// Watches for SIGINT only, stops this evaluation, and never ends the process: a REPL's.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn watch_softly(evaluation: &Interrupt) -> Result<Self, CliError> {
        Self::start(false, evaluation)
    }

    /// Forgets a signal that came: the REPL's next line is not stopped by the last one's ^C.
    pub fn begin_anew(&self) {
        self.came.store(false, Ordering::SeqCst);
    }

    fn start(ends: bool, interrupt: &Interrupt) -> Result<Self, CliError> {
        let came = Arc::new(AtomicBool::new(false));
        let watched: &[i32] = if ends { &ENDING } else { &[SIGINT] };
        let (limit, stop) = interrupt.switch();
        for &signal in watched {
            let register = || {
                flag::register_usize(signal, Arc::clone(&LAST), signal as usize)?;
                if ends {
                    // Before the flag is set: the first signal does not end the process, the second does.
                    flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&came))?;
                }
                flag::register(signal, Arc::clone(&came))?;
                flag::register_usize(signal, Arc::clone(&limit), stop)
            };
            register().while_doing(|| "cannot watch for signals".to_owned())?;
        }
        let asked = Arc::clone(&came);
        Ok(Self { cancel: Cancel::when(move || asked.load(Ordering::SeqCst)), came })
    }
}
