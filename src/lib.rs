//! A connection pool over framed TCP streams, for services that talk to each other on an intranet.
//!
//! It replaces raw send/recv loops and ends their bugs: two messages read as one, a dead connection used for minutes
//! after the server was restarted, a reply lost because the server closed early, a retry that ran an order twice.
//! Connections are kept alive by heartbeats and made again with backoff; what is safe to retry is retried; and a call
//! that fails says truthfully whether it [may have run](Outcome).
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{Call, Pool, Server};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // The serving end: one async function from a call to its answer.
//!     let server = Server::bind("127.0.0.1:0").await?;
//!     let address = server.local_addr()?.to_string();
//!     tokio::spawn(server.serve(|call: Call| async move { Ok(call.into_body()) }));
//!
//!     // The calling end: bytes in, bytes out, over connections that outlive the server process.
//!     let pool = Pool::builder(address).build()?;
//!     assert_eq!(pool.call("hello").await?, "hello");
//!
//!     // Harmless to run twice, so it is tried again when the server dies in the middle of it.
//!     let request = pool.request("price of apples").idempotent();
//!     let reply = request.timeout(Duration::from_millis(500)).send().await?;
//!     assert_eq!(reply, "price of apples");
//!     pool.close(Duration::from_secs(1)).await?;
//!     Ok(())
//! }
//! ```
//!
//! # Where to look
//! - Calling: [`Pool`], [`PoolBuilder`], [`Request`]; what went wrong: [`CallError`], [`Outcome`], [`CallCause`].
//! - What the causes and codes mean, and what to do: [when connections die](when_connections_die). What is tried again, and how to
//!   choose: [retrying].
//! - Serving: [`Server`], [`ServerBuilder`], [`Handler`], [`Call`].
//! - Policies, with their defaults and the harm of too little and too much: [`Heartbeat`], [`Reconnect`], [`Retry`],
//!   [`Limits`], [`Timeouts`], [`SocketOptions`].
//! - What happens to the connections: [`Pool::events`], [`Pool::watch`], [`Pool::status`], and `tracing` spans
//!   (`connection`, `client`) and events with fields.
//! - Servers that nobody can change: [`Framing`], [`Ordered`], [`Dialect`] and [`Protocol`], [`Pool::lease`];
//!   `docs/migrating.md` in the repository leads there from a send/recv loop, in four steps.
//!
//! # The protocol
//! Unless [`PoolBuilder::protocol`] says otherwise, both ends speak `Native`, version 1, which `docs/protocol.md` in the
//! repository specifies byte by byte, so that a peer can be written in any language.

/// A page of the documents, `docs/when-connections-die.md`; there is no code in it.
///
#[cfg(doc)]
#[doc = include_str!("../docs/when-connections-die.md")]
pub mod when_connections_die {}

/// A page of the documents, `docs/retrying.md`.
///
#[cfg(doc)]
#[doc = include_str!("../docs/retrying.md")]
pub mod retrying {}

mod autopsy;
mod channel;
mod clock;
mod codec;
mod connect;
mod connection;
mod connections;
mod conversation;
mod dialer;
mod dormant;
mod downtime;
mod driver;
mod endpoint;
mod error;
mod event;
mod exchange;
mod fan_out;
#[cfg(fuzzing)]
pub mod fuzzing;
mod handshake;
mod issued;
mod limits;
mod panics;
mod placing;
mod policy;
mod pool;
mod prospects;
mod proto;
mod protocol;
mod range;
mod roster;
mod server;
#[cfg(target_os = "linux")]
mod sock_diag;
mod state_watch;
mod switchboard;
mod timer;
mod transport;

pub use bytes::{Bytes, BytesMut};

pub use crate::connect::{Connect, Connected, Connecting, NotConnected, Tcp};
pub use crate::connections::Connections;
pub use crate::conversation::Conversation;
pub use crate::endpoint::Endpoint;
pub use crate::error::answer::{ErrorReply, Refusal};
pub use crate::error::bind::BindError;
pub use crate::error::call::{
    CallCause, CallError, Full, Outcome, Overload, Scarcity, Stage, Stopped,
};
pub use crate::error::close::CloseError;
pub use crate::error::config::{ConfigError, EndpointError};
pub use crate::error::connect::{
    BoxError, Busy, ConnectCause, ConnectError, HookError, Permanent, Phase, Rejection,
};
pub use crate::error::instance::InstanceId;
pub use crate::error::lease::{LeaseCause, LeaseError, Step};
pub use crate::error::loss::{GoAway, Loss, LossCause, Met};
pub use crate::error::opening::Opening;
pub use crate::error::os::OsError;
pub use crate::error::outage::{Began, Outage, ReadyError};
pub use crate::error::tcp_info::{TcpFlow, TcpInfo, TcpState};
pub use crate::error::unsendable::{Unframeable, Unsendable};
pub use crate::error::violation::Violation;
pub use crate::event::{Event, State, Status};
pub use crate::fan_out::Subscription;
pub use crate::limits::{Limits, SocketOptions, Timeouts};
pub use crate::policy::{Heartbeat, Reconnect, ReplyCache, Retry};
pub use crate::pool::builder::PoolBuilder;
pub use crate::pool::handle::Pool;
pub use crate::pool::lease::Lease;
pub use crate::pool::lease::detached::Detached;
pub use crate::pool::leasing::{LeaseRequest, Leasing};
pub use crate::pool::request::Request;
pub use crate::proto::dialect::{Dialect, Matching, Meaning, To};
pub use crate::proto::framing::{ByteOrder, Framing};
pub use crate::proto::ordered::Ordered;
pub use crate::proto::tenure::Retirement;
pub use crate::protocol::{Frames, Protocol};
pub use crate::server::call::{Call, Handler, PushError, Pusher};
pub use crate::server::handle::{Server, ServerHandle};
pub use crate::server::listen::{Accepting, Incoming, Listen};
pub use crate::server::settings::ServerBuilder;
pub use crate::state_watch::StateWatch;
pub use crate::transport::Transport;

/// The examples of the documents compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/retrying.md")]
#[doc = include_str!("../docs/migrating.md")]
struct Documents;
