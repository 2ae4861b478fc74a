//! AWS KMS in this process, behind the SDK's HTTP connector: it can do one operation, and everything that can go wrong.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_sdk_kms::config::{Credentials, Region, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::base64;
use aws_smithy_types::body::SdkBody;
use aws_types::SdkConfig;
use serde_json::{Value, json};

use super::{AwsKmsKeyProvider, KmsKeyArn};
use crate::client::through;
use crate::crypto::{hmac, hmac_key};

pub(super) const ARN: &str =
    "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// What the service does when it is asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mood {
    Honest,
    /// Answers with this HTTP status and error code.
    Refuses(u16, &'static str),
    /// Refuses so the next times, then is honest.
    RefusesTimes(usize, u16, &'static str),
    /// Says that another key did it.
    NamesKey(&'static str),
    NamesNoKey,
    /// Gives so many bytes of the MAC, repeated if need be.
    GivesBytes(usize),
    GivesNothing,
    NamesAlgorithm(&'static str),
    /// The MAC of nothing, whatever it is asked for.
    IgnoresMessage,
    /// Another key than it says.
    UsesKey([u8; 32]),
    /// No JSON.
    Babbles,
    Hangs,
    /// The connection fails.
    Gone,
}

/// One key in a service.
#[derive(Clone, Debug)]
pub(super) struct FakeKms(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    key: [u8; 32],
    mood: Mutex<Mood>,
    calls: AtomicUsize,
}

impl FakeKms {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self(Arc::new(Inner {
            key,
            mood: Mutex::new(Mood::Honest),
            calls: AtomicUsize::new(0),
        }))
    }

    pub(super) fn provider(&self) -> AwsKmsKeyProvider {
        AwsKmsKeyProvider::new(&self.config(), KmsKeyArn::parse(ARN).unwrap())
    }

    pub(super) fn config(&self) -> SdkConfig {
        let credentials = Credentials::new("id", "secret", None, None, "test");
        SdkConfig::builder()
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .region(Region::from_static("us-east-1"))
            .http_client(through(self.clone()))
            .build()
    }

    pub(super) fn be(&self, mood: Mood) {
        *self.0.mood.lock().unwrap() = mood;
    }

    /// How often it was asked, retries included.
    pub(super) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    fn mood(&self) -> Mood {
        let mut mood = self.0.mood.lock().unwrap();
        if let Mood::RefusesTimes(times, status, code) = mood.clone() {
            *mood = match times {
                1 => Mood::Honest,
                _ => Mood::RefusesTimes(times - 1, status, code),
            };
            return Mood::Refuses(status, code);
        }
        mood.clone()
    }

    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let mood = self.mood();
        match mood {
            Mood::Hangs => std::future::pending().await,
            Mood::Gone => Err(ConnectorError::io("connection reset".into())),
            Mood::Babbles => Ok(response(200, "<html>welcome</html>".to_owned())),
            Mood::Refuses(status, code) => {
                let body = json!({"__type": code, "message": "as the test wants it"});
                Ok(response(status, body.to_string()))
            }
            mood => Ok(response(200, self.mac(&mood, &request).to_string())),
        }
    }

    fn mac(&self, mood: &Mood, request: &HttpRequest) -> Value {
        assert_eq!(
            request.headers().get("x-amz-target"),
            Some("TrentService.GenerateMac")
        );
        let uri = request.uri();
        let known = uri.contains("kms.eu-central-1.") || uri.starts_with("http://127.0.0.1:");
        assert!(known, "{uri}");
        let asked: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        assert_eq!(
            (&asked["KeyId"], &asked["MacAlgorithm"]),
            (&json!(ARN), &json!("HMAC_SHA_256"))
        );
        let message = base64::decode(asked["Message"].as_str().unwrap()).unwrap();
        let key = match mood {
            Mood::UsesKey(key) => key,
            _ => &self.0.key,
        };
        let mut mac = match mood {
            Mood::IgnoresMessage => hmac(&hmac_key(key), b"").to_vec(),
            _ => hmac(&hmac_key(key), &message).to_vec(),
        };
        if let Mood::GivesBytes(bytes) = mood {
            mac = mac.into_iter().cycle().take(*bytes).collect();
        }
        let mut answer = json!({
            "KeyId": ARN, "MacAlgorithm": "HMAC_SHA_256", "Mac": base64::encode(mac),
        });
        match mood {
            Mood::NamesKey(key) => answer["KeyId"] = json!(key),
            Mood::NamesNoKey => answer["KeyId"] = Value::Null,
            Mood::NamesAlgorithm(name) => answer["MacAlgorithm"] = json!(name),
            Mood::GivesNothing => answer["Mac"] = Value::Null,
            _ => {}
        }
        answer
    }
}

fn response(status: u16, body: String) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))
}

impl HttpConnector for FakeKms {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let kms = self.clone();
        HttpConnectorFuture::new(async move { kms.answer(request).await })
    }
}
