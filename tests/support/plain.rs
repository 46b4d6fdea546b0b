//! A server that knows plain frames only, and answers each with the same.

use futures::{SinkExt as _, StreamExt as _};
use steadfast::{Framing, Ordered};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::codec::Framed;

pub(crate) type Frames<S> = Framed<S, Framing>;

pub(crate) fn framing() -> Framing {
    Framing::u32_be()
}

pub(crate) fn ordered() -> Ordered {
    Ordered::new(framing())
}

/// The server's end of one connection.
pub(crate) fn frames<S: AsyncRead + AsyncWrite>(stream: S) -> Frames<S> {
    Framed::new(stream, framing())
}

/// Until the client closes.
pub(crate) async fn echo<S: AsyncRead + AsyncWrite + Unpin>(stream: S) {
    let mut frames = frames(stream);
    while let Some(Ok(frame)) = frames.next().await {
        if frames.send(frame).await.is_err() {
            break;
        }
    }
}

pub(crate) async fn echo_all(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        tokio::spawn(echo(stream));
    }
}
