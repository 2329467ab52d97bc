//! A configuration as text: the manual with every default, and what a daemon would run with.

use std::collections::BTreeMap;

use toml::Table;

use super::{Key, Loaded, Settings, every_key};
use crate::merkle::{self, Hash};

/// A file with every key commented out at its default, each with its meaning: valid as it stands
/// for a relay, and for a desk once `relays` is set.
pub fn example<S: Settings>() -> String {
    let defaults = Table::try_from(S::default()).expect("a configuration of scalars and lists is TOML");
    let mut text = format!("# Configuration of `pouch {}`. Every key stands at its default.\n", S::DAEMON);
    text.push_str("# Relative paths start from this file's folder.\n");
    describe(&mut text, S::KEYS, &defaults);
    for (name, keys) in S::TABLES {
        text.push_str(&format!("\n[{name}]\n"));
        let table = defaults.get(*name).and_then(toml::Value::as_table);
        describe(&mut text, keys, table.expect("every table of a configuration has defaults"));
    }
    text
}

fn describe(text: &mut String, keys: &[Key], defaults: &Table) {
    for key in keys {
        text.push('\n');
        for line in key.meaning {
            text.push_str(&format!("#{line}\n"));
        }
        match defaults.get(key.name) {
            Some(default) => text.push_str(&format!("#{} = {default}\n", key.name)),
            None => text.push_str(&format!("#{} is not set by default\n", key.name)),
        }
    }
}

/// Every key with the value that a daemon runs with, as TOML; each with its origin where asked for.
pub fn show<S: Settings>(loaded: &Loaded<S>, with_origins: bool) -> String {
    values(&loaded.settings, with_origins.then_some(&loaded.origins))
}

/// SHA-256 of what [`show`] prints without origins: what an audit log says of a configuration, which holds paths,
/// addresses and numbers, and no secret.
pub fn hash<S: Settings>(settings: &S) -> Hash {
    merkle::sha256(values(settings, None).as_bytes())
}

fn values<S: Settings>(settings: &S, origins: Option<&BTreeMap<String, String>>) -> String {
    let values = Table::try_from(settings).expect("what came from TOML is TOML");
    let mut text = String::new();
    let mut within = "";
    for key in &every_key::<S>() {
        let (table, name) = key.split_once('.').unwrap_or(("", key));
        if table != within {
            text.push_str(&format!("\n[{table}]\n"));
            within = table;
        }
        let values =
            if table.is_empty() { Some(&values) } else { values.get(table).and_then(toml::Value::as_table) };
        let line = match values.and_then(|values| values.get(name)) {
            Some(value) => format!("{name} = {value}"),
            None => format!("#{name} is not set"),
        };
        text.push_str(&line);
        if let Some(origins) = origins {
            let origin = origins.get(key).map_or("default", String::as_str);
            text.push_str(&format!("  # {origin}"));
        }
        text.push('\n');
    }
    text
}
