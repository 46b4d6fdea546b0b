//! What the Linux kernel knows of a TCP connection, asked over netlink (`sock_diag(7)`).
//!
//! `getsockopt(TCP_INFO)` would be one call instead of a few, but cannot be made without `unsafe`, and no crate that is
//! kept well and builds everywhere makes it for us; `docs/decisions.md` says more. In return the answer has the very
//! number of unacknowledged bytes. It is asked once, when a connection is lost.
//!
//! ```text
//!  nlmsghdr 16 | inet_diag_req_v2 56   ──►   kernel
//!  nlmsghdr 16 | inet_diag_msg 72 | attributes, among them tcp_info   ◄──
//! ```
//! The numbers are those of `linux/netlink.h`, `linux/sock_diag.h`, `linux/inet_diag.h` and `linux/tcp.h`, which only ever
//! grow at their ends.

use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::tcp_info::{TcpFlow, TcpInfo, TcpState};

const AF_NETLINK: i32 = 16;
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const INET_DIAG_INFO: u16 = 2;

/// Of a netlink message.
const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;
/// Header and `inet_diag_msg`.
const ANSWER: usize = HEADER + 72;

/// What the kernel knows of the connection between two addresses of this process's network namespace. `None` if it
/// knows none.
pub(crate) fn ask(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<TcpInfo>> {
    // The kernel answers before `send` returns; if it ever should not, nobody waits for it.
    let kind = Type::DGRAM.nonblocking();
    let protocol = Some(Protocol::from(NETLINK_SOCK_DIAG));
    let socket = Socket::new(Domain::from(AF_NETLINK), kind, protocol)?;
    // A netlink socket without a peer's address talks to the kernel.
    socket.send(&request(local, peer))?;
    let mut answer = [0; 1024];
    let length = (&socket).read(&mut answer)?;
    Ok(parse(&answer[..length.min(answer.len())]))
}

fn request(local: SocketAddr, peer: SocketAddr) -> [u8; REQUEST] {
    let mut request = [0; REQUEST];
    let mut put = |at: usize, bytes: &[u8]| request[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &(REQUEST as u32).to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &NLM_F_REQUEST.to_ne_bytes());
    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
    put(16, &[family, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1)]);
    // All states, although one connection is asked for by its addresses.
    put(20, &u32::MAX.to_ne_bytes());
    put(24, &local.port().to_be_bytes());
    put(26, &peer.port().to_be_bytes());
    for (at, ip) in [(28, local.ip()), (44, peer.ip())] {
        match ip {
            IpAddr::V4(ip) => put(at, &ip.octets()),
            IpAddr::V6(ip) => put(at, &ip.octets()),
        }
    }
    if let SocketAddr::V6(peer) = peer {
        put(60, &peer.scope_id().to_ne_bytes());
    }
    // INET_DIAG_NOCOOKIE: whichever socket has these addresses.
    put(64, &[0xff; 8]);
    request
}

/// `None` for what is no answer, also for that about a listening socket, which the kernel gives for want of a connection.
fn parse(answer: &[u8]) -> Option<TcpInfo> {
    if u16_at(answer, 4)? != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let state = TcpState::from_linux(*answer.get(17)?)?;
    let (unread, unacknowledged) = (u32_at(answer, 72)?, u32_at(answer, 76)?);
    let flow = attribute(answer.get(ANSWER..)?, INET_DIAG_INFO).and_then(|info| {
        Some(TcpFlow {
            rtt: Duration::from_micros(u32_at(info, 68)?.into()),
            retransmits: u32_at(info, 100)?,
            timeouts: *info.get(2)?,
            unacknowledged,
            unread,
        })
    });
    Some(TcpInfo { state, flow })
}

/// The content of an attribute: each has its length, with this head, and its kind, and begins at a multiple of 4.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let attribute = attributes.get(4..length)?;
        if u16_at(attributes, 2)? == wanted {
            return Some(attribute);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use proptest::prelude::*;

    use super::*;

    fn pair(address: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(address).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    fn examine(stream: &TcpStream) -> Option<TcpInfo> {
        ask(stream.local_addr().unwrap(), stream.peer_addr().unwrap()).unwrap()
    }

    /// Some sandboxes have no netlink. There a test says so and passes, unless that is forbidden.
    fn is_missing() -> bool {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let Err(error) = ask(nowhere, nowhere) else { return false };
        assert!(std::env::var_os("STEADFAST_DEMAND_LAB").is_none(), "no sock_diag: {error}");
        let _ = writeln!(io::stderr(), "SKIPPED, needs sock_diag: {error}");
        true
    }

    #[test]
    fn the_kernel_tells_of_a_live_connection_and_of_one_that_the_peer_closed() {
        if is_missing() {
            return;
        }
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (near, mut far) = pair(address);
            far.write_all(&[7; 33]).unwrap();
            let alive = examine(&near).unwrap();
            let flow = alive.flow.unwrap();
            assert_eq!((alive.state, flow.unread), (TcpState::Established, 33));
            assert_eq!((flow.retransmits, flow.timeouts, flow.unacknowledged), (0, 0, 0));
            assert!(!flow.rtt.is_zero() && flow.rtt < Duration::from_secs(1), "{:?}", flow.rtt);

            drop(far);
            assert_eq!(examine(&near).unwrap().state, TcpState::CloseWait);
        }
    }

    #[test]
    fn what_the_peer_does_not_take_is_unacknowledged() {
        if is_missing() {
            return;
        }
        let (mut near, _far) = pair("127.0.0.1:0");
        near.set_nonblocking(true).unwrap();
        let mut accepted = 0;
        while let Ok(bytes) = near.write(&[7; 64 * 1024]) {
            accepted += bytes;
        }
        let unacknowledged = examine(&near).unwrap().flow.unwrap().unacknowledged as usize;
        assert!((1..=accepted).contains(&unacknowledged), "{unacknowledged} of {accepted}");
    }

    #[test]
    fn the_listener_is_not_taken_for_a_connection_that_is_gone() {
        if is_missing() {
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let peer = SocketAddr::new(local.ip(), 1);
        assert_eq!(ask(local, peer).unwrap(), None);
        drop(listener);
        assert_eq!(ask(local, peer).unwrap(), None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(mut answer in prop::collection::vec(any::<u8>(), 0..300), cut in any::<u16>()) {
            parse(&answer);
            // With what must be right to get further.
            if answer.len() > ANSWER + 4 {
                answer[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
                answer[17] = 1;
                answer[ANSWER..ANSWER + 2].copy_from_slice(&(cut % 64).to_ne_bytes());
                parse(&answer);
            }
        }
    }
}
