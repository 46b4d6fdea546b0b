//! The first two frames of a connection, from both sides. Nothing here bounds its own time; the caller does.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connect::Transport;
use crate::error::connect::ConnectCause;
use crate::error::os::OsError;
use crate::error::violation::Violation;
use crate::proto::frame::next_payload;
use crate::proto::greeting::{Hello, Welcome};
use crate::proto::native::{Frame, VERSION, after};

/// How much is read at a time.
const READ: usize = 1024;

/// Sends `HELLO` and reads the answer. Also returns what came behind it.
pub(crate) async fn greet(
    transport: &mut dyn Transport,
    hello: Hello,
) -> Result<(Welcome, BytesMut), ConnectCause> {
    // A server that turned us away may have closed already; its answer can be read all the same.
    let sent = send(transport, &Frame::Hello(hello)).await;
    let mut input = BytesMut::new();
    let payload = match (receive(transport, &mut input).await, sent) {
        (Ok(payload), _) => payload,
        (Err(ConnectCause::ClosedByPeer), Err(error)) => return Err(ConnectCause::Os(error)),
        (Err(cause), _) => return Err(cause),
    };
    match Frame::decode(payload).map_err(ConnectCause::Violation)? {
        Frame::Welcome(welcome) if welcome.version == VERSION => Ok((welcome, input)),
        Frame::Welcome(Welcome { version, .. }) => {
            Err(ConnectCause::Violation(Violation::VersionNotOffered { version }))
        }
        Frame::Busy { code, retry_after, text } => {
            Err(ConnectCause::Busy { code, retry_after: after(retry_after), text })
        }
        Frame::Reject { code, text } => Err(ConnectCause::Rejected { code, text }),
        frame => Err(ConnectCause::Violation(Violation::Unexpected { name: frame.name() })),
    }
}

/// Reads `HELLO`. Also returns what came behind it.
pub(crate) async fn await_hello(
    transport: &mut dyn Transport,
) -> Result<(Hello, BytesMut), ConnectCause> {
    let mut input = BytesMut::new();
    let payload = receive(transport, &mut input).await?;
    match Frame::decode(payload).map_err(ConnectCause::Violation)? {
        Frame::Hello(hello) => Ok((hello, input)),
        frame => Err(ConnectCause::Violation(Violation::Unexpected { name: frame.name() })),
    }
}

/// Writes one frame.
pub(crate) async fn send(transport: &mut dyn Transport, frame: &Frame) -> Result<(), OsError> {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    Ok(transport.write_all(&out).await?)
}

async fn receive(
    transport: &mut dyn Transport,
    input: &mut BytesMut,
) -> Result<Bytes, ConnectCause> {
    loop {
        if let Some(payload) = next_payload(input).map_err(ConnectCause::Violation)? {
            return Ok(payload);
        }
        input.reserve(READ);
        match transport.read_buf(input).await {
            Ok(0) => return Err(ConnectCause::ClosedByPeer),
            Ok(_) => {}
            Err(error) => return Err(ConnectCause::Os(error.into())),
        }
    }
}
