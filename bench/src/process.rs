//! What a process costs, read from `/proc` by its pid: CPU time and resident memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The six services, in the order in which people read them.
pub(crate) const SERVICES: [&str; 6] = ["broker", "auth", "logger", "mailer", "listener", "frontend"];
/// The servers whose CPU time is shown beside that of the services.
pub(crate) const SERVERS: [&str; 3] = ["mongodb", "rabbitmq", "postgres"];
/// Linux counts CPU time in hundredths of a second, on every architecture that we run on (`man 5 proc`).
const TICK: Duration = Duration::from_millis(10);

/// Names and pids of the processes under measurement.
#[derive(Clone, Debug, Default)]
pub(crate) struct Processes {
    pids: Vec<(&'static str, u32)>,
}

impl Processes {
    /// The processes of the stack in `folder`, of those that are there.
    pub(crate) fn of_stack(folder: &Path) -> Self {
        let names = SERVICES.into_iter().chain(SERVERS);
        let pid = |name| {
            let text = fs::read_to_string(folder.join("service").join(name).join("pid")).ok()?;
            Some((name, text.trim().parse().ok()?))
        };
        Self { pids: names.filter_map(pid).collect() }
    }

    /// The same with another process under `name`: a service that the bench starts itself.
    pub(crate) fn with(&self, name: &'static str, pid: u32) -> Self {
        let mut pids = self.pids.clone();
        pids.retain(|(other, _)| *other != name);
        pids.push((name, pid));
        Self { pids }
    }

    /// The pid of one.
    pub(crate) fn pid(&self, name: &str) -> Option<u32> {
        self.pids.iter().find(|(other, _)| *other == name).map(|(_, pid)| *pid)
    }

    /// CPU time so far, by name; that of PostgreSQL with its children, whose times it counts as they end.
    pub(crate) fn cpu(&self) -> Cpu {
        let mut cpu = BTreeMap::new();
        for &(name, pid) in &self.pids {
            let children = if name == "postgres" { children(pid) } else { Vec::new() };
            let all = children.iter().chain([&pid]).filter_map(|pid| cpu_of(*pid)).sum();
            cpu.insert(name, all);
        }
        cpu.insert("bench", cpu_of(std::process::id()).unwrap_or_default());
        Cpu(cpu)
    }

    /// Resident memory of each service, in MiB.
    pub(crate) fn memory(&self) -> Memory {
        let services = self.pids.iter().filter(|(name, _)| SERVICES.contains(name));
        Memory(services.filter_map(|(name, pid)| Some((*name, status(*pid, "VmRSS:")?))).collect())
    }
}

/// CPU time by process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cpu(BTreeMap<&'static str, Duration>);

impl Cpu {
    /// What was used since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let used = |(name, now): (&&'static str, &Duration)| {
            (*name, now.saturating_sub(before.0.get(name).copied().unwrap_or_default()))
        };
        Self(self.0.iter().map(used).collect())
    }

    /// Adds another stretch of time.
    pub(crate) fn add(&mut self, other: &Self) {
        for (name, time) in &other.0 {
            *self.0.entry(name).or_default() += *time;
        }
    }

    /// Microseconds of `name` for each of `count` requests.
    pub(crate) fn micros_each(&self, name: &str, count: f64) -> f64 {
        self.0.get(name).map_or(0.0, |time| time.as_secs_f64() * 1e6 / count.max(1.0))
    }
}

/// Resident memory by service, in MiB.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Memory(pub(crate) BTreeMap<&'static str, f64>);

impl Memory {
    /// All together.
    pub(crate) fn total(&self) -> f64 {
        self.0.values().sum()
    }
}

/// Looks at resident memory all the time and keeps the most that it saw: of each service, and of all at one time.
#[derive(Debug)]
pub(crate) struct Peak {
    seen: Arc<Mutex<(Memory, f64)>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peak {
    /// Begins to look, ten times a second.
    pub(crate) fn watch(processes: Processes) -> Self {
        let (seen, stop) = (Arc::<Mutex<(Memory, f64)>>::default(), Arc::<AtomicBool>::default());
        let (seen_there, stop_there) = (seen.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stop_there.load(Ordering::Relaxed) {
                let now = processes.memory();
                let mut seen = seen_there.lock().unwrap_or_else(PoisonError::into_inner);
                seen.1 = seen.1.max(now.total());
                for (name, size) in now.0 {
                    let most = seen.0.0.entry(name).or_default();
                    *most = most.max(size);
                }
                drop(seen);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// The most of each service so far, and the most of all together at one time.
    pub(crate) fn seen(&self) -> (Memory, f64) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// User and system time of a process and of its children that have ended.
fn cpu_of(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; fields 14 to 17 are counted from after it.
    let fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let ticks: u32 = fields.skip(11).take(4).filter_map(|field| field.parse::<u32>().ok()).sum();
    Some(TICK * ticks)
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// A size from `/proc/PID/status`, in MiB.
fn status(pid: u32, field: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let own = std::process::id();
        let spin = std::time::Instant::now();
        while spin.elapsed() < Duration::from_millis(30) {}
        assert!(cpu_of(own).unwrap() > Duration::ZERO);
        assert!(status(own, "VmRSS:").unwrap() > 0.5);
    }

    #[test]
    fn time_is_shared_among_the_requests() {
        let before = Cpu([("broker", Duration::from_secs(1))].into());
        let after = Cpu([("broker", Duration::from_secs(3))].into());
        assert!((after.since(&before).micros_each("broker", 1000.0) - 2000.0).abs() < 1e-6);
    }
}
