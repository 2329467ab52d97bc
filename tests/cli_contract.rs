//! The command line as scripts rely on it: exit codes, streams, and the two forms of output. The desk
//! is a fake that gives fixed answers, so that every exit code can be had.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use axum::extract::{Path as Segment, Query};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use pouch::desk::view::{
    AddresseeState, ApiError, Awaited, BatchShare, Commit, Cursor, Evidence, InForce, InboxFilter, Incoming,
    IncomingWhole, Named, NewDispatch, NewOrder, OutboxWait, Outgoing, Overdue, ProvenEnvelope, ProvenLeaf,
    Refusal, Status, Waiting, Witnessed,
};

/// A fake desk on a socket in a folder of its own.
struct Desk {
    folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Desk {
    fn start() -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = {
            let _guard = runtime.enter();
            tokio::net::UnixListener::bind(folder.path().join("desk.sock")).unwrap()
        };
        let routes = Router::new()
            .route("/v1/dispatches", post(send).get(inbox))
            .route("/v1/dispatches/{id}", get(async || Json(whole())))
            .route("/v1/dispatches/{id}/evidence", get(async || Json(evidence())))
            .route("/v1/dispatches/{id}/read", post(async || Json(incoming())))
            .route("/v1/dispatches/{id}/acknowledge", post(async || Json(incoming())))
            .route("/v1/outbox", get(async || Json(vec![outgoing("K7QF"), outgoing("T0PC")])))
            .route("/v1/outbox/{id}", get(outbox))
            .route("/v1/cursors/{name}/take", post(take))
            .route(
                "/v1/cursors/{name}/commit",
                post(async |Json(commit): Json<Commit>| Json(Cursor { register: commit.register })),
            )
            .route("/v1/status", get(async || Json(status())))
            .route("/v1/orders", post(order))
            .route("/v1/roster", post(publish));
        runtime.spawn(async { axum::serve(listener, routes).await });
        Desk { folder, _runtime: runtime }
    }

    fn pouch(&self, line: &[&str]) -> Output {
        pouch(&self.folder.path().join("desk.sock"), line)
    }
}

fn pouch(socket: &Path, line: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pouch"))
        .args(line)
        .env("POUCH_SOCKET", socket)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Refuses by the addressee's name, and gives the short id that the fake outbox knows by the subject.
async fn send(Json(new): Json<NewDispatch>) -> Result<Json<Outgoing>, (StatusCode, Json<ApiError>)> {
    let refused = |status: StatusCode, code: &str| {
        let sentence = format!("{code}: do something else");
        Err((status, Json(ApiError { code: code.to_owned(), sentence })))
    };
    match new.to[0].as_str() {
        "XXX" => refused(StatusCode::BAD_REQUEST, "unknown-addressee"),
        "VNM" => refused(StatusCode::FORBIDDEN, "not-permitted"),
        "BIG" => refused(StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
        "ERR" => refused(StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        _ => Ok(Json(outgoing(&new.subject))),
    }
}

/// What the log has not been proven to hold yet.
fn evidence() -> Evidence {
    let signature = BatchShare { count: 1, index: 0, path: String::new(), signature: String::new() };
    let envelope = ProvenEnvelope {
        header: String::new(),
        ciphertext: String::new(),
        signature,
        leaf: ProvenLeaf::default(),
    };
    Evidence {
        id: "id".into(),
        trust_domain: "bloc.example".into(),
        log_origin: "relay.bloc.example/log".into(),
        envelope,
        receipts: Vec::new(),
        rosters: vec![1],
    }
}

/// One dispatch, register 17.
async fn inbox(Query(filter): Query<InboxFilter>) -> Json<Vec<Incoming>> {
    Json(if filter.after < Some(17) { vec![incoming()] } else { Vec::new() })
}

/// Takes or refuses an order by the party's name.
async fn order(Json(new): Json<NewOrder>) -> Result<Json<InForce>, (StatusCode, Json<ApiError>)> {
    let refused = |status: StatusCode, code: &str| {
        Err((status, Json(ApiError { code: code.to_owned(), sentence: "words".to_owned() })))
    };
    match new.party.as_str() {
        "OFF" => refused(StatusCode::SERVICE_UNAVAILABLE, "no-contact"),
        "NOT" => refused(StatusCode::CONFLICT, "declined"),
        "LATE" => refused(StatusCode::GATEWAY_TIMEOUT, "unanswered"),
        _ => Ok(Json(InForce { position: Some(9), number: Some(3) })),
    }
}

async fn publish(body: String) -> Json<InForce> {
    Json(InForce { position: (body != "known").then_some(9), number: None })
}

async fn outbox(Segment(id): Segment<String>, Query(wait): Query<OutboxWait>) -> Json<Outgoing> {
    assert!(wait.wait.is_none() || wait.timeout_s == Some(1));
    Json(outgoing(&id))
}

/// The cursor `busy` is another reader's.
async fn take(Segment(name): Segment<String>) -> Result<Json<Cursor>, (StatusCode, Json<ApiError>)> {
    match name.as_str() {
        "busy" => Err((
            StatusCode::CONFLICT,
            Json(ApiError { code: "taken".into(), sentence: "another reader has the cursor busy".into() }),
        )),
        _ => Ok(Json(Cursor { register: 16 })),
    }
}

/// `K7QF` is accepted and delivered, `T0PC` was refused, `S1DE` set aside, `G0NE` expired, all else waits.
fn outgoing(short: &str) -> Outgoing {
    let time = || Some("2026-11-24T10:16:00Z".to_owned());
    let state = match short {
        "K7QF" | "S1DE" | "G0NE" => "accepted",
        "T0PC" => "refused",
        _ => "queued",
    };
    let refusal = || Refusal { code: "TOPIC".into(), sentence: "IDN may not use this topic\u{1b}[2J".into() };
    Outgoing {
        id: short.into(),
        short: short.into(),
        reference: "IDN/2026/4".into(),
        dtg: "241015ZNOV26".into(),
        subject: "Unlit vessel".into(),
        topic: "maritime".into(),
        precedence: "flash".into(),
        exercise: true,
        state: state.into(),
        queued_at: "2026-11-24T10:15:00Z".into(),
        accepted_at: (state == "accepted").then(time).flatten(),
        position: (state == "accepted").then_some(42),
        envelope_hash: None,
        witnessed: (short == "K7QF").then_some(Witnessed { by: 7, of: 11 }),
        refusal: (state == "refused").then(refusal),
        info_precedence: "flash".into(),
        label: "BLOC RESTRICTED".into(),
        named: vec![Named { code: "MOD".into(), role: "to".into(), parties: Some(1), left_out: Vec::new() }],
        addressees: vec![AddresseeState {
            code: "MOD".into(),
            role: "to".into(),
            delivered_at: (short == "K7QF").then(time).flatten(),
            set_aside_at: (short == "S1DE").then(time).flatten(),
            set_aside_reason: (short == "S1DE").then(|| "signature does not fit".into()),
            expired_at: (short == "G0NE").then(time).flatten(),
            accepted_at: (state == "accepted").then(time).flatten(),
            state: match short {
                "K7QF" => "delivered",
                "S1DE" => "set aside",
                "G0NE" => "expired",
                _ => "waiting",
            }
            .into(),
            read_at: None,
            acknowledged_at: None,
            remark: None,
            answered_at: None,
            witnessed: None,
            awaited: (short == "K7QF").then(|| awaited("acknowledgement")),
        }],
        duplicate: false,
    }
}

fn awaited(step: &str) -> Awaited {
    Awaited { step: step.into(), due_at: "2026-11-24T10:25:00Z".into(), overdue: true }
}

fn incoming() -> Incoming {
    Incoming {
        register: 17,
        id: "019ac4d4-0000-7000-8000-000000000000".into(),
        short: "R4DR".into(),
        from: "MYS".into(),
        role: "to".into(),
        reference: "MYS/2026/9".into(),
        dtg: "241015ZNOV26".into(),
        subject: "Drill\u{1b}]0;owned\u{7}\u{202e}".into(),
        topic: "maritime".into(),
        precedence: "priority".into(),
        label: "BLOC RESTRICTED".into(),
        kind: "request".into(),
        exercise: false,
        acknowledgement_required: true,
        received_at: "2026-11-24T10:16:00Z".into(),
        read_at: None,
        acknowledged_at: None,
        set_aside: None,
        awaited: Some(awaited("answer")),
        witnessed: None,
        notices: Vec::new(),
        position: 41,
        envelope_hash: String::new(),
    }
}

fn whole() -> IncomingWhole {
    IncomingWhole {
        summary: incoming(),
        addressees: vec![("IDN".into(), "to".into())],
        exempt: Vec::new(),
        office: String::new(),
        person: String::new(),
        language: "en".into(),
        in_reply_to: None,
        acknowledgement_due: None,
        answer_due: None,
        body: "Please confirm.\u{9b}31m\n".into(),
    }
}

fn status() -> Status {
    Status {
        daemon: "mission".into(),
        code: "IDN".into(),
        trust_domain: "bloc.example".into(),
        link: "offline".into(),
        link_reason: Some("cannot resolve relay.bloc.example: check the name".into()),
        relay: "relay.bloc.example:7443".into(),
        since: "2026-11-24T10:16:00Z".into(),
        last_contact: None,
        roster_version: 3,
        queued: 2,
        undelivered: 0,
        waiting: Waiting { routine: 2, ..Waiting::default() },
        oldest_queued_at: Some("2026-11-24T10:15:00Z".into()),
        oldest_undelivered_at: None,
        refused: 0,
        inbox: 17,
        unread: 0,
        unacknowledged: 1,
        set_aside: 0,
        overdue: Overdue { addressees: 2, answers_owed: 1, ..Overdue::default() },
        receipts_waiting: 0,
        proofs_owed: 0,
        log_verified: 0,
        orders: Vec::new(),
        alarms: Vec::new(),
        version: "0.1.0".into(),
    }
}

fn exit(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// `pouch send` of a dispatch with this subject, which names a fate in the fake outbox.
fn sent(desk: &Desk, to: &str, subject: &str, more: &[&str]) -> Output {
    let line = [&["send", "--to", to, "--topic", "maritime", "--subject", subject], more].concat();
    desk.pouch(&line)
}

#[test]
fn a_desk_that_is_not_there_gives_3() {
    let folder = tempfile::tempdir().unwrap();
    for line in [&["status"][..], &["inbox", "--json"], &["read", "R4DR"], &["ack", "R4DR"], &["outbox"]] {
        let output = pouch(&folder.path().join("none.sock"), line);
        assert_eq!((exit(&output), out(&output)), (3, ""), "{line:?}");
        assert!(err(&output).ends_with("or name its socket with --socket\n"), "{}", err(&output));
    }
}

#[test]
fn what_cannot_be_understood_gives_2() {
    let desk = Desk::start();
    for line in [
        &["send"][..],
        &["send", "--to", "MOD", "--topic", "maritime"],
        &["send", "--to", "MOD", "--topic", "maritime", "--expires", "soon", "x"],
        &["send", "--to", "MOD", "--topic", "maritime", "--body-file", "/nowhere", "x"],
        &["outbox", "--wait", "read"],
        &["frobnicate"],
    ] {
        assert_eq!(exit(&desk.pouch(line)), 2, "{line:?}");
    }
    assert_eq!(exit(&sent(&desk, "BIG", "x", &[])), 2);
}

#[test]
fn refusals_of_the_desk_give_6_7_and_1() {
    let desk = Desk::start();
    assert_eq!(exit(&sent(&desk, "XXX", "x", &[])), 6);
    assert_eq!(exit(&sent(&desk, "VNM", "x", &[])), 7);
    let output = sent(&desk, "ERR", "x", &[]);
    assert_eq!((exit(&output), out(&output)), (1, ""));
    assert_eq!(err(&output), "pouch: internal: do something else\n");
}

#[test]
fn a_refusal_by_the_relay_or_an_addressee_gives_4_in_harmless_words() {
    let desk = Desk::start();
    let output = sent(&desk, "MOD", "T0PC", &["--wait", "accepted", "--timeout", "1s"]);
    assert_eq!(exit(&output), 4);
    assert!(err(&output).contains("TOPIC: IDN may not use this topic␛[2J: correct it"), "{}", err(&output));
    let output = sent(&desk, "MOD", "S1DE", &["--wait", "delivered", "--timeout", "1s"]);
    assert_eq!(exit(&output), 4);
    assert!(err(&output).contains("set aside by MOD: signature does not fit"), "{}", err(&output));
    let output = sent(&desk, "MOD", "G0NE", &["--wait", "delivered", "--timeout", "1s"]);
    assert_eq!(exit(&output), 4);
    assert!(err(&output).contains("G0NE expired before MOD fetched it"), "{}", err(&output));
}

#[test]
fn one_dispatch_is_shown_with_the_chain_of_receipts_of_each_addressee() {
    let desk = Desk::start();
    for (short, chain) in [
        ("K7QF", "MOD TO delivered OVERDUE 241025ZNOV26 241016ZNOV26 241016ZNOV26 - - -"),
        ("S1DE", "MOD TO set aside - 241016ZNOV26 - - - - set aside 241016ZNOV26: signature does not fit"),
        ("G0NE", "MOD TO expired - 241016ZNOV26 - - - - expired 241016ZNOV26: not fetched in time"),
        ("WA1T", "MOD TO waiting - - - - - -"),
    ] {
        let output = desk.pouch(&["outbox", short]);
        let shown = out(&output).lines().find(|line| line.starts_with("MOD ")).unwrap_or_default();
        assert_eq!(shown.split_whitespace().collect::<Vec<_>>().join(" "), chain, "{}", out(&output));
    }
}

#[test]
fn a_wait_that_ends_gives_0_and_one_that_runs_out_gives_5() {
    let desk = Desk::start();
    assert_eq!(exit(&sent(&desk, "MOD", "K7QF", &["--wait", "delivered", "--timeout", "1s"])), 0);
    let output = sent(&desk, "MOD", "K7QF", &["--wait", "ack", "--timeout", "1s"]);
    assert_eq!(exit(&output), 5);
    assert!(err(&output).contains("K7QF is not yet acknowledged: it stays queued"), "{}", err(&output));
    assert_eq!(exit(&desk.pouch(&["outbox", "W41T", "--wait", "accepted", "--timeout", "1s", "--json"])), 5);
}

#[test]
fn sending_says_that_it_is_in_clear_and_what_to_type_next() {
    let desk = Desk::start();
    let output = sent(&desk, "MOD", "W41T", &[]);
    assert_eq!(exit(&output), 0);
    let expected = "\
queued    W41T as IDN/2026/4, 241015ZNOV26, to MOD
note      until sealing exists, a dispatch travels in clear inside its envelope: whoever runs the relay can read it

next      pouch outbox W41T --wait delivered
";
    assert_eq!(out(&output), expected);
    let output = sent(&desk, "MOD", "W41T", &["--json"]);
    assert!(err(&output).contains("travels in clear"), "{}", err(&output));
}

#[test]
fn json_is_one_object_a_line_and_nothing_else() {
    let desk = Desk::start();
    let lines = |line: &[&str]| -> Vec<serde_json::Value> {
        let output = desk.pouch(line);
        out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(lines(&["outbox", "--json"]).len(), 2);
    assert_eq!(lines(&["outbox", "K7QF", "--json"])[0]["position"], 42);
    assert_eq!(
        lines(&["send", "--to", "MOD", "--topic", "maritime", "W41T", "--json"])[0]["state"],
        "queued"
    );
    assert_eq!(lines(&["inbox", "--json"])[0]["subject"], incoming().subject);
    assert_eq!(lines(&["read", "R4DR", "--json"])[0]["body"], whole().body);
    assert_eq!(lines(&["ack", "R4DR", "--json"])[0]["register"], 17);
    assert_eq!(lines(&["status", "--json"])[0]["link"], "offline");
}

#[test]
fn nothing_that_a_peer_wrote_reaches_a_terminal_raw() {
    let desk = Desk::start();
    for line in [&["inbox"][..], &["inbox", "--json"], &["read", "R4DR"], &["read", "R4DR", "--json"]] {
        let output = desk.pouch(line);
        assert_eq!(exit(&output), 0, "{line:?}");
        let raw = |symbol: char| {
            (symbol.is_control() && symbol != '\n') || ('\u{202a}'..='\u{202e}').contains(&symbol)
        };
        assert_eq!(out(&output).find(raw), None, "{line:?}: {}", out(&output));
    }
}

#[test]
fn people_get_tables_that_end_with_the_next_command() {
    let desk = Desk::start();
    let output = desk.pouch(&["outbox"]);
    let expected = "\
ID    DTG           PRECEDENCE  TOPIC     TO   STATE          WITNESSED   DUE                   SUBJECT
K7QF  241015ZNOV26  FLASH       maritime  MOD  delivered 1/1  by 7 of 11  OVERDUE 241025ZNOV26  EXERCISE Unlit vessel
T0PC  241015ZNOV26  FLASH       maritime  MOD  refused                    -                     EXERCISE Unlit vessel

next      pouch outbox T0PC
";
    assert_eq!(out(&output), expected);
    let shown = desk.pouch(&["outbox", "K7QF"]);
    assert!(out(&shown).contains("MOD        TO    delivered  OVERDUE 241025ZNOV26"), "{}", out(&shown));
    let inbox = desk.pouch(&["inbox"]);
    assert!(
        out(&inbox).contains("maritime  answer owed  not yet    OVERDUE 241025ZNOV26"),
        "{}",
        out(&inbox)
    );
    let status = desk.pouch(&["status"]);
    let words = "overdue   2 not delivered or acknowledged, 1 to answer here\n";
    assert!(out(&status).contains(words), "{}", out(&status));
    assert!(out(&desk.pouch(&["inbox"])).ends_with("\nnext      pouch read R4DR\n"));
    assert!(out(&desk.pouch(&["read", "R4DR"])).ends_with("\nnext      pouch ack R4DR -m \"remark\"\n"));
    assert!(out(&desk.pouch(&["ack", "R4DR"])).ends_with("\nnext      pouch inbox --unacked\n"));
    assert!(out(&desk.pouch(&["status"])).ends_with("\nnext      pouch inbox --unacked\n"));
}

#[test]
fn a_watch_hands_each_dispatch_to_the_command_and_ends_with_1_where_it_fails() {
    let desk = Desk::start();
    let command = "cat; echo \"$POUCH_SHORT $POUCH_REGISTER $POUCH_FROM $POUCH_PRECEDENCE\"";
    let output = desk.pouch(&["watch", "--once", "--exec", command]);
    assert_eq!(exit(&output), 0, "{}", err(&output));
    let (json, variables) = out(&output).split_once('\n').unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(json).unwrap()["register"], 17);
    assert_eq!(variables, "R4DR 17 MYS priority\n");
    assert_eq!(
        exit(&desk.pouch(&["watch", "--once", "--exec", "true"])),
        0,
        "standard input may stay unread"
    );
    let failed = desk.pouch(&["watch", "--once", "--exec", "exit 3", "--attempts", "1"]);
    assert_eq!(exit(&failed), 1);
    let words = "the command failed 1 times with R4DR, register 17 (exit status: 3)";
    assert!(err(&failed).contains(words), "{}", err(&failed));
    assert!(out(&desk.pouch(&["watch", "--once"])).starts_with("17  R4DR  MYS  241015ZNOV26  PRIORITY"));
    let json = desk.pouch(&["watch", "--once", "--json", "--consumer", "printer"]);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&json.stdout).unwrap()["short"], "R4DR");
}

#[test]
fn an_answer_is_queued_like_any_dispatch() {
    let desk = Desk::start();
    let output = desk.pouch(&["reply", "R4DR", "Confirmed.", "--all", "--json"]);
    assert_eq!(exit(&output), 0, "{}", err(&output));
    // The fake outbox takes the subject for the short id.
    assert!(out(&output).contains("Re: Drill"), "{}", out(&output));
    assert_eq!(exit(&desk.pouch(&["reply", "R4DR"])), 2, "an answer says something");
}

#[test]
fn an_order_says_what_is_in_force_or_gives_3_4_or_5() {
    let desk = Desk::start();
    let suspended = desk.pouch(&["order", "suspend", "IDN", "--until", "241200ZNOV26"]);
    assert_eq!(exit(&suspended), 0, "{}", err(&suspended));
    let words = "order 3 is in force at position 9: IDN is suspended until 241200ZNOV26";
    assert!(out(&suspended).starts_with(words), "{}", out(&suspended));
    let ended = desk.pouch(&["order", "minimize", "--end", "--json"]);
    assert_eq!(out(&ended), "{\"position\":9,\"number\":3}\n");
    for (party, code) in [("OFF", 3), ("NOT", 4), ("LATE", 5)] {
        assert_eq!(exit(&desk.pouch(&["order", "lift", party])), code, "{party}");
    }
    for wrong in
        [&["order", "minimize"][..], &["order", "suspend"], &["order", "suspend", "IDN", "--until", "soon"]]
    {
        assert_eq!(exit(&desk.pouch(wrong)), 2, "{wrong:?}");
    }
}

#[test]
fn publishing_a_roster_says_where_it_is_in_force() {
    let desk = Desk::start();
    let file = desk.folder.path().join("roster.note");
    for (note, words) in
        [("new", "in force at position 9"), ("known", "this very roster is in force already")]
    {
        std::fs::write(&file, note).unwrap();
        let published = desk.pouch(&["roster", "publish", file.to_str().unwrap()]);
        assert!(out(&published).starts_with(words), "{}{}", out(&published), err(&published));
    }
    assert_eq!(exit(&desk.pouch(&["roster", "publish", "/nowhere/roster.note"])), 2);
}

#[test]
fn a_wrong_configuration_gives_78_and_names_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pouch.toml");
    std::fs::write(&file, "\nlisen = \"127.0.0.1:1\"\n").unwrap();
    let check = ["config", "check", "relay", "--config", file.to_str().unwrap()];
    let output = pouch(folder.path(), &check);
    assert_eq!(exit(&output), 78);
    let expected = format!("pouch: {}:2:1: unknown key `lisen`: did you mean `listen`?\n", file.display());
    assert_eq!(err(&output), expected);
}

#[test]
fn the_example_configuration_passes_its_own_check() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pouch.toml");
    let output = pouch(folder.path(), &["config", "example", "relay"]);
    std::fs::write(&file, &output.stdout).unwrap();
    let output = pouch(folder.path(), &["config", "check", "relay", "--config", file.to_str().unwrap()]);
    assert_eq!(exit(&output), 0, "{}", err(&output));
}

#[test]
fn a_second_watch_on_one_cursor_is_told_so_and_gives_4() {
    let desk = Desk::start();
    let output = desk.pouch(&["watch", "--once", "--cursor", "busy", "--exec", "true"]);
    assert_eq!((exit(&output), out(&output)), (4, ""));
    assert!(err(&output).contains("another reader has the cursor busy"), "{}", err(&output));
}

#[test]
fn a_dispatch_whose_leaf_is_not_proven_yet_gives_no_file_and_exits_9() {
    let desk = Desk::start();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("proof");
    let output = desk.pouch(&["audit", "prove", "K7QF", "--out", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(9));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        words.starts_with("pouch: K7QF: the desk has no proof yet") && words.contains("try again"),
        "{words}"
    );
    assert!(!out.exists());
}
