//! The asking side: from the pool of peers down to one HTTP exchange.

pub(crate) mod builder;
pub(crate) mod member_name;
pub(crate) mod pool;

pub(crate) mod peer;

pub(crate) mod batch;
pub(crate) mod queue;

pub(crate) mod get_http;
pub(crate) mod get_native;
pub(crate) mod send_update;
pub(crate) mod worker;

pub(crate) mod connection;
pub(crate) mod failure;
pub(crate) mod response_body;

pub(crate) mod connection_hyper;
pub(crate) mod connection_reqwest;
