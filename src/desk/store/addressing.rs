//! From the codes that a writer named to the parties that are addressed: groups, offices and `ALL` by the
//! roster in force, with the exempted taken out.

use std::collections::BTreeSet;

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::{StoreError, Tx, orders};
use crate::{
    desk::error::DeskError,
    limits,
    roster::{Party, PartyKind, PartyNumber, Roster, Status},
    wire::Role,
};

/// The address of every active desk but the sender's own.
const ALL: &str = "ALL";
/// Codes that an error offers for one that nobody has.
const NEAREST_MAX: usize = 8;

/// As what a code was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    To,
    Info,
    /// XMT: whom a group or `ALL` would reach, but for this.
    Exempt,
}

impl Naming {
    /// As the API writes it.
    pub fn name(self) -> &'static str {
        match self {
            Naming::To => "to",
            Naming::Info => "info",
            Naming::Exempt => "exempt",
        }
    }
}

/// Whom a dispatch goes to by one roster.
#[derive(Debug)]
pub(super) struct Addressed<'a> {
    /// TO first, then INFO, each in the order of naming; nobody twice, never the sender.
    pub addressees: Vec<(&'a Party, Role)>,
    /// Who would be among them but for XMT, by number.
    pub exempt: Vec<PartyNumber>,
    /// What each name became, in the order of the names.
    pub became: Vec<Became>,
}

/// What one name became.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Became {
    /// Parties that it adds (of an exemption: that it takes out), without the sender.
    pub parties: usize,
    /// Codes of members that are suspended or revoked.
    pub left_out: Vec<String>,
}

/// Who is who while one dispatch is addressed.
pub(super) struct Directory<'a> {
    pub roster: &'a Roster,
    pub own: &'a Party,
    /// By order of the hub.
    suspended: Vec<PartyNumber>,
    today: Date,
}

/// The parties behind a code.
enum Meant<'a> {
    /// The one that it names, itself or by the office that it holds today.
    One(&'a Party),
    /// All that it gathers, whatever their status, the sender too.
    Several(Vec<&'a Party>),
}

impl<'a> Directory<'a> {
    /// The roster as the orders in force narrow it today.
    pub fn open(
        tx: &Tx<'_>,
        roster: &'a Roster,
        own: &'a Party,
        now: Timestamp,
    ) -> Result<Directory<'a>, StoreError> {
        let suspended = orders::suspended(tx, now)?.into_iter().map(|(party, _)| party).collect();
        Ok(Directory { roster, own, suspended, today: now.to_zoned_datetime(TimeZone::UTC).date() })
    }

    /// Expands the names. Whoever is named TO and INFO is TO; whoever is exempted gets nothing.
    ///
    /// # Errors
    /// A code that means nobody, a party named by itself that may not receive, nobody left for action,
    /// or more than [`limits::ADDRESSEES_MAX`].
    pub fn address(&self, names: &[(String, Naming)]) -> Result<Addressed<'a>, DeskError> {
        let mut out = BTreeSet::new();
        for (code, _) in names.iter().filter(|(_, naming)| *naming == Naming::Exempt) {
            out.extend(self.meant(code)?.parties().map(|party| party.number));
        }
        let mut found = Found::default();
        let mut became = Vec::with_capacity(names.len());
        for (code, naming) in names {
            became.push(self.add(code, *naming, &out, &mut found)?);
        }
        let Found { to, info, exempt, seen } = found;
        if to.is_empty() {
            let problem =
                "reaches nobody but this desk, the suspended and the exempted; name another addressee";
            return Err(DeskError::Invalid { field: "to", problem });
        }
        let info = info.into_iter().filter(|party| !seen.contains(&(party.number, true)));
        let info: Vec<(&Party, Role)> = info.map(|party| (party, Role::Info)).collect();
        let mut addressees: Vec<(&Party, Role)> = to.into_iter().map(|party| (party, Role::To)).collect();
        addressees.extend(info);
        let most = addressees.len().max(exempt.len());
        if most > limits::ADDRESSEES_MAX {
            return Err(DeskError::TooManyAddressees { parties: most });
        }
        Ok(Addressed { addressees, exempt: exempt.into_iter().collect(), became })
    }

    /// Adds what one name means to what was found.
    fn add(
        &self,
        code: &str,
        naming: Naming,
        out: &BTreeSet<PartyNumber>,
        found: &mut Found<'a>,
    ) -> Result<Became, DeskError> {
        let meant = self.meant(code)?;
        if let (Meant::One(party), Naming::To | Naming::Info) = (&meant, naming) {
            self.check_named(party)?;
        }
        let (mut parties, mut left_out) = (0, Vec::new());
        for party in meant.parties().filter(|party| party.number != self.own.number) {
            let place = match naming {
                Naming::To => &mut found.to,
                Naming::Info => &mut found.info,
                Naming::Exempt => {
                    parties += 1;
                    continue;
                }
            };
            if out.contains(&party.number) {
                found.exempt.insert(party.number);
            } else if !self.is_active(party) {
                left_out.push(party.code.clone());
            } else {
                parties += 1;
                if found.seen.insert((party.number, naming == Naming::To)) {
                    place.push(party);
                }
            }
        }
        Ok(Became { parties, left_out })
    }

    fn meant(&self, code: &str) -> Result<Meant<'a>, DeskError> {
        let desk = |party: PartyNumber| self.roster.party(party).filter(|party| is_desk(party));
        if let Some(party) = self.roster.party_by_code(code).filter(|party| is_desk(party)) {
            return Ok(Meant::One(party));
        }
        if let Some(group) = self.roster.group(code) {
            return Ok(Meant::Several(group.members.iter().filter_map(|member| desk(*member)).collect()));
        }
        if let Some(office) = self.roster.office(code) {
            let holder = office.holder_on(self.today).and_then(desk);
            return holder
                .map(Meant::One)
                .ok_or_else(|| DeskError::Vacant { code: office.code.clone(), day: self.today.to_string() });
        }
        match code {
            ALL => Ok(Meant::Several(self.roster.parties().filter(|party| is_desk(party)).collect())),
            _ => Err(self.unknown(code)),
        }
    }

    /// A party that was named by itself must be able to receive: its sender would else wait for nothing.
    fn check_named(&self, party: &Party) -> Result<(), DeskError> {
        if party.number == self.own.number {
            let problem = "names this desk itself, or an office that it holds; leave it out";
            return Err(DeskError::Invalid { field: "to", problem });
        }
        if !self.is_active(party) {
            return Err(DeskError::Inactive { code: party.code.clone() });
        }
        Ok(())
    }

    fn is_active(&self, party: &Party) -> bool {
        party.status == Status::Active && !self.suspended.contains(&party.number)
    }

    fn unknown(&self, code: &str) -> DeskError {
        let content = self.roster.content();
        let others = self.roster.parties().filter(|party| party.number != self.own.number);
        let desks = others.filter(|party| is_desk(party) && self.is_active(party));
        let groups = content.groups.iter().map(|group| &group.code);
        let offices = content.offices.iter().map(|office| &office.code);
        unknown(code, desks.map(|party| &party.code).chain(groups).chain(offices).map(String::as_str))
    }
}

/// The error of a code that nobody has, with those of `known` that are most like it.
pub(super) fn unknown<'k>(code: &str, known: impl Iterator<Item = &'k str>) -> DeskError {
    let mut known: Vec<(usize, &str)> =
        known.map(|known| (strsim::damerau_levenshtein(code, known), known)).collect();
    known.sort_unstable();
    let nearest = known.into_iter().take(NEAREST_MAX).map(|(_, known)| known.to_owned()).collect();
    DeskError::UnknownAddressee { code: code.to_owned(), nearest }
}

/// Whether a party can be written to at all.
pub(super) fn is_desk(party: &Party) -> bool {
    matches!(party.kind, PartyKind::Mission | PartyKind::Hub)
}

impl<'a> Meant<'a> {
    fn parties(&self) -> impl Iterator<Item = &'a Party> {
        let (one, several) = match self {
            Meant::One(party) => (Some(*party), &[][..]),
            Meant::Several(parties) => (None, &parties[..]),
        };
        one.into_iter().chain(several.iter().copied())
    }
}

/// Parties found while names are expanded.
#[derive(Default)]
struct Found<'a> {
    to: Vec<&'a Party>,
    info: Vec<&'a Party>,
    exempt: BTreeSet<PartyNumber>,
    /// With whether it was for action.
    seen: BTreeSet<(PartyNumber, bool)>,
}
