//! The changes that people make: `PUT` and `DELETE` at `/role`.
use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::{RawQuery, State},
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
    },
    response::{IntoResponse, Response},
    routing::{MethodRouter, put},
};
use bytes::Bytes;
use peercache::{ClientAddress, Error, Group, Key, UpdateError};
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::{
    body::{self, Bodies, Unread},
    failure_log::FailureLog,
    origin::{Change, Origin, WriteError},
    refusal::{busy, refused},
    request::RoleRequest,
};

/// The most changes in progress at a time, with those whose callers have left.
const MAX_IN_PROGRESS: u32 = 1_024;

const NO_BODY: &str = "send the new role as the body; an empty role has content-length: 0\n";
const KNOWN: &str = "every node knows\n";
const NOTHING_YET: &str = "not within x-timeout-ms; nothing was changed\n";
const GOES_ON: &str = "not within x-timeout-ms; the change goes on\n";

/// The changes of one node.
#[derive(Clone)]
pub struct Updates {
    roles: Group<Bytes>,
    origin: Origin,
    write_timeout: Duration,
    bodies: Bodies,
    in_progress: Arc<Semaphore>,
    failures: FailureLog,
}

/// The outcome of a change.
enum Outcome {
    /// Every node knows.
    Known,
    /// These members could not be told.
    Missed(Vec<String>),
    NotWritten(WriteError),
    Refused(Error),
}

impl Updates {
    /// Makes the changes of `roles`, which are loaded from `origin`. A write there may take
    /// `write_timeout`.
    pub fn new(roles: Group<Bytes>, origin: Origin, role_bytes_max: usize, write_timeout: Duration) -> Self {
        let in_progress = Arc::new(Semaphore::new(MAX_IN_PROGRESS as usize));
        let (bodies, failures) = (Bodies::new(role_bytes_max), FailureLog::default());
        Updates { roles, origin, write_timeout, bodies, in_progress, failures }
    }

    /// The log of what could not be answered or changed.
    pub fn failures(&self) -> &FailureLog {
        &self.failures
    }

    /// The routes of `PUT` and `DELETE`.
    pub fn routes(self) -> MethodRouter {
        put(put_role).delete(delete_role).with_state(self)
    }

    /// Waits until no change is in progress. None begins after that.
    pub async fn finish(&self) {
        let _ = self.in_progress.acquire_many(MAX_IN_PROGRESS).await.map(|all| all.forget());
    }

    /// Makes a change in a task of its own, or returns `None` if too many are in progress.
    ///
    /// When a caller leaves, no change must be left half made: written at the origin, and told to
    /// no member. `until_done` is dropped when the change is made.
    fn begin(&self, name: &[u8], change: Change, until_done: impl Send + 'static) -> Option<JoinHandle<Outcome>> {
        let permit = self.in_progress.clone().try_acquire_owned().ok()?;
        let (updates, name) = (self.clone(), Key::copy_from(name));
        Some(tokio::spawn(async move {
            let outcome = updates.make(name, change).await;
            drop((permit, until_done));
            outcome
        }))
    }

    async fn make(&self, name: Key, change: Change) -> Outcome {
        if !self.origin.is_written()
            && let Change::Put(role) = change
        {
            return self.roles.set(name.as_bytes(), role).await.into();
        }
        let written = self.origin.write(name.clone(), change, self.write_timeout).await;
        match written {
            Ok(()) => self.roles.remove(name.as_bytes()).await.into(),
            Err(error @ WriteError::Unknown(_)) => {
                // If it was written, no node may keep the old role. If not, the next reader loads
                // it again.
                let _ = self.roles.remove(name.as_bytes()).await;
                Outcome::NotWritten(error)
            }
            Err(error) => Outcome::NotWritten(error),
        }
    }

    async fn answer(&self, request: &RoleRequest, change: Change, until_done: impl Send + 'static) -> Response {
        let Some(task) = self.begin(&request.name, change, until_done) else {
            return busy();
        };
        match request.within(task).await {
            Some(Ok(outcome)) => self.respond(outcome),
            Some(Err(_panicked)) => (StatusCode::INTERNAL_SERVER_ERROR, "the change broke off\n").into_response(),
            None => (StatusCode::GATEWAY_TIMEOUT, GOES_ON).into_response(),
        }
    }
}

async fn put_role(
    State(updates): State<Updates>,
    RawQuery(query): RawQuery,
    from: Option<Extension<ClientAddress>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let request = match RoleRequest::read(query.as_deref(), &headers) {
        Ok(request) => request,
        Err(why) => {
            body::discard(&headers, body);
            return (StatusCode::BAD_REQUEST, why).into_response();
        }
    };
    if !(headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING)) {
        return (StatusCode::BAD_REQUEST, NO_BODY).into_response();
    }
    match request.within(updates.bodies.read(&headers, from.map(|from| from.0), body)).await {
        Some(Ok(role)) => updates.answer(&request, Change::Put(role.bytes), role.share).await,
        Some(Err(unread)) => unread.into_response(),
        None => (StatusCode::GATEWAY_TIMEOUT, NOTHING_YET).into_response(),
    }
}

async fn delete_role(State(updates): State<Updates>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    match RoleRequest::read(query.as_deref(), &headers) {
        Ok(request) => updates.answer(&request, Change::Delete, ()).await,
        Err(why) => (StatusCode::BAD_REQUEST, why).into_response(),
    }
}

impl From<Result<(), UpdateError>> for Outcome {
    fn from(told: Result<(), UpdateError>) -> Self {
        match told {
            Ok(()) => Outcome::Known,
            Err(UpdateError::Refused(error)) => Outcome::Refused(error),
            Err(error) => Outcome::Missed(error.missed().iter().map(|missed| missed.member.clone()).collect()),
        }
    }
}

impl Updates {
    /// The response to who made a change.
    fn respond(&self, outcome: Outcome) -> Response {
        match outcome {
            Outcome::Known => KNOWN.into_response(),
            Outcome::Missed(members) => {
                self.failures.warn(&format!("could not tell {}", members.join(", ")));
                let report = serde_json::json!({ "missed": members }).to_string();
                (StatusCode::MULTI_STATUS, [(CONTENT_TYPE, "application/json")], report).into_response()
            }
            Outcome::NotWritten(WriteError::NotText(what)) => {
                (StatusCode::BAD_REQUEST, format!("the {what} must be UTF-8 text; it goes to an SQL table\n"))
                    .into_response()
            }
            Outcome::NotWritten(error) => {
                let sentence = format!("{error}\n");
                self.failures.warn(&format!("could not change a role: {:#}", anyhow::Error::new(error)));
                (StatusCode::BAD_GATEWAY, sentence).into_response()
            }
            Outcome::Refused(error) => refused(&error, &self.failures),
        }
    }
}

impl IntoResponse for Unread {
    fn into_response(self) -> Response {
        match self {
            Unread::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, "the role is too long\n").into_response(),
            Unread::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the role took too long to arrive\n").into_response(),
            Unread::Broken => (StatusCode::BAD_REQUEST, "the role did not arrive whole\n").into_response(),
            Unread::NoBudget => busy(),
        }
    }
}
