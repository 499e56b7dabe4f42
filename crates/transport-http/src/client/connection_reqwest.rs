//! Connections by way of a `reqwest::Client`, which keeps them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Uri;
use http_body::Body;
use peercache_groupcache::BoxError;

use crate::{
    client::connection::{Connection, Connector, Step, chained, was_closed},
    client::failure::Failure,
};

impl Connector for reqwest::Client {
    fn connection(&self, address: &Arc<str>) -> Box<dyn Connection> {
        Box::new(ReqwestConnection { client: self.clone(), address: address.clone(), body: None })
    }
}

struct ReqwestConnection {
    client: reqwest::Client,
    address: Arc<str>,
    body: Option<reqwest::Body>,
}

impl Connection for ReqwestConnection {
    /// Does nothing: the client opens connections when it has requests for them.
    fn connect_ahead(&mut self) -> Step<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn send(&mut self, mut request: http::Request<Bytes>) -> Step<'_, http::response::Parts> {
        self.body = None;
        Box::pin(async move {
            let url = format!("{}{}", self.address, request.uri());
            *request.uri_mut() = Uri::try_from(url).map_err(|error| Failure::Send(error.into()))?;
            let request = reqwest::Request::try_from(request).map_err(failure)?;
            let answer: http::Response<reqwest::Body> = self.client.execute(request).await.map_err(failure)?.into();
            let (head, body) = answer.into_parts();
            self.body = Some(body);
            Ok(head)
        })
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        loop {
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        return Poll::Ready(Some(Ok(piece)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.without_url().into()))),
                None => self.body = None,
            }
        }
    }

    fn remaining_bytes(&self) -> Option<u64> {
        self.body.as_ref().and_then(|body| body.size_hint().exact())
    }

    /// Always `false`: the client itself repeats a request that met a stale connection.
    fn was_reused(&self) -> bool {
        false
    }

    fn poll_closed(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// The failure without the URL, which holds the key: that can be long, and does not belong in a
/// log.
fn failure(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    match () {
        () if error.is_connect() => Failure::Connect(chained(&error)),
        () if was_closed(&error) => Failure::Closed(chained(&error)),
        () => Failure::Send(chained(&error)),
    }
}
