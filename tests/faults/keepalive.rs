//! The pool's socket options reach the TCP below a layer, as Linux shows it.

use steadfast::{Pool, SocketOptions};
use tokio::net::TcpStream;

use crate::support::loopback::listen;
use crate::support::peer::{Peer, accept};
use crate::support::proc_net::row;
use crate::support::waits::until;

/// Whichever of the settings and the layer comes first.
#[tokio::test]
async fn the_tcp_below_a_layer_has_the_pools_socket_options() {
    let without = SocketOptions::default().without_keepalive();
    let (listener, address) = listen().await;
    let builders = [
        (Pool::builder(&address).wrap_tcp(|tcp| tcp), "02"),
        (Pool::builder(&address).wrap_tcp(|tcp| tcp).socket(without), "00"),
        (Pool::builder(&address).socket(without).wrap_tcp(|tcp| tcp), "00"),
    ];
    for (builder, timer) in builders {
        let _pool = builder.build().unwrap();
        let peer = Peer::greet(accept(&listener).await).await;
        until("the timer", || timer_at_the_far_end_of(&peer.stream).as_deref() == Some(timer))
            .await;
    }
}

/// Which timer runs at the other end of this connection, see `proc_net_tcp` in the kernel's documentation: 02 is that of
/// the keepalive, 00 none. (01, retransmission, while something has not been acknowledged.)
fn timer_at_the_far_end_of(stream: &TcpStream) -> Option<String> {
    let row = row(stream.peer_addr().unwrap(), stream.local_addr().unwrap())?;
    row[5].split(':').next().map(str::to_owned)
}
