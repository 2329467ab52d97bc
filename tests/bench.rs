//! `pouch bench` as a script runs it: real processes, real TLS, a short run.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Runs a short bench with its temporary files in `folder`, and gives its lines.
fn bench(folder: &Path, more: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_pouch"))
        .args(["bench", "--json", "--seconds", "1", "--sessions", "20"])
        .args(more)
        .env("TMPDIR", folder)
        .output()
        .expect("pouch runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
}

fn names(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["workload"].as_str().expect("each line says what it is of")).collect()
}

/// What holds of a line of traffic, whatever the workload.
fn check_traffic(line: &Value) {
    assert!(line["envelopes"].as_u64() > Some(0), "{line}");
    assert_eq!((line["lost"].as_u64(), line["duplicated"].as_u64()), (Some(0), Some(0)), "{line}");
    assert!(line["p50_us"].as_u64() <= line["p99_us"].as_u64(), "{line}");
    assert!(line["relay_cpu_s_per_million"].as_f64() > Some(0.0), "{line}");
}

#[test]
fn a_bench_prints_its_lines_loses_nothing_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let lines = bench(folder.path(), &["--verify"]);
    assert_eq!(names(&lines), ["w1", "w2", "w3", "w1", "w2", "w3", "w4", "log", "limits"]);
    for (line, verify) in lines[..6].iter().zip([false, false, false, true, true, true]) {
        assert_eq!(line["verify"].as_bool(), Some(verify));
        check_traffic(line);
    }
    for figure in
        ["append_fdatasync_p50_us", "tls_round_trip_p50_us", "sign_us", "verify_us", "sha256_us_per_kib"]
    {
        assert!(lines[8][figure].as_f64() > Some(0.0), "{figure}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("folder").collect();
    assert!(left.is_empty(), "{left:?}");

    let w1 = &lines[0];
    assert_eq!((w1["publishers"].as_u64(), w1["addressees"].as_u64()), (Some(8), Some(1)));
    assert!(w1["envelopes_per_s"].as_u64() > Some(0) && w1["deliveries_per_s"].as_u64() > Some(0));

    // W3: each envelope is delivered to each of the hundred, and settled by it, or the bench would not end.
    let w3 = &lines[2];
    assert_eq!((w3["publishers"].as_u64(), w3["addressees"].as_u64()), (Some(1), Some(100)));
    assert!(w3["deliveries_per_s"].as_u64() > w3["envelopes_per_s"].as_u64(), "{w3}");

    // W4: each session is another mission's, so that none takes over another.
    let w4 = &lines[6];
    assert_eq!(w4["sessions"].as_u64(), Some(20));
    assert!(w4["handshakes_per_s"].as_u64() > Some(0), "{w4}");
    assert!(w4["relay_kib_per_session"].as_f64() > Some(0.0), "{w4}");
    assert!(w4["relay_cpu_ms_per_handshake"].as_f64() > Some(0.0), "{w4}");

    // The log: a relay without it works as well, and all that the other has logged is verified.
    let log = &lines[7];
    for figure in [
        "w1_envelopes_per_s",
        "w1_without_tree_envelopes_per_s",
        "w1_relay_cpu_s_per_million",
        "w1_without_tree_relay_cpu_s_per_million",
        "tree_us_per_leaf",
        "append_us_per_leaf",
        "tiles_durable_us_per_leaf",
        "verify_leaves_per_s",
    ] {
        assert!(log[figure].as_f64() > Some(0.0), "{figure}: {log}");
    }
    assert!(log["log_cost_percent"].as_f64() < Some(100.0), "{log}");
    assert!(log["leaves"].as_u64() > Some(1_000), "{log}");
}

#[test]
fn a_relay_goes_without_its_log_only_with_example_keys() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let pki = folder.path().join("pki");
    let parties = pouch::pki::example_parties();
    pouch::pki::make_example(&pki, &parties, &[], std::time::SystemTime::now()).expect("example PKI");
    let trust = std::fs::read_to_string(pki.join("trust.toml")).expect("a trust bundle");
    std::fs::write(pki.join("trust.toml"), trust.replacen("\"mod.example\"", "\"mod.test\"", 1))
        .expect("ours");
    let config = format!(
        "listen = \"127.0.0.1:0\"\ndir = {:?}\npki = {:?}\nroster = {:?}\ntrust = {:?}\nroot = {:?}\n",
        folder.path().join("relay"),
        pki.join("relay"),
        pki.join("roster.note"),
        pki.join("trust.toml"),
        pki.join("root.pem"),
    );
    std::fs::write(folder.path().join("relay.toml"), config).expect("ours");
    let start = |flags: &[&str]| {
        let mut relay = Command::new(env!("CARGO_BIN_EXE_pouch"));
        relay.arg("relay").args(flags).arg("--config").arg(folder.path().join("relay.toml"));
        relay.output().expect("pouch runs")
    };
    assert_eq!(start(&["--without-log"]).status.code(), Some(2));
    let refused = start(&["--example", "--without-log"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(said.contains("a relay of mod.test keeps an audit log"), "{said}");
    assert!(!folder.path().join("relay").exists(), "nothing was made");
}

#[test]
fn a_relay_that_runs_already_is_measured_with_the_folder_that_one_command_makes() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let pki = folder.path().join("pki");
    let free =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("free port");
    let made = Command::new(env!("CARGO_BIN_EXE_pouch"))
        .args(["pki", "example", "--missions", "9", "--listen", &free.to_string()])
        .arg(&pki)
        .output()
        .expect("pouch runs");
    let said = String::from_utf8_lossy(&made.stdout);
    assert!(made.status.success() && said.contains("nothing that they protect is secret"), "{made:?}");
    let mut relay = Command::new(env!("CARGO_BIN_EXE_pouch"))
        .args(["relay", "--example", "--config"])
        .arg(pki.join("relay.toml"))
        .stderr(Stdio::piped())
        .spawn()
        .expect("a relay runs");
    let mut log = BufReader::new(relay.stderr.take().expect("piped")).lines();
    let listens = log.by_ref().any(|line| line.expect("UTF-8").contains("relay listens"));
    // Its log must not fill the pipe and stop it.
    let reading = std::thread::spawn(move || log.count());
    let lines =
        listens.then(|| bench(folder.path(), &[&free.to_string(), "--pki", pki.to_str().expect("UTF-8")]));
    relay.kill().and_then(|()| relay.wait()).expect("it ends");
    reading.join().expect("its log was read");

    let lines = lines.expect("the relay listens");
    assert_eq!(names(&lines), ["w1", "w2", "w3", "w4", "limits"]);
    lines[..3].iter().for_each(check_traffic);
    assert_eq!(lines[2]["addressees"].as_u64(), Some(9), "no more than there are");
    assert_eq!(lines[3]["sessions"].as_u64(), Some(9), "no more than there are");
    assert!(lines[3]["relay_cpu_ms_per_handshake"].is_number(), "{}", lines[3]);
}

#[test]
fn an_address_without_keys_is_a_usage_error_and_an_absent_relay_is_said_to_be_unreachable() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pouch")).arg("bench").args(arguments).output();
        output.expect("pouch runs")
    };
    assert_eq!(run(&["127.0.0.1:1"]).status.code(), Some(2));
    assert_eq!(run(&["--seconds", "0"]).status.code(), Some(2));
    let folder = tempfile::tempdir().expect("temporary folder");
    let pki = folder.path().join("pki");
    let parties = pouch::pki::example_parties();
    pouch::pki::make_example(&pki, &parties, &[], std::time::SystemTime::now()).expect("example PKI");
    let output = run(&["127.0.0.1:1", "--pki", pki.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
}
