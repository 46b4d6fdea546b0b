//! A layer above the pool's own TCP, as TLS and proxies are.

use steadfast::{
    Connect, ConnectCause, Connected, Connecting, Endpoint, NotConnected, OsError, Phase, Pool, Tcp,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::loopback::listen;
use crate::support::news;
use crate::support::peer::{Peer, accept};
use crate::support::waits::soon;

/// What a client says before anything else, and the server's answer.
const PASSWORD: &[u8; 9] = b"let me in";
const YES: u8 = b'y';

/// Says a password before anything else, and hears whether it was the right one.
struct Doorman(Tcp);

impl Connect for Doorman {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            let Connected { mut transport, address } = self.0.connect(endpoint).await?;
            let asked = async {
                transport.write_all(PASSWORD).await?;
                transport.read_u8().await
            };
            let cause = match asked.await {
                Ok(YES) => return Ok(Connected { transport, address }),
                Ok(_) => OsError::from(std::io::ErrorKind::PermissionDenied),
                Err(error) => error.into(),
            };
            Err(NotConnected { phase: Phase::Connect, cause: ConnectCause::Os(cause), address })
        })
    }
}

#[tokio::test]
async fn a_layer_above_tcp_carries_calls_and_its_failure_names_its_address() {
    let (listener, address) = listen().await;
    let pool = Pool::builder(&address).wrap_tcp(Doorman).build().unwrap();
    let mut events = pool.events();
    let mut said = [0; PASSWORD.len()];

    let mut refused = accept(&listener).await;
    refused.read_exact(&mut said).await.unwrap();
    refused.write_all(b"n").await.unwrap();
    let (error, _) = news::dial_failed(&mut events).await;
    let no = OsError::from(std::io::ErrorKind::PermissionDenied);
    assert_eq!((error.phase, &error.cause), (Phase::Connect, &ConnectCause::Os(no)));
    assert_eq!(error.address, Some(address.parse().unwrap()));

    let mut admitted = accept(&listener).await;
    admitted.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, PASSWORD);
    admitted.write_all(&[YES]).await.unwrap();
    tokio::spawn(async move { Peer::greet(admitted).await.echo().await });
    assert_eq!(soon("a reply", pool.call("hello")).await.unwrap(), "hello");
}
