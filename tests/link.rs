//! Relay and desks in one process, over loopback and real TLS: contact, and why there is none.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use pouch::{
    config::{DeskConfig, RelayConfig},
    desk::{
        client::DeskClient,
        run::{self, Daemon, DeskRunError},
        view::{InboxFilter, Mark, NewDispatch, Status, Step},
    },
    keys::SigningKey,
    pki::{
        self, Ca, Example,
        roster_files::{self, Entry},
    },
    relay,
    roster::RosterDraft,
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

const TIME_MAX: Duration = Duration::from_secs(20);

/// A process's task, stopped through its channel.
struct Task<E> {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), E>>,
}

impl<E> Task<E> {
    async fn stop(self) -> Result<(), E> {
        self.stop.send_replace(true);
        let ended = timeout(Duration::from_secs(5), self.task).await.expect("it drains within 5 s");
        ended.expect("it does not panic")
    }
}

struct Site {
    folder: tempfile::TempDir,
    example: Example,
    address: SocketAddr,
}

impl Site {
    fn new() -> Site {
        let folder = tempfile::tempdir().expect("temporary folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("address");
        let example = make_example(&folder.path().join("pki"), address);
        Site { folder, example, address }
    }

    fn relay(&self) -> Task<relay::RelayError> {
        let pki = self.example.folder.join("relay");
        let config = RelayConfig {
            listen: self.address,
            dir: self.folder.path().join("relay"),
            trust: pki.join("trust.toml"),
            root: pki.join("root.pem"),
            roster: pki.join("roster.note"),
            pki,
            ..RelayConfig::default()
        };
        let (stop, stopped) = watch::channel(false);
        Task { stop, task: tokio::spawn(relay::run(config, stopped)) }
    }

    fn config(&self, party: &str) -> DeskConfig {
        let pki = self.example.folder.join(party);
        DeskConfig {
            dir: self.folder.path().join(party),
            trust: pki.join("trust.toml"),
            root: pki.join("root.pem"),
            pki,
            relays: vec![self.address.to_string()],
            socket: self.socket(party),
            ..DeskConfig::default()
        }
    }

    fn desk(&self, party: &str) -> Task<DeskRunError> {
        start(self.config(party), if party == "hub" { Daemon::Hub } else { Daemon::Mission })
    }

    fn socket(&self, party: &str) -> PathBuf {
        self.folder.path().join(format!("{party}.sock"))
    }

    fn client(&self, party: &str) -> DeskClient {
        DeskClient::new(self.socket(party))
    }
}

fn make_example(folder: &Path, address: SocketAddr) -> Example {
    let parties = pki::example_parties();
    pki::make_example(folder, &parties, &[address.to_string()], SystemTime::now()).expect("example PKI")
}

fn start(config: DeskConfig, daemon: Daemon) -> Task<DeskRunError> {
    let (stop, stopped) = watch::channel(false);
    Task { stop, task: tokio::spawn(async move { run::run(&config, daemon, stopped).await }) }
}

/// Asks a desk for its status until it is as wanted.
async fn until(desk: &DeskClient, wanted: impl Fn(&Status) -> bool) -> Status {
    let asking = async {
        loop {
            if let Ok(status) = desk.status().await
                && wanted(&status)
            {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match timeout(TIME_MAX, asking).await {
        Ok(status) => status,
        Err(_) => panic!("not in {TIME_MAX:?}; now {:?}", desk.status().await),
    }
}

fn note(to: &str) -> NewDispatch {
    NewDispatch {
        to: vec![to.to_owned()],
        topic: "maritime".to_owned(),
        precedence: "immediate".to_owned(),
        subject: "EXERCISE unlit vessel".to_owned(),
        body: "EXERCISE".to_owned(),
        exercise: true,
        ..NewDispatch::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_reaches_the_ministry_and_every_receipt_comes_back() {
    let site = Site::new();
    let (relay, hub, idn) = (site.relay(), site.desk("hub"), site.desk("idn"));
    let (ministry, embassy) = (site.client("hub"), site.client("idn"));
    until(&embassy, |status| status.link == "in contact" && status.roster_version == 1).await;
    until(&ministry, |status| status.link == "in contact").await;

    let sent = embassy.send(&note("MOD")).await.expect("taken into the outbox");
    embassy.wait(&sent.id, Step::Delivered, TIME_MAX).await.expect("delivered");
    let inbox = ministry.inbox(&InboxFilter::default()).await.expect("inbox");
    assert_eq!(inbox.iter().map(|incoming| incoming.from.as_str()).collect::<Vec<_>>(), ["IDN"]);
    let mark = Mark { who: "watch officer".to_owned(), remark: "seen".to_owned() };
    ministry.acknowledge(&inbox[0].id, &mark).await.expect("acknowledged");
    let acknowledged = embassy.wait(&sent.id, Step::Ack, TIME_MAX).await.expect("acknowledged");
    assert_eq!(acknowledged.addressees[0].remark.as_deref(), Some("watch officer: seen"));
    let settled = until(&ministry, |status| status.receipts_waiting == 0).await;
    assert_eq!((settled.set_aside, settled.alarms), (0, Vec::new()));

    idn.stop().await.expect("in order");
    hub.stop().await.expect("in order");
    relay.stop().await.expect("in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_while_the_relay_is_away_goes_out_when_it_is_back() {
    let site = Site::new();
    let (hub, idn) = (site.desk("hub"), site.desk("idn"));
    let (ministry, embassy) = (site.client("hub"), site.client("idn"));
    let offline = until(&embassy, |status| status.link == "offline").await;
    let reason = offline.link_reason.expect("a reason");
    assert!(reason.contains("check that the relay runs"), "{reason}");
    let relay = site.relay();
    until(&embassy, |status| status.link == "in contact").await;
    until(&ministry, |status| status.link == "in contact").await;
    relay.stop().await.expect("in order");
    until(&embassy, |status| status.link == "offline").await;
    let sent = embassy.send(&note("MOD")).await.expect("taken into the outbox");
    let relay = site.relay();
    embassy.wait(&sent.id, Step::Delivered, TIME_MAX).await.expect("delivered");
    for desk in [hub, idn] {
        desk.stop().await.expect("in order");
    }
    relay.stop().await.expect("in order");
}

/// Gives parties new sign keys the way README and OPERATIONS say: the old file away, `pki request`,
/// `pki issue`, `roster add`, and the next version signed and put where the relay reads it.
fn rotate(site: &Site, paths: [&str; 2]) {
    let pki = &site.example.folder;
    let mut draft = RosterDraft::next(&site.example.roster).expect("a version is left");
    let mut ca = Ca::open(&pki.join("ca")).expect("CA");
    for applicant in pki::example_parties()
        .iter()
        .filter(|party| paths.iter().any(|path| party.id.to_string().ends_with(path)))
    {
        let folder = site.example.party_folder(&applicant.id);
        fs::rename(folder.join("sign.key"), folder.join("sign.key.old")).expect("moved away");
        let request = pki::request(&folder, applicant).expect("a request");
        let issued = ca.issue(&request, None, SystemTime::now()).expect("certified");
        fs::write(folder.join("tls.pem"), &issued.chain_pem).expect("installed");
        roster_files::add(&mut draft, Entry::new(&request, &issued)).expect("entered");
    }
    let keys = [1, 2].map(|number| {
        SigningKey::load(&roster_files::key_path(&pki.join("roster"), number)).expect("a roster key")
    });
    let signed = roster_files::sign(&draft.text().expect("sound"), &keys, &[]).expect("signed");
    fs::write(pki.join("relay/roster.note"), signed.to_bytes()).expect("installed");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_new_sign_key_what_waited_under_the_old_one_arrives_on_both_sides() {
    let site = Site::new();
    let (relay, hub, idn) = (site.relay(), site.desk("hub"), site.desk("idn"));
    let (ministry, embassy) = (site.client("hub"), site.client("idn"));
    until(&ministry, |status| status.link == "in contact").await;
    until(&embassy, |status| status.link == "in contact").await;
    // One receipt of the hub waits at the relay for the embassy, one dispatch of the embassy for the hub.
    let first = embassy.send(&note("MOD")).await.expect("taken into the outbox");
    embassy.wait(&first.id, Step::Delivered, TIME_MAX).await.expect("delivered");
    let settled = |status: &Status| status.receipts_waiting == 0;
    until(&ministry, settled).await;
    idn.stop().await.expect("in order");
    let mark = Mark { who: "watch officer".to_owned(), remark: String::new() };
    let received = ministry.inbox(&InboxFilter::default()).await.expect("inbox").remove(0);
    ministry.acknowledge(&received.id, &mark).await.expect("acknowledged");
    until(&ministry, settled).await;
    hub.stop().await.expect("in order");
    let idn = site.desk("idn");
    until(&embassy, |_| true).await;
    let second = embassy.send(&note("MOD")).await.expect("taken into the outbox");
    embassy.wait(&second.id, Step::Accepted, TIME_MAX).await.expect("accepted");
    idn.stop().await.expect("in order");
    relay.stop().await.expect("in order");

    rotate(&site, ["mission/idn", "hub"]);
    let (relay, hub, idn) = (site.relay(), site.desk("hub"), site.desk("idn"));
    until(&embassy, |status| status.link == "in contact" && status.roster_version == 2).await;
    embassy.wait(&first.id, Step::Ack, TIME_MAX).await.expect("the receipt under the hub's old key");
    embassy.wait(&second.id, Step::Delivered, TIME_MAX).await.expect("the dispatch under the old key");
    let third = embassy.send(&note("MOD")).await.expect("taken into the outbox");
    embassy.wait(&third.id, Step::Delivered, TIME_MAX).await.expect("a dispatch under the new keys");
    let status = until(&ministry, settled).await;
    assert_eq!((status.set_aside, status.alarms), (0, Vec::new()));
    for desk in [hub, idn] {
        desk.stop().await.expect("in order");
    }
    relay.stop().await.expect("in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desk_with_another_ministrys_certificate_does_not_start_and_says_so() {
    let site = Site::new();
    let other = make_example(&site.folder.path().join("other"), site.address);
    let config = DeskConfig { pki: other.folder.join("idn"), ..site.config("idn") };
    let ended = start(config, Daemon::Mission).task.await.expect("no panic");
    let error = ended.expect_err("the relay would refuse it");
    assert!(error.to_string().contains("no chain leads from it to the CA in root.pem"), "{error}");
    assert_eq!(error.exit_code(), 78);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desk_that_cannot_start_says_what_to_mend() {
    let site = Site::new();
    let wrong = start(site.config("idn"), Daemon::Hub);
    let error = wrong.task.await.expect("no panic").expect_err("another daemon's certificate");
    assert!(
        error.to_string().ends_with("start `pouch mission`, or set `pki` to this desk's folder"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 78);

    let first = site.desk("idn");
    until(&site.client("idn"), |_| true).await;
    let second = site.desk("idn");
    let error = second.task.await.expect("no panic").expect_err("one desk has the store");
    assert_eq!(error.exit_code(), 73, "{error}");
    first.stop().await.expect("in order");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the store's folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

/// Subjects in the order of the register, each with its notices.
async fn register(desk: &DeskClient) -> Vec<(String, Vec<String>)> {
    let inbox = desk.inbox(&InboxFilter::default()).await.expect("inbox");
    inbox.into_iter().map(|incoming| (incoming.subject, incoming.notices)).collect()
}

async fn send_and_deliver(desk: &DeskClient, subject: &str) {
    let sent = desk.send(&NewDispatch { subject: subject.to_owned(), ..note("MOD") }).await.expect("taken");
    desk.wait(&sent.id, Step::Delivered, TIME_MAX).await.expect("delivered");
}

/// FAULTS 52.
#[tokio::test(flavor = "multi_thread")]
async fn a_desk_restored_from_an_old_copy_begins_again_and_nothing_is_shown_twice() {
    let site = Site::new();
    let (ministry, embassy) = (site.client("hub"), site.client("idn"));
    let (folder, backup) = (site.folder.path().join("idn"), site.folder.path().join("backup"));
    let (relay, hub, idn) = (site.relay(), site.desk("hub"), site.desk("idn"));
    until(&embassy, |status| status.link == "in contact").await;
    send_and_deliver(&embassy, "before the backup").await;
    relay.stop().await.expect("in order");
    until(&embassy, |status| status.link == "offline").await;
    let subject = "queued at the backup".to_owned();
    let queued = embassy.send(&NewDispatch { subject, ..note("MOD") }).await.expect("taken");
    idn.stop().await.expect("in order");
    copy_folder(&folder, &backup);

    let (relay, idn) = (site.relay(), site.desk("idn"));
    until(&embassy, |status| status.link == "in contact").await;
    embassy.wait(&queued.id, Step::Delivered, TIME_MAX).await.expect("delivered");
    send_and_deliver(&embassy, "after the backup").await;
    idn.stop().await.expect("in order");
    fs::remove_dir_all(&folder).expect("the box burnt");
    copy_folder(&backup, &folder);

    let idn = site.desk("idn");
    let is_restored = |status: &Status| status.alarms.iter().any(|alarm| alarm.contains("restored"));
    until(&embassy, |status| status.link == "in contact" && is_restored(status)).await;
    embassy.wait(&queued.id, Step::Delivered, TIME_MAX).await.expect("receipted again");
    send_and_deliver(&embassy, "after the restore").await;
    let seen = register(&ministry).await;
    let subjects: Vec<&str> = seen.iter().map(|(subject, _)| subject.as_str()).collect();
    let expected = ["before the backup", "queued at the backup", "after the backup", "after the restore"];
    assert_eq!(subjects, expected);
    assert!(seen[1].1.iter().any(|notice| notice.contains("first of a new series")), "{seen:?}");
    assert_eq!(until(&ministry, |_| true).await.alarms, Vec::<String>::new());
    for desk in [hub, idn] {
        desk.stop().await.expect("in order");
    }
    relay.stop().await.expect("in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desk_whose_store_was_replaced_comes_back_by_itself() {
    let site = Site::new();
    let (ministry, embassy) = (site.client("hub"), site.client("idn"));
    let (relay, hub, idn) = (site.relay(), site.desk("hub"), site.desk("idn"));
    until(&embassy, |status| status.link == "in contact").await;
    send_and_deliver(&embassy, "from the first box").await;
    idn.stop().await.expect("in order");
    fs::remove_dir_all(site.folder.path().join("idn")).expect("the box burnt");
    let idn = site.desk("idn");
    until(&embassy, |status| status.link == "in contact").await;
    send_and_deliver(&embassy, "from the second box").await;
    let seen = register(&ministry).await;
    assert!(seen[1].1.iter().any(|notice| notice.contains("first of a new series")), "{seen:?}");
    for desk in [hub, idn] {
        desk.stop().await.expect("in order");
    }
    relay.stop().await.expect("in order");
}
