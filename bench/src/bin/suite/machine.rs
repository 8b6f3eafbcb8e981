//! Where and when a run took place.

use std::fs;
use std::time::SystemTime;

/// The machine in one line: its processor, how many of them, and the kernel.
pub(crate) fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {processors} processors, Linux {}", model(&info), kernel.trim())
}

fn model(info: &str) -> &str {
    let line = info.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": ")).map_or("unknown processor", |(_, model)| model.trim())
}

/// Today, like 2026-01-31, in UTC.
pub(crate) fn today() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.split('T').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processors_model_is_found() {
        assert_eq!(
            model("processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\nflags\t: a b\n"),
            "Fast CPU @ 3 GHz"
        );
        assert_eq!(model("processor\t: 0\n"), "unknown processor");
        assert_eq!(today().len(), "2026-01-31".len());
    }
}
