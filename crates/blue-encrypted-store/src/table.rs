//! The table: what is asked of DynamoDB, through the official SDK.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, Delete, GlobalSecondaryIndex,
    KeySchemaElement, KeyType, Projection, ProjectionType, Put, ScalarAttributeType,
    TransactWriteItem,
};
use aws_smithy_types::error::operation::BuildError;
use worldcompute_fault::{Category, Fault, Result};

use crate::embedded::Engine;
use crate::manifest::SealPrefix;
use crate::record::{STATUS_KEY, STATUS_SORT};
use crate::row::{Row, SEAL};

/// The most actions of one transaction.
pub(crate) const MAX_ACTIONS: usize = 100;
/// The most bytes of one transaction: DynamoDB's 4 MB less room for what it counts besides the items.
pub(crate) const MAX_TRANSACTION_BYTES: usize = 3_500_000;
/// The table's name.
pub(crate) const NAME: &str = "blue-encrypted-store";
const BY_STATUS: &str = "ByStatus";

/// One action of a transaction.
pub(crate) enum Action {
    Put { row: Row, when: When },
    Delete { sk: String, when: When },
}

impl Action {
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Put { row, .. } => row.size(),
            Self::Delete { sk, .. } => sk.len(),
        }
    }
}

/// What must hold of the row that is there.
pub(crate) enum When {
    Always,
    /// There is none.
    Absent,
    /// It has this seal, and this partition version.
    Root {
        version: u64,
        seal: [u8; 32],
    },
    /// Its seal starts with this.
    Sealed(SealPrefix),
}

/// How a transaction ended, when it could be answered at all.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// A condition did not hold, or somebody else wrote at the same time: nothing was done.
    Refused,
}

/// The table of one store.
#[derive(Clone)]
pub(crate) struct Table {
    client: Client,
}

impl Table {
    /// The table in the embedded engine.
    pub(crate) fn embedded(engine: &Engine) -> Self {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("local"))
            .credentials_provider(Credentials::new("local", "local", None, None, "embedded"))
            .endpoint_url("http://embedded.invalid")
            .http_client(engine.clone())
            .build();
        Self {
            client: Client::from_conf(config),
        }
    }

    /// Creates the table when it is not there.
    pub(crate) async fn ensure(&self) -> Result<()> {
        match self.client.describe_table().table_name(NAME).send().await {
            Ok(_) => Ok(()),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|e| e.is_resource_not_found_exception()) =>
            {
                self.create().await
            }
            Err(error) => Err(fault("describe the table", &error)),
        }
    }

    async fn create(&self) -> Result<()> {
        let mut request = self
            .client
            .create_table()
            .table_name(NAME)
            .billing_mode(BillingMode::PayPerRequest)
            .key_schema(key("pk", KeyType::Hash)?)
            .key_schema(key("sk", KeyType::Range)?)
            .global_secondary_indexes(by_status()?);
        for name in ["pk", "sk", STATUS_KEY, STATUS_SORT] {
            let attribute = AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::S);
            request = request.attribute_definitions(attribute.build().map_err(|e| unbuilt(&e))?);
        }
        match request.send().await {
            Ok(_) => Ok(()),
            // Somebody else was quicker.
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|e| e.is_resource_in_use_exception()) =>
            {
                Ok(())
            }
            Err(error) => Err(fault("create the table", &error)),
        }
    }

    /// One row, as it is now.
    pub(crate) async fn get(&self, pk: &str, sk: &str) -> Result<Option<Row>> {
        let request = self
            .client
            .get_item()
            .table_name(NAME)
            .key("pk", text(pk))
            .key("sk", text(sk))
            .consistent_read(true);
        let answer = request
            .send()
            .await
            .map_err(|error| fault("get a row", &error))?;
        answer.item.map(|item| row(pk, item)).transpose()
    }

    /// Writes a row unless there is one of that key; says whether it did.
    pub(crate) async fn put_new(&self, row: Row) -> Result<bool> {
        let request = self
            .client
            .put_item()
            .table_name(NAME)
            .set_item(Some(row.into_item()))
            .condition_expression("attribute_not_exists(pk)");
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(false)
            }
            Err(error) => Err(fault("put a row", &error)),
        }
    }

    /// All rows of a partition, all pages, at most `limit` rows.
    pub(crate) async fn partition(&self, pk: &str, limit: usize) -> Result<Vec<Row>> {
        let mut pages = self
            .client
            .query()
            .table_name(NAME)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(pk))
            .consistent_read(true)
            .into_paginator()
            .send();
        let mut rows = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| fault("read a partition", &error))?;
            for item in page.items.unwrap_or_default() {
                rows.push(row(pk, item)?);
            }
            check_count(pk, rows.len(), limit)?;
        }
        Ok(rows)
    }

    /// Partition key and sort key of every row that the index lists under a status, the longest unchanged first, at
    /// most `limit`. Not authenticated.
    pub(crate) async fn by_status(
        &self,
        status: &str,
        limit: usize,
    ) -> Result<Vec<(String, String)>> {
        let mut pages = self
            .client
            .query()
            .table_name(NAME)
            .index_name(BY_STATUS)
            .key_condition_expression("gsi1pk = :status")
            .expression_attribute_values(":status", text(&format!("status#{status}")))
            .into_paginator()
            .send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| fault("read the index", &error))?;
            found.extend(page.items().iter().filter_map(keys_of));
            check_count(BY_STATUS, found.len(), limit)?;
        }
        Ok(found)
    }

    /// Whether the table has no row at all.
    pub(crate) async fn is_empty(&self) -> Result<bool> {
        let request = self
            .client
            .scan()
            .table_name(NAME)
            .limit(1)
            .consistent_read(true);
        let answer = request
            .send()
            .await
            .map_err(|error| fault("look for rows", &error))?;
        Ok(answer.items().is_empty())
    }

    /// Does all `actions` on one partition or none.
    pub(crate) async fn transact(&self, pk: &str, actions: Vec<Action>) -> Result<Outcome> {
        let mut request = self.client.transact_write_items();
        for action in actions {
            request = request.transact_items(item(pk, action).map_err(|error| unbuilt(&error))?);
        }
        match request.send().await {
            Ok(_) => Ok(Outcome::Done),
            Err(error) if error.as_service_error().is_some_and(is_refusal) => Ok(Outcome::Refused),
            Err(error) => Err(fault("write to a partition", &error)),
        }
    }
}

/// Whoever can write the table must not fill this process's memory.
fn check_count(what: &str, found: usize, limit: usize) -> Result<()> {
    if found <= limit {
        return Ok(());
    }
    let message = format!("{what} has more than {limit} rows");
    Err(
        Fault::new(Category::VerificationFailed, "too_many_rows", message)
            .hint("look for rows that this program has not written"),
    )
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn row(pk: &str, item: HashMap<String, AttributeValue>) -> Result<Row> {
    Row::from_item(item)
        .map_err(|check| check.failed(pk, "a row has an attribute of a type that is never written"))
}

fn keys_of(item: &HashMap<String, AttributeValue>) -> Option<(String, String)> {
    let key = |name| Some(item.get(name)?.as_s().ok()?.clone());
    Some((key("pk")?, key("sk")?))
}

fn key(name: &str, key_type: KeyType) -> Result<KeySchemaElement> {
    KeySchemaElement::builder()
        .attribute_name(name)
        .key_type(key_type)
        .build()
        .map_err(|error| unbuilt(&error))
}

fn by_status() -> Result<GlobalSecondaryIndex> {
    GlobalSecondaryIndex::builder()
        .index_name(BY_STATUS)
        .key_schema(key(STATUS_KEY, KeyType::Hash)?)
        .key_schema(key(STATUS_SORT, KeyType::Range)?)
        .projection(
            Projection::builder()
                .projection_type(ProjectionType::KeysOnly)
                .build(),
        )
        .build()
        .map_err(|error| unbuilt(&error))
}

fn item(pk: &str, action: Action) -> Result<TransactWriteItem, BuildError> {
    Ok(match action {
        Action::Put { row, when } => {
            let (condition, values) = when.expression();
            let put = Put::builder()
                .table_name(NAME)
                .set_item(Some(row.into_item()))
                .set_condition_expression(condition)
                .set_expression_attribute_values(values);
            TransactWriteItem::builder().put(put.build()?).build()
        }
        Action::Delete { sk, when } => {
            let (condition, values) = when.expression();
            let delete = Delete::builder()
                .table_name(NAME)
                .key("pk", text(pk))
                .key("sk", AttributeValue::S(sk))
                .set_condition_expression(condition)
                .set_expression_attribute_values(values);
            TransactWriteItem::builder().delete(delete.build()?).build()
        }
    })
}

type Values = Option<HashMap<String, AttributeValue>>;

impl When {
    fn expression(self) -> (Option<String>, Values) {
        let blob = |bytes: Vec<u8>| AttributeValue::B(bytes.into());
        match self {
            Self::Always => (None, None),
            Self::Absent => (Some("attribute_not_exists(pk)".to_owned()), None),
            Self::Root { version, seal } => {
                let values = [
                    (":v".to_owned(), AttributeValue::N(version.to_string())),
                    (":s".to_owned(), blob(seal.to_vec())),
                ];
                let condition = format!("partition_version = :v AND {SEAL} = :s");
                (Some(condition), Some(values.into()))
            }
            Self::Sealed(seal) => {
                let values = [(":s".to_owned(), blob(seal.to_vec()))];
                (
                    Some(format!("begins_with({SEAL}, :s)")),
                    Some(values.into()),
                )
            }
        }
    }
}

/// Conditions that failed and conflicts with other transactions; every other reason is a defect or a limit.
fn is_refusal(error: &TransactWriteItemsError) -> bool {
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error else {
        return false;
    };
    let mut codes = cancelled
        .cancellation_reasons()
        .iter()
        .filter_map(|reason| reason.code())
        .filter(|code| *code != "None")
        .peekable();
    codes.peek().is_some()
        && codes.all(|code| ["ConditionalCheckFailed", "TransactionConflict"].contains(&code))
}

fn unbuilt(error: &BuildError) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "store_request_refused",
        format!("the request to the table is incomplete: {error}"),
    )
}

/// What a failed request means for the caller. A fault that the embedded engine raised passes through as it is.
fn fault<E, R>(action: &str, error: &SdkError<E, R>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let source = std::error::Error::source(error);
    match error {
        SdkError::ServiceError(service) => service_fault(action, service.err()),
        SdkError::DispatchFailure(failure) => failure
            .as_connector_error()
            .and_then(|error| engine_fault(error))
            .unwrap_or_else(|| transient(action, source)),
        SdkError::TimeoutError(_) => transient(action, source),
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

fn engine_fault(error: &(dyn std::error::Error + 'static)) -> Option<Fault> {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return Some(fault.clone());
        }
        source = error.source();
    }
    None
}

fn transient(action: &str, source: Option<&(dyn std::error::Error + 'static)>) -> Fault {
    let message = format!("cannot {action}: the table did not answer");
    with_source(
        Fault::new(Category::NetworkTransient, "store_unreachable", message),
        source,
    )
}

fn with_source(fault: Fault, source: Option<&(dyn std::error::Error + 'static)>) -> Fault {
    match source {
        Some(source) => fault.caused_by(source),
        None => fault,
    }
}

fn service_fault(action: &str, error: &impl ProvideErrorMetadata) -> Fault {
    let code = error.code().unwrap_or("an unnamed error");
    let message = format!(
        "cannot {action}: {code}: {}",
        error.message().unwrap_or_default()
    );
    let (category, name) = match code {
        "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "ThrottlingException"
        | "LimitExceededException" => (Category::NetworkTransient, "store_throttled"),
        "TransactionConflictException" | "TransactionInProgressException" => {
            (Category::StateContention, "state_contention")
        }
        "ResourceNotFoundException" => (Category::DependencyMissing, "table_not_found"),
        "InternalServerError" | "InternalServerErrorException" => {
            (Category::IoFailure, "store_engine_failed")
        }
        _ => (Category::InternalFailure, "store_request_refused"),
    };
    Fault::new(category, name, message)
}
