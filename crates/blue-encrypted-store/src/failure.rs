//! What a failed request means: whether to send it again, and which fault the caller gets.

use std::collections::BTreeSet;
use std::error::Error;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::CancellationReason;
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};
use aws_smithy_types::retry::ErrorKind;
use worldcompute_fault::{Category, Fault, Result};

const CONDITION: &str = "ConditionalCheckFailed";
const CONFLICT: &str = "TransactionConflict";
const THROTTLED: [&str; 2] = ["ThrottlingError", "ProvisionedThroughputExceeded"];

/// Has the SDK send a write again that was cancelled for a reason that passes: other transactions at the same time, or
/// too many requests. Nothing of it was done, and its conditions are checked anew.
#[derive(Debug)]
pub(crate) struct CancelledInPassing;

impl ClassifyRetry for CancelledInPassing {
    fn name(&self) -> &'static str {
        "CancelledInPassing"
    }

    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let failed = context.output_or_error().and_then(Result::err);
        let error = failed.and_then(OrchestratorError::as_operation_error);
        let Some(error) = error else {
            return RetryAction::NoActionIndicated;
        };
        let transaction = error.downcast_ref::<TransactWriteItemsError>();
        let kind = match transaction.and_then(Cancelled::of) {
            Some(Cancelled::Throttled) => ErrorKind::ThrottlingError,
            Some(Cancelled::Conflict) => ErrorKind::TransientError,
            _ if error
                .downcast_ref::<PutItemError>()
                .is_some_and(PutItemError::is_transaction_conflict_exception) =>
            {
                ErrorKind::TransientError
            }
            _ => return RetryAction::NoActionIndicated,
        };
        RetryAction::retryable_error(kind)
    }
}

/// Why a transaction was cancelled.
#[derive(Debug, PartialEq, Eq)]
enum Cancelled {
    /// A condition does not hold.
    Condition,
    /// Somebody else wrote at the same time.
    Conflict,
    Throttled,
    /// For these reasons, which are defects or limits.
    Refused(String),
}

impl Cancelled {
    /// `None` for other errors.
    fn of(error: &TransactWriteItemsError) -> Option<Self> {
        let TransactWriteItemsError::TransactionCanceledException(cancelled) = error else {
            return None;
        };
        let reasons = cancelled.cancellation_reasons().iter();
        let codes: BTreeSet<_> = reasons
            .filter_map(|reason| reason.code())
            .filter(|code| *code != "None")
            .collect();
        let known =
            |code: &&&str| [CONDITION, CONFLICT].contains(*code) || THROTTLED.contains(*code);
        let others: Vec<_> = codes.iter().filter(|code| !known(code)).copied().collect();
        Some(if !others.is_empty() || codes.is_empty() {
            Self::Refused(others.join(", "))
        } else if codes.contains(CONDITION) {
            Self::Condition
        } else if codes.iter().any(|code| THROTTLED.contains(code)) {
            Self::Throttled
        } else {
            Self::Conflict
        })
    }
}

/// Which actions of a transaction were refused because their condition does not hold, or because somebody else keeps
/// writing; `None` when it failed for another reason.
pub(crate) fn refused(error: &TransactWriteItemsError) -> Option<Vec<usize>> {
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error else {
        return None;
    };
    let known = [Cancelled::Condition, Cancelled::Conflict];
    if !Cancelled::of(error).is_some_and(|why| known.contains(&why)) {
        return None;
    }
    let codes = cancelled
        .cancellation_reasons()
        .iter()
        .map(CancellationReason::code)
        .enumerate();
    let refused = codes.filter(|(_, code)| code.is_some_and(|code| code != "None"));
    Some(refused.map(|(action, _)| action).collect())
}

/// What a failed transaction means for the caller.
pub(crate) fn transaction_fault<R>(
    action: &str,
    error: &SdkError<TransactWriteItemsError, R>,
) -> Fault
where
    R: std::fmt::Debug + 'static,
{
    match error.as_service_error().and_then(Cancelled::of) {
        Some(Cancelled::Throttled) => throttled(action),
        Some(Cancelled::Refused(reasons)) => Fault::new(
            Category::InternalFailure,
            "store_request_refused",
            format!("cannot {action}: the transaction was cancelled: {reasons}"),
        ),
        _ => fault(action, error),
    }
}

/// What a failed request means for the caller. A fault that was raised on this side of the network passes through as it
/// is.
pub(crate) fn fault<E, R>(action: &str, error: &SdkError<E, R>) -> Fault
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug + 'static,
{
    if let Some(ours) = our_fault(error) {
        return ours;
    }
    let source = error.source();
    match error {
        SdkError::ServiceError(service) => service_fault(action, service.err()),
        SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) => unreachable(action, source),
        SdkError::ResponseError(_) => malformed(action),
        _ => with_source(
            Fault::new(
                Category::InternalFailure,
                "store_request_refused",
                format!("cannot {action}"),
            ),
            source,
        ),
    }
}

/// What an interceptor of ours refused.
pub(crate) fn our_fault(error: &(dyn Error + 'static)) -> Option<Fault> {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return Some(fault.clone());
        }
        source = error.source();
    }
    None
}

fn unreachable(action: &str, source: Option<&(dyn Error + 'static)>) -> Fault {
    let message = format!("cannot {action}: the table did not answer");
    let fault = Fault::new(Category::NetworkTransient, "store_unreachable", message);
    with_source(fault, source).hint("look whether the endpoint is up, then try again")
}

fn throttled(action: &str) -> Fault {
    let message = format!("cannot {action}: the table takes no more requests at the moment");
    Fault::new(Category::NetworkTransient, "store_throttled", message)
        .hint("try again later, or give the table more capacity")
}

fn malformed(action: &str) -> Fault {
    let message = format!("cannot {action}: the answer is none of DynamoDB's");
    Fault::new(
        Category::NetworkPermanent,
        "store_answer_malformed",
        message,
    )
    .hint("look at what listens at the endpoint")
}

fn with_source(fault: Fault, source: Option<&(dyn Error + 'static)>) -> Fault {
    match source {
        Some(source) => fault.caused_by(source),
        None => fault,
    }
}

fn service_fault(action: &str, error: &impl ProvideErrorMetadata) -> Fault {
    let Some(code) = error.code() else {
        return malformed(action);
    };
    let message = format!(
        "cannot {action}: {code}: {}",
        error.message().unwrap_or_default()
    );
    let (category, name, hint) = match code {
        "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "ThrottlingException"
        | "LimitExceededException" => return throttled(action),
        "TransactionConflictException" | "TransactionInProgressException" => (
            Category::StateContention,
            "state_contention",
            "try again: somebody else is writing",
        ),
        "ResourceNotFoundException" => (
            Category::DependencyMissing,
            "table_not_found",
            "set the store up, or look at the table's name, the endpoint and the region",
        ),
        "AccessDeniedException" => (
            Category::PolicyBlocked,
            "access_denied",
            "allow the action on the table and its index in the IAM policy of this identity",
        ),
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "ExpiredTokenException"
        | "MissingAuthenticationToken" => (
            Category::DependencyMissing,
            "credentials_refused",
            "sign in to AWS again, and look at this machine's clock",
        ),
        "InternalServerError" | "InternalServerErrorException" | "InternalFailure" => (
            Category::IoFailure,
            "store_engine_failed",
            "try again; if it goes on, look at the log of the engine",
        ),
        _ => {
            return Fault::new(Category::InternalFailure, "store_request_refused", message);
        }
    };
    Fault::new(category, name, message).hint(hint)
}
