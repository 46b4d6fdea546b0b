//! tarpc over TCP with bincode, as its documents have it.

use bytes::Bytes;
use futures::{StreamExt as _, future};
use tarpc::client::Config;
use tarpc::context;
use tarpc::serde_transport::{self, Transport};
use tarpc::server::{BaseChannel, Channel as _};
use tarpc::tokio_serde::formats::Bincode;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Decoder as _, LengthDelimitedCodec};

use crate::peers::{BoxError, Caller, Peer, Target, compare};

#[tarpc::service]
trait Echo {
    async fn echo(body: Bytes) -> Bytes;
}

#[derive(Clone)]
struct Echoes;

impl Echo for Echoes {
    async fn echo(self, _: context::Context, body: Bytes) -> Bytes {
        body
    }
}

pub(crate) struct Tarpc(EchoClient);

impl Peer for Tarpc {
    type Caller = Self;

    async fn connect(target: Target<'_>) -> Result<Self, BoxError> {
        let transport = transport(TcpStream::connect(target.address).await?)?;
        Ok(Self(EchoClient::new(Config::default(), transport).spawn()))
    }

    async fn caller(&self) -> Result<Self, BoxError> {
        Ok(Self(self.0.clone()))
    }
}

impl Caller for Tarpc {
    async fn call(&mut self, body: &Bytes) -> Result<(), BoxError> {
        compare(&self.0.echo(context::current(), body.clone()).await?, body)
    }
}

fn transport<In, Out>(
    stream: TcpStream,
) -> std::io::Result<Transport<TcpStream, In, Out, Bincode<In, Out>>>
where
    In: for<'a> serde::Deserialize<'a>,
    Out: serde::Serialize,
{
    stream.set_nodelay(true)?;
    let frames = LengthDelimitedCodec::new().framed(stream);
    Ok(serde_transport::new(frames, Bincode::default()))
}

pub(crate) async fn serve(address: &str) -> Result<String, BoxError> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(transport) = transport(stream) else { continue };
            let answers = BaseChannel::with_defaults(transport).execute(Echoes.serve());
            tokio::spawn(answers.for_each(|answer| {
                tokio::spawn(answer);
                future::ready(())
            }));
        }
    });
    Ok(address)
}
