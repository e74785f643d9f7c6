//! A cluster whose connections are all over TLS, with certificates that are made here.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tidegate_protocol::process::TlsFiles;
use tidegate_test_certificates::Authority;
use tidegate_transport::Connector;

use crate::cluster::{Cluster, free_port, lines, program, signal};

/// The flags with which a daemon gets its files.
fn flags(files: &TlsFiles) -> String {
    let TlsFiles { certificate, key, ca, .. } = files;
    format!(
        "--tls-certificate {} --tls-key {} --tls-ca {}",
        certificate.display(),
        key.display(),
        ca.display()
    )
}

fn authority(cluster: &Cluster, name: &str) -> Authority {
    fs::create_dir(cluster.path(name)).unwrap();
    Authority::new(cluster.path(name))
}

fn generate(generator: &Path, out: &Path) {
    let mut command = Command::new(generator);
    command.arg("--out").arg(out).args(["--rows", "1500000", "--partitions", "4", "--devices", "1000"]);
    assert!(command.output().unwrap().status.success());
}

/// The arguments of the job, with this directory for its output.
fn arguments(cluster: &Cluster, output: &str) -> String {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../jobs/model/model.json");
    let path = |name: &str| cluster.path(name).display().to_string();
    format!(
        "--input {} --output {} --dead-letters {} --model {model}",
        path("in"),
        path(output),
        path("dead")
    )
}

#[test]
fn a_job_of_two_processes_goes_on_after_a_kill_and_its_output_is_exact() {
    let (Some(job), Some(generator)) = (program("predictive-maintenance"), program("sensor-data")) else {
        return;
    };
    let mut cluster = Cluster::new();
    let authority = authority(&cluster, "ca");
    cluster.start_jobmanager(&flags(&authority.issue("host-0", &["127.0.0.1"])));
    for host in ["host-1", "host-2"] {
        cluster.start_taskmanager(host, &flags(&authority.issue(host, &["127.0.0.1"])));
    }
    cluster.set("TIDEGATE_TLS_CA", authority.file().to_str().unwrap());
    cluster.wait_for_taskmanagers(2);
    generate(&generator, &cluster.path("in"));

    let line = format!("run -d -p 2 -D checkpoint.interval=200ms --name pm {} -- ", job.display());
    cluster.run(&(line + &arguments(&cluster, "out"))).unwrap();
    cluster.until("a checkpoint is complete", |cluster| {
        cluster.json("info pm").unwrap()["checkpoints"]["completed"].as_u64() > Some(0)
    });
    let info = cluster.json("info pm").unwrap();
    assert_eq!(
        (&info["state"], info["processes"].as_array().unwrap().len()),
        (&"RUNNING".into(), 2),
        "{info}"
    );
    let killed = Instant::now();
    signal("-KILL", info["processes"][1]["pid"].as_u64().unwrap());
    cluster.until("the next attempt", |cluster| cluster.json("info pm").unwrap()["attempt"] == 2);
    assert!(
        killed.elapsed() < Duration::from_secs(2),
        "a dead process is noticed at once: {:?}",
        killed.elapsed()
    );
    cluster.until("the job is finished", |cluster| cluster.json("info pm").unwrap()["state"] == "FINISHED");

    let alone = arguments(&cluster, "alone");
    let mut command = Command::new(job);
    command.args(alone.replace("/dead ", "/dead-alone ").split(' '));
    let output = command.args(["--checkpoint-dir"]).arg(cluster.path("checkpoints")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = lines(&cluster.path("alone"));
    assert!(expected.len() > 1_000, "{}", expected.len());
    assert!(lines(&cluster.path("out")) == expected, "output of the cluster and of the job alone");
}

#[test]
fn who_has_no_ca_another_one_or_no_certificate_is_refused_with_what_to_do() {
    let mut cluster = Cluster::new();
    let (authority, other) = (authority(&cluster, "ca"), authority(&cluster, "other"));
    let host = authority.issue("host", &["127.0.0.1", "tidegate.example"]);
    cluster.start_jobmanager(&flags(&host));
    cluster.set("TIDEGATE_TLS_CA", authority.file().to_str().unwrap());
    cluster.until("the jobmanager answers", |cluster| cluster.run("list").is_ok());

    cluster.set("TIDEGATE_TLS_SERVER_NAME", "other.example");
    let error = cluster.run("list").unwrap_err();
    assert!(error.contains("and not for other.example: make one with that name"), "{error}");
    cluster.set("TIDEGATE_TLS_SERVER_NAME", "tidegate.example");
    cluster.run("list").unwrap();
    cluster.unset("TIDEGATE_TLS_SERVER_NAME");
    cluster.refuses_another_secret(64 << 20);

    cluster.set("TIDEGATE_TLS_CA", other.file().to_str().unwrap());
    let error = cluster.run("list").unwrap_err();
    assert!(error.contains("its certificate is refused: no authority in tls.ca has issued it"), "{error}");
    cluster.unset("TIDEGATE_TLS_CA");
    let error = cluster.run("list").unwrap_err();
    assert!(
        error.contains("this jobmanager speaks TLS: set tls.ca to the CA file of the cluster"),
        "{error}"
    );

    // Taskmanagers: one of another authority, one that believes this one, and one without TLS.
    cluster.start_taskmanager("tm-other", &flags(&other.issue("stranger", &["127.0.0.1"])));
    let both = cluster.path("both.pem");
    fs::write(&both, [fs::read(authority.file()).unwrap(), fs::read(other.file()).unwrap()].concat())
        .unwrap();
    let believing = TlsFiles { ca: both, ..other.issue("believing", &["127.0.0.1"]) };
    cluster.start_taskmanager("tm-believing", &flags(&believing));
    cluster.start_taskmanager("tm-plain", "");
    for (daemon, expected) in [
        (1, "its certificate is refused: no authority in tls.ca has issued it"),
        (2, "it refuses the certificate of this side: no authority in its tls.ca has issued it"),
        (3, "this jobmanager speaks TLS: set tls.ca"),
    ] {
        cluster.until(expected, |cluster| cluster.log(daemon).contains(expected));
    }
}

#[test]
fn who_expects_tls_where_there_is_none_is_told_so() {
    let mut cluster = Cluster::new();
    let authority = authority(&cluster, "ca");
    cluster.start_jobmanager("");
    cluster.until("the jobmanager answers", |cluster| cluster.run("list").is_ok());
    cluster.set("TIDEGATE_TLS_CA", authority.file().to_str().unwrap());
    let error = cluster.run("list").unwrap_err();
    assert!(error.contains("it does not speak TLS: set tls.certificate"), "{error}");
    cluster.set("TIDEGATE_TLS_CA", "missing.pem");
    let error = cluster.run("list").unwrap_err();
    assert!(error.contains("the file missing.pem that tls.ca names cannot be read"), "{error}");
}

#[test]
fn metrics_are_served_over_tls_and_a_daemon_that_others_reach_without_it_warns() {
    let mut cluster = Cluster::new();
    let authority = authority(&cluster, "ca");
    let (host, metrics) = (authority.issue("host", &["127.0.0.1"]), [free_port(), free_port()]);
    cluster.start_jobmanager(&format!("--metrics 127.0.0.1:{} {}", metrics[0], flags(&host)));
    cluster.start_taskmanager("tm", &format!("--metrics 127.0.0.1:{} {}", metrics[1], flags(&host)));
    cluster.set("TIDEGATE_TLS_CA", authority.file().to_str().unwrap());
    cluster.wait_for_taskmanagers(1);
    let connector = Connector::believing(&authority.file(), None).unwrap();
    for (port, expected) in [(metrics[0], "tidegate_jobmanager_slots 1\n"), (metrics[1], "_connected 1\n")] {
        let address = format!("127.0.0.1:{port}");
        let tcp = TcpStream::connect(&address).unwrap();
        let mut stream = connector.connect(tcp, &address, Instant::now() + Duration::from_secs(20)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.contains(expected), "{text}");
    }

    cluster.unset("TIDEGATE_TLS_CA");
    let secret: PathBuf = cluster.path(".config/tidegate/secret");
    let more = format!("--listen 0.0.0.0 --address 127.0.0.1 --secret-file {}", secret.display());
    cluster.start_taskmanager("tm-wide", &more);
    cluster.until("the warning", |cluster| {
        let log = cluster.log(2);
        log.contains("connections to 0.0.0.0 are not encrypted") && log.contains("docs/cluster.md, 'TLS'")
    });
}
