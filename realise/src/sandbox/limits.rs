//! Resource limits, the same for every build whatever the caller's are.
//!
//! Most are inherited from the spawner, which sets them once; a hard limit of the caller's that is
//! lower cannot be raised by an ordinary user, and then the lower one holds.

use super::sys::{self, SysResult};

const INFINITY: u64 = u64::MAX;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Resource, soft limit, hard limit. Chosen so that an unchanged Linux lets anyone set them.
const INHERITED: [(u32, u64, u64); 14] = [
    (libc::RLIMIT_CORE, 0, 0),
    (libc::RLIMIT_NOFILE, 1024, 4096),
    (libc::RLIMIT_STACK, 8 * MIB, 64 * MIB),
    (libc::RLIMIT_MEMLOCK, 64 * KIB, 64 * KIB),
    (libc::RLIMIT_MSGQUEUE, 819_200, 819_200),
    (libc::RLIMIT_SIGPENDING, 4096, 4096),
    (libc::RLIMIT_NICE, 0, 0),
    (libc::RLIMIT_RTPRIO, 0, 0),
    (libc::RLIMIT_RTTIME, INFINITY, INFINITY),
    (libc::RLIMIT_CPU, INFINITY, INFINITY),
    (libc::RLIMIT_FSIZE, INFINITY, INFINITY),
    (libc::RLIMIT_DATA, INFINITY, INFINITY),
    (libc::RLIMIT_AS, INFINITY, INFINITY),
    (libc::RLIMIT_LOCKS, INFINITY, INFINITY),
];

/// Processes and threads of one build: no fork bomb takes the machine down.
pub(crate) const PROCESSES: u64 = 4096;

/// Sets what builds inherit; called once, in the spawner.
pub(crate) fn set_inherited() {
    for (resource, soft, hard) in INHERITED {
        // Without the right to raise a limit, the caller's stands.
        if sys::set_limit(resource, soft, hard).is_err()
            && let Ok((_, highest)) = sys::get_limit(resource)
        {
            let hard = hard.min(highest);
            sys::ignore(sys::set_limit(resource, soft.min(hard), hard));
        }
    }
    sys::ignore(sys::set_nice(0));
    sys::ignore(sys::schedule_normally());
    sys::ignore(sys::use_all_processors());
}

/// Sets the limit of processes; called in the child, where the user namespace counts its own.
pub(crate) fn set_processes() -> SysResult<()> {
    let (_, highest) = sys::get_limit(libc::RLIMIT_NPROC)?;
    let limit = PROCESSES.min(highest);
    sys::set_limit(libc::RLIMIT_NPROC, limit, limit)
}
