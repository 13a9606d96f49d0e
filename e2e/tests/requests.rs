//! Single HTTP requests to the API server, as whoever a kubeconfig logs in.
//!
//! In: method, path, body. Out: status code and answer, whatever they are: nothing is retried and
//! nothing is taken for a failure.

use std::path::Path;

use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;

pub(crate) struct Requests {
    runtime: tokio::runtime::Runtime,
    client: kube::Client,
}

impl Requests {
    pub(crate) fn of(kubeconfig: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
        let client = runtime.block_on(async {
            let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
                .await
                .unwrap();
            config.default_retry = false;
            kube::Client::try_from(config).unwrap()
        });
        Self { runtime, client }
    }

    /// `GET` and the like; the body goes as JSON, for `PATCH` as a merge patch.
    pub(crate) fn send(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let media = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let bytes = body.map(|body| body.to_string().into_bytes());
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("accept", "application/json")
            .header("content-type", media)
            .body(Body::from(bytes.unwrap_or_default()))
            .unwrap();
        self.runtime.block_on(async {
            let response = self.client.send(request).await.unwrap();
            let code = response.status().as_u16();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
        })
    }
}
