//! The committed protobuf code is what `proto/` says.

use std::{fs, path::Path};

/// Rerun with `POUCH_UPDATE=1` after a change to `proto/`, and commit the result.
#[test]
fn generated_code_matches_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["session", "envelope", "dispatch"].map(|name| format!("pouch/v1/{name}.proto"));
    let descriptors = protox::compile(&files, [root.join("proto")]).expect("proto files compile");
    let out = tempfile::tempdir().expect("temporary directory");
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(out.path())
        .compile_fds(descriptors)
        .expect("code is generated");
    let generated = fs::read_to_string(out.path().join("pouch.v1.rs")).expect("generated file");
    let committed = root.join("src/wire/pb.rs");
    if std::env::var_os("POUCH_UPDATE").is_some() {
        fs::write(&committed, &generated).expect("writable tree");
    }
    let committed = fs::read_to_string(&committed).expect("committed file");
    assert!(committed == generated, "src/wire/pb.rs is stale: POUCH_UPDATE=1 cargo test --test proto");
}

/// What a program in another language must know: every code by number and name, in the tables of the page.
#[test]
fn the_protocol_page_lists_every_code_of_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("readable file");
    let (proto, page) = (read("proto/pouch/v1/session.proto"), read("docs/PROTOCOL.md"));
    let mut codes = 0;
    for prefix in ["REFUSAL_CODE_", "GOODBYE_CODE_", "ADMINISTERED_CODE_"] {
        for line in proto.lines().filter_map(|line| line.trim().strip_prefix(prefix)) {
            let (name, number) = line.split_once(" = ").expect("a name and its number");
            let number = number.split(';').next().expect("a number");
            let row = format!("| {number} | {name} |");
            assert!(number == "0" || page.contains(&row), "docs/PROTOCOL.md has no row {row}");
            codes += usize::from(number != "0");
        }
    }
    assert_eq!(codes, 16 + 14 + 5);
}
