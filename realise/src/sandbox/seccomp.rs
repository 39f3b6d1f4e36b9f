//! The system call filter: a table of classic BPF, made once by the spawner.
//!
//! It refuses what the other walls do not cover, and answers in the way that programs expect when a
//! kernel or a file system simply lacks the thing, so that they fall back:
//!
//! | calls | answer | why |
//! |---|---|---|
//! | another architecture's, x32 | killed | their numbers mean other things |
//! | newer than the newest we know | `ENOSYS` | not looked at yet |
//! | `io_uring_*`, `bpf`, `userfaultfd`, `perf_event_open`, keyrings, kexec, modules, … | `ENOSYS` | no build needs them; history of escapes |
//! | set-user-id and set-group-id bits in `chmod` and whatever creates files | `EPERM` | outputs never carry them |
//! | `openat2` | `ENOSYS` | its mode lies behind a pointer that a filter cannot read |
//! | `*setxattr*`, `file_setattr` | `ENOTSUP` | outputs have no extended attributes |
//! | `socket`, `socketpair` but for UNIX, INET, INET6, NETLINK | `EAFNOSUPPORT` | vsock, packet, alg, … |
//! | `socket(AF_NETLINK, …)` but for routes, sockets and device events | `EPROTONOSUPPORT` | netfilter, xfrm, generic families: a namespace of one's own opens them |
//! | `mount`, `umount2`, `pivot_root` and the newer calls around mounts | `EPERM` | Landlock refuses most of them anyway; the others are parsers in the kernel that a namespace of one's own opens |
//! | `ioctl(TIOCSTI)`, `ioctl(TIOCLINUX)` | `EPERM` | typing into somebody's terminal |
//! | `getgroups` | 0 groups | an unprivileged user cannot leave supplementary groups; hide them |

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, c_long, sock_filter,
};

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

/// The newest system call that was looked at when this table was written (`file_setattr`, 6.17).
const NEWEST: c_long = 469;

const SYS_SETXATTRAT: c_long = 463;
const SYS_OPEN_TREE_ATTR: c_long = 467;
const SYS_FILE_SETATTR: c_long = 469;

/// Netlink's protocols that builds use: `getaddrinfo` and `ip` ask for routes, `ss` for sockets, `libudev`
/// and `libusb` for events of devices, of which a network namespace has none.
const NETLINK_PROTOCOLS: [u32; 3] = [0, 4, 15];

const SET_ID_BITS: u32 = 0o6000;

/// What the filter does with a call that it does not let through as it is.
#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Error(i32),
    /// Refuse set-id bits in argument `mode`.
    Mode {
        mode: u32,
    },
    /// The same, where `mode` counts only if `flags` say that a file may be made.
    OpenMode {
        flags: u32,
        mode: u32,
    },
    /// Let sockets of these families be made, and no others; of netlink's protocols, the harmless.
    SocketFamily(&'static [i32]),
    TerminalTricks,
}

/// Every call that is looked at.
fn rules(families: &'static [i32]) -> Vec<(c_long, Verdict)> {
    use Verdict::{Error, Mode, OpenMode, SocketFamily, TerminalTricks};
    let mut rules = vec![
        (libc::SYS_openat, OpenMode { flags: 2, mode: 3 }),
        (libc::SYS_ioctl, TerminalTricks),
        (libc::SYS_fchmodat, Mode { mode: 2 }),
        (libc::SYS_fchmod, Mode { mode: 1 }),
        (libc::SYS_fchmodat2, Mode { mode: 2 }),
        (libc::SYS_mknodat, Mode { mode: 2 }),
        (libc::SYS_socket, SocketFamily(families)),
        (libc::SYS_socketpair, SocketFamily(families)),
        (libc::SYS_openat2, Error(libc::ENOSYS)),
        (libc::SYS_getgroups, Error(0)),
    ];
    #[cfg(target_arch = "x86_64")]
    rules.extend([
        (libc::SYS_open, OpenMode { flags: 1, mode: 2 }),
        (libc::SYS_creat, Mode { mode: 1 }),
        (libc::SYS_chmod, Mode { mode: 1 }),
        (libc::SYS_mknod, Mode { mode: 1 }),
        (libc::SYS_iopl, Error(libc::ENOSYS)),
        (libc::SYS_ioperm, Error(libc::ENOSYS)),
    ]);
    rules.extend(
        [libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr, SYS_SETXATTRAT, SYS_FILE_SETATTR]
            .map(|number| (number, Error(libc::ENOTSUP))),
    );
    rules.extend(
        [
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_mount_setattr,
            SYS_OPEN_TREE_ATTR,
        ]
        .map(|number| (number, Error(libc::EPERM))),
    );
    rules.extend(
        [
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_bpf,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_keyctl,
            libc::SYS_kexec_load,
            libc::SYS_kexec_file_load,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_open_by_handle_at,
            libc::SYS_quotactl,
            libc::SYS_quotactl_fd,
            libc::SYS_acct,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_syslog,
            libc::SYS_lookup_dcookie,
            libc::SYS_nfsservctl,
            libc::SYS_fanotify_init,
            libc::SYS_kcmp,
        ]
        .map(|number| (number, Error(libc::ENOSYS))),
    );
    rules
}

// SECCOMP_RET_*.
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_KILL_PROCESS: u32 = 0x8000_0000;

// Offsets in `struct seccomp_data`; of each argument the low half is read (we are little-endian).
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const fn offset_of_argument(index: u32) -> u32 {
    16 + 8 * index
}

fn statement(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

fn load(offset: u32) -> sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0)
}

fn answer(value: u32) -> sock_filter {
    statement(BPF_RET | BPF_K, value, 0, 0)
}

/// Skips `if_true` or `if_false` instructions.
fn jump(condition: u32, value: u32, if_true: u8, if_false: u8) -> sock_filter {
    statement(BPF_JMP | condition | BPF_K, value, if_true, if_false)
}

/// The instructions that decide a call whose number is known. Each block returns.
fn decide(verdict: Verdict) -> Vec<sock_filter> {
    let error = |errno: i32| answer(RET_ERRNO | errno as u32);
    match verdict {
        Verdict::Error(errno) => vec![error(errno)],
        Verdict::Mode { mode } => vec![
            load(offset_of_argument(mode)),
            jump(BPF_JSET, SET_ID_BITS, 0, 1),
            error(libc::EPERM),
            answer(RET_ALLOW),
        ],
        Verdict::OpenMode { flags, mode } => {
            // `O_TMPFILE` contains `O_DIRECTORY`, which makes nothing by itself.
            let making = libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY);
            vec![
                load(offset_of_argument(flags)),
                jump(BPF_JSET, making as u32, 0, 3),
                load(offset_of_argument(mode)),
                jump(BPF_JSET, SET_ID_BITS, 0, 1),
                error(libc::EPERM),
                answer(RET_ALLOW),
            ]
        }
        Verdict::SocketFamily(families) => {
            let mut block = vec![load(offset_of_argument(0))];
            for family in families {
                let answers = if *family == libc::AF_NETLINK { netlink() } else { vec![answer(RET_ALLOW)] };
                block.push(jump(BPF_JEQ, *family as u32, 0, answers.len() as u8));
                block.extend(answers);
            }
            block.push(error(libc::EAFNOSUPPORT));
            block
        }
        Verdict::TerminalTricks => vec![
            load(offset_of_argument(1)),
            jump(BPF_JEQ, libc::TIOCSTI as u32, 1, 0),
            jump(BPF_JEQ, libc::TIOCLINUX as u32, 0, 1),
            error(libc::EPERM),
            answer(RET_ALLOW),
        ],
    }
}

/// Decides a netlink socket by its protocol.
fn netlink() -> Vec<sock_filter> {
    let mut block = vec![load(offset_of_argument(2))];
    for protocol in NETLINK_PROTOCOLS {
        block.extend([jump(BPF_JEQ, protocol, 0, 1), answer(RET_ALLOW)]);
    }
    block.push(answer(RET_ERRNO | libc::EPROTONOSUPPORT as u32));
    block
}

/// Finds the block that decides a call: by halves, in ranges of numbers that share one.
///
/// The kernel translates each instruction for every build, and runs the filter for every number that there is, to
/// remember those that are always allowed: so the program is short, and the way to each block too.
fn search(ranges: &[(u32, usize)], blocks: &[usize], program: &mut Vec<sock_filter>) {
    let (below, above) = ranges.split_at(ranges.len() / 2);
    if below.is_empty() {
        return;
    }
    let next = program.len() + 1;
    // A range alone is no instruction of its own: the way leads to its block.
    let distance = |part: &[(u32, usize)], start: usize| {
        let target = if let [(_, block)] = part { blocks[*block] } else { start };
        u8::try_from(target - next).expect("the program is short")
    };
    let (to_above, to_below) = (distance(above, next + below.len() - 1), distance(below, next));
    program.push(jump(BPF_JGE, above[0].0, to_above, to_below));
    search(below, blocks, program);
    search(above, blocks, program);
}

/// Families that lead nowhere but into the build's own network namespace.
pub(crate) const OWN_NETWORK: &[i32] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
/// All that is left where the network is the host's.
pub(crate) const NO_NETWORK: &[i32] = &[libc::AF_UNIX];

/// Builds the filter for this architecture; sockets may be of `families`.
pub(crate) fn filter(families: &'static [i32]) -> Vec<sock_filter> {
    let mut program = vec![
        load(OFFSET_ARCH),
        jump(BPF_JEQ, ARCH, 1, 0),
        answer(RET_KILL_PROCESS),
        load(OFFSET_NUMBER),
        jump(BPF_JGT, NEWEST as u32, 0, 3),
        // x32 calls carry bit 30; everything else above the newest is simply unknown.
        jump(BPF_JGE, 0x4000_0000, 0, 1),
        answer(RET_KILL_PROCESS),
        answer(RET_ERRNO | libc::ENOSYS as u32),
    ];
    let rules = rules(families);
    // The first number of each range, and its block.
    let mut ranges: Vec<(u32, usize)> = Vec::new();
    let mut verdicts: Vec<Option<Verdict>> = Vec::new();
    for number in 0..=NEWEST {
        let verdict = rules.iter().find(|(ruled, _)| *ruled == number).map(|(_, verdict)| *verdict);
        let block = verdicts.iter().position(|known| *known == verdict).unwrap_or(verdicts.len());
        if block == verdicts.len() {
            verdicts.push(verdict);
        }
        if ranges.last().is_none_or(|(_, last)| *last != block) {
            ranges.push((number as u32, block));
        }
    }
    let (mut blocks, mut decisions) = (Vec::new(), Vec::new());
    for verdict in verdicts {
        blocks.push(program.len() + ranges.len() - 1 + decisions.len());
        decisions.extend(verdict.map_or_else(|| vec![answer(RET_ALLOW)], decide));
    }
    search(&ranges, &blocks, &mut program);
    program.extend(decisions);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would, on one call.
    fn run(arch: u32, number: u32, arguments: [u32; 4]) -> u32 {
        let program = filter(OWN_NETWORK);
        let mut accumulator = 0;
        let mut at = 0;
        loop {
            let step = program[at];
            at += 1;
            let code = u32::from(step.code);
            let taken = |yes: bool| usize::from(if yes { step.jt } else { step.jf });
            if code == BPF_LD | BPF_W | BPF_ABS {
                accumulator = match step.k {
                    OFFSET_NUMBER => number,
                    OFFSET_ARCH => arch,
                    argument => arguments[(argument as usize - 16) / 8],
                };
            } else if code == BPF_RET | BPF_K {
                return step.k;
            } else if code == BPF_JMP | BPF_JEQ | BPF_K {
                at += taken(accumulator == step.k);
            } else if code == BPF_JMP | BPF_JGT | BPF_K {
                at += taken(accumulator > step.k);
            } else if code == BPF_JMP | BPF_JGE | BPF_K {
                at += taken(accumulator >= step.k);
            } else if code == BPF_JMP | BPF_JSET | BPF_K {
                at += taken(accumulator & step.k != 0);
            } else {
                panic!("unknown instruction {code:#x}");
            }
        }
    }

    #[track_caller]
    fn check(number: c_long, arguments: [u32; 4], expected: u32) {
        assert_eq!(run(ARCH, number as u32, arguments), expected, "call {number} with {arguments:?}");
    }

    const EPERM: u32 = RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = RET_ERRNO | libc::ENOSYS as u32;

    /// The kernel's work on it, for every build, is that of its length.
    #[test]
    fn the_filter_is_short() {
        let length = filter(OWN_NETWORK).len();
        assert!(length < 200, "{length} instructions");
        filter(NO_NETWORK);
    }

    #[test]
    fn set_id_modes_are_refused_and_others_are_not() {
        check(libc::SYS_fchmod, [3, 0o755, 0, 0], RET_ALLOW);
        check(libc::SYS_fchmod, [3, 0o4755, 0, 0], EPERM);
        check(libc::SYS_fchmod, [3, 0o2755, 0, 0], EPERM);
        check(libc::SYS_fchmod, [3, 0o1777, 0, 0], RET_ALLOW);
        check(libc::SYS_fchmodat2, [3, 0, 0o4755, 0], EPERM);
        check(libc::SYS_mknodat, [3, 0, libc::S_IFREG | 0o4755, 0], EPERM);
    }

    #[test]
    fn the_mode_of_open_counts_only_when_a_file_is_made() {
        check(libc::SYS_openat, [0, 0, libc::O_RDONLY as u32, 0o6000], RET_ALLOW);
        check(libc::SYS_openat, [0, 0, libc::O_DIRECTORY as u32, 0o6000], RET_ALLOW);
        check(libc::SYS_openat, [0, 0, (libc::O_WRONLY | libc::O_CREAT) as u32, 0o4755], EPERM);
        check(libc::SYS_openat, [0, 0, (libc::O_WRONLY | libc::O_TMPFILE) as u32, 0o4755], EPERM);
        check(libc::SYS_openat, [0, 0, (libc::O_WRONLY | libc::O_CREAT) as u32, 0o755], RET_ALLOW);
    }

    #[test]
    fn sockets_are_of_four_families() {
        for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK] {
            check(libc::SYS_socket, [family as u32, 0, 0, 0], RET_ALLOW);
        }
        for family in [libc::AF_VSOCK, libc::AF_PACKET, libc::AF_ALG, 999] {
            check(libc::SYS_socket, [family as u32, 0, 0, 0], RET_ERRNO | libc::EAFNOSUPPORT as u32);
            check(libc::SYS_socketpair, [family as u32, 0, 0, 0], RET_ERRNO | libc::EAFNOSUPPORT as u32);
        }
        check(libc::SYS_socketpair, [libc::AF_UNIX as u32, 0, 0, 0], RET_ALLOW);
    }

    #[test]
    fn netlink_is_for_routes_sockets_and_devices() {
        for protocol in 0..32 {
            let is_known = [libc::NETLINK_ROUTE, libc::NETLINK_SOCK_DIAG, libc::NETLINK_KOBJECT_UEVENT]
                .contains(&(protocol as i32));
            let expected = if is_known { RET_ALLOW } else { RET_ERRNO | libc::EPROTONOSUPPORT as u32 };
            check(libc::SYS_socket, [libc::AF_NETLINK as u32, 3, protocol, 0], expected);
        }
    }

    /// No call is missed on the way to its rule, and none next to it is taken for it.
    #[test]
    fn every_rule_is_found_and_nothing_else() {
        let rules = rules(OWN_NETWORK);
        for number in 0..=NEWEST {
            let has_rule = rules.iter().any(|(ruled, _)| *ruled == number);
            // Arguments that each verdict refuses.
            let making = 0o6000 | libc::O_CREAT as u32;
            let odd = [libc::AF_VSOCK as u32, making, making, 0o6000];
            let way = run(ARCH, number as u32, odd);
            let ioctl = run(ARCH, number as u32, [0, libc::TIOCSTI as u32, 0, 0]);
            assert_eq!(has_rule, way != RET_ALLOW || ioctl != RET_ALLOW, "call {number}");
        }
    }

    /// The table of the module's text, once more: whoever takes a line out there has to do it here.
    #[test]
    fn each_refused_call_is_answered_as_promised() {
        let absent = [
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_bpf,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_keyctl,
            libc::SYS_kexec_load,
            libc::SYS_kexec_file_load,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_open_by_handle_at,
            libc::SYS_quotactl,
            libc::SYS_quotactl_fd,
            libc::SYS_acct,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_syslog,
            libc::SYS_lookup_dcookie,
            libc::SYS_nfsservctl,
            libc::SYS_fanotify_init,
            libc::SYS_kcmp,
            libc::SYS_openat2,
        ];
        absent.into_iter().for_each(|call| check(call, [0; 4], ENOSYS));
        let mounts = [
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_mount_setattr,
            SYS_OPEN_TREE_ATTR,
        ];
        mounts.into_iter().for_each(|call| check(call, [0; 4], EPERM));
        let attributes =
            [libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr, SYS_SETXATTRAT, SYS_FILE_SETATTR];
        attributes.into_iter().for_each(|call| check(call, [0; 4], RET_ERRNO | libc::ENOTSUP as u32));
        check(libc::SYS_getgroups, [0; 4], RET_ERRNO);
        check(libc::SYS_ioctl, [0, libc::TIOCSTI as u32, 0, 0], EPERM);
        check(libc::SYS_ioctl, [0, libc::TIOCLINUX as u32, 0, 0], EPERM);
        check(libc::SYS_ioctl, [0, libc::TCGETS as u32, 0, 0], RET_ALLOW);
        check(libc::SYS_fchmodat, [3, 0, 0o4755, 0], EPERM);
        #[cfg(target_arch = "x86_64")]
        {
            let making = (libc::O_WRONLY | libc::O_CREAT) as u32;
            check(libc::SYS_open, [0, making, 0o2755, 0], EPERM);
            check(libc::SYS_creat, [0, 0o4755, 0, 0], EPERM);
            check(libc::SYS_chmod, [0, 0o4755, 0, 0], EPERM);
            check(libc::SYS_mknod, [0, libc::S_IFREG | 0o4755, 0, 0], EPERM);
            check(libc::SYS_iopl, [0; 4], ENOSYS);
            check(libc::SYS_ioperm, [0; 4], ENOSYS);
        }
    }

    #[test]
    fn unknown_and_foreign_calls_do_not_get_through() {
        check(libc::SYS_io_uring_setup, [0; 4], ENOSYS);
        check(libc::SYS_openat2, [0; 4], ENOSYS);
        check(NEWEST + 1, [0; 4], ENOSYS);
        check(0x4000_0000 + 1, [0; 4], RET_KILL_PROCESS);
        assert_eq!(run(0x4000_0003, 15, [0; 4]), RET_KILL_PROCESS);
        check(libc::SYS_setxattr, [0; 4], RET_ERRNO | libc::ENOTSUP as u32);
        check(libc::SYS_read, [0; 4], RET_ALLOW);
        check(libc::SYS_execve, [0; 4], RET_ALLOW);
    }
}
