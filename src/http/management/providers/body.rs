//! What a client may say of a provider, checked: every fault is named at once.

use serde_json::{Map, Value};

use crate::clock::now_ms;
use crate::db::providers::{ConfigRow, ProviderChange, ProviderRow, StoredProvider, is_sensitive};
use crate::http::error::ApiError;
use crate::http::management::fields::Fields;
use crate::http::management::providers::shape::unmasked;
use crate::providers::{self, Definition, OwnPorts};

const LONGEST: usize = 200;
const BASE_URL: &str = "baseURL";

/// A provider whose fields are checked.
pub(crate) struct NewProvider {
    pub(crate) provider: ProviderRow,
    pub(crate) config: Vec<ConfigRow>,
}

impl NewProvider {
    pub(crate) fn checked(body: &Map<String, Value>, own: &OwnPorts) -> Result<Self, ApiError> {
        let mut fields = Fields::of(body);
        let id = fields.required("id", LONGEST);
        if let Some(id) = &id {
            let is_plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if !id.bytes().all(is_plain) || id.len() > 100 {
                fields.fault("`id` must be lower-case letters, digits and `-`, at most 100");
            }
        }
        let name = fields.required("name", LONGEST);
        let kind = fields.required("type", LONGEST);
        let enabled = fields.boolean("enabled").unwrap_or(true);
        let priority = fields.integer("priority").unwrap_or(0);
        let description = fields.text("description");
        let config = fields.object("config").unwrap_or_default();
        fields.end()?;
        let (Some(id), Some(name), Some(kind)) = (id, name, kind) else {
            return Err(ApiError::Internal);
        };
        let now = now_ms();
        let provider = ProviderRow {
            id,
            name,
            kind,
            enabled,
            priority,
            description,
            origin: "user".into(),
            auto_enable: false,
            created_at: now,
            updated_at: now,
        };
        let config = filled(config, &[])?;
        check(&provider.id, &provider.kind, &config, own)?;
        Ok(Self { provider, config })
    }
}

/// What is to change of `stored`; an empty body changes nothing, and `None` says so.
pub(crate) fn change(
    body: &Map<String, Value>,
    stored: &StoredProvider,
) -> Result<Option<ProviderChange>, ApiError> {
    let mut fields = Fields::of(body);
    let name = fields.optional("name", LONGEST);
    let kind = fields.optional("type", LONGEST);
    let enabled = fields.boolean("enabled");
    let priority = fields.integer("priority");
    let description = fields.nullable("description");
    let config = fields.object("config");
    fields.end()?;
    let put = filled(config.unwrap_or_default(), &stored.config)?;
    let change = ProviderChange {
        id: stored.provider.id.clone(),
        name,
        kind,
        enabled,
        priority,
        description,
        put,
        at: now_ms(),
        ..ProviderChange::default()
    };
    let nothing = ProviderChange {
        id: change.id.clone(),
        at: change.at,
        ..ProviderChange::default()
    };
    Ok((change != nothing).then_some(change))
}

/// Configuration keys as rows; a mask stands for what `stored` has.
pub(crate) fn filled(
    config: Map<String, Value>,
    stored: &[ConfigRow],
) -> Result<Vec<ConfigRow>, ApiError> {
    let mut faults = Vec::new();
    let mut rows = Vec::with_capacity(config.len());
    for (key, value) in config {
        let old = stored.iter().find(|row| row.key == key);
        if key.is_empty() || key.len() > LONGEST {
            faults.push((key, format!("must have a name of 1 to {LONGEST} bytes")));
            continue;
        }
        match unmasked(&value, old) {
            Some(value) => rows.push(ConfigRow {
                is_sensitive: old.map_or_else(|| is_sensitive(&key), |old| old.is_sensitive),
                // What nobody can open stays as it is until it is given anew.
                sealed: old.is_some_and(|old| old.sealed && old.value == value),
                key,
                value,
            }),
            None => faults.push((
                key,
                "is the mask, and there is no value it stands for".into(),
            )),
        }
    }
    if faults.is_empty() {
        Ok(rows)
    } else {
        Err(ApiError::InvalidConfig(faults))
    }
}

/// Refuses a change that would leave a provider enabled which cannot work. A disabled one may be incomplete, but not at
/// an address that no provider may have.
pub(crate) fn check_change(
    stored: &StoredProvider,
    change: &ProviderChange,
    own: &OwnPorts,
) -> Result<(), ApiError> {
    let is_enabled = change.enabled.unwrap_or(stored.provider.enabled);
    let is_moved = change.kind.is_some() || change.put.iter().any(|row| row.key == BASE_URL);
    if !is_enabled && !is_moved {
        return Ok(());
    }
    let mut config: Vec<ConfigRow> = if change.replaces {
        Vec::new()
    } else {
        stored.config.clone()
    };
    config.retain(|row| {
        !change.remove.contains(&row.key) && !change.put.iter().any(|put| put.key == row.key)
    });
    config.extend(change.put.iter().cloned());
    let kind = change.kind.as_ref().unwrap_or(&stored.provider.kind);
    if is_enabled {
        return check(&stored.provider.id, kind, &config, own);
    }
    config.retain(|row| row.key == BASE_URL && !row.value.is_null() && row.value != "");
    if config.is_empty() {
        return Ok(());
    }
    check(&stored.provider.id, kind, &config, own)
}

fn check(id: &str, kind: &str, config: &[ConfigRow], own: &OwnPorts) -> Result<(), ApiError> {
    let shut = config.iter().filter(|row| row.sealed);
    let shut: Vec<_> = shut
        .map(|row| {
            let why = "cannot be opened with this key; store it again";
            (row.key.clone(), why.to_owned())
        })
        .collect();
    if !shut.is_empty() {
        return Err(ApiError::InvalidConfig(shut));
    }
    let definition = Definition {
        id: id.to_owned(),
        kind: kind.to_owned(),
        config: config
            .iter()
            .map(|row| (row.key.clone(), row.value.clone()))
            .collect(),
    };
    providers::check(&definition, own).map_err(|invalid| {
        let faults = invalid.errors.into_iter();
        ApiError::InvalidConfig(faults.map(|fault| (fault.key, fault.message)).collect())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_fault_of_a_body_is_named_at_once() {
        let body = json!({"id": "Bad Id", "name": "", "priority": "7"});
        let Err(ApiError::Validation(faults)) =
            NewProvider::checked(body.as_object().expect("an object"), &OwnPorts::default())
        else {
            panic!("it is refused");
        };
        assert_eq!(faults.len(), 4, "{faults:?}");
    }
}
