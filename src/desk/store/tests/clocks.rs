//! What is overdue, when, and until when, seen from both ends.

use std::time::Duration;

use prost::Message;

use super::*;
use crate::{
    config::Span,
    desk::view::{Alarm, Awaited, Mark, Overdue},
    roster::{Day, Window},
};

/// Two desks, and how many records the log has.
struct World {
    bloc: Bloc,
    idn: Desk,
    hub: Desk,
    position: u64,
}

impl World {
    fn new() -> World {
        World::of(Bloc::new())
    }

    fn of(bloc: Bloc) -> World {
        let (idn, hub) = (bloc.desk("IDN"), bloc.desk("MOD"));
        World { bloc, idn, hub, position: 6 }
    }

    /// Hands in at IDN, seals and has it accepted.
    fn send(&mut self, new: NewDispatch) -> (String, SealedSubmit) {
        let short = self.idn.send(new);
        let submit = self.bloc.seal(&mut self.idn).remove(0);
        self.position += 1;
        self.idn.store.accepted(vec![accepted(&submit, self.position)], after(1)).unwrap();
        (short, submit)
    }

    /// Has it delivered to MOD at `at`, and the receipt carried to IDN.
    fn deliver(&mut self, submit: &SealedSubmit, at: i64) -> String {
        let delivery = self.bloc.delivery(submit, "MOD", self.position);
        self.hub.store.deliver(vec![delivery], after(at)).unwrap();
        self.carry(at);
        self.hub.store.inbox(&Default::default()).unwrap().pop().unwrap().short
    }

    fn carry(&mut self, at: i64) {
        let stored = self.hub.store.make_stored(self.bloc.sign("MOD"), after(at)).unwrap().unwrap();
        self.position += 1;
        let receipts = self.bloc.receipts(stored, "MOD", self.position);
        self.idn.store.receipts(receipts, after(at)).unwrap();
    }

    /// Answers at MOD, and has the answer accepted and delivered to IDN.
    fn answer(&mut self, short: &str, at: i64) {
        let new = NewDispatch { in_reply_to: Some(short.to_owned()), ..dispatch("IDN", "routine", "Noted") };
        self.hub.store.enqueue(new, after(at)).unwrap();
        let submit = self.bloc.seal(&mut self.hub).remove(0);
        self.position += 1;
        self.hub.store.accepted(vec![accepted(&submit, self.position)], after(at)).unwrap();
        self.idn.store.deliver(vec![self.bloc.delivery(&submit, "IDN", self.position)], after(at)).unwrap();
    }
}

impl Desk {
    /// Looks at the clocks; in how many seconds after [`now`] the next runs out.
    fn look(&mut self, at: i64) -> Option<i64> {
        let next = self.store.look_at_clocks(after(at)).unwrap();
        next.map(|next| next.as_second() - now().as_second())
    }

    /// Of addressees what is missing by precedence and which answers, then what this desk owes; nothing that was to
    /// be acknowledged by a time named.
    fn overdue(&self) -> [u64; 4] {
        let Overdue { addressees, acknowledgements, answers, acknowledgements_owed, answers_owed } =
            self.status().overdue;
        assert_eq!(acknowledgements, 0);
        [addressees, answers, acknowledgements_owed, answers_owed]
    }

    fn alarm(&self, key: &str) -> Alarm {
        self.store.alarms().unwrap().into_iter().find(|alarm| alarm.key == key).unwrap()
    }

    /// What is awaited of the first addressee, by when, and whether that is past.
    fn awaited(&self, short: &str) -> Option<(String, i64, bool)> {
        self.store.outgoing(short).unwrap().addressees.remove(0).awaited.map(parts)
    }

    fn owed(&self) -> Option<(String, i64, bool)> {
        self.store.inbox(&Default::default()).unwrap().pop().unwrap().awaited.map(parts)
    }
}

fn parts(awaited: Awaited) -> (String, i64, bool) {
    let due: Timestamp = awaited.due_at.parse().unwrap();
    (awaited.step, due.as_second() - now().as_second(), awaited.overdue)
}

fn awaits(step: &str, due: i64, is_overdue: bool) -> Option<(String, i64, bool)> {
    Some((step.to_owned(), due, is_overdue))
}

fn urgent(precedence: &str) -> NewDispatch {
    NewDispatch { acknowledgement_required: true, ..dispatch("MOD", precedence, "Unlit vessel") }
}

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

#[test]
fn a_flash_is_overdue_ten_minutes_after_it_was_handed_in_until_it_is_acknowledged() {
    let mut world = World::new();
    let (short, submit) = world.send(urgent("flash"));
    assert_eq!(world.idn.look(10 * MINUTE - 1), Some(10 * MINUTE));
    assert_eq!((world.idn.overdue()[0], world.idn.awaited(&short)), (0, awaits("delivery", 600, false)));
    assert_eq!(world.idn.look(10 * MINUTE), None);
    assert_eq!((world.idn.overdue()[0], world.idn.awaited(&short)), (1, awaits("delivery", 600, true)));
    let alarm = world.idn.alarm("overdue");
    let words = format!(
        "1 not delivered or not acknowledged in time, the oldest {short} to MOD, due 2026-11-24T10:25:00Z"
    );
    assert!(alarm.sentence.starts_with(&words), "{}", alarm.sentence);
    assert!(alarm.sentence.contains("telephone MOD") && !alarm.sentence.contains("vessel"));

    let register = world.deliver(&submit, 11 * MINUTE);
    world.idn.look(12 * MINUTE);
    assert_eq!(world.idn.awaited(&short), awaits("acknowledgement", 600, true));
    world.hub.store.acknowledge(&register, &Mark::default(), after(13 * MINUTE)).unwrap();
    world.carry(13 * MINUTE);
    assert_eq!((world.idn.overdue()[0], world.idn.awaited(&short)), (0, None));
    world.idn.look(14 * MINUTE);
    let alarm = world.idn.alarm("overdue");
    assert!(alarm.closed_at.is_some() && alarm.closed_by.is_empty(), "it ends by itself: {alarm:?}");
}

#[test]
fn a_clock_runs_out_while_the_desk_is_off() {
    let mut world = World::new();
    let (short, _) = world.send(urgent("flash"));
    let mut idn = world.idn.killed(&world.bloc);
    idn.look(HOUR);
    assert_eq!((idn.overdue()[0], idn.awaited(&short)), (1, awaits("delivery", 600, true)));
}

#[test]
fn an_alarm_is_raised_once_for_each_and_stays_with_whoever_took_or_closed_it() {
    let mut world = World::new();
    let (first, _) = world.send(urgent("flash"));
    world.idn.look(10 * MINUTE);
    world.idn.store.take_alarm("overdue", "Raza", after(11 * MINUTE)).unwrap();
    let changes = *world.idn.store.changes().borrow();
    world.idn.look(12 * MINUTE);
    assert_eq!(world.idn.alarm("overdue").taken_by, "Raza");
    assert_eq!(*world.idn.store.changes().borrow(), changes, "looking writes nothing where nothing changed");
    world.idn.store.close_alarm("overdue", "Raza", after(13 * MINUTE)).unwrap();
    world.idn.look(14 * MINUTE);
    assert!(world.idn.alarm("overdue").closed_at.is_some(), "closed by a person, and nothing new");
    assert_eq!(world.idn.overdue()[0], 1, "still so, all the same");

    world.idn.store.enqueue(urgent("flash"), after(14 * MINUTE)).unwrap();
    world.idn.look(24 * MINUTE);
    let alarm = world.idn.alarm("overdue");
    assert!((alarm.closed_at, alarm.taken_at) == (None, None) && alarm.sentence.starts_with("2 not "));
    assert!(alarm.sentence.contains(&first), "the oldest");
}

#[test]
fn who_is_informed_has_its_own_precedence_and_need_not_acknowledge() {
    let mut world = World::new();
    let new = NewDispatch {
        info: vec!["MOD".to_owned()],
        info_precedence: "routine".to_owned(),
        acknowledgement_required: true,
        answer_due: Some("241200ZNOV26".to_owned()),
        ..dispatch("MYS", "flash", "Unlit vessel")
    };
    let (short, submit) = world.send(new);
    let of_mod = |desk: &Desk| desk.store.outgoing(&short).unwrap().addressees.remove(1).awaited.map(parts);
    assert_eq!(of_mod(&world.idn), awaits("delivery", 6 * HOUR, false));
    world.deliver(&submit, 5);
    assert_eq!((of_mod(&world.idn), world.hub.owed()), (None, None), "it owes nothing");
}

#[test]
fn what_is_set_aside_expired_or_refused_has_alarms_of_its_own_and_no_clock() {
    let mut world = World::new();
    let (short, submit) = world.send(urgent("flash"));
    let mut delivery = world.bloc.delivery(&submit, "MOD", 7);
    delivery.checked = Err(crate::wire::receipt::SetAsideReason::BadSignature);
    world.hub.store.deliver(vec![delivery], after(5)).unwrap();
    world.carry(6);
    assert_eq!(world.idn.awaited(&short), None);
    assert_eq!(world.hub.owed(), None);

    let refusal = world.idn.send(urgent("flash"));
    let submit = world.bloc.seal(&mut world.idn).remove(0);
    assert!(world.idn.awaited(&refusal).is_some());
    world.idn.store.refused(refused(&submit, pb::RefusalCode::Topic), after(7)).unwrap();
    assert_eq!((world.idn.awaited(&refusal), world.idn.look(HOUR)), (None, None));
    assert_eq!(world.idn.overdue(), [0; 4]);
}

#[test]
fn an_answer_has_its_own_time_at_both_ends_and_ends_every_clock_of_what_it_answers() {
    let mut world = World::new();
    let (short, submit) =
        world.send(NewDispatch { answer_due: Some("241200ZNOV26".to_owned()), ..urgent("flash") });
    let register = world.deliver(&submit, 5);
    let due = HOUR + 45 * MINUTE;
    assert_eq!(world.hub.owed(), awaits("acknowledgement", 605, false));
    world.hub.store.acknowledge(&register, &Mark::default(), after(6)).unwrap();
    world.carry(6);
    assert_eq!(
        (world.hub.owed(), world.idn.awaited(&short)),
        (awaits("answer", due, false), awaits("answer", due, false))
    );
    for desk in [&mut world.idn, &mut world.hub] {
        assert_eq!(desk.look(due - 1), Some(due));
        assert_eq!(desk.look(due), None);
    }
    assert_eq!((world.idn.overdue(), world.hub.overdue()), ([0, 1, 0, 0], [0, 0, 0, 1]));
    let (asked, owed) = (world.idn.alarm("overdue-answer").sentence, world.hub.alarm("owed-answer").sentence);
    assert!(
        asked.contains(&format!("the oldest {short} to MOD")) && asked.contains("telephone MOD"),
        "{asked}"
    );
    assert!(owed.contains(&format!("pouch reply {register}")) && owed.contains("from IDN"), "{owed}");

    world.answer(&register, due + 60);
    for desk in [&mut world.idn, &mut world.hub] {
        desk.look(due + 61);
        assert_eq!(desk.overdue(), [0; 4]);
        assert!(desk.store.alarms().unwrap().iter().all(|alarm| alarm.closed_at.is_some()));
    }
    let addressee = world.idn.store.outgoing(&short).unwrap().addressees.remove(0);
    assert_eq!((addressee.state.as_str(), addressee.awaited), ("answered", None));
    assert!(addressee.answered_at.is_some());
}

/// A FLASH that names 11:15 and 11:45 as the times to acknowledge and to answer by: an hour, and an hour and a half,
/// after [`now`].
fn named() -> NewDispatch {
    NewDispatch {
        acknowledgement_due: Some("241115ZNOV26".to_owned()),
        answer_due: Some("2026-11-24T11:45:00Z".to_owned()),
        ..dispatch("MOD", "flash", "Unlit vessel")
    }
}

#[test]
fn an_acknowledgement_has_its_own_time_at_both_ends_beside_that_of_the_answer() {
    let mut world = World::new();
    let (short, submit) = world.send(named());
    assert_eq!(
        world.idn.awaited(&short),
        awaits("delivery", 10 * MINUTE, false),
        "its precedence goes first"
    );
    let register = world.deliver(&submit, 5);
    let due = awaits("acknowledgement", HOUR, false);
    assert_eq!((world.idn.awaited(&short), world.hub.owed()), (due.clone(), due));
    for desk in [&mut world.idn, &mut world.hub] {
        assert_eq!(desk.look(HOUR - 1), Some(HOUR), "not by the FLASH's ten minutes");
        assert_eq!(desk.look(HOUR), Some(HOUR + 30 * MINUTE), "the answer's clock runs on");
    }
    let overdue = Overdue { acknowledgements: 1, ..Overdue::default() };
    assert_eq!((world.idn.status().overdue, world.hub.overdue()), (overdue, [0, 0, 1, 0]));
    let sentence = world.idn.alarm("overdue-acknowledgement").sentence;
    let words = format!("1 not acknowledged by the time that was named, the oldest {short} to MOD");
    assert!(sentence.starts_with(&words) && sentence.contains("telephone MOD"), "{sentence}");
    assert!(world.hub.alarm("owed-acknowledgement").sentence.contains(&format!("pouch ack {register}")));

    world.hub.store.acknowledge(&register, &Mark::default(), after(HOUR + 1)).unwrap();
    world.carry(HOUR + 1);
    let answer = awaits("answer", HOUR + 30 * MINUTE, false);
    assert_eq!((world.idn.awaited(&short), world.hub.owed()), (answer.clone(), answer));
    for desk in [&mut world.idn, &mut world.hub] {
        desk.look(HOUR + 2);
        assert_eq!(desk.overdue(), [0; 4]);
        assert!(desk.store.alarms().unwrap().iter().all(|alarm| alarm.closed_at.is_some()));
    }
}

#[test]
fn each_addressee_must_acknowledge_by_the_time_named_and_who_is_informed_need_not() {
    let mut world = World::new();
    let to = ["MOD", "MYS"].map(str::to_owned).to_vec();
    let (short, submit) = world.send(NewDispatch { to, ..named() });
    let informed = world.idn.send(NewDispatch { info: vec!["MYS".to_owned()], ..named() });
    let register = world.deliver(&submit, 5);
    world.hub.store.acknowledge(&register, &Mark::default(), after(6)).unwrap();
    world.carry(6);
    world.idn.look(HOUR);
    let mut addressees = world.idn.store.outgoing(&short).unwrap().addressees.into_iter();
    assert_eq!(addressees.next().unwrap().awaited.map(parts), awaits("answer", HOUR + 30 * MINUTE, false));
    assert_eq!(addressees.next().unwrap().awaited.map(parts), awaits("delivery", 10 * MINUTE, true));
    let sql = "SELECT item, party FROM clocks WHERE kind = 5 AND overdue_at IS NOT NULL AND ended_at IS NULL";
    let mut statement = world.idn.store.connection.prepare(sql).unwrap();
    let overdue = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let overdue: Vec<(i64, PartyNumber)> = overdue.map(Result::unwrap).collect();
    let (hub, mys) = (world.bloc.number("MOD"), world.bloc.number("MYS"));
    assert_eq!(overdue, [(1, mys), (2, hub)], "not MYS that {informed} informs");
}

#[test]
fn a_time_to_acknowledge_by_is_nobodys_hours_and_an_answer_or_a_refusal_ends_it() {
    let bloc = Bloc::new();
    let hub = bloc.number("MOD");
    let (roster, note) = bloc.next(|draft| office(draft, hub));
    let mut world = World::of(bloc);
    let (short, submit) = world.send(NewDispatch { precedence: "routine".to_owned(), ..named() });
    let register = world.deliver(&submit, 5);
    let due = awaits("acknowledgement", HOUR, false);
    for desk in [&mut world.idn, &mut world.hub] {
        let clocks = ClocksConfig { routine: Span(Duration::from_secs(90)), ..ClocksConfig::default() };
        desk.store.set_clocks(&clocks).unwrap();
    }
    world.hub.store.learn_roster(None, roster, &note).unwrap();
    assert_eq!((world.idn.awaited(&short), world.hub.owed()), (due.clone(), due));
    world.answer(&register, 6);
    assert_eq!((world.idn.awaited(&short), world.hub.owed()), (None, None));

    let refusal = world.idn.send(named());
    let submit = world.bloc.seal(&mut world.idn).remove(0);
    world.idn.store.refused(refused(&submit, pb::RefusalCode::Topic), after(7)).unwrap();
    assert_eq!((world.idn.awaited(&refusal), world.idn.look(HOUR)), (None, None));
}

#[test]
fn a_time_to_acknowledge_by_is_sealed_and_read_as_it_was_written() {
    let mut world = World::new();
    let (_, submit) = world.send(named());
    let register = world.deliver(&submit, 5);
    let whole = world.hub.store.incoming(&register).unwrap();
    assert_eq!(whole.acknowledgement_due.as_deref(), Some("2026-11-24T11:15:00Z"));
    assert_eq!(whole.answer_due.as_deref(), Some("2026-11-24T11:45:00Z"));
    assert!(whole.summary.acknowledgement_required, "who names a time asks for it");
    let (_, submit) = world.send(urgent("flash"));
    let register = world.deliver(&submit, 6);
    assert_eq!(world.hub.store.incoming(&register).unwrap().acknowledgement_due, None);
}

#[test]
fn an_answer_to_somebody_else_or_in_an_exercise_answers_nothing() {
    let mut world = World::new();
    let (short, submit) =
        world.send(NewDispatch { answer_due: Some("241200ZNOV26".to_owned()), ..urgent("routine") });
    let register = world.deliver(&submit, 5);
    let aside =
        NewDispatch { in_reply_to: Some(register.clone()), ..dispatch("MYS", "routine", "Seen this?") };
    world.hub.store.enqueue(aside, after(6)).unwrap();
    let to_mys = world.bloc.seal(&mut world.hub).remove(0);
    world.hub.store.accepted(vec![accepted(&to_mys, 20)], after(6)).unwrap();
    assert!(world.hub.owed().is_some(), "IDN has no answer");
    // MOD's other desk software might let it through: a real dispatch that says it answers an exercise.
    let sql = "UPDATE outbox SET exercise = 0";
    world.hub.store.connection.execute(sql, []).unwrap();
    let sql = "UPDATE inbox SET exercise = 0";
    world.hub.store.connection.execute(sql, []).unwrap();
    let real =
        NewDispatch { in_reply_to: Some(register), exercise: false, ..dispatch("IDN", "routine", "Noted") };
    world.hub.store.enqueue(real, after(7)).unwrap();
    let submit = world.bloc.seal(&mut world.hub).remove(0);
    world.idn.store.deliver(vec![world.bloc.delivery(&submit, "IDN", 21)], after(8)).unwrap();
    assert_eq!(world.idn.store.outgoing(&short).unwrap().addressees[0].answered_at, None);
}

/// Tuesdays and Wednesdays from 8 to 16 hours in Jakarta, seven hours ahead: 24 November 2026 is a Tuesday, and
/// [`now`] is 17:15 there.
fn office(draft: &mut RosterDraft, number: PartyNumber) {
    let party = draft.parties.iter_mut().find(|party| party.number == number).unwrap();
    let time = |hour| jiff::civil::time(hour, 0, 0, 0);
    party.time_zone = "Asia/Jakarta".to_owned();
    party.working_hours = vec![Window { days: vec![Day::Tue, Day::Wed], from: time(8), until: time(16) }];
}

#[test]
fn priority_and_routine_count_the_addressees_working_hours_and_a_new_roster_counts_them_anew() {
    let mut world = World::new();
    let hub = world.bloc.number("MOD");
    let (roster, note) = world.bloc.next(|draft| office(draft, hub));
    let until_morning = 14 * HOUR + 45 * MINUTE;
    let routine = world.idn.send(urgent("routine"));
    let flash = world.idn.send(urgent("flash"));
    assert_eq!(world.idn.awaited(&routine), awaits("delivery", 6 * HOUR, false), "no hours yet");
    world.idn.look(7 * HOUR);
    assert_eq!(world.idn.overdue()[0], 2);
    world.idn.store.learn_roster(None, roster, &note).unwrap();
    assert_eq!(world.idn.awaited(&routine), awaits("delivery", until_morning + 6 * HOUR, false));
    assert_eq!(world.idn.awaited(&flash), awaits("delivery", 600, true), "runs always, and stays noticed");
    assert_eq!(world.idn.look(8 * HOUR), Some(until_morning + 6 * HOUR));
    assert_eq!(world.idn.overdue()[0], 1);
    let priority = world.idn.send(urgent("priority"));
    assert_eq!(world.idn.awaited(&priority), awaits("delivery", until_morning + 3 * HOUR, false));
}

#[test]
fn what_this_desk_has_to_acknowledge_counts_its_own_hours_from_when_it_came() {
    let bloc = Bloc::new();
    let hub = bloc.number("MOD");
    let (roster, note) = bloc.next(|draft| office(draft, hub));
    let mut world = World::of(bloc);
    world.hub.store.learn_roster(None, roster, &note).unwrap();
    let (_, submit) = world.send(urgent("priority"));
    let register = world.deliver(&submit, 18 * HOUR);
    assert_eq!(world.hub.owed(), awaits("acknowledgement", 21 * HOUR, false), "in the shift of the next day");
    world.hub.look(21 * HOUR);
    assert_eq!(world.hub.overdue(), [0, 0, 1, 0]);
    let sentence = world.hub.alarm("owed-acknowledgement").sentence;
    assert!(
        sentence.contains(&format!("pouch ack {register}")) && sentence.contains("from IDN"),
        "{sentence}"
    );
    world.answer(&register, 24 * HOUR);
    world.hub.look(24 * HOUR);
    assert_eq!((world.hub.overdue(), world.hub.owed()), ([0; 4], None), "an answer says more");
}

#[test]
fn the_operators_times_count_also_for_what_runs_already() {
    let mut world = World::new();
    let (short, _) = world.send(urgent("flash"));
    let clocks = ClocksConfig { flash: Span(Duration::from_secs(90)), ..ClocksConfig::default() };
    world.idn.store.set_clocks(&clocks).unwrap();
    assert_eq!(world.idn.awaited(&short), awaits("delivery", 90, false));
    world.idn.look(2 * MINUTE);
    let changes = *world.idn.store.changes().borrow();
    world.idn.store.set_clocks(&clocks).unwrap();
    world.idn.look(3 * MINUTE);
    assert_eq!(*world.idn.store.changes().borrow(), changes, "a restart raises nothing again");
}

#[test]
fn an_answer_that_is_due_at_no_time_at_all_starts_no_clock() {
    let mut world = World::new();
    let (short, submit) = world.send(dispatch("MOD", "routine", "x"));
    let delivery = rewritten(&world, &submit, |draft| draft.answer_due_s = u64::MAX);
    world.hub.store.deliver(vec![delivery], after(5)).unwrap();
    assert_eq!((world.hub.owed(), world.hub.look(HOUR)), (None, None));
    assert_eq!(world.idn.awaited(&short), awaits("delivery", 6 * HOUR, false));
}

#[test]
fn an_acknowledgement_that_is_due_at_no_time_at_all_goes_by_precedence_and_one_not_asked_for_is_not_owed() {
    let mut world = World::new();
    let (_, submit) = world.send(urgent("flash"));
    let delivery = rewritten(&world, &submit, |draft| draft.acknowledgement_due_s = u64::MAX);
    world.hub.store.deliver(vec![delivery], after(5)).unwrap();
    assert_eq!(world.hub.owed(), awaits("acknowledgement", 605, false));
    let mut world = World::new();
    let (_, submit) = world.send(dispatch("MOD", "flash", "x"));
    let delivery = rewritten(&world, &submit, |draft| draft.acknowledgement_due_s = 1_795_000_000);
    world.hub.store.deliver(vec![delivery], after(5)).unwrap();
    assert_eq!((world.hub.owed(), world.hub.look(HOUR)), (None, None));
}

/// The delivery to MOD of a dispatch that says something else.
fn rewritten(world: &World, submit: &SealedSubmit, change: impl FnOnce(&mut pb::Draft)) -> super::Delivery {
    let mut delivery = world.bloc.delivery(submit, "MOD", 7);
    let mut opened = pb::Dispatch::decode(delivery.frame.ciphertext.clone()).unwrap();
    let mut draft = pb::Draft::decode(opened.draft.clone()).unwrap();
    change(&mut draft);
    opened.draft = draft.encode_to_vec().into();
    let mut release = pb::Release::decode(opened.release.clone()).unwrap();
    release.draft_hash = Bytes::copy_from_slice(sha256(&opened.draft).as_bytes());
    opened.release = release.encode_to_vec().into();
    delivery.frame.ciphertext = opened.encode_to_vec().into();
    delivery
}

/// All clocks that run, and which addressees have answered.
fn running(desk: &Desk) -> (Vec<Vec<i64>>, Vec<Option<i64>>) {
    let sql = "SELECT kind, item, party, started_at, precedence, due_at FROM clocks WHERE ended_at IS NULL";
    let mut statement = desk.store.connection.prepare(sql).unwrap();
    let row = |row: &rusqlite::Row<'_>| (0..6).map(|column| row.get(column)).collect();
    let clocks = statement.query_map([], row).unwrap().map(Result::unwrap).collect();
    let sql = "SELECT answered_at FROM addressees ORDER BY dispatch, party";
    let mut statement = desk.store.connection.prepare(sql).unwrap();
    let answered = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    (clocks, answered)
}

#[test]
fn a_store_that_had_no_clocks_starts_those_of_all_that_waits() {
    let mut world = World::new();
    let due = |due: &str| NewDispatch { answer_due: Some(due.to_owned()), ..urgent("routine") };
    let (_, submit) = world.send(due("241200ZNOV26"));
    let answered = world.deliver(&submit, 5);
    world.answer(&answered, 6);
    let (_, submit) = world.send(due("241300ZNOV26"));
    let register = world.deliver(&submit, 7);
    world.hub.store.acknowledge(&register, &Mark::default(), after(8)).unwrap();
    let (_, submit) = world.send(urgent("flash"));
    world.deliver(&submit, 9);
    world.idn.send(NewDispatch { info: vec!["MYS".to_owned()], ..urgent("immediate") });
    for mut desk in [world.idn, world.hub] {
        let before = running(&desk);
        assert!(before.0.len() >= 3, "{before:?}");
        // Back to version 3, in which there were no proofs either.
        let sql = "DROP TABLE clocks; ALTER TABLE addressees DROP COLUMN answered_at;
            DROP TABLE roots; DROP TABLE claims; DROP TABLE evidence;
            DROP TABLE proofs; DROP TABLE checkpoints; DROP TABLE tiles; DROP TABLE receipts_of; DROP TABLE stored_of;
            ALTER TABLE rosters DROP COLUMN leaf; ALTER TABLE log DROP COLUMN ahead;
            ALTER TABLE log DROP COLUMN published; ALTER TABLE log DROP COLUMN published_at;
            ALTER TABLE outbox DROP COLUMN acknowledgement_due_s; ALTER TABLE inbox DROP COLUMN acknowledgement_due_s;";
        desk.store.connection.execute_batch(sql).unwrap();
        desk.store.connection.pragma_update(None, "user_version", 3).unwrap();
        desk = desk.copied(&world.bloc);
        desk.store.set_clocks(&ClocksConfig::default()).unwrap();
        assert_eq!(running(&desk), before);
    }
}

#[test]
fn a_store_that_knew_no_time_to_acknowledge_by_finds_it_in_what_came_from_a_desk_that_did() {
    let mut world = World::new();
    let (_, submit) = world.send(named());
    world.deliver(&submit, 5);
    let before = running(&world.hub);
    let sql = "ALTER TABLE outbox DROP COLUMN acknowledgement_due_s; ALTER TABLE inbox DROP COLUMN acknowledgement_due_s;
        UPDATE clocks SET due_at = started_at + 600000000, overdue_at = started_at + 600000000 WHERE kind = 3";
    world.hub.store.connection.execute_batch(sql).unwrap();
    world.hub.store.connection.pragma_update(None, "user_version", 6).unwrap();
    let mut hub = world.hub.copied(&world.bloc);
    hub.store.set_clocks(&ClocksConfig::default()).unwrap();
    assert_eq!((running(&hub), hub.owed()), (before, awaits("acknowledgement", HOUR, false)));
    assert_eq!(hub.look(HOUR - 1), Some(HOUR));
}
