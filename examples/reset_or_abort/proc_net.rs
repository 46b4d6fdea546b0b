//! What Linux tells everybody of its TCP connections: `/proc/net/tcp`, see `proc_pid_net(5)`.

use std::net::SocketAddrV4;

/// The state of the connection to this address that this host has, if there is one.
pub(crate) fn state(peer: SocketAddrV4) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    // The address as it lies in memory, the port as a number.
    let ip = u32::from_ne_bytes(peer.ip().octets());
    let peer = format!("{ip:08X}:{:04X}", peer.port());
    table.lines().skip(1).find_map(|line| {
        let fields = line.split_whitespace().collect::<Vec<_>>();
        (fields.get(2) == Some(&&*peer)).then(|| name(fields.get(3)))
    })
}

/// The kernel's numbers of them (`net/tcp_states.h`).
fn name(number: Option<&&str>) -> String {
    match number.copied() {
        Some("01") => "ESTABLISHED".into(),
        Some("07") => "CLOSE".into(),
        Some("08") => "CLOSE_WAIT".into(),
        other => format!("state {}", other.unwrap_or("unknown")),
    }
}
