//! The first two frames of a connection, from both sides. Nothing here bounds its own time; the caller does.

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use crate::error::connect::{Busy, ConnectCause, Rejection};
use crate::error::opening::Opening;
use crate::error::os::OsError;
use crate::error::violation::Violation;
use crate::proto::frame::next_payload;
use crate::proto::greeting::{Hello, Welcome};
use crate::proto::native::{Frame, VERSION, after};
use crate::transport::{Transport, send_all};

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
    let First { payload, opening } = match (receive(transport, &mut input).await, sent) {
        (Ok(first), _) => first,
        (Err(ConnectCause::ClosedByPeer), Err(error)) => return Err(ConnectCause::Os(error)),
        (Err(cause), _) => return Err(cause),
    };
    let violation = match Frame::decode(payload) {
        Ok(Frame::Welcome(welcome)) if welcome.version == VERSION => return Ok((welcome, input)),
        Ok(Frame::Busy { code, retry_after, text }) => {
            let retry_after = after(retry_after);
            return Err(ConnectCause::Busy(Busy { code, retry_after, text }));
        }
        Ok(Frame::Reject { code, text }) => {
            return Err(ConnectCause::Rejected(Rejection { code, text }));
        }
        Ok(Frame::Welcome(Welcome { version, .. })) => Violation::VersionNotOffered { version },
        Ok(frame) => Violation::Unexpected { name: frame.name() },
        Err(violation) => violation,
    };
    Err(ConnectCause::Violation { violation, opening })
}

/// Reads `HELLO`. Also returns what came behind it.
pub(crate) async fn await_hello(
    transport: &mut dyn Transport,
) -> Result<(Hello, BytesMut), ConnectCause> {
    let mut input = BytesMut::new();
    let First { payload, opening } = receive(transport, &mut input).await?;
    let violation = match Frame::decode(payload) {
        Ok(Frame::Hello(hello)) => return Ok((hello, input)),
        Ok(frame) => Violation::Unexpected { name: frame.name() },
        Err(violation) => violation,
    };
    Err(ConnectCause::Violation { violation, opening })
}

/// Writes one frame, and sees it off.
pub(crate) async fn send(transport: &mut dyn Transport, frame: &Frame) -> Result<(), OsError> {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    Ok(send_all(transport, &out).await?)
}

/// The first frame, and how it began.
struct First {
    payload: Bytes,
    opening: Opening,
}

async fn receive(
    transport: &mut dyn Transport,
    input: &mut BytesMut,
) -> Result<First, ConnectCause> {
    loop {
        let opening = Opening::of(input);
        match next_payload(input) {
            Ok(Some(payload)) => return Ok(First { payload, opening }),
            Ok(None) => {}
            Err(violation) => return Err(ConnectCause::Violation { violation, opening }),
        }
        input.reserve(READ);
        match transport.read_buf(input).await {
            Ok(0) => return Err(ConnectCause::ClosedByPeer),
            Ok(_) => {}
            Err(error) => return Err(ConnectCause::Os(error.into())),
        }
    }
}
