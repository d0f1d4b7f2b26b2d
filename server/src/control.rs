//! The control plane's gRPC service: opens sessions, answers questions.
//!
//! It reads requests and hands them on; what they do is done by the sessions and the provider.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use redostream_protocol::control::v1::control_server::{Control, ControlServer};
use redostream_protocol::control::{FILE_DESCRIPTOR_SET, From as Place, status_of, v1};
use redostream_protocol::wire::{Fault, FaultCode};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::access::Shared;
use crate::session::limits::{
    CONTROL_HEADERS_BYTES_MAX, CONTROL_KEEPALIVE, CONTROL_QUEUE_MAX, CONTROL_REQUEST_BYTES_MAX,
    CONTROL_REQUESTS_MAX, READY_WAIT,
};
use crate::session::{
    Accepted, Door, Grant, Guard, Registry, SessionError, StartRequest, check_cluster,
};

struct ControlService {
    registry: Arc<Registry>,
    data_addresses: Vec<String>,
}

/// Sets the service up; the future serves it until `stopped` says so.
pub(crate) fn serve(
    listener: TcpListener,
    registry: Arc<Registry>,
    data_addresses: Vec<String>,
    mut stopped: watch::Receiver<bool>,
) -> Result<impl Future<Output = ()> + Send + 'static, SessionError> {
    let refused = |error: &dyn std::error::Error| SessionError::Control(error.to_string());
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| refused(&error))?;
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(CONTROL_KEEPALIVE))
        .http2_keepalive_timeout(Some(CONTROL_KEEPALIVE))
        .max_concurrent_streams(Some(CONTROL_REQUESTS_MAX))
        .http2_max_header_list_size(Some(CONTROL_HEADERS_BYTES_MAX));
    let tls = registry.options.control_tls.clone();
    let open = registry.options.authorise.is_none();
    let service = ControlService {
        registry: Arc::clone(&registry),
        data_addresses,
    };
    let service = ControlServer::new(service).max_decoding_message_size(CONTROL_REQUEST_BYTES_MAX);
    let (health, health_service) = tonic_health::server::health_reporter();
    let mut stopping = stopped.clone();
    let reporting = async move {
        let waiting = tonic_health::ServingStatus::NotServing;
        health.set_service_status("", waiting).await;
        health
            .set_not_serving::<ControlServer<ControlService>>()
            .await;
        tokio::select! {
            () = registry.provider.wait_ready() => {}
            _ = stopping.changed() => return,
        }
        health
            .set_service_status("", tonic_health::ServingStatus::Serving)
            .await;
        health.set_serving::<ControlServer<ControlService>>().await;
    };
    // Where no token is wanted, whoever asks anything is welcome to stay.
    let welcome = move |request: Request<()>| {
        if open && let Some(guard) = request.extensions().get::<Guard>() {
            guard.known();
        }
        Ok(request)
    };
    let router = server
        .add_service(InterceptedService::new(health_service, welcome))
        .add_service(InterceptedService::new(reflection, welcome))
        .add_service(service);
    Ok(async move {
        let reporting = tokio::spawn(reporting);
        let incoming = ReceiverStream::new(accept(listener, tls));
        let stop = async move {
            // An error means that nobody is left to say it: stop too.
            let _ = stopped.changed().await;
        };
        if let Err(error) = router.serve_with_incoming_shutdown(incoming, stop).await {
            tracing::error!(%error, "the control plane failed");
        }
        reporting.abort();
    })
}

/// Takes connections until the receiver is gone.
fn accept(
    listener: TcpListener,
    tls: Option<Shared<rustls::ServerConfig>>,
) -> mpsc::Receiver<std::io::Result<Accepted>> {
    let (sender, accepted) = mpsc::channel(CONTROL_QUEUE_MAX);
    tokio::spawn(async move {
        let door = Door::new(listener);
        loop {
            let stream = tokio::select! {
                stream = door.next() => stream,
                () = sender.closed() => return,
            };
            // As it is now: certificates may have been read anew.
            let tls = tls.as_ref().map(|tls| TlsAcceptor::from(tls.get()));
            let sender = sender.clone();
            tokio::spawn(async move {
                let peer = stream.guard().peer();
                match Accepted::greet(stream, tls.as_ref()).await {
                    // Nobody takes it any more if the server stops.
                    Ok(stream) => drop(sender.send(Ok(stream)).await),
                    Err(error) => tracing::debug!(%error, %peer, "no TLS on a control connection"),
                }
            });
        }
    });
    accepted
}

fn peer_of<T>(request: &Request<T>) -> Option<SocketAddr> {
    request.extensions().get::<Guard>().map(Guard::peer)
}

impl ControlService {
    fn grant<T>(&self, request: &Request<T>) -> Result<Grant, Status> {
        let grant = self.judge(request)?;
        if let Some(guard) = request.extensions().get::<Guard>() {
            guard.known();
        }
        Ok(grant)
    }

    fn judge<T>(&self, request: &Request<T>) -> Result<Grant, Status> {
        let Some(authorise) = &self.registry.options.authorise else {
            return Ok(Grant::default());
        };
        let value = request.metadata().get("authorization");
        let text = value.and_then(|value| value.to_str().ok());
        let token = text.and_then(|text| text.strip_prefix("Bearer "));
        let address = peer_of(request).map(|peer| peer.ip());
        authorise(token, address).map_err(|fault| status_of(&fault))
    }

    /// Does what may block away from the tasks.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Registry>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Status> {
        let registry = Arc::clone(&self.registry);
        match tokio::task::spawn_blocking(move || work(registry)).await {
            Ok(done) => done.map_err(|fault| status_of(&fault)),
            Err(error) => {
                let fault = Fault::new(FaultCode::Internal, format!("the request failed: {error}"));
                Err(status_of(&fault))
            }
        }
    }

    async fn wait_ready(&self) -> Result<(), Status> {
        let provider = &self.registry.provider;
        if tokio::time::timeout(READY_WAIT, provider.wait_ready())
            .await
            .is_ok()
        {
            return Ok(());
        }
        let waiting_for = provider.status().waiting_for.join(", ");
        let message = format!("the server is not ready; it waits for {waiting_for}");
        Err(status_of(&Fault::new(FaultCode::NotReady, message)))
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    async fn open_session(
        &self,
        request: Request<v1::OpenSessionRequest>,
    ) -> Result<Response<v1::OpenSessionReply>, Status> {
        let grant = self.grant(&request)?;
        self.wait_ready().await?;
        let peer = peer_of(&request);
        let request = request.into_inner();
        let addresses = self.data_addresses.clone();
        let open = move |registry: Arc<Registry>| registry.open(&request, &grant, peer, addresses);
        self.blocking(open).await.map(Response::new)
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        let grant = self.grant(&request)?;
        let reply = self.blocking(move |registry| Ok(status_reply(&registry, &grant)));
        let reply = reply.await;
        reply.map(Response::new)
    }

    async fn probe(
        &self,
        request: Request<v1::ProbeRequest>,
    ) -> Result<Response<v1::ProbeReply>, Status> {
        self.grant(&request)?;
        let request = request.into_inner();
        let reply = self
            .blocking(move |registry| probe(&registry, &request))
            .await;
        reply.map(Response::new)
    }

    async fn describe(
        &self,
        request: Request<v1::DescribeRequest>,
    ) -> Result<Response<v1::DescribeReply>, Status> {
        let grant = self.grant(&request)?;
        self.wait_ready().await?;
        let asked = request.into_inner();
        let describe = move |registry: Arc<Registry>| {
            if !grant.rule.allows(&asked.database, &asked.table) {
                let message = format!("the token does not cover {}", asked.table);
                return Err(Fault::new(FaultCode::Unauthorised, message));
            }
            let at = Some(asked.at.as_str()).filter(|at| !at.is_empty());
            let provider = &registry.provider;
            let table_json = provider.describe(&asked.database, &asked.table, at)?;
            Ok(v1::DescribeReply { table_json })
        };
        self.blocking(describe).await.map(Response::new)
    }

    async fn list_subscriptions(
        &self,
        request: Request<v1::ListSubscriptionsRequest>,
    ) -> Result<Response<v1::ListSubscriptionsReply>, Status> {
        let grant = self.grant(&request)?;
        let subscriptions = self.registry.list(&grant);
        Ok(Response::new(v1::ListSubscriptionsReply { subscriptions }))
    }

    async fn drop_subscription(
        &self,
        request: Request<v1::DropSubscriptionRequest>,
    ) -> Result<Response<v1::DropSubscriptionReply>, Status> {
        let grant = self.grant(&request)?;
        let name = request.into_inner().name;
        self.blocking(move |registry| registry.remove(&name, &grant))
            .await?;
        Ok(Response::new(v1::DropSubscriptionReply {}))
    }
}

fn probe(registry: &Registry, request: &v1::ProbeRequest) -> Result<v1::ProbeReply, Fault> {
    let provider = &*registry.provider;
    let place: Place = match request.from.as_str() {
        "" => Place::Earliest,
        text => text
            .parse()
            .map_err(|error| Fault::new(FaultCode::BadRequest, format!("{error}")))?,
    };
    let asked = StartRequest {
        place,
        system_identifier: Some(request.system_identifier).filter(|id| *id != 0),
    };
    let probed = check_cluster(provider, request.system_identifier);
    Ok(match probed.and_then(|()| provider.probe(&asked)) {
        Ok((oldest, from)) => v1::ProbeReply {
            servable: true,
            reason: String::new(),
            oldest: oldest.to_string(),
            from,
        },
        Err(fault) => v1::ProbeReply {
            servable: false,
            oldest: fault
                .oldest
                .or(provider.ready())
                .map(|at| at.to_string())
                .unwrap_or_default(),
            reason: fault.message,
            from: String::new(),
        },
    })
}

fn status_reply(registry: &Registry, grant: &Grant) -> v1::StatusReply {
    let provider = &registry.provider;
    let status = provider.status();
    let stages = status.stages.into_iter();
    v1::StatusReply {
        state: status.state,
        system_identifier: provider.system_identifier(),
        timeline: provider.timeline().0,
        earliest: status.earliest.map(|at| at.to_string()).unwrap_or_default(),
        received: status.received.to_string(),
        decoded: status.decoded.to_string(),
        released: status.released.to_string(),
        lag_bytes: status.lag_bytes,
        lag_seconds: status.lag_seconds,
        waiting_for: status.waiting_for,
        stages: stages
            .map(|(name, busy_seconds, waiting_seconds)| v1::Stage {
                name,
                busy_seconds,
                waiting_seconds,
            })
            .collect(),
        subscribers: registry.subscribers(grant),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        open_transactions: status.open_transactions,
        open_transaction_bytes: status.open_transaction_bytes,
        spilled_bytes: status.spilled_bytes,
    }
}
