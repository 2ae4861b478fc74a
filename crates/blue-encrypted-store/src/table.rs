//! The table: what is asked of DynamoDB, through the official SDK.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::client::Waiters;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, ConditionCheck, Delete, GlobalSecondaryIndex,
    KeySchemaElement, KeyType, Projection, ProjectionType, Put, ScalarAttributeType,
    TableDescription, TableStatus, TransactWriteItem,
};
use aws_smithy_types::error::operation::BuildError;
use worldcompute_fault::{Category, Fault, Result};

use crate::check::Check;
use crate::failure::{fault, refused, transaction_fault};
use crate::manifest::SealPrefix;
use crate::metrics::Metrics;
use crate::record::{STATUS_KEY, STATUS_SORT};
use crate::row::{Row, SEAL};

/// The most actions of one transaction.
pub(crate) const MAX_ACTIONS: usize = 100;
/// The most bytes of one transaction: DynamoDB's 4 MB less room for what it counts besides the items.
pub(crate) const MAX_TRANSACTION_BYTES: usize = 3_500_000;
/// How long a table may take to be there once it was created.
const MAX_CREATION: Duration = Duration::from_secs(60);
/// Pages without any row that a server may send among those that have one.
const MAX_EMPTY_PAGES: usize = 16;
/// What the sort keys of data keys start with.
pub(crate) const DATA_KEYS: &str = "dek#";
const BY_STATUS: &str = "ByStatus";

/// One action of a transaction.
#[derive(Clone)]
pub(crate) enum Action {
    Put {
        row: Row,
        when: When,
    },
    Delete {
        sk: String,
        when: When,
    },
    /// Changes nothing.
    Check {
        pk: String,
        sk: String,
        when: When,
    },
}

impl Action {
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Put { row, .. } => row.size(),
            Self::Delete { sk, .. } | Self::Check { sk, .. } => sk.len(),
        }
    }
}

/// What must hold of the row that is there.
#[derive(Clone)]
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
    /// It has no seal at all, if there is any.
    Unsealed,
    /// It is not of this entity type, if there is any.
    Other(&'static str),
}

/// How a transaction ended, when it could be answered at all.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// Conditions did not hold, or somebody else wrote at the same time: nothing was done. Which actions it was.
    Refused(Vec<usize>),
}

/// From which end rows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Forward,
    Backward,
}

/// Some rows of a partition, with their sort keys.
pub(crate) struct Page {
    pub(crate) rows: Vec<(String, Result<Row, Check>)>,
    /// Whether there are more.
    pub(crate) more: bool,
}

/// What may still be read: whoever can write the table must not fill this process's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

impl Room {
    /// Takes a row of `bytes` in.
    ///
    /// # Errors
    /// `too_many_rows`, `too_many_bytes`.
    pub(crate) fn take(&mut self, what: &str, bytes: usize) -> Result<()> {
        self.rows = self.rows.checked_sub(1).ok_or_else(|| {
            let message = format!("{what} has more rows than a partition can have");
            overfull(TOO_MANY_ROWS, message)
        })?;
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(|| {
            let message = format!("{what} has more bytes than are read of a partition");
            overfull(TOO_MANY_BYTES, message)
        })?;
        Ok(())
    }
}

/// The table of one store.
#[derive(Clone)]
pub(crate) struct Table {
    client: Client,
    name: Arc<str>,
}

impl Table {
    pub(crate) fn new(client: Client, name: &str) -> Self {
        Self {
            client,
            name: name.into(),
        }
    }

    /// The same; requests that are sent again are counted.
    pub(crate) fn counted_by(&self, metrics: &Metrics) -> Self {
        let config = self.client.config().to_builder();
        Self {
            client: Client::from_conf(config.interceptor(metrics.clone()).build()),
            name: self.name.clone(),
        }
    }

    /// Creates the table when it is not there.
    ///
    /// # Errors
    /// `table_malformed` when there is one of that name for something else.
    pub(crate) async fn ensure(&self) -> Result<()> {
        if self.describe().await?.is_none() {
            self.create().await?;
        }
        self.check().await
    }

    /// Looks whether the table is there, and is one of a store.
    ///
    /// # Errors
    /// `table_not_found`, `table_malformed`.
    pub(crate) async fn check(&self) -> Result<()> {
        let mut found = self.describe().await?;
        if found.as_ref().and_then(TableDescription::table_status) == Some(&TableStatus::Creating) {
            self.wait().await?;
            found = self.describe().await?;
        }
        match found {
            None => Err(self.not_found()),
            Some(table) if is_ours(&table) => Ok(()),
            Some(_) => Err(self.malformed()),
        }
    }

    async fn describe(&self) -> Result<Option<TableDescription>> {
        let request = self.client.describe_table().table_name(&*self.name);
        match request.send().await {
            Ok(answer) => Ok(answer.table),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|e| e.is_resource_not_found_exception()) =>
            {
                Ok(None)
            }
            Err(error) => Err(fault("describe the table", &error)),
        }
    }

    async fn wait(&self) -> Result<()> {
        let waiter = self.client.wait_until_table_exists();
        let waited = waiter.table_name(&*self.name).wait(MAX_CREATION).await;
        waited.map(drop).map_err(|error| {
            let message = format!("the table {} is being created for too long", self.name);
            Fault::new(Category::NetworkTransient, "store_unreachable", message).caused_by(error)
        })
    }

    fn not_found(&self) -> Fault {
        let message = format!("there is no table {}", self.name);
        Fault::new(Category::DependencyMissing, "table_not_found", message)
            .hint("set the store up, or look at the table's name, the endpoint and the region")
    }

    fn malformed(&self) -> Fault {
        let message = format!("the table {} was not made for a store", self.name);
        Fault::new(Category::InvalidInput, "table_malformed", message)
            .hint("choose another name for the store's table")
    }

    async fn create(&self) -> Result<()> {
        let mut request = self
            .client
            .create_table()
            .table_name(&*self.name)
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
            .table_name(&*self.name)
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
            .table_name(&*self.name)
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

    /// All rows of a partition, all pages, as long as there is room.
    pub(crate) async fn partition(&self, pk: &str, mut room: Room) -> Result<Vec<Row>> {
        let limit = room.rows;
        let mut pages = self
            .client
            .query()
            .table_name(&*self.name)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(pk))
            .consistent_read(true)
            .into_paginator()
            .send();
        let mut rows = Vec::new();
        let mut turned = 0;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| fault("read a partition", &error))?;
            turned += 1;
            check_count(pk, turned, limit.saturating_add(MAX_EMPTY_PAGES))?;
            for item in page.items.unwrap_or_default() {
                let row = row(pk, item)?;
                room.take(pk, row.size())?;
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// At most `limit` rows of a partition, from the sort key `after` on, in that order. A row of a type that is never
    /// written is told as such.
    pub(crate) async fn page(
        &self,
        pk: &str,
        order: Order,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page> {
        let condition = match (after, order) {
            (None, _) => "pk = :pk",
            (Some(_), Order::Forward) => "pk = :pk AND sk > :sk",
            (Some(_), Order::Backward) => "pk = :pk AND sk < :sk",
        };
        let mut request = self
            .client
            .query()
            .table_name(&*self.name)
            .key_condition_expression(condition)
            .expression_attribute_values(":pk", text(pk))
            .scan_index_forward(order == Order::Forward)
            .consistent_read(true)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        if let Some(after) = after {
            request = request.expression_attribute_values(":sk", text(after));
        }
        let answer = request
            .send()
            .await
            .map_err(|error| fault("read a part of a partition", &error))?;
        let more = answer.last_evaluated_key.is_some();
        let rows = answer.items.unwrap_or_default().into_iter();
        let rows = rows.filter_map(|item| Some((keys_of(&item)?.1, Row::from_item(item))));
        Ok(Page {
            rows: rows.collect(),
            more,
        })
    }

    /// The rows of a partition's data keys, at most `limit`.
    pub(crate) async fn data_keys(&self, pk: &str, limit: usize) -> Result<Vec<Row>> {
        let mut room = Room {
            rows: limit,
            bytes: usize::MAX,
        };
        self.starting_with(pk, DATA_KEYS, &mut room).await
    }

    /// The rows of a partition whose sort keys start so, as long as there is room.
    pub(crate) async fn starting_with(
        &self,
        pk: &str,
        prefix: &str,
        room: &mut Room,
    ) -> Result<Vec<Row>> {
        let mut pages = self
            .client
            .query()
            .table_name(&*self.name)
            .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
            .expression_attribute_values(":pk", text(pk))
            .expression_attribute_values(":prefix", text(prefix))
            .consistent_read(true)
            .into_paginator()
            .send();
        let mut rows = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| fault("read a part of a partition", &error))?;
            for item in page.items.unwrap_or_default() {
                let row = row(pk, item)?;
                room.take(pk, row.size())?;
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// Sort keys of a partition, those that start with `prefix`, the first `limit` of them. Not authenticated.
    pub(crate) async fn sort_keys(
        &self,
        pk: &str,
        prefix: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>> {
        let mut request = self
            .client
            .query()
            .table_name(&*self.name)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(pk))
            .projection_expression("pk, sk")
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .consistent_read(true);
        if let Some(prefix) = prefix {
            request = request
                .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
                .expression_attribute_values(":prefix", text(prefix));
        }
        let answer = request
            .send()
            .await
            .map_err(|error| fault("read a partition's keys", &error))?;
        let keys = answer.items().iter().filter_map(keys_of);
        Ok(keys.map(|(_, sk)| sk).collect())
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
            .table_name(&*self.name)
            .index_name(BY_STATUS)
            .key_condition_expression("gsi1pk = :status")
            .expression_attribute_values(":status", text(&format!("status#{status}")))
            .into_paginator()
            .send();
        let mut found = Vec::new();
        let mut turned = 0;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| fault("read the index", &error))?;
            turned += 1;
            check_count(BY_STATUS, turned, limit.saturating_add(MAX_EMPTY_PAGES))?;
            found.extend(page.items().iter().filter_map(keys_of));
            check_count(BY_STATUS, found.len(), limit)?;
        }
        Ok(found)
    }

    /// The partition keys of the table, at most `limit`. Not authenticated.
    pub(crate) async fn partitions(&self, limit: usize) -> Result<BTreeSet<String>> {
        let mut pages = self
            .client
            .scan()
            .table_name(&*self.name)
            .projection_expression("pk, sk")
            .consistent_read(true)
            .into_paginator()
            .send();
        let mut found = BTreeSet::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| fault("look through the table", &error))?;
            found.extend(
                page.items()
                    .iter()
                    .filter_map(|item| Some(keys_of(item)?.0)),
            );
            check_count("the table", found.len(), limit)?;
        }
        Ok(found)
    }

    /// Whether the table has no row at all.
    pub(crate) async fn is_empty(&self) -> Result<bool> {
        let request = self
            .client
            .scan()
            .table_name(&*self.name)
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
            request = request
                .transact_items(item(&self.name, pk, action).map_err(|error| unbuilt(&error))?);
        }
        match request.send().await {
            Ok(_) => Ok(Outcome::Done),
            Err(error) => match error.as_service_error().and_then(refused) {
                Some(actions) => Ok(Outcome::Refused(actions)),
                None => Err(transaction_fault("write to a partition", &error)),
            },
        }
    }
}

/// That there are not more than may be taken in.
pub(crate) fn check_count(what: &str, found: usize, limit: usize) -> Result<()> {
    if found <= limit {
        return Ok(());
    }
    let message = format!("{what} has more than {limit} rows");
    Err(overfull(TOO_MANY_ROWS, message))
}

const TOO_MANY_ROWS: &str = "too_many_rows";
const TOO_MANY_BYTES: &str = "too_many_bytes";

/// Whether there was more than may be taken in.
pub(crate) fn is_overfull(fault: &Fault) -> bool {
    [TOO_MANY_ROWS, TOO_MANY_BYTES].contains(&fault.code())
}

fn overfull(code: &'static str, message: String) -> Fault {
    Fault::new(Category::VerificationFailed, code, message)
        .hint("look for rows that this program has not written")
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

/// Whether a table has the keys and the index of a store's.
fn is_ours(table: &TableDescription) -> bool {
    let index = table
        .global_secondary_indexes()
        .iter()
        .find(|index| index.index_name() == Some(BY_STATUS));
    let texts = table.attribute_definitions();
    has_keys(table.key_schema(), "pk", "sk")
        && index.is_some_and(|index| has_keys(index.key_schema(), STATUS_KEY, STATUS_SORT))
        && texts
            .iter()
            .all(|attribute| *attribute.attribute_type() == ScalarAttributeType::S)
}

fn has_keys(schema: &[KeySchemaElement], hash: &str, range: &str) -> bool {
    let expected = [(hash, &KeyType::Hash), (range, &KeyType::Range)];
    schema
        .iter()
        .map(|key| (key.attribute_name(), key.key_type()))
        .eq(expected)
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

fn item(table: &str, pk: &str, action: Action) -> Result<TransactWriteItem, BuildError> {
    Ok(match action {
        Action::Put { row, when } => {
            let (condition, values) = when.expression();
            let put = Put::builder()
                .table_name(table)
                .set_item(Some(row.into_item()))
                .set_condition_expression(condition)
                .set_expression_attribute_values(values);
            TransactWriteItem::builder().put(put.build()?).build()
        }
        Action::Delete { sk, when } => {
            let (condition, values) = when.expression();
            let delete = Delete::builder()
                .table_name(table)
                .key("pk", text(pk))
                .key("sk", AttributeValue::S(sk))
                .set_condition_expression(condition)
                .set_expression_attribute_values(values);
            TransactWriteItem::builder().delete(delete.build()?).build()
        }
        Action::Check { pk, sk, when } => {
            let (condition, values) = when.expression();
            let check = ConditionCheck::builder()
                .table_name(table)
                .key("pk", AttributeValue::S(pk))
                .key("sk", AttributeValue::S(sk))
                .set_condition_expression(condition)
                .set_expression_attribute_values(values);
            TransactWriteItem::builder()
                .condition_check(check.build()?)
                .build()
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
            Self::Unsealed => {
                let values = [(":b".to_owned(), text("B"))];
                let condition =
                    format!("attribute_not_exists({SEAL}) OR NOT attribute_type({SEAL}, :b)");
                (Some(condition), Some(values.into()))
            }
            Self::Other(entity_type) => {
                let values = [(":t".to_owned(), text(entity_type))];
                (Some("entity_type <> :t".to_owned()), Some(values.into()))
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

fn unbuilt(error: &BuildError) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "store_request_refused",
        format!("the request to the table is incomplete: {error}"),
    )
}
