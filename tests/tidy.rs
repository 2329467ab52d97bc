//! The rules of the source that no compiler checks: import order, purity, who may open a dispatch,
//! sizes, forbidden words, frozen field numbers, no private key in the tree, and a test for each fault.

#[path = "tidy/scan.rs"]
mod scan;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use scan::{CodePath, Token};

/// Lines of code in one file, test modules not counted.
const FILE_LINES_MAX: usize = 400;
/// Lines of code in one function.
const FUNCTION_LINES_MAX: usize = 70;
/// Files that may be longer, with the reason.
const LONG_FILES: &[(&str, &str)] = &[("src/wire/pb.rs", "generated from proto/")];
/// The first module that may do I/O.
const FIRST_EDGE: &str = "journal";
/// The first module that may open a dispatch.
const FIRST_END: &str = "seal";
/// What no pure module names, by the start of its path.
const IMPURE_PATHS: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::mpsc",
    "tokio",
    "rand",
    "rusqlite",
    "tokio_rustls",
    "ring::rand",
    "ring::aead",
    "ring::agreement",
    "ring::hmac",
    "ring::hkdf",
];
/// What no pure module names anywhere in a path: clocks, randomness, private keys.
const IMPURE_NAMES: &[&str] =
    &["Instant", "SystemTime", "now", "now_v7", "SystemRandom", "KeyPair", "Ed25519KeyPair", "EcdsaKeyPair"];
/// Generated types that only the ends may read: the dispatch and what lies in wraps.
const IN_CLEAR: &[&str] = &["Dispatch", "Draft", "Release", "Slip"];
/// Words that product code does not hold, and what to do instead.
const FORBIDDEN: &[(&[&str], &str)] = &[
    (&[".", "unwrap", "("], "unwrap(): return an error, or expect() with the invariant"),
    (&["todo", "!"], "todo!: write it, or an issue"),
    (&["unimplemented", "!"], "unimplemented!: write it, or an issue"),
    (&["dbg", "!"], "dbg!: use tracing"),
    (&["let", "_", "="], "`let _ =`: handle the failure, or say by name what is dropped"),
    (&["unsafe", "{"], "unsafe code"),
    (&["unbounded_channel"], "an unbounded channel: every queue has a bound in limits.rs"),
];

/// Rows of the fault matrix that a test must provoke: its doc comment says `FAULTS` and the row's number. What needs a
/// mount (18, and 2, 10, 11, 22 on a real file system) says so and passes where it may not mount anything.
const FAULTS: &[u32] = &[
    1, 2, 3, 4, 6, 7, 8, 10, 11, 13, 15, 17, 18, 19, 20, 21, 22, 24, 25, 28, 29, // journal and disk
    31, 32, 34, 35, 36, 38, 39, // process, time, resources
    40, 41, 43, 44, 46, 47, 48, 49, 50, 51, 52, // network
    54, 56, 57, 58, 59, 61, 63, 64, 65, // frames and protobuf
    67, 68, 69, 70, 71, 73, 74, 75, 76, 77, 79, 80, // TLS and certificates
    82, 83, 84, // audit; of sealing, which is not built, nothing
];

#[test]
fn each_fault_has_a_test_that_names_it() {
    let mut files = Vec::new();
    collect_all(&root().join("src"), &mut files);
    collect_all(&root().join("tests"), &mut files);
    let named: BTreeSet<u32> = files
        .iter()
        .flat_map(|path| faults_named(&fs::read_to_string(path).expect("readable source")))
        .collect();
    let missing: Vec<String> =
        FAULTS.iter().filter(|row| !named.contains(row)).map(|row| format!("FAULTS {row}")).collect();
    assert_none(missing, "no test says in its doc comment that it provokes these");
    let unknown: Vec<String> =
        named.iter().filter(|row| !FAULTS.contains(row)).map(|row| format!("FAULTS {row}")).collect();
    assert_none(unknown, "no such row");
}

#[test]
fn a_fault_is_named_by_the_doc_comment_of_a_test_and_nothing_else() {
    let named = |text: &str| faults_named(text).into_iter().collect::<Vec<_>>();
    let test = "#[tokio::test]\nasync fn it() {}\n";
    assert_eq!(
        named(&format!("/// FAULTS 10, 28 and 1 to 3, on 2 disks.\n/// At 30 s.\n{test}")),
        [1, 2, 3, 10, 28]
    );
    assert_eq!(named(&format!("/// FAULTS 7.\n#[expect(dead_code)]\n{test}")), [7]);
    assert_eq!(named("/// FAULTS 7.\nfn helper() {}\n"), [0; 0]);
    assert_eq!(named(&format!("//! FAULTS 7.\n\n{test}")), [0; 0]);
    assert_eq!(named(&format!("/// FAULTS 7.\nconst A: u8 = 1;\n\n{test}")), [0; 0]);
}

#[test]
fn a_module_imports_only_from_modules_above_it() {
    let order = module_order();
    let mut wrong = Vec::new();
    for file in product_files() {
        let Some(own) = order.iter().position(|module| *module == file.module) else { continue };
        for path in &file.paths {
            let target = match path.segments[0].as_str() {
                "crate" | "pouch" => path.segments[1].as_str(),
                "super" if reaches_root(&file, path) => "super",
                _ => continue,
            };
            match order.iter().position(|module| module == target) {
                Some(at) if at <= own => {}
                _ => wrong.push(file.at(path.line, &format!("imports {}", path.segments.join("::")))),
            }
        }
    }
    assert_none(wrong, "src/lib.rs lists the modules; a module may only import from those above it");
}

#[test]
fn pure_modules_open_no_file_or_socket_and_read_no_clock_or_randomness() {
    let mut wrong = Vec::new();
    for file in files_above(FIRST_EDGE) {
        for path in &file.paths {
            let text = path.segments.join("::");
            let starts = |impure: &&&str| text == **impure || text.starts_with(&format!("{impure}::"));
            let names = |impure: &&&str| path.segments.iter().any(|segment| segment == **impure);
            if IMPURE_PATHS.iter().find(starts).or(IMPURE_NAMES.iter().find(names)).is_some() {
                wrong.push(file.at(path.line, &text));
            }
        }
    }
    assert_none(wrong, "modules above `journal` are pure: time, salts and bodies come in as arguments");
}

#[test]
fn the_relay_cannot_name_what_opens_a_dispatch() {
    let order = module_order();
    let place = |name: &str| order.iter().position(|module| module == name).expect("a module of lib.rs");
    assert!(place("relay") < place(FIRST_END), "import order keeps `seal` out of `relay`");
    let mut wrong = Vec::new();
    for file in files_above(FIRST_END).filter(|file| file.name != "src/wire/pb.rs") {
        for path in &file.paths {
            let opens = path.segments[1] == FIRST_END && matches!(&*path.segments[0], "crate" | "pouch");
            let reads =
                path.segments.windows(2).any(|pair| pair[0] == "pb" && IN_CLEAR.contains(&pair[1].as_str()));
            if opens || reads {
                wrong.push(file.at(path.line, &path.segments.join("::")));
            }
        }
    }
    assert_none(wrong, "promise 6: only the ends, from `seal` on, may read a dispatch");
}

#[test]
fn files_and_functions_are_small() {
    let mut wrong = Vec::new();
    for file in product_files() {
        if LONG_FILES.iter().any(|(name, _)| *name == file.name) {
            continue;
        }
        let lines = scan::code_lines(&file.tokens);
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{}: {lines} lines of code, at most {FILE_LINES_MAX}", file.name));
        }
        for function in scan::functions(&file.tokens) {
            if function.code_lines > FUNCTION_LINES_MAX {
                let lines = function.code_lines;
                let text = format!("fn {}: {lines} lines, at most {FUNCTION_LINES_MAX}", function.name);
                wrong.push(file.at(function.line, &text));
            }
        }
    }
    assert_none(wrong, "move a whole idea into a file or function of its own");
}

#[test]
fn product_code_holds_no_forbidden_words() {
    let mut wrong = Vec::new();
    for file in product_files() {
        for (words, instead) in FORBIDDEN {
            let lines = scan::lines_with(&file.tokens, words);
            wrong.extend(lines.into_iter().map(|line| file.at(line, instead)));
        }
    }
    assert_none(wrong, "STYLE rules 4, 5, 16 and 24");
}

#[test]
fn field_numbers_of_the_wire_are_frozen() {
    let names = ["session", "envelope", "dispatch"].map(|name| format!("pouch/v1/{name}.proto"));
    let files = protox::compile(names, [root().join("proto")]).expect("proto files compile");
    let mut now = String::new();
    for file in &files.file {
        for message in &file.message_type {
            for field in &message.field {
                let form = format!("{:?} {:?} {}", field.label(), field.r#type(), field.type_name());
                now += &format!("{}.{} = {} {}\n", message.name(), field.name(), field.number(), form.trim());
            }
        }
        for entries in &file.enum_type {
            for value in &entries.value {
                now += &format!("{}.{} = {}\n", entries.name(), value.name(), value.number());
            }
        }
    }
    let golden = root().join("tests/golden/proto_fields.txt");
    if std::env::var_os("POUCH_UPDATE").is_some() {
        fs::write(&golden, &now).expect("writable tree");
    }
    let frozen = fs::read_to_string(&golden).expect("committed file");
    let gone: Vec<String> =
        frozen.lines().filter(|line| !now.lines().any(|l| l == *line)).map(str::to_owned).collect();
    assert_none(gone, "these changed or went; a released number is never used for anything else");
    assert!(
        now == frozen,
        "new fields are not in {}: POUCH_UPDATE=1 cargo test --test tidy",
        golden.display()
    );
}

#[test]
fn no_private_key_lies_in_the_tree() {
    let listing = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let listing = listing.expect("git runs: this test reads the list of tracked files");
    assert!(listing.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listing.stderr));
    let names = String::from_utf8(listing.stdout).expect("file names are UTF-8");
    let mut wrong = Vec::new();
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        // A tracked file that the work tree has just lost is not in the tree.
        let Ok(bytes) = fs::read(root().join(name)) else { continue };
        if name.ends_with(".key") || holds_private_key(&String::from_utf8_lossy(&bytes)) {
            wrong.push(name.to_owned());
        }
    }
    assert_none(wrong, "a key that was committed is known to all: make a new one");
}

#[test]
fn a_private_key_is_told_from_code_that_names_one() {
    let marker = ["-----BEGIN", " PRIVATE ", "KEY-----"].concat();
    assert!(!holds_private_key(&format!("text.push_str(\"{marker}\\n\");\n")));
    assert!(holds_private_key(&format!("x\n{marker}\nMC4CAQAwBQYDK2VwBCIEIA\n")));
    assert!(holds_private_key(&format!("{}\r\nMHcCAQEEIA\r\n", marker.replace("PRIVATE", "EC PRIVATE"))));
}

/// A file under `src/` without its tests.
struct SourceFile {
    /// From the root of the repository, with `/`.
    name: String,
    /// The top-level module it belongs to.
    module: String,
    /// Its place below that module: 0 for the module's own file.
    depth: usize,
    tokens: Vec<Token>,
    paths: Vec<CodePath>,
}

impl SourceFile {
    fn read(path: &Path) -> SourceFile {
        let below = path.strip_prefix(root().join("src")).expect("found there").with_extension("");
        let mut parts: Vec<String> =
            below.iter().map(|part| part.to_str().expect("source names are ASCII").to_owned()).collect();
        parts.pop_if(|last| last == "mod");
        let tokens = scan::product_tokens(&fs::read_to_string(path).expect("readable source"));
        let name = path.strip_prefix(root()).expect("found there").display().to_string();
        let paths = scan::paths(&tokens);
        SourceFile { name, depth: parts.len() - 1, module: parts.swap_remove(0), tokens, paths }
    }

    fn at(&self, line: usize, text: &str) -> String {
        format!("{}:{line}: {text}", self.name)
    }
}

/// Whether the `super`s of a path leave the top-level module, around the rule on imports.
fn reaches_root(file: &SourceFile, path: &CodePath) -> bool {
    path.segments.iter().take_while(|segment| *segment == "super").count() > file.depth + path.inline_depth
}

/// Modules as `src/lib.rs` lists them.
fn module_order() -> Vec<String> {
    let tokens = scan::product_tokens(&fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs"));
    let modules: Vec<String> =
        tokens.windows(2).filter(|pair| pair[0].text == "mod").map(|pair| pair[1].text.clone()).collect();
    assert!(modules.len() > 20, "lib.rs lists its modules: {modules:?}");
    modules
}

/// Files of the modules above one, the modules that the rule is about.
fn files_above(module: &str) -> impl Iterator<Item = SourceFile> {
    let order = module_order();
    let end = order.iter().position(|name| name == module).expect("a module of lib.rs");
    product_files().into_iter().filter(move |file| order[..end].contains(&file.module))
}

/// All files under `src/` but those that hold tests alone.
fn product_files() -> Vec<SourceFile> {
    let mut found = Vec::new();
    collect(&root().join("src"), &mut found);
    found.sort();
    found.iter().map(|path| SourceFile::read(path)).collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable folder") {
        let path = entry.expect("readable folder").path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let is_tests = stem == "tests" || stem.ends_with("_tests");
        if path.is_dir() && !is_tests {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_tests {
            found.push(path);
        }
    }
}

/// Rows that the doc comments of the tests in a source file name: numbers behind `FAULTS`, commas, "and" and "to".
fn faults_named(text: &str) -> BTreeSet<u32> {
    let (mut named, mut of_item) = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines().map(str::trim_start) {
        if let Some(doc) = line.strip_prefix("///") {
            of_item.extend(rows_in(doc));
        } else if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            named.append(&mut of_item);
        } else if !line.starts_with("#[") {
            of_item.clear();
        }
    }
    named
}

/// The numbers that a line lists behind `FAULTS`.
fn rows_in(doc: &str) -> Vec<u32> {
    let Some((_, listed)) = doc.split_once("FAULTS ") else { return Vec::new() };
    let (mut rows, mut is_range) = (Vec::new(), false);
    for word in listed.split_whitespace() {
        match (word, word.trim_end_matches([',', '.', ':', ';']).parse::<u32>()) {
            (_, Ok(row)) => {
                let from = if is_range { rows.last().map_or(row, |last| last + 1) } else { row };
                rows.extend(from..=row);
                is_range = false;
                if word.ends_with(['.', ':', ';']) {
                    break;
                }
            }
            ("and", Err(_)) => {}
            ("to", Err(_)) => is_range = true,
            (_, Err(_)) => break,
        }
    }
    rows
}

/// All files of Rust below a folder.
fn collect_all(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable folder") {
        let path = entry.expect("readable folder").path();
        if path.is_dir() {
            collect_all(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Whether a PEM block of a private key starts anywhere: its first line, and base64 on the next.
fn holds_private_key(text: &str) -> bool {
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let opens = line.starts_with("-----BEGIN ") && line.trim_end().ends_with("PRIVATE KEY-----");
        let base64 = |next: &&str| {
            next.len() >= 8
                && next.trim_end().bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
        };
        if opens && lines.peek().is_some_and(base64) {
            return true;
        }
    }
    false
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn assert_none(wrong: Vec<String>, rule: &str) {
    assert!(wrong.is_empty(), "{rule}\n  {}", wrong.join("\n  "));
}
