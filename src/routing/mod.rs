//! Routing: what decides where a request goes, without a clock, a database or an actor.

pub(crate) mod virtuals;
