//! The role `developer`, for servers that know only `system`.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::members::{Members, members, range_in};

const DEVELOPER: &str = "\"developer\"";
const SYSTEM: &[u8] = b"\"system\"";

/// The body with its developers called system; none when there are none. Nothing else in it changes.
pub(crate) fn without_developer(body: &[u8]) -> Option<Bytes> {
    memchr::memmem::find(body, DEVELOPER.as_bytes())?;
    let fields: Members<'_> = serde_json::from_slice(body).ok()?;
    let messages: Vec<&RawValue> = serde_json::from_str(fields.get("messages")?.get()).ok()?;
    let roles = messages.into_iter().filter_map(|message| {
        let role = members(message).ok()?.last("role")?;
        (role.get() == DEVELOPER).then(|| range_in(body, role))
    });
    let mut changed = Vec::with_capacity(body.len());
    let mut copied = 0;
    for range in roles {
        changed.extend_from_slice(body.get(copied..range.start)?);
        changed.extend_from_slice(SYSTEM);
        copied = range.end;
    }
    if copied == 0 {
        return None;
    }
    changed.extend_from_slice(body.get(copied..)?);
    Some(changed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_role_changes() {
        let body = br#"{"messages":[{"role":"developer","content":"\"developer\""}, {"role" : "developer" },{"role":"user","content":"developer"}],"x":"developer"}"#;
        let changed = without_developer(body).unwrap();
        assert_eq!(
            std::str::from_utf8(&changed).unwrap(),
            r#"{"messages":[{"role":"system","content":"\"developer\""}, {"role" : "system" },{"role":"user","content":"developer"}],"x":"developer"}"#
        );
        for body in [
            br#"{"messages":[{"role":"user"}],"x":"developer"}"#.as_slice(),
            b"\"developer\"",
            b"{}",
        ] {
            assert_eq!(without_developer(body), None);
        }
    }
}
