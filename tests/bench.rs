//! `pouch bench` as a script runs it: real processes, real TLS, a short run.

use std::process::Command;

use serde_json::Value;

/// Runs a short bench with its temporary files in `folder`, and gives its lines.
fn bench(folder: &std::path::Path, more: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_pouch"))
        .args(["bench", "--json", "--seconds", "1"])
        .args(more)
        .env("TMPDIR", folder)
        .output()
        .expect("pouch runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
}

#[test]
fn a_bench_prints_its_lines_loses_nothing_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let lines = bench(folder.path(), &["--verify"]);
    let names: Vec<_> =
        lines.iter().map(|line| (line["workload"].as_str(), line["verify"].as_bool())).collect();
    let (w1, w2) = (Some("w1"), Some("w2"));
    let both = [(w1, Some(false)), (w2, Some(false)), (w1, Some(true)), (w2, Some(true))];
    assert_eq!(names, [&both[..], &[(Some("limits"), None)]].concat());
    for line in &lines[..4] {
        assert!(line["envelopes"].as_u64() > Some(0), "{line}");
        assert_eq!((line["lost"].as_u64(), line["duplicated"].as_u64()), (Some(0), Some(0)), "{line}");
        assert!(line["p50_us"].as_u64() <= line["p99_us"].as_u64(), "{line}");
        assert!(line["relay_cpu_s_per_million"].as_f64() > Some(0.0), "{line}");
    }
    assert!(
        lines[0]["envelopes_per_s"].as_u64() > Some(0) && lines[0]["deliveries_per_s"].as_u64() > Some(0)
    );
    assert_eq!(lines[0]["publishers"].as_u64(), Some(8));
    for figure in
        ["append_fdatasync_p50_us", "tls_round_trip_p50_us", "sign_us", "verify_us", "sha256_us_per_kib"]
    {
        assert!(lines[4][figure].as_f64() > Some(0.0), "{figure}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("folder").collect();
    assert!(left.is_empty(), "{left:?}");
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
