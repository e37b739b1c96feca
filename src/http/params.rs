//! The query of a management request: read leniently in form, strictly in values, and refused in words.

use std::collections::HashMap;
use std::convert::Infallible;

use axum::extract::{FromRequestParts, Query};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::db::filter::Slice;
use crate::http::error::ApiError;

const MOST: i64 = 1_000;
/// What every client's numbers can tell exactly.
const FARTHEST: i64 = 9_007_199_254_740_991;

/// What stands behind the `?`. Parameters that are not asked for are ignored.
pub(crate) struct Params(HashMap<String, String>);

/// How a list is cut into pages: by `offset`, or by the `cursor` that the page before ended with.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents what `Params::page` reads")]
pub(crate) struct PageParams {
    /// Most rows of one page.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// Rows to leave out.
    #[param(minimum = 0, maximum = 9_007_199_254_740_991i64)]
    offset: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The part of a list that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) limit: i64,
    pub(crate) offset: i64,
    /// Where the row stands that the page before ended with: what its list is ordered by.
    after: Option<Value>,
}

/// What a list says of itself.
#[derive(Serialize, ToSchema)]
pub(crate) struct PageInfo {
    /// Rows of all pages.
    total: i64,
    /// Rows of this page.
    count: i64,
    limit: i64,
    offset: i64,
    has_more: bool,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let query = Query::<HashMap<String, String>>::from_request_parts(parts, state).await;
        Ok(Self(query.map_or_else(|_| HashMap::new(), |query| query.0)))
    }
}

impl Params {
    /// A text; an empty one counts as absent.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|text| !text.is_empty()).cloned()
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, name: &'static str) -> Result<Option<bool>, ApiError> {
        match self.0.get(name).map(String::as_str) {
            None | Some("") => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(refused(
                name,
                "invalid_query",
                format!("`{name}` must be true or false"),
            )),
        }
    }

    /// One of `words`.
    pub(crate) fn word<T: Copy>(
        &self,
        name: &'static str,
        words: &[(&'static str, T)],
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| Some(*value)).ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            refused(
                name,
                "invalid_query",
                format!("`{name}` must be one of {}", words.join(", ")),
            )
        })
    }

    /// An integer within bounds.
    pub(crate) fn integer(
        &self,
        name: &'static str,
        code: &'static str,
        least: i64,
        most: i64,
    ) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.0.get(name) else {
            return Ok(None);
        };
        match text.parse::<i64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ if most == i64::MAX => Err(refused(
                name,
                code,
                format!("`{name}` must be an integer from {least}"),
            )),
            _ => Err(refused(
                name,
                code,
                format!("`{name}` must be an integer from {least} to {most}"),
            )),
        }
    }

    /// `start_date` and `end_date`: Unix times in ms, both included, either may be absent.
    pub(crate) fn dates(&self) -> Result<(Option<i64>, Option<i64>), ApiError> {
        let from = self.integer("start_date", "invalid_date_range", 0, i64::MAX)?;
        let until = self.integer("end_date", "invalid_date_range", 0, i64::MAX)?;
        if from.zip(until).is_some_and(|(from, until)| from > until) {
            return Err(refused(
                "start_date",
                "invalid_date_range",
                "`start_date` must not be after `end_date`".into(),
            ));
        }
        Ok((from, until))
    }

    /// The wanted page; `default` rows unless `limit` says otherwise.
    pub(crate) fn page(&self, default: i64) -> Result<Page, ApiError> {
        let limit = self
            .integer("limit", "invalid_limit", 1, MOST)?
            .unwrap_or(default);
        let offset = self
            .integer("offset", "invalid_offset", 0, FARTHEST)?
            .unwrap_or(0);
        let Some(cursor) = self.text("cursor") else {
            return Ok(Page {
                limit,
                offset,
                after: None,
            });
        };
        if self.0.contains_key("offset") {
            return Err(refused(
                "cursor",
                "invalid_cursor",
                "`cursor` and `offset` cannot be combined".into(),
            ));
        }
        let bytes = URL_SAFE_NO_PAD.decode(&cursor).map_err(|_| bad_cursor())?;
        let after: Value = serde_json::from_slice(&bytes).map_err(|_| bad_cursor())?;
        Ok(Page {
            limit,
            offset: 0,
            after: Some(after),
        })
    }
}

impl Page {
    /// Where the row stands that the page before ended with; none for a first page, or one by number.
    pub(crate) fn after<K: DeserializeOwned>(&self) -> Result<Option<K>, ApiError> {
        let after = self.after.clone().map(serde_json::from_value);
        after.transpose().map_err(|_| bad_cursor())
    }

    /// For the database: one row more than wanted tells whether there are more. For lists by time and id.
    pub(crate) fn slice(&self) -> Result<Slice, ApiError> {
        Ok(Slice {
            after: self.after()?,
            ..self.by_number()
        })
    }

    /// The same for lists that are ordered otherwise, and look at [`Page::after`] themselves.
    pub(crate) fn by_number(&self) -> Slice {
        Slice {
            limit: self.limit + 1,
            offset: self.offset,
            after: None,
        }
    }

    /// Cuts the row off that [`Page::slice`] asked for in addition. `place` is what the list is ordered by: the next page
    /// goes on after the last row, whatever came before it meanwhile.
    pub(crate) fn cut<T, K: Serialize>(
        &self,
        rows: &mut Vec<T>,
        total: i64,
        place: impl Fn(&T) -> K,
    ) -> PageInfo {
        let most = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let has_more = rows.len() > most;
        rows.truncate(most);
        let next = rows.last().filter(|_| has_more).map(place);
        let next = next.and_then(|place| serde_json::to_vec(&place).ok());
        PageInfo {
            total,
            count: i64::try_from(rows.len()).unwrap_or(i64::MAX),
            limit: self.limit,
            offset: self.offset,
            has_more,
            next_cursor: next.map(|place| URL_SAFE_NO_PAD.encode(place)),
        }
    }

    /// The page of a list that is in memory as a whole, rising by `place`.
    pub(crate) fn of<T, K: Ord + Serialize + DeserializeOwned>(
        &self,
        all: Vec<T>,
        place: impl Fn(&T) -> K,
    ) -> Result<(Vec<T>, PageInfo), ApiError> {
        let total = i64::try_from(all.len()).unwrap_or(i64::MAX);
        let after: Option<K> = self.after()?;
        let skipped = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let taken = usize::try_from(self.limit + 1).unwrap_or(usize::MAX);
        let mut rows: Vec<T> = all
            .into_iter()
            .skip_while(|row| after.as_ref().is_some_and(|after| place(row) <= *after))
            .skip(skipped)
            .take(taken)
            .collect();
        let info = self.cut(&mut rows, total, place);
        Ok((rows, info))
    }
}

fn bad_cursor() -> ApiError {
    refused(
        "cursor",
        "invalid_cursor",
        "`cursor` must be the `next_cursor` of a page before, of the same list".into(),
    )
}

fn refused(param: &'static str, code: &'static str, message: String) -> ApiError {
    ApiError::Query {
        param,
        code,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        Params(
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn pages_are_bounded_and_follow_each_other() {
        for bad in ["0", "-5", "2000", "abc", ""] {
            assert!(params(&[("limit", bad)]).page(50).is_err(), "{bad}");
        }
        for bad in ["", "x", "MS4y!", "MS4y"] {
            let page = params(&[("cursor", bad)]).page(50);
            let place = page.and_then(|page| page.after::<(i64, i64)>());
            assert_eq!(place.is_err(), !bad.is_empty(), "{bad}");
        }
        let own = |row: &i64| *row;
        let page = params(&[("limit", "2")]).page(50).unwrap();
        let (rows, info) = page.of(vec![1, 3, 5], own).unwrap();
        assert_eq!((rows, info.total, info.has_more), (vec![1, 3], 3, true));
        let cursor = info.next_cursor.unwrap();
        let page = params(&[("limit", "2"), ("cursor", &cursor)])
            .page(50)
            .unwrap();
        // What came and went meanwhile shifts nothing.
        let (rows, info) = page.of(vec![0, 1, 2, 4, 5], own).unwrap();
        assert_eq!(
            (rows, info.has_more, info.next_cursor),
            (vec![4, 5], false, None)
        );
        assert!(page.slice().is_err(), "the cursor of another list");
        let mut rows = vec![7, 8];
        let page = params(&[("limit", "1")]).page(50).unwrap();
        let info = page.cut(&mut rows, 2, |row| (5, *row));
        let next = params(&[("cursor", &info.next_cursor.unwrap())])
            .page(50)
            .unwrap();
        assert_eq!(next.slice().unwrap().after, Some((5, 7)));
    }

    #[test]
    fn values_are_checked() {
        assert!(params(&[("a", "yes")]).flag("a").is_err());
        assert_eq!(params(&[("a", "true")]).flag("a").unwrap(), Some(true));
        assert!(
            params(&[("start_date", "2"), ("end_date", "1")])
                .dates()
                .is_err()
        );
        assert_eq!(
            params(&[("end_date", "1")]).dates().unwrap(),
            (None, Some(1))
        );
        assert!(
            params(&[("w", "c")])
                .word("w", &[("a", 1), ("b", 2)])
                .is_err()
        );
        assert_eq!(
            params(&[("w", "b")])
                .word("w", &[("a", 1), ("b", 2)])
                .unwrap(),
            Some(2)
        );
    }
}
