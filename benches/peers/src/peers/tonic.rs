//! tonic: gRPC over one HTTP/2 connection, by default settings.

use bytes::Bytes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use crate::peers::{BoxError, Caller, Peer, Target, compare};

mod generated {
    use super::Message;

    include!(concat!(env!("OUT_DIR"), "/peers.Echo.rs"));
}

use generated::echo_client::EchoClient;
use generated::echo_server::{Echo, EchoServer};

/// `message Message { bytes body = 1; }`
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    #[prost(bytes = "bytes", tag = "1")]
    body: Bytes,
}

pub(crate) struct Tonic(EchoClient<Channel>);

impl Peer for Tonic {
    type Caller = Self;

    async fn connect(target: Target<'_>) -> Result<Self, BoxError> {
        let endpoint = Endpoint::from_shared(format!("http://{}", target.address))?;
        Ok(Self(EchoClient::new(endpoint.connect().await?)))
    }

    async fn caller(&self) -> Result<Self, BoxError> {
        Ok(Self(self.0.clone()))
    }
}

impl Caller for Tonic {
    async fn call(&mut self, body: &Bytes) -> Result<(), BoxError> {
        let reply = self.0.echo(Message { body: body.clone() }).await?;
        compare(&reply.get_ref().body, body)
    }
}

struct Echoes;

#[tonic::async_trait]
impl Echo for Echoes {
    async fn echo(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

pub(crate) async fn serve(address: &str) -> Result<String, BoxError> {
    let incoming = TcpIncoming::bind(address.parse()?)?.with_nodelay(Some(true));
    let address = incoming.local_addr()?.to_string();
    let server = Server::builder().add_service(EchoServer::new(Echoes));
    tokio::spawn(server.serve_with_incoming(incoming));
    Ok(address)
}
