//! A whole site as real processes over loopback, for tests that kill them.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant, SystemTime},
};

use pouch::{
    desk::client::DeskClient,
    keys::SigningKey,
    pki::{self, Applicant, Example, roster_files},
    relay::status::RelayStatus,
    roster::{Roster, RosterDraft, verify_next},
};

/// An example PKI and roster, and the processes that run under it. Everything ends with it.
pub struct Site {
    folder: tempfile::TempDir,
    example: Example,
    address: SocketAddr,
    running: Vec<(String, Child)>,
}

impl Site {
    /// Makes the PKI of [`pki::example_parties`]; nothing runs yet.
    #[allow(dead_code, reason = "not every test has the parties of the example")]
    pub fn new() -> Site {
        Site::of(&pki::example_parties())
    }

    /// Makes the PKI of these parties; nothing runs yet.
    pub fn of(parties: &[Applicant]) -> Site {
        let folder = tempfile::tempdir().expect("temporary folder");
        let address = free_address();
        let pki = folder.path().join("pki");
        let example =
            pki::make_example(&pki, parties, &[address.to_string()], SystemTime::now()).expect("example PKI");
        Site { folder, example, address, running: Vec::new() }
    }

    /// The PKI of these parties, and a relay that listens.
    #[allow(dead_code, reason = "not every test starts with a relay alone")]
    pub async fn with_relay(parties: &[Applicant]) -> Site {
        let mut site = Site::of(parties);
        site.start("relay");
        site.relay_listens().await;
        site
    }

    /// Waits until the relay listens.
    #[allow(dead_code, reason = "not every test waits for the relay alone")]
    pub async fn relay_listens(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        while tokio::net::TcpStream::connect(self.address).await.is_err() {
            assert!(Instant::now() < until, "it does not listen: {}", self.last_words("relay"));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where the relay listens.
    #[allow(dead_code, reason = "not every test speaks to the relay itself")]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The relay listens elsewhere from its next start on; desks that run are told nothing of it.
    #[allow(dead_code, reason = "most relays stay where they are")]
    pub fn move_relay(&mut self, to: SocketAddr) {
        self.address = to;
    }

    /// The PKI.
    #[allow(dead_code, reason = "not every test speaks to the relay itself")]
    pub fn example(&self) -> &Example {
        &self.example
    }

    /// Starts `relay`, `hub` or a mission by its folder's name.
    pub fn start(&mut self, party: &str) {
        self.start_with(party, "");
    }

    /// The same, with more lines in its configuration.
    pub fn start_with(&mut self, party: &str, more: &str) {
        self.run(party, more, Command::new(env!("CARGO_BIN_EXE_pouch")));
    }

    /// Starts a process that may take so much memory of its own and no more: what it asks for beyond that is refused,
    /// which ends it.
    #[allow(dead_code, reason = "one test bounds a process")]
    pub fn start_bounded(&mut self, party: &str, data_kib_max: u64) {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -d {data_kib_max} && exec \"$0\" \"$@\"")]);
        // The kernel counts what may be written to: nothing is to be mapped so ahead of need.
        shell.arg(env!("CARGO_BIN_EXE_pouch")).env("MIMALLOC_ARENA_EAGER_COMMIT", "0");
        self.run(party, "", shell);
    }

    fn run(&mut self, party: &str, more: &str, program: Command) {
        let pki = self.example.folder.join(party);
        let dir = self.dir(party);
        let common = format!(
            "{more}dir = {dir:?}\npki = {pki:?}\ntrust = {:?}\nroot = {:?}\n",
            pki.join("trust.toml"),
            pki.join("root.pem")
        );
        let config = match party {
            "relay" => {
                format!("listen = \"{}\"\nroster = {:?}\n{common}", self.address, pki.join("roster.note"))
            }
            _ => self.desk_config(party, &common),
        };
        fs::write(self.file(party), config).expect("configuration written");
        self.spawn(party, program);
    }

    /// Starts a process with the configuration that lies there.
    #[allow(dead_code, reason = "one test changes a configuration by hand")]
    pub fn start_again(&mut self, party: &str) {
        self.spawn(party, Command::new(env!("CARGO_BIN_EXE_pouch")));
    }

    fn spawn(&mut self, party: &str, mut program: Command) {
        let command = if ["relay", "hub"].contains(&party) { party } else { "mission" };
        let log = fs::File::options().create(true).append(true).open(self.log(party)).expect("log file");
        let child = program
            .args([command, "--example", "--config"])
            .arg(self.file(party))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("process starts");
        self.running.push((party.to_owned(), child));
    }

    fn desk_config(&self, party: &str, common: &str) -> String {
        format!("relays = [\"{}\"]\nsocket = {:?}\n{common}", self.address, self.socket(party))
    }

    /// Kills a process with -9 and waits for its end.
    #[allow(dead_code, reason = "not every test kills")]
    pub fn kill(&mut self, party: &str) {
        let mut child = self.take(party);
        child.kill().expect("killed");
        let status = child.wait().expect("ended");
        assert_eq!(status.signal(), Some(9), "{party} ended by itself: {}", self.last_words(party));
    }

    /// Asks a process to stop with SIGTERM, and returns how it ended and how long that took.
    #[allow(dead_code, reason = "not every test stops in order")]
    pub fn stop(&mut self, party: &str) -> (ExitStatus, Duration) {
        let mut child = self.take(party);
        let began = Instant::now();
        let asked = Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
        assert!(asked.success());
        (child.wait().expect("ended"), began.elapsed())
    }

    /// Has a process read its configuration, certificates and roster again, with SIGHUP.
    #[allow(dead_code, reason = "not every test reloads")]
    pub fn reload(&self, party: &str) {
        let (_, child) = self.running.iter().find(|(name, _)| name == party).expect("it runs");
        let told = Command::new("kill").args(["-HUP", &child.id().to_string()]).status().expect("kill runs");
        assert!(told.success());
    }

    /// The number of a process that runs.
    #[allow(dead_code, reason = "not every test looks at a process")]
    pub fn pid(&self, party: &str) -> u32 {
        self.running.iter().find(|(name, _)| name == party).expect("it runs").1.id()
    }

    /// Waits for the end of a process that ends by itself.
    #[allow(dead_code, reason = "most processes are ended")]
    pub fn ended(&mut self, party: &str) -> ExitStatus {
        self.take(party).wait().expect("ended")
    }

    fn take(&mut self, party: &str) -> Child {
        let at = self.running.iter().position(|(name, _)| name == party).expect("it runs");
        self.running.swap_remove(at).1
    }

    /// The API of a desk.
    #[allow(dead_code, reason = "not every test has desks")]
    pub fn desk(&self, party: &str) -> DeskClient {
        DeskClient::new(self.socket(party))
    }

    /// Unix socket of a desk.
    pub fn socket(&self, party: &str) -> PathBuf {
        self.folder.path().join(format!("{party}.sock"))
    }

    /// State folder of a process.
    pub fn dir(&self, party: &str) -> PathBuf {
        self.folder.path().join(party)
    }

    /// Configuration of a process.
    pub fn file(&self, party: &str) -> PathBuf {
        self.folder.path().join(format!("{party}.toml"))
    }

    fn log(&self, party: &str) -> PathBuf {
        self.folder.path().join(format!("{party}.log"))
    }

    /// All that a process has logged.
    #[allow(dead_code, reason = "not every test reads logs")]
    pub fn words(&self, party: &str) -> String {
        fs::read_to_string(self.log(party)).unwrap_or_default()
    }

    /// What the relay tells its operator.
    #[allow(dead_code, reason = "not every test asks the relay")]
    pub fn relay_status(&self) -> RelayStatus {
        let mut pouch = Command::new(env!("CARGO_BIN_EXE_pouch"));
        let output = pouch.args(["relay", "status", "--json", "--dir"]).arg(self.dir("relay")).output();
        let output = output.expect("it runs");
        let words = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {words}"))
    }

    /// The first status of the relay that is as wanted; it may still have to start.
    ///
    /// # Panics
    /// After a minute without one, with the relay's last words.
    #[allow(dead_code, reason = "not every test asks the relay")]
    pub async fn relay_until(&self, wanted: impl Fn(&RelayStatus) -> bool) -> RelayStatus {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let mut pouch = Command::new(env!("CARGO_BIN_EXE_pouch"));
            pouch.args(["relay", "status", "--json", "--dir"]).arg(self.dir("relay"));
            let output = tokio::task::block_in_place(|| pouch.output()).expect("it runs");
            match serde_json::from_slice(&output.stdout) {
                Ok(status) if wanted(&status) => return status,
                _ if Instant::now() > until => panic!("not so: {output:?}\n{}", self.last_words("relay")),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// The end of a process's log, for a failed test.
    pub fn last_words(&self, party: &str) -> String {
        let log = fs::read_to_string(self.log(party)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(15).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// The version after `roster`, changed and signed by two of the example's three roster keys.
#[allow(dead_code, reason = "not every test publishes a roster")]
pub fn next_roster(
    example: &Example,
    roster: &Roster,
    change: impl FnOnce(&mut RosterDraft),
) -> (Roster, Vec<u8>) {
    let mut draft = RosterDraft::next(roster).expect("versions are left");
    change(&mut draft);
    let folder = example.folder.join("roster");
    // Key 1 is lost: 2 and 3 are enough.
    let keys = [2, 3]
        .map(|number| SigningKey::load(&roster_files::key_path(&folder, number)).expect("the example's key"));
    let text = draft.text().expect("a whole draft");
    let note = roster_files::sign(&text, &keys, &[]).expect("the keys are the roster's").to_bytes();
    (verify_next(&note, roster).expect("it follows"), note)
}

/// An address that nobody listens on now.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("address")
}

/// Text documents of this machine, at most `bytes_max` each, until `count` are found, in a fixed order.
#[allow(dead_code, reason = "one test's input")]
pub fn documents(roots: &[&Path], count: usize, bytes_max: usize) -> Vec<String> {
    let mut found = Vec::new();
    for root in roots {
        collect(root, count, bytes_max, &mut found);
    }
    found
}

fn collect(path: &Path, count: usize, bytes_max: usize, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(path) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if found.len() == count {
            return;
        }
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            collect(&path, count, bytes_max, found);
        } else if let Some(text) = read_text(&path, bytes_max) {
            found.push(text);
        }
    }
}

fn read_text(path: &Path, bytes_max: usize) -> Option<String> {
    let bytes = if path.extension().is_some_and(|extension| extension == "gz") {
        Command::new("gzip").arg("-dc").arg(path).stderr(Stdio::null()).output().ok()?.stdout
    } else {
        fs::read(path).ok()?
    };
    let text = String::from_utf8(bytes).ok()?;
    (!text.is_empty() && text.len() <= bytes_max && !text.contains('\0')).then_some(text)
}
