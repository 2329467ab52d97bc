//! The commands of the README run as they stand there: those on files in a folder of their own, those
//! at a desk against a relay, a ministry and an embassy that run for the test.

mod support;

use std::{
    env, fs,
    path::Path,
    process::{Command, Output},
};

use pouch::desk::{client::DeskClient, view::InboxFilter};
use support::Site;

/// What starts with this builds, plays or tests everything; `.ci/run` does that.
const LEFT_TO_CI: &str = "cargo ";
/// The short id in the README; the true one is drawn at random.
const SHORT_ID: &str = "7K3M";

/// One command of a `console` block.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    /// From the comment before it, such as `# at the embassy`.
    place: Option<String>,
    command: String,
}

#[test]
fn commands_on_files_run_as_the_readme_has_them() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let scripts = folder.path().join("certs-example");
    fs::create_dir(&scripts).expect("folder made");
    fs::copy(root().join("certs-example/make.sh"), scripts.join("make.sh")).expect("script copied");
    let steps = steps(&readme());
    let on_files: Vec<&Step> =
        steps.iter().filter(|step| step.place.is_none() && !step.command.starts_with(LEFT_TO_CI)).collect();
    assert!(on_files.len() >= 5, "the README shows commands on files: {on_files:?}");
    for step in on_files {
        assert_success(&step.command, &shell(&step.command, folder.path(), None));
    }
}

#[test]
fn commands_at_a_desk_run_as_the_readme_has_them() {
    let mut site = Site::new();
    for party in ["relay", "hub", "idn"] {
        site.start(party);
    }
    wait_for_the_socket(&site, "idn");
    wait_for_the_socket(&site, "hub");
    let steps = steps(&readme());
    let at_desks: Vec<&Step> = steps.iter().filter(|step| step.place.is_some()).collect();
    assert!(at_desks.len() >= 5, "the README shows commands at desks: {at_desks:?}");
    for step in at_desks {
        let party = match step.place.as_deref() {
            Some("at the ministry") => "hub",
            Some("at the embassy") => "idn",
            other => panic!("no desk stands {other:?}"),
        };
        let mut command = step.command.clone();
        if command.contains(SHORT_ID) {
            command = command.replace(SHORT_ID, &first_short_id(&site.desk(party)));
        }
        let output = shell(&command, root(), Some(&site.socket(party)));
        assert_success(&command, &output);
    }
    let acknowledged = shell("pouch inbox --unacked --json", root(), Some(&site.socket("hub")));
    assert!(acknowledged.stdout.is_empty(), "the README acknowledged it: {acknowledged:?}");
}

#[test]
fn steps_are_the_dollar_lines_of_console_blocks_with_the_place_before_them() {
    let text = "$ not this\n```sh\n$ nor this\n```\n```console\n# at the embassy\n$ a b\nout\n$ c\n```\n```console\n$ d\n```\n";
    let step = |place: Option<&str>, command: &str| Step {
        place: place.map(str::to_owned),
        command: command.to_owned(),
    };
    let embassy = Some("at the embassy");
    assert_eq!(steps(text), [step(embassy, "a b"), step(embassy, "c"), step(None, "d")]);
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut place = None;
    let mut inside = false;
    for line in text.lines() {
        match (inside, line) {
            (false, "```console") => (inside, place) = (true, None),
            (true, "```") => inside = false,
            (true, line) => {
                if let Some(comment) = line.strip_prefix("# ") {
                    place = Some(comment.to_owned());
                } else if let Some(command) = line.strip_prefix("$ ") {
                    steps.push(Step { place: place.clone(), command: command.to_owned() });
                }
            }
            (false, _) => {}
        }
    }
    steps
}

/// Runs a line as a reader's shell would, with this build's `pouch` first on the path.
fn shell(command: &str, folder: &Path, socket: Option<&Path>) -> Output {
    let built = Path::new(env!("CARGO_BIN_EXE_pouch")).parent().expect("a binary lies in a folder");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([built.to_owned()].into_iter().chain(env::split_paths(&path)));
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(folder).env("PATH", path.expect("paths without a colon"));
    if let Some(socket) = socket {
        shell.env("POUCH_SOCKET", socket);
    }
    shell.output().expect("sh runs")
}

fn assert_success(command: &str, output: &Output) {
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (words(&output.stdout), words(&output.stderr));
    assert!(output.status.success(), "{command}\n{}\n{out}\n{error}", output.status);
}

/// The API is there as soon as the daemon's store is open; the link comes when it comes.
fn wait_for_the_socket(site: &Site, party: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let answers = async {
        while site.desk(party).status().await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let in_time = runtime
        .block_on(async { tokio::time::timeout(std::time::Duration::from_secs(60), answers).await.is_ok() });
    assert!(in_time, "{party} does not answer: {}", site.last_words(party));
}

fn first_short_id(desk: &DeskClient) -> String {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let inbox = runtime.block_on(desk.inbox(&InboxFilter::default())).expect("the desk answers");
    inbox.first().expect("what the README sends has come").short.clone()
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("readable README")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
