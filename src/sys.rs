//! The few system calls that no safe library offers: the only `unsafe` in ebb.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

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

/// Sends SIGTERM to a process.
///
/// The caller must not have waited for the process yet: until then its id can't belong to another one.
///
/// # Errors
/// What `kill(2)` says, such as that there is no such process.
pub fn terminate(pid: u32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: the call takes no pointer.
    if unsafe { libc::kill(pid, libc::SIGTERM) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel kill the child of this command when the thread that spawns it ends, whatever ends it.
#[cfg(target_os = "linux")]
pub fn die_with_parent(command: &mut Command) {
    let arm = || {
        // SAFETY: the call takes no pointer.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(arm) };
}
