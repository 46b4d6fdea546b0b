#![doc = "placeholder"]

mod channel;
mod clock;
mod connect;
mod connection;
mod conversation;
mod endpoint;
mod error;
mod event;
mod exchange;
mod fan_out;
mod handshake;
mod policy;
mod pool;
mod proto;
mod server;
mod switchboard;

pub use crate::channel::BoxError;
pub use crate::connect::{Connect, Connected, Connecting, NotConnected, Transport};
pub use crate::conversation::Conversation;
pub use crate::endpoint::Endpoint;
pub use crate::error::call::{
    CallCause, CallError, ErrorReply, Outcome, Overload, Refusal, Stage, Stopped,
};
pub use crate::error::config::{CloseError, ConfigError, EndpointError, ReadyError};
pub use crate::error::connect::{ConnectCause, ConnectError, HookError, Outage, Phase};
pub use crate::error::loss::{GoAway, Loss, LossCause};
pub use crate::error::os::OsError;
pub use crate::error::violation::Violation;
pub use crate::event::{Event, State, Status};
pub use crate::fan_out::Subscription;
pub use crate::policy::{
    Connections, Heartbeat, Limits, Reconnect, Retry, SocketOptions, Timeouts,
};
pub use crate::pool::builder::Builder;
pub use crate::pool::handle::Pool;
pub use crate::pool::request::Request;
pub use crate::proto::native::InstanceId;
pub use crate::server::call::{Call, Handler, PushError, Pusher};
pub use crate::server::listen::{Server, ServerHandle};
pub use crate::server::settings::{BindError, ServerBuilder};
pub use bytes::Bytes;
