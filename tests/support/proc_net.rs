//! What Linux tells of its TCP connections: `/proc/net/tcp`, see `proc_net_tcp` in the kernel's documentation.

use std::net::SocketAddr;

/// The columns of the connection from here to there, over IPv4. None: there is no such socket any more.
pub(crate) fn row(local: SocketAddr, remote: SocketAddr) -> Option<Vec<String>> {
    let [local, remote] = [local, remote].map(|end| {
        let SocketAddr::V4(end) = end else { panic!("an address of IPv4") };
        format!("{:08X}:{:04X}", u32::from_ne_bytes(end.ip().octets()), end.port())
    });
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut rows = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row[1] == local && row[2] == remote)?;
    Some(row.into_iter().map(str::to_owned).collect())
}
