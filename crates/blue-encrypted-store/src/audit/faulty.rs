//! A table that loses requests and answers, as its tests tell it to.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;

use crate::embedded::Engine;

/// What becomes of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is answered.
    Answered,
    /// It never arrives.
    Lost,
    /// It is done, and its answer never arrives.
    Unanswered,
}

/// The embedded engine behind a line that fails.
#[derive(Clone)]
pub(super) struct Faulty {
    pub(super) engine: Engine,
    /// Of the next transactions, in order; those after them are answered.
    pub(super) fates: Arc<Mutex<VecDeque<Fate>>>,
}

impl Faulty {
    pub(super) fn new(engine: &Engine) -> Self {
        Self {
            engine: engine.clone(),
            fates: Arc::default(),
        }
    }

    pub(super) fn next(&self, fates: impl IntoIterator<Item = Fate>) {
        self.fates.lock().unwrap().extend(fates);
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl HttpConnector for Faulty {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let fate = match target.ends_with("TransactWriteItems") {
            true => self.fates.lock().unwrap().pop_front(),
            false => None,
        };
        let engine = self.engine.clone();
        HttpConnectorFuture::new(async move {
            let gone = || ConnectorError::user("the line is cut".into());
            if fate == Some(Fate::Lost) {
                return Err(gone());
            }
            let answer = engine.call(request).await;
            match fate {
                Some(Fate::Unanswered) => Err(gone()),
                _ => answer,
            }
        })
    }
}
