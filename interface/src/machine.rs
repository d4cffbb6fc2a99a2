//! What this machine has to offer: memory, room on a disk.

use dunlin_format::arch::Arch;
use dunlin_migrate::preflight::Target;
use dunlin_migrate::snapshot::{SectionKind, VERSION};
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::path::Path;

/// Memory that can be had in bytes, as far as the kernel tells: what is free or can be made free, and swap
/// (proc_meminfo(5)), but no more than the control group allows (Documentation/admin-guide/cgroup-v2.rst).
pub fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let machine = meminfo(&text)?;
    Some(control_group().map_or(machine, |group| group.min(machine)))
}

fn meminfo(text: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        let kib: u64 = line
            .trim_start_matches(':')
            .trim()
            .strip_suffix(" kB")?
            .trim()
            .parse()
            .ok()?;
        kib.checked_mul(1024)
    };
    field("MemAvailable")?.checked_add(field("SwapFree").unwrap_or(0))
}

/// What the control group of this process leaves, if it has a limit of its own.
fn control_group() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|l| l.strip_prefix("0::"))?;
    let number = |name: &str| -> Option<u64> {
        let file = format!("/sys/fs/cgroup{}/{name}", path.trim_end_matches('/'));
        fs::read_to_string(file).ok()?.trim().parse().ok()
    };
    let (limit, used) = (number("memory.max")?, number("memory.current")?);
    Some(limit.saturating_sub(used))
}

/// Room for a new file at a path, in bytes: that of its file system, or less by `ulimit -f`.
pub fn room(path: &Path) -> Option<u64> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let free = rustix::fs::statvfs(directory)
        .ok()
        .map(|s| s.f_bavail.saturating_mul(s.f_frsize))?;
    Some(getrlimit(Resource::Fsize).current.map_or(free, |limit| limit.min(free)))
}

/// Can the file system at a path hold files at all? Those that show what is in the kernel, such as /proc, can't.
pub fn holds_files(path: &Path) -> bool {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    const KERNELS: [u64; 4] = [
        libc::PROC_SUPER_MAGIC as u64,
        libc::SYSFS_MAGIC as u64,
        libc::CGROUP2_SUPER_MAGIC as u64,
        libc::DEBUGFS_MAGIC as u64,
    ];
    // The field's type differs between architectures.
    #[allow(clippy::unnecessary_cast)]
    rustix::fs::statfs(directory).map_or(true, |s| !KERNELS.contains(&(s.f_type as u64)))
}

/// This machine's description, with which programs' needs are compared. What options decide (grants, listeners, the
/// limit of memory) and the room for a snapshot are left unknown.
pub fn describe() -> Target {
    Target {
        arch: Arch::host().map(|a| a.name().to_owned()),
        memory_bytes: memory(),
        max_memory: None,
        disk_bytes: None,
        page_size: Some(rustix::param::page_size() as u64),
        grants: None,
        listeners: None,
        snapshot_format: Some(VERSION),
        sections: Some(SectionKind::ALL.map(SectionKind::id).to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal:       16000 kB\nMemFree: 10 kB\nMemAvailable:    2000 kB\nSwapFree:    48 kB\n";
        assert_eq!(meminfo(text), Some(2048 * 1024));
        assert_eq!(meminfo("MemTotal: 1 kB\n"), None);
        assert!(memory().is_none_or(|bytes| bytes > 0));
    }

    #[test]
    fn there_is_room_where_there_is_a_directory() {
        assert!(room(Path::new("x")).is_some());
        assert_eq!(room(Path::new("/no/such/directory/x")), None);
        assert!(holds_files(Path::new("x")) && !holds_files(Path::new("/proc/x")));
    }
}
