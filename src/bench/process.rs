//! What the kernel tells of the relay's process: time and memory.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

/// A process of which time and memory can be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pid: u32,
}

impl Process {
    pub(super) fn new(pid: u32) -> Process {
        Process { pid }
    }

    /// The process on this machine that listens there, where it is one that we may look into.
    pub(super) fn listening_on(address: SocketAddr) -> Option<Process> {
        let table = if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
        let socket = format!("socket:[{}]", listener(&fs::read_to_string(table).ok()?, address)?);
        let pids =
            fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.map(Process::new).find(|process| process.holds(&socket))
    }

    fn holds(self, socket: &str) -> bool {
        // Of somebody else's process nothing can be read.
        let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", self.pid)) else { return false };
        let mut links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.any(|link| link == Path::new(socket))
    }

    /// User and system time of all its threads so far; `None` where the kernel does not tell.
    pub(super) fn used(self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let per_second = rustix::param::clock_ticks_per_second();
        Some(Duration::from_secs_f64(ticks(&stat)? as f64 / per_second as f64))
    }

    /// KiB of memory that it holds; `None` where the kernel does not tell.
    pub(super) fn resident_kib(self) -> Option<u64> {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid)).ok()?;
        let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64 / 1024)
    }
}

/// Processor time of the calling thread so far, to the nanosecond; `None` where the kernel does not tell.
pub(super) fn used_by_this_thread() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(stat.split_whitespace().next()?.parse().ok()?))
}

/// Fields 14 and 15 of /proc/PID/stat, utime and stime; field 2 is a name that may hold anything (proc(5)).
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut times = after_name.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    Some(times.next()? + times.next()?)
}

/// The inode of the socket that listens on an address, or on its port of every address (proc_net_tcp).
fn listener(table: &str, address: SocketAddr) -> Option<&str> {
    const LISTENS: &str = "0A";
    let of = |ip: IpAddr| format!("{}:{:04X}", in_table(ip), address.port());
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let locals = [of(address.ip()), of(any)];
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[_, local, _, state, _, _, _, _, _, inode, ..] = &*fields else { return None };
        (state == LISTENS && locals.iter().any(|wanted| wanted == local)).then_some(inode)
    })
}

/// Words of 32 bits, each as the machine holds it.
fn in_table(ip: IpAddr) -> String {
    let bytes = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.as_chunks().0.iter().map(|&word| format!("{:08X}", u32::from_ne_bytes(word))).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

    use super::*;

    #[test]
    fn processor_time_is_read_behind_a_name_with_spaces_and_brackets() {
        let stat = "42 (a ) b 9) S 1 42 42 0 -1 4194560 99 0 0 0 250 50 0 0 20 0 5 0 12345 1 2";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("42 (a) S 1"), None);
    }

    #[test]
    fn the_process_that_listens_on_an_address_is_found() {
        for any in [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))] {
            let listener = TcpListener::bind(any).unwrap();
            let address = listener.local_addr().unwrap();
            let found = Process::listening_on(address).unwrap();
            assert_eq!(found.pid, std::process::id());
            assert!(found.used().is_some() && found.resident_kib() > Some(0));
            drop(listener);
            assert!(Process::listening_on(address).is_none());
        }
        let everywhere = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = everywhere.local_addr().unwrap().port();
        assert!(Process::listening_on((Ipv4Addr::LOCALHOST, port).into()).is_some());
    }
}
