//! What the demo's parties write to each other, read from `scenario.toml`.

use serde::Deserialize;

use crate::desk::view::NewDispatch;

/// Stands before and after each text, beside the flag: whoever reads only the text knows it too.
pub const MARK: &str = "EXERCISE EXERCISE EXERCISE";

/// The texts and their order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Code of the mission that falls silent.
    pub silent: String,
    /// Key of the dispatch after whose arrival it does.
    pub silent_after: String,
    /// Key of the dispatch after whose hand-in `--check` kills the relay.
    pub relay_killed_after: String,
    /// In the order in which they are handed in.
    #[serde(rename = "dispatch")]
    pub dispatches: Vec<Scripted>,
}

/// One dispatch of the scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scripted {
    /// Its name within the scenario, and its idempotency key at the desk.
    pub key: String,
    /// Sender's code.
    pub from: String,
    /// Action addressees, by code.
    pub to: Vec<String>,
    /// Information addressees, by code.
    #[serde(default)]
    pub info: Vec<String>,
    /// Topic id of the roster.
    pub topic: String,
    /// As in [`NewDispatch`].
    #[serde(default = "routine")]
    pub precedence: String,
    /// As in [`NewDispatch`].
    #[serde(default = "lowest")]
    pub label: String,
    /// As in [`NewDispatch`].
    pub kind: String,
    /// One line.
    pub subject: String,
    /// Originating office.
    pub office: String,
    /// BCP 47 tag; English where absent.
    #[serde(default = "english")]
    pub language: String,
    /// Key of the dispatch that this one answers.
    pub answers: Option<String>,
    /// Whether a person must acknowledge.
    #[serde(default)]
    pub acknowledge: bool,
    /// What it says, without the marks.
    text: String,
}

fn routine() -> String {
    "routine".to_owned()
}

fn lowest() -> String {
    "BLOC UNCLASSIFIED".to_owned()
}

fn english() -> String {
    "en".to_owned()
}

impl Scenario {
    /// The scenario that this binary holds.
    pub fn load() -> Scenario {
        toml::from_str(include_str!("scenario.toml")).expect("the tests below read the same file")
    }

    /// Splits the dispatches behind the one with this key.
    pub fn split_after(&self, key: &str) -> (&[Scripted], &[Scripted]) {
        let at = self.dispatches.iter().position(|scripted| scripted.key == key);
        self.dispatches.split_at(at.map_or(self.dispatches.len(), |at| at + 1))
    }
}

impl Scripted {
    /// The body as it is sent: the text between its marks.
    pub fn body(&self) -> String {
        format!("{MARK}\n\n{}\n\n{MARK}\n", self.text)
    }

    /// All addressees with their role as the desk's API writes it, TO first.
    pub fn addressees(&self) -> impl Iterator<Item = (&str, &'static str)> {
        let to = self.to.iter().map(|code| (code.as_str(), "to"));
        to.chain(self.info.iter().map(|code| (code.as_str(), "info")))
    }

    /// What its sender's desk is given; `in_reply_to` is the id of what it answers.
    pub fn dispatch(&self, in_reply_to: Option<String>) -> NewDispatch {
        NewDispatch {
            to: self.to.clone(),
            info: self.info.clone(),
            topic: self.topic.clone(),
            precedence: self.precedence.clone(),
            label: self.label.clone(),
            kind: self.kind.clone(),
            subject: self.subject.clone(),
            body: self.body(),
            language: self.language.clone(),
            in_reply_to,
            acknowledgement_required: self.acknowledge,
            exercise: true,
            office: self.office.clone(),
            idempotency_key: Some(self.key.clone()),
            ..NewDispatch::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{demo::DESKS, limits, seal};

    fn codes() -> BTreeSet<&'static str> {
        DESKS.iter().map(|(code, _)| *code).collect()
    }

    #[test]
    fn everybody_in_the_scenario_has_a_desk_and_nobody_writes_to_themselves() {
        let (scenario, codes) = (Scenario::load(), codes());
        assert!(codes.contains(scenario.silent.as_str()));
        for scripted in &scenario.dispatches {
            let mut seen = BTreeSet::from([scripted.from.as_str()]);
            assert!(codes.contains(scripted.from.as_str()), "{}", scripted.key);
            assert!(!scripted.to.is_empty(), "{}", scripted.key);
            for (code, _) in scripted.addressees() {
                assert!(codes.contains(code) && seen.insert(code), "{}: {code}", scripted.key);
            }
        }
    }

    #[test]
    fn an_answer_comes_after_what_it_answers_and_from_somebody_who_got_it() {
        let scenario = Scenario::load();
        for (at, scripted) in scenario.dispatches.iter().enumerate() {
            let before = &scenario.dispatches[..at];
            assert!(before.iter().all(|one| one.key != scripted.key), "{} stands twice", scripted.key);
            if let Some(key) = &scripted.answers {
                let answered = before.iter().find(|one| one.key == *key).expect(key);
                assert!(answered.addressees().any(|(code, _)| code == scripted.from), "{}", scripted.key);
            }
        }
    }

    #[test]
    fn after_it_falls_silent_a_mission_writes_nothing_and_is_written_to() {
        let scenario = Scenario::load();
        let (before, after) = scenario.split_after(&scenario.silent_after);
        assert!(before.iter().any(|one| one.from == scenario.silent));
        assert!(after.iter().all(|one| one.from != scenario.silent));
        let waits = |one: &&Scripted| one.addressees().any(|(code, _)| code == scenario.silent);
        assert!(after.iter().filter(waits).count() > 0);
        let (_, later) = scenario.split_after(&scenario.relay_killed_after);
        assert!(!later.is_empty() && later.len() < after.len());
    }

    #[test]
    fn every_topic_and_two_labels_are_used_and_a_flash_comes_last() {
        let scenario = Scenario::load();
        let of = |pick: fn(&Scripted) -> &str| scenario.dispatches.iter().map(pick).collect::<BTreeSet<_>>();
        assert_eq!(
            of(|one| &one.topic),
            BTreeSet::from(["cyber", "industry", "intelligence", "maritime", "peacekeeping"])
        );
        assert_eq!(of(|one| &one.label), BTreeSet::from(["BLOC RESTRICTED", "BLOC UNCLASSIFIED"]));
        assert_eq!(of(|one| &one.precedence), BTreeSet::from(["flash", "immediate", "priority", "routine"]));
        let last = scenario.dispatches.last().expect("a scenario");
        assert!(last.precedence == "flash" && last.acknowledge);
    }

    #[test]
    fn every_dispatch_keeps_its_bounds_and_says_exercise_in_flag_and_text() {
        for scripted in Scenario::load().dispatches {
            let new = scripted.dispatch(None);
            assert!(new.exercise && new.body.starts_with(MARK) && new.body.ends_with(&format!("{MARK}\n")));
            assert!((1..=seal::SUBJECT_BYTES_MAX).contains(&new.subject.len()), "{}", scripted.key);
            assert!(new.body.len() < limits::DISPATCH_BYTES_MAX, "{}", scripted.key);
            assert!(!new.subject.chars().any(char::is_control), "{}", scripted.key);
            assert!(new.body.lines().all(|line| line.chars().count() <= 120), "{}", scripted.key);
        }
    }

    #[test]
    fn some_lines_are_in_urdu_thai_and_vietnamese() {
        let bodies: String = Scenario::load().dispatches.iter().map(Scripted::body).collect();
        assert!(bodies.contains("یہ پیغام صرف مشق کے لیے ہے۔"));
        assert!(bodies.contains("ข้อความนี้ใช้สำหรับการฝึกเท่านั้น"));
        assert!(bodies.contains("Đây là điện diễn tập."));
    }
}
