//! What an import found and did, table by table.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::db::import::{CONFIGS, ImportRows, LOGINS, Piece, write};

/// So many reasons are told per table.
pub(super) const MOST_REASONS: usize = 20;

/// The outcome of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// Tables of the file that hold something, by name.
    pub(crate) tables: BTreeMap<&'static str, TableReport>,
}

/// The outcome for one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = ImportedTable)]
pub(crate) struct TableReport {
    pub(crate) found: u64,
    pub(crate) imported: u64,
    /// Were there already, and are left as they were.
    pub(crate) existing: u64,
    pub(crate) skipped: u64,
    /// Why, for the first of the skipped.
    pub(crate) reasons: Vec<String>,
}

/// What became of some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) imported: u64,
    pub(crate) existing: u64,
    pub(crate) refused: u64,
}

/// What became of the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginFate {
    Imported,
    Existing,
    Expired,
}

impl Report {
    /// Takes in what a part of the file held.
    pub(crate) fn read(&mut self, piece: &Piece) {
        let table = self.tables.entry(piece.table).or_default();
        table.found += piece.found;
        table.skipped += piece.skipped;
        for reason in &piece.reasons {
            table.tell(reason);
        }
    }

    /// Takes in what became of its rows.
    pub(crate) fn written(&mut self, rows: &ImportRows, tally: Tally) {
        let table = self.tables.entry(write::table(rows)).or_default();
        table.add(tally);
        if tally.refused > 0 {
            table.tell(write::refusal(rows));
        }
        if let ImportRows::Provider(provider, config) = rows
            && !config.is_empty()
        {
            // They share the fate of their provider.
            let count = u64::try_from(config.len()).unwrap_or(u64::MAX);
            let table = self.tables.entry(CONFIGS).or_default();
            table.found += count;
            table.add(Tally {
                imported: tally.imported * count,
                existing: tally.existing * count,
                refused: tally.refused * count,
            });
            if tally.refused > 0 {
                table.tell(&format!("the provider `{}` was refused", provider.id));
            }
        }
    }

    /// Takes in what became of the login.
    pub(crate) fn login(&mut self, fate: LoginFate) {
        let table = self.tables.entry(LOGINS).or_default();
        match fate {
            LoginFate::Imported => table.imported += 1,
            LoginFate::Existing => table.existing += 1,
            LoginFate::Expired => {
                table.skipped += 1;
                table.tell("the login has expired");
            }
        }
    }

    /// How many rows are new.
    pub(crate) fn imported(&self) -> u64 {
        self.tables.values().map(|table| table.imported).sum()
    }
}

impl TableReport {
    fn add(&mut self, tally: Tally) {
        self.imported += tally.imported;
        self.existing += tally.existing;
        self.skipped += tally.refused;
    }

    fn tell(&mut self, reason: &str) {
        if self.reasons.len() < MOST_REASONS && !self.reasons.iter().any(|told| told == reason) {
            self.reasons.push(reason.to_owned());
        }
    }
}
