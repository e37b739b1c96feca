//! What decides where a request goes: pure state, told the time, that knows neither actors nor clients.

pub(crate) mod breaker;
pub(crate) mod dice;
pub(crate) mod facts;
mod latency;
pub(crate) mod needs;
pub(crate) mod node;
pub(crate) mod order;
mod rate;
pub(crate) mod retry;
mod usual;
pub(crate) mod virtuals;
