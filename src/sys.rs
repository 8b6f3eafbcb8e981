//! The few system calls that no safe library offers: the only `unsafe` in ebb.
#![allow(unsafe_code)]

/// Raises the soft limit on open files to the hard one and returns it.
///
/// The soft limit is 1024 in many images for the sake of programs that use `select(2)`; a proxy wants the
/// rest. When the limit can't be read or raised, what stands is returned (1024 if even that is unknown).
pub fn raise_fd_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
    // SAFETY: the pointer is to a live, writable rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 1024;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: the pointer is to a live rlimit that the call only reads.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
        limit = raised;
    }
    limit.rlim_cur
}
