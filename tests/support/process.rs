//! Signals, and what /proc knows of a process.
#![allow(unsafe_code)]

use std::io;

/// Sends a signal.
pub(crate) fn signal(pid: u32, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(pid).expect("a process id");
    // SAFETY: kill takes two numbers and touches no memory of ours.
    let result = unsafe { libc::kill(pid, signal) };
    assert_eq!(result, 0, "signal {signal}: {}", io::Error::last_os_error());
}

/// Blocks until every thread of a child has stopped (SIGSTOP).
pub(crate) fn wait_stopped(pid: u32) {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the pointer is to writable memory of the right size. WNOWAIT leaves the child's state to
    // whoever else waits for it.
    let result = unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), libc::WSTOPPED | libc::WNOWAIT) };
    assert_eq!(result, 0, "waitid: {}", io::Error::last_os_error());
}

/// The most memory that a process has held so far, in KiB.
pub(crate) fn peak_memory_kib(pid: u32) -> u64 {
    status_kib(pid, "VmHWM:")
}

/// The memory that a process holds now, in KiB.
pub(crate) fn memory_kib(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:")
}

fn status_kib(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a live process");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
}

/// The processor time that a process has used so far, in hundredths of a second.
pub(crate) fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a live process");
    // The name, which may hold anything, ends with the last parenthesis; utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let fields: Vec<&str> = fields.split(' ').collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number of ticks")).sum()
}

/// How many file descriptors of a process are ends of pipes.
pub(crate) fn pipes(pid: u32) -> usize {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a live process");
    let is_pipe = |fd: std::io::Result<std::fs::DirEntry>| {
        let target = fd.and_then(|fd| std::fs::read_link(fd.path()));
        target.is_ok_and(|target| target.to_string_lossy().starts_with("pipe:"))
    };
    fds.filter_map(|fd| is_pipe(fd).then_some(())).count()
}
