//! Hosts as network namespaces, joined by a bridge in one more namespace; partitions and packet loss by nftables.
//!
//! A packet is dropped where it arrives, so a partition in one direction is one rule at its receiver. Nothing outside of
//! the namespaces changes. The kernel's queueing disciplines for loss and delay (netem) are not in every kernel, and not
//! used.

use crate::cluster::processes::is_left_behind;
use crate::failure::{Context, Failure, Result};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

/// Namespaces are called by this, the process number of the storm, and the host's name.
const PREFIX: &str = "tidegate-storm-";
/// The chains that rules go into. Loopback is not a network.
const RULES: &str = "table inet storm {
    chain in { type filter hook input priority 0; policy accept; }
    chain out { type filter hook output priority 0; policy accept; }
}
";

/// The namespaces of all hosts. Dropping it deletes them.
pub struct Network {
    namespaces: Vec<String>,
}

impl Network {
    /// Makes a namespace a host, with these names and addresses, that reach each other.
    pub fn new(hosts: &[(String, String)]) -> Result<Network> {
        delete_stale();
        let mut network = Network { namespaces: Vec::new() };
        let switch = network.namespace("switch")?;
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "br0", "up"])?;
        for (number, (name, address)) in hosts.iter().enumerate() {
            let host = network.namespace(name)?;
            let port = format!("port{number}");
            ip(&[
                "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &host,
            ])?;
            ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"])?;
            ip(&["-n", &host, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
            ip(&["-n", &host, "link", "set", "eth0", "up"])?;
            ip(&["-n", &host, "link", "set", "lo", "up"])?;
            nft(&host, RULES)?;
        }
        Ok(network)
    }

    fn namespace(&mut self, host: &str) -> Result<String> {
        let name = namespace(host);
        ip(&["netns", "add", &name])?;
        self.namespaces.push(name.clone());
        Ok(name)
    }

    /// Drops what comes from the address `from` at the host `to`.
    pub fn cut(&self, from: &str, to: &str) -> Result<()> {
        nft(&namespace(to), &format!("add rule inet storm in ip saddr {from} drop\n"))
    }

    /// Drops so many of a hundred packets that the host receives or sends.
    pub fn lose(&self, host: &str, percent: u64) -> Result<()> {
        let rule = |chain: &str, interface: &str| {
            format!(
                "add rule inet storm {chain} {interface} != \"lo\" numgen random mod 100 < {percent} drop\n"
            )
        };
        nft(&namespace(host), &(rule("in", "iifname") + &rule("out", "oifname")))
    }

    /// Lets everything through to and from the host.
    pub fn heal(&self, host: &str) -> Result<()> {
        nft(&namespace(host), "flush chain inet storm in\nflush chain inet storm out\n")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.namespaces {
            let _ = ip(&["netns", "del", name]);
        }
    }
}

/// A command that runs in the host's namespace.
pub fn in_namespace(host: &str) -> Command {
    let [program, namespace] = entering(host);
    let mut command = Command::new(program);
    command.arg(namespace);
    command
}

/// The words in front of a command that is to run in the host's namespace.
pub fn entering(host: &str) -> [String; 2] {
    ["nsenter".to_owned(), format!("--net=/run/netns/{}", namespace(host))]
}

/// Takes this thread, and those that it starts from now on, into the host's namespace.
pub fn enter(host: &str) -> Result<()> {
    let path = format!("/run/netns/{}", namespace(host));
    let file = File::open(&path).context(format!("cannot open {path}"))?;
    // SAFETY: a system call without pointers, with a descriptor that is open.
    let failed = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } != 0;
    if failed { Err(std::io::Error::last_os_error()).context(format!("cannot enter {path}")) } else { Ok(()) }
}

fn namespace(host: &str) -> String {
    format!("{PREFIX}{}-{host}", std::process::id())
}

fn ip(words: &[&str]) -> Result<String> {
    let done = Command::new("ip").args(words).output().context("cannot run ip")?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(Failure::new(format!("ip {}: {}", words.join(" "), said.trim())))
}

fn nft(namespace: &str, rules: &str) -> Result<()> {
    let mut child = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{namespace}"))
        .args(["nft", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run nsenter")?;
    let mut input = child.stdin.take().ok_or_else(|| Failure::new("nft takes no input"))?;
    let written = input.write_all(rules.as_bytes());
    drop(input);
    let done = child.wait_with_output().context("cannot wait for nft")?;
    if done.status.success() {
        return written.context("cannot write to nft");
    }
    Err(Failure::new(format!("nft {rules:?}: {}", String::from_utf8_lossy(&done.stderr).trim())))
}

/// Deletes namespaces of storms that were killed.
fn delete_stale() {
    let all = ip(&["netns", "list"]).unwrap_or_default();
    let names = all.lines().filter_map(|line| line.split_whitespace().next());
    for name in names.filter(|name| is_left_behind(name, PREFIX)) {
        let _ = ip(&["netns", "del", name]);
    }
}
