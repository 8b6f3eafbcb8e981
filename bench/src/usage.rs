//! What processes have used, read from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

/// The process and its children (nginx's workers; nobody here has grandchildren). nginx listens before it has any.
#[must_use]
pub fn family(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    std::iter::once(pid).chain(children).collect()
}

/// User and system time of all threads of these processes, in the scheduler's own nanoseconds: `stat` counts
/// in ticks of 10 ms, too coarse for a few seconds.
///
/// # Errors
/// When a process is gone.
pub fn cpu(pids: &[u32]) -> io::Result<Duration> {
    let mut total = Duration::ZERO;
    for pid in pids {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            total += Duration::from_nanos(first_number(&text).ok_or_else(|| unreadable("schedstat"))?);
        }
    }
    Ok(total)
}

/// Proportional set size in bytes: private pages, plus the share of those that the processes have in common.
///
/// # Errors
/// When a process is gone, or belongs to someone else.
pub fn memory(pids: &[u32]) -> io::Result<u64> {
    let mut total = 0;
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let pss = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        total += 1024 * pss.and_then(first_number).ok_or_else(|| unreadable("smaps_rollup"))?;
    }
    Ok(total)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn unreadable(file: &str) -> io::Error {
    io::Error::other(format!("{file} is not in the form of Linux 4.14 or later"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let pids = family(std::process::id());
        assert_eq!(pids[0], std::process::id());
        assert!(cpu(&pids[..1]).unwrap() > Duration::ZERO);
        assert!(memory(&pids[..1]).unwrap() > 100_000);
    }
}
