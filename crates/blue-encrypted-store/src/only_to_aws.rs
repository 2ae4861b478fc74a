//! What may leave for AWS goes to AWS.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use http::Uri;

use crate::backend::check_aws;

/// Looks at each request as it leaves: wherever an endpoint was configured, nothing gets past this.
#[derive(Debug)]
pub(crate) struct OnlyToAws;

#[dyn_dispatch_hint]
impl Intercept for OnlyToAws {
    fn name(&self) -> &'static str {
        "OnlyToAws"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let uri: Uri = context.request().uri().parse()?;
        Ok(check_aws(&uri)?)
    }
}
