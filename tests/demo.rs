//! `pouch demo` as people run it: the check, the first screen with a second terminal, and its end.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

const TIME_MAX: Duration = Duration::from_secs(60);

/// `pouch demo` in a world of its own: its folder and pointer lie in `home`.
fn pouch_demo(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pouch"));
    command.arg("demo").args(arguments).env("TMPDIR", home).env("XDG_RUNTIME_DIR", home);
    command
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).expect("output is UTF-8")
}

#[test]
fn the_check_passes_prints_its_figures_and_keeps_everything_where_it_is_told() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("kept");
    let output = pouch_demo(home.path(), &["--check", "--dir", dir.to_str().unwrap()]).output().unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert!(
        out.starts_with("dispatches 42 to 90 addressees, relay killed once, one mission away and back\n"),
        "{out}"
    );
    assert!(out.contains("receipts   90 delivered, 90 read, 21 acknowledged\n"), "{out}");
    assert!(out.contains(" of them verified and witnessed, a changed byte found\n"), "{out}");
    assert!(out.ends_with("all checks passed\n"), "{out}");
    assert_eq!(err, "");

    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    let whole = ["relay/log/checkpoint", "relay/log/roster/1", "relay/log.vkey", "trust"];
    for kept in
        whole.into_iter().chain(["pki/idn/sign.key", "relay/journal", "idn/desk.sqlite", "vnm/pouch.log"])
    {
        assert!(dir.join(kept).exists(), "{kept}");
    }
    let pouch = env!("CARGO_BIN_EXE_pouch");
    let verify = ["audit", "verify", "relay/log", "--trust", "trust"];
    assert!(Command::new(pouch).args(verify).current_dir(&dir).output().unwrap().status.success());
    let vkey = fs::read_to_string(dir.join("relay/log.vkey")).unwrap();
    assert!(vkey.trim_end().parse::<pouch::note::Vkey>().is_ok(), "{vkey}");
    let again =
        Command::new(pouch).args(["relay", "--config"]).arg(dir.join("relay/pouch.toml")).output().unwrap();
    assert_eq!(again.status.code(), Some(78), "the demo's keys are refused without it");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "nothing but the kept folder");
}

/// A running demo. Dropping it kills it.
struct Demo {
    child: Child,
    screen: String,
    home: tempfile::TempDir,
}

impl Demo {
    /// Starts a demo and waits for its whole first screen.
    fn start() -> Demo {
        let home = tempfile::tempdir().expect("a temporary folder");
        let mut child = pouch_demo(home.path(), &[]).stdout(Stdio::piped()).spawn().expect("pouch starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (to_test, shown) = mpsc::channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| to_test.send(line)));
        let mut demo = Demo { child, screen: String::new(), home };
        while !demo.screen.contains("pouch demo status") {
            demo.screen.push_str(&shown.recv_timeout(TIME_MAX).expect("a first screen"));
            demo.screen.push('\n');
        }
        demo
    }

    /// A command in a second terminal.
    fn second_terminal(&self, arguments: &[&str]) -> Output {
        pouch_demo(self.home.path(), arguments).output().expect("pouch starts")
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("the demo runs");
    }

    /// The sockets of the desks that are up.
    fn sockets(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.home.path()).expect("a folder").flatten().map(|entry| entry.path());
        let folder = folders.into_iter().find(|path| path.is_dir()).expect("the demo's folder");
        ["mod", "idn", "mys", "phl"].map(|desk| folder.join(desk).join("desk.sock")).to_vec()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Neither matters to a test that has ended, and a kill of what ended is no error.
        self.child.kill().and_then(|()| self.child.wait().map(drop)).unwrap_or_default();
    }
}

#[test]
fn what_the_first_screen_says_to_type_works_and_ctrl_c_leaves_nothing() {
    let mut demo = Demo::start();
    for shown in [
        "42 dispatches on 5 topics",
        "1 FLASH not acknowledged",
        "Indonesia (IDN) · Malaysia (MYS) · Philippines (PHL) in contact · Viet Nam (VNM) silent since ",
        "11 wait for VNM",
    ] {
        assert!(demo.screen.contains(shown), "{shown}\n{}", demo.screen);
    }

    let subject = "Unlit vessel, 2 nm east of the anchorage";
    let flash =
        ["send", "--as", "IDN", "--to", "MOD", "--precedence", "flash", "--topic", "maritime", subject];
    let sent = demo.second_terminal(&[&flash[..], &["--wait", "delivered", "--timeout", "30s"]].concat());
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    assert!(text(&sent.stdout).ends_with("next      pouch demo outbox --as IDN\n"));
    let inbox = text(&demo.second_terminal(&["inbox", "--as", "mod"]).stdout);
    assert!(inbox.contains(&format!("EXERCISE {subject}")), "{inbox}");
    assert_eq!(demo.second_terminal(&["inbox", "--as", "XYZ"]).status.code(), Some(2));
    let status = text(&demo.second_terminal(&["status"]).stdout);
    assert!(status.lines().any(|line| line.starts_with("IDN ") && line.contains("in contact")), "{status}");
    assert!(status.lines().any(|line| line.starts_with("VNM ") && line.contains("silent")), "{status}");
    let ack =
        demo.screen.lines().find_map(|line| line.trim().strip_prefix("pouch demo ack ")).expect("a FLASH");
    let ack: Vec<&str> = ack.split_whitespace().take_while(|word| *word != "#").collect();
    assert!(demo.second_terminal(&[&["ack"], &ack[..]].concat()).status.success());

    tampering_is_found(&demo);

    demo.signal(Signal::INT);
    assert!(demo.child.wait().unwrap().success());
    assert_eq!(fs::read_dir(demo.home.path()).unwrap().count(), 0);
    assert_eq!(demo.second_terminal(&["status"]).status.code(), Some(3));
}

/// In a copy whatever happens, in the log of the running relay until there is traffic.
fn tampering_is_found(demo: &Demo) {
    let started = Instant::now();
    let tampered = loop {
        let tampered = demo.second_terminal(&["tamper"]);
        // The first checkpoint comes within ten seconds.
        if tampered.status.success() {
            break text(&tampered.stdout);
        }
        assert!(started.elapsed() < TIME_MAX, "{}", text(&tampered.stderr));
        thread::yield_now();
    };
    let leaf =
        tampered.strip_prefix("changed   leaf ").and_then(|rest| rest.split(':').next()).expect("a leaf");
    let command = tampered.lines().find_map(|line| line.strip_prefix("next      pouch ")).expect("a command");
    let mut verify = Command::new(env!("CARGO_BIN_EXE_pouch"));
    let found = verify.args(command.split(' ')).output().expect("pouch starts");
    assert_eq!(found.status.code(), Some(8), "{}", text(&found.stdout));
    assert!(text(&found.stderr).contains(&format!("leaf {leaf}: ")), "{leaf}: {}", text(&found.stderr));
}

#[test]
fn the_daemons_do_not_outlive_a_killed_demo() {
    let mut demo = Demo::start();
    let sockets = demo.sockets();
    assert!(sockets.iter().all(|socket| UnixStream::connect(socket).is_ok()));
    demo.signal(Signal::KILL);
    demo.child.wait().unwrap();
    let started = Instant::now();
    while sockets.iter().any(|socket| UnixStream::connect(socket).is_ok()) {
        assert!(started.elapsed() < TIME_MAX, "a desk outlives its demo");
        thread::yield_now();
    }
    assert_eq!(
        demo.second_terminal(&["status"]).status.code(),
        Some(3),
        "a pointer left behind is not followed"
    );
}
