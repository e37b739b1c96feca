//! How an exchange ends that has no whole answer: the history is told, then the client.

use crate::exchange::downlink::Interrupted;
use crate::exchange::record::{self, Ending};
use crate::exchange::{Exchange, NobodyTakesIt, Refusal};
use crate::providers::UpstreamError;

impl Exchange {
    /// No target is left, or the fault is the caller's: the client is told.
    pub(super) async fn failed(mut self: Box<Self>, error: UpstreamError, attempts: u32) {
        tracing::debug!(request.id = self.request_id, %error, "completion failed");
        let status = if self.downlink.is_open() {
            200
        } else {
            record::client_status(&error)
        };
        let farewell = self
            .downlink
            .farewell(&error.to_string(), error.code(), status);
        self.recorder
            .finish(
                Ending::Failed {
                    message: error.to_string(),
                    code: error.code(),
                },
                status,
                self.received,
            )
            .await;
        if let Some(farewell) = farewell {
            // A client that is gone by now needs none.
            let _ = self.downlink.end(farewell).await;
        } else {
            self.downlink.refuse(Refusal::Upstream { error, attempts });
        }
    }

    /// No target takes it, and none was asked.
    pub(super) async fn nobody(mut self: Box<Self>, nobody: NobodyTakesIt) {
        let (message, code, status) = (nobody.message.clone(), nobody.code, nobody.status);
        let farewell = self.downlink.farewell(&message, code, status);
        let ending = Ending::Failed { message, code };
        self.recorder.finish(ending, status, self.received).await;
        if let Some(farewell) = farewell {
            // A client that is gone by now needs none.
            let _ = self.downlink.end(farewell).await;
        } else {
            self.downlink.refuse(Refusal::Closed(nobody));
        }
    }

    /// The client left, or we are closing.
    pub(super) async fn interrupted(mut self: Box<Self>, interrupted: Interrupted) {
        match interrupted {
            Interrupted::ClientGone => {
                self.recorder.attempt_cancelled();
                self.recorder
                    .finish(Ending::ClientClosed, 499, self.received)
                    .await;
            }
            Interrupted::ShuttingDown => {
                let message = "the gateway is shutting down; send the request again";
                self.recorder.attempt_cancelled();
                let farewell = self.downlink.farewell(message, "server_shutdown", 503);
                let ending = Ending::Failed {
                    message: message.into(),
                    code: "server_shutdown",
                };
                self.recorder.finish(ending, 503, self.received).await;
                if let Some(farewell) = farewell {
                    let _ = self.downlink.end(farewell).await;
                } else {
                    self.downlink.refuse(Refusal::ShuttingDown);
                }
            }
        }
    }
}
