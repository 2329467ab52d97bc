//! The main job on real input: three missions send 500 text documents of this machine to the ministry and
//! it answers each, while the relay is killed with -9 five times. Every body arrives once, byte for byte,
//! in order.

mod support;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use pouch::{
    desk::{
        client::DeskClient,
        view::{InboxFilter, Incoming, NewDispatch},
    },
    merkle,
};
use support::Site;

const DOCUMENTS: usize = 500;
const DOCUMENT_BYTES_MAX: usize = 200 * 1024;
const MISSIONS: [&str; 3] = ["idn", "mys", "phl"];
const KILLS: usize = 5;
const TIME_MAX: Duration = Duration::from_secs(120);

#[test]
fn five_hundred_documents_and_their_answers_survive_five_kills_of_the_relay() {
    let roots = [
        "/usr/share/doc",
        "/usr/share/common-licenses",
        "/usr/share",
        env!("CARGO_MANIFEST_DIR"),
        "/usr/lib",
    ];
    let documents = support::documents(&roots.map(Path::new), DOCUMENTS, DOCUMENT_BYTES_MAX);
    assert_eq!(documents.len(), DOCUMENTS, "this machine has too few text documents");
    let mut site = Site::new();
    for party in ["relay", "hub"].into_iter().chain(MISSIONS) {
        site.start(party);
    }
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let job = async { tokio::time::timeout(TIME_MAX, run(&mut site, &documents)).await };
    let began = Instant::now();
    let ended = runtime.block_on(job);
    assert!(
        ended.is_ok(),
        "not done in {TIME_MAX:?}\nrelay: {}\nhub: {}",
        site.last_words("relay"),
        site.last_words("hub")
    );
    let bytes: usize = documents.iter().map(String::len).sum();
    println!(
        "{DOCUMENTS} documents, {bytes} bytes, and their answers in {:.1?}, relay killed {KILLS} times",
        began.elapsed()
    );
}

async fn run(site: &mut Site, documents: &[String]) {
    for party in ["hub"].into_iter().chain(MISSIONS) {
        wait_until_up(&site.desk(party)).await;
    }
    let shares: Vec<Vec<String>> = (0..MISSIONS.len())
        .map(|n| documents.iter().skip(n).step_by(MISSIONS.len()).cloned().collect())
        .collect();
    let senders =
        MISSIONS.iter().zip(shares.clone()).map(|(mission, share)| send_all(site.desk(mission), share));
    let senders: Vec<_> = senders.map(tokio::spawn).collect();
    let received = receive_and_answer(site, documents.len()).await;
    for sender in senders {
        sender.await.expect("every document was taken into its outbox");
    }
    for (mission, share) in MISSIONS.iter().zip(&shares) {
        let from: Vec<&String> = received
            .iter()
            .filter(|(from, _)| from.eq_ignore_ascii_case(mission))
            .map(|(_, body)| body)
            .collect();
        assert_eq!(from.len(), share.len(), "documents of {mission}");
        assert!(from.into_iter().eq(share), "documents of {mission} arrive byte for byte, in order");
        let answers = wait_for_answers(&site.desk(mission), share.len()).await;
        let expected: Vec<String> = share.iter().map(|document| answer_to(document)).collect();
        assert_eq!(answers, expected, "answers to {mission}");
        let status = site.desk(mission).status().await.expect("status");
        assert_eq!(
            (status.queued, status.refused, status.set_aside),
            (0, 0, 0),
            "{mission}: {:?}",
            status.alarms
        );
    }
}

async fn wait_until_up(desk: &DeskClient) {
    // A socket that is not there yet cannot tell when it will be: this is the one place that asks again.
    while desk.status().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn send_all(desk: DeskClient, share: Vec<String>) {
    for (n, body) in share.into_iter().enumerate() {
        let dispatch = NewDispatch {
            to: vec!["MOD".to_owned()],
            topic: "cyber".to_owned(),
            precedence: "routine".to_owned(),
            subject: format!("EXERCISE document {n}"),
            body,
            exercise: true,
            idempotency_key: Some(format!("document-{n}")),
            ..NewDispatch::default()
        };
        desk.send(&dispatch).await.expect("taken into the outbox");
    }
}

/// Takes documents from the ministry's inbox in the order of its register, answers each, and kills the
/// relay when a sixth, two sixths... of them are here. Returns sender and body of each.
async fn receive_and_answer(site: &mut Site, count: usize) -> Vec<(String, String)> {
    let hub = site.desk("hub");
    let mut received = Vec::new();
    let mut kills = 0;
    while received.len() < count {
        for incoming in next_of(&hub, received.len() as u64).await {
            assert_eq!(incoming.register, received.len() as u64 + 1, "the register has no gap");
            let whole = hub.incoming(&incoming.id).await.expect("whole dispatch");
            assert_eq!(whole.summary.notices, Vec::<String>::new(), "no gap in any stream");
            hub.send(&answer(&incoming, &whole.body)).await.expect("taken into the outbox");
            received.push((incoming.from, whole.body));
            if received.len() == count * (kills + 1) / (KILLS + 1) && kills < KILLS {
                site.kill("relay");
                site.start("relay");
                kills += 1;
            }
        }
    }
    assert_eq!(kills, KILLS);
    received
}

async fn next_of(desk: &DeskClient, after: u64) -> Vec<Incoming> {
    loop {
        let filter = InboxFilter { after: Some(after), limit: Some(100), ..InboxFilter::default() };
        let next = desk.inbox(&filter).await.expect("inbox");
        if !next.is_empty() {
            return next;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn wait_for_answers(desk: &DeskClient, count: usize) -> Vec<String> {
    let mut answers = Vec::new();
    while answers.len() < count {
        for incoming in next_of(desk, answers.len() as u64).await {
            answers.push(desk.incoming(&incoming.id).await.expect("whole dispatch").body);
        }
    }
    answers
}

fn answer(to: &Incoming, body: &str) -> NewDispatch {
    NewDispatch {
        to: vec![to.from.clone()],
        topic: "cyber".to_owned(),
        precedence: "routine".to_owned(),
        subject: format!("EXERCISE receipt of {}", to.reference),
        body: answer_to(body),
        in_reply_to: Some(to.id.clone()),
        exercise: true,
        idempotency_key: Some(format!("answer-{}", to.id)),
        ..NewDispatch::default()
    }
}

fn answer_to(document: &str) -> String {
    format!("Received {} bytes, SHA-256 {}.", document.len(), merkle::sha256(document.as_bytes()))
}
